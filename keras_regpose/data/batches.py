"""Samples → batches of (crops, targets), in an order of their own each epoch.

The same loader feeds `tf.data` on the TensorFlow backend and a `keras.utils.PyDataset` on the JAX backend. What it
yields depends on (seed, epoch, sample) alone, so an interrupted run can go on with the very same batches.
"""

import atexit
import concurrent.futures
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from keras_regpose.data.augment import Augmentation
from keras_regpose.data.cache import PhotographCache
from keras_regpose.data.crops import CropLoader
from keras_regpose.data.sample import Sample

# Batches that are loaded before they are asked for, where TensorFlow does not do it.
READ_AHEAD = 4


@dataclass(eq=False)
class PoseBatches(keras.utils.PyDataset):
    """Batches of a `CropLoader`; what the training of backends without tf.data takes as it is.

    Args:
        loader: `CropLoader`.
        batch_size: int. Samples per batch, over all hosts.
        shuffle: bool.
        fill: bool. Whether an incomplete last batch is filled up with the epoch's first samples.
        epoch: int. The first epoch's number.
        first_batch: int. Batches of the first epoch to leave out.
        host: (index, count) of this host. Of each batch it gets its share only.
    """

    loader: CropLoader
    batch_size: int
    shuffle: bool
    fill: bool
    epoch: int = 0
    first_batch: int = 0
    host: tuple[int, int] = (0, 1)

    def __post_init__(self):
        # Not more: Keras' own reading ahead hands batches of an earlier pass to the next one. See `_read_ahead`.
        super().__init__(workers=1)
        _, hosts = self.host
        if self.batch_size % hosts:
            raise ValueError(f"A batch of {self.batch_size} cannot be shared by {hosts} hosts. Use a multiple of that")
        self._readers = None
        self._ahead: dict[tuple[int, int], concurrent.futures.Future] = {}

    @property
    def batches_per_epoch(self) -> int:
        """Batches of a whole epoch."""
        return -(-len(self.loader.samples) // self.batch_size)

    def __len__(self):
        return self.batches_per_epoch - self.first_batch

    def __getitem__(self, batch):
        return self._read_ahead(self.epoch, self.first_batch + batch).result()

    def _read_ahead(self, epoch, batch):
        """Returns the future of a batch, and has threads load the ones that follow it in this epoch."""
        if self._readers is None:
            self._readers = concurrent.futures.ThreadPoolExecutor(os.cpu_count(), "load batches")
        last = min(batch + READ_AHEAD, self.batches_per_epoch - 1)
        wanted = [(epoch, number) for number in range(batch, last + 1)]
        for position in self._ahead.keys() - set(wanted):
            self._ahead.pop(position).cancel()
        for position in wanted:
            if position not in self._ahead:
                self._ahead[position] = self._readers.submit(self.load, *position)
        return self._ahead.pop((epoch, batch))

    def on_epoch_end(self):
        self.seek(self.epoch + 1)

    def seek(self, epoch: int, first_batch: int = 0) -> None:
        """Goes to a batch of an epoch, from which the next pass begins."""
        self.epoch = epoch
        self.first_batch = first_batch

    def load(self, epoch: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the crops and targets of a batch of any epoch, or this host's share of them."""
        return self.loader.load_batch(epoch, self.indices(epoch, batch))

    def indices(self, epoch: int, batch: int) -> np.ndarray:
        """Returns the numbers of the samples in a batch, or in this host's share of it."""
        order, first = self.loader.order(epoch, self.shuffle), batch * self.batch_size
        last = first + self.batch_size if self.fill else min(first + self.batch_size, len(order))
        chosen = order.take(range(first, last), mode="wrap")
        index, count = self.host
        share = len(chosen) // count
        return chosen[index * share : (index + 1) * share] if count > 1 else chosen


def make_dataset(
    samples: Sequence[Sample],
    model,
    training: bool = False,
    batch_size: int = 64,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    epoch: int = 0,
    repeat: bool = False,
    cache_bytes: int = 1 << 30,
    max_unreadable_share: float = 0.1,
    first_batch: int = 0,
    host: tuple[int, int] = (0, 1),
):
    """Turns samples into what `model.fit` takes.

    Args:
        samples: sequence of `Sample`, such as `Coco(...)`.
        model: `PoseRegressor`. Gives the skeleton and the input size.
        training: bool. Whether to shuffle, to augment and to fill up an incomplete last batch with the epoch's first
            samples. The reference has as many batches in an epoch, the last of them smaller.
        batch_size: int. Samples per batch, over all devices.
        augmentation: `Augmentation` or None. What to do to training samples; None means the COCO recipe's.
        seed: int. Seeds order and augmentation.
        epoch: int. The first epoch's number: with the same seed, a resumed run sees the batches it would have seen.
        repeat: bool. Whether a `tf.data.Dataset` goes on epoch after epoch, for `fit(steps_per_epoch=...)`. Otherwise
            it is one epoch long and every pass over it, a mere look at its first batch included, is the next epoch.
        cache_bytes: int. Decoded photographs are kept in memory up to this size.
        max_unreadable_share: float. Unreadable images are named and skipped up to this share of the samples.
        first_batch: int. Batches of the first epoch to leave out: a run resumed in the middle of it goes on there.
        host: (index, count) of this host among those that train together. It gets its share of each batch.

    Returns:
        Batches of (B, H, W, 3) uint8 RGB crops and (B, K, 3) float32 targets (x, y in crop units, weight): a
        `tf.data.Dataset` on the TensorFlow backend, else a `keras.utils.PyDataset`.

    Raises:
        ValueError: If the samples are empty, fewer than a training batch, or of another skeleton, or the devices that
            train the model cannot share a batch evenly.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> dataset = rp.data.make_dataset(rp.data.Synthetic(8, seed=0), model, training=True, batch_size=4)
    >>> crops, targets = next(iter(dataset))
    >>> tuple(crops.shape), tuple(targets.shape)
    ((4, 64, 48, 3), (4, 17, 3))
    """
    changes = (augmentation or Augmentation.coco()) if training else None
    cache = PhotographCache(cache_bytes)
    loader = CropLoader(samples, model.skeleton, model.input_size, changes, seed, cache, max_unreadable_share)
    batches = PoseBatches(loader, batch_size, training, training, epoch, first_batch, host)
    if training and batch_size % (replicas := getattr(model, "replicas", 1)):
        raise ValueError(f"A batch of {batch_size} cannot be shared by {replicas} devices. Use a multiple of that")
    if training and len(samples) < batch_size:
        raise ValueError(f"{len(samples)} samples do not fill one batch of {batch_size}. Choose a smaller batch_size")
    if keras.backend.backend() == "tensorflow":
        return _as_tensorflow_dataset(batches, repeat)
    return batches


def _as_tensorflow_dataset(batches, repeat):
    import tensorflow as tf

    per_epoch = batches.batches_per_epoch
    count = batches.batch_size // batches.host[1] if batches.fill else None
    crop_shape, target_shape = (*batches.loader.input_size, 3), (len(batches.loader.skeleton), 3)

    def begin():
        position = np.int64(batches.epoch), np.int64(batches.first_batch)
        if not repeat:
            batches.on_epoch_end()
        return position

    def numbers(epoch, first_batch):
        every = tf.data.Dataset.range(first_batch, tf.int64.max if repeat else per_epoch)
        return every.map(lambda number: (epoch + number // per_epoch, number % per_epoch))

    def load(epoch, number):
        # A whole batch per call: a call for each sample would cost more than its crop.
        crops, targets = tf.numpy_function(_noted(batches.load), [epoch, number], (tf.uint8, tf.float32))
        return tf.ensure_shape(crops, (count, *crop_shape)), tf.ensure_shape(targets, (count, *target_shape))

    dataset = tf.data.Dataset.from_tensors(0).map(lambda _: tf.numpy_function(begin, [], (tf.int64, tf.int64)))
    dataset = dataset.flat_map(numbers)  # pyright: ignore[reportArgumentType] -- which takes a pair for one
    dataset = dataset.map(load, num_parallel_calls=os.cpu_count(), deterministic=True)
    if repeat or batches.first_batch == 0:
        cardinality = tf.data.INFINITE_CARDINALITY if repeat else per_epoch
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(cardinality))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # There is nothing to tune, and the end of fit would wait for its thread, which sleeps for up to a minute.
    options.autotune.enabled = False
    dataset = dataset.with_options(options).prefetch(2)
    # Whoever trains names the images of a batch, and resumes.
    dataset.loader, dataset.seek = batches.loader, batches.seek  # pyright: ignore[reportAttributeAccessIssue]
    return dataset


# Calls of TensorFlow's threads into Python that are under way, and when the last one ended.
_under_way, _ended = [], [-math.inf]


def _noted(function):
    """Returns the function, noting its calls."""

    def call(*args):
        _under_way.append(args)
        try:
            return function(*args)
        finally:
            _ended[0] = time.monotonic()
            _under_way.pop()

    return call


@atexit.register
def _wait():
    """Lets TensorFlow's threads leave Python before the interpreter ends.

    One that is inside then would never return, and destroying its iterator would wait for it for ever, or abort.
    """
    # Nobody takes batches any more, so the buffers are soon full and no call follows.
    end = time.monotonic() + 20
    while (_under_way or time.monotonic() - _ended[0] < 0.2) and time.monotonic() < end:
        time.sleep(0.01)
