"""Samples → batches of (crops, targets): read, augment, cut, encode.

The same loader feeds `tf.data` on the TensorFlow backend and a `keras.utils.PyDataset` on the JAX backend. What it
yields depends on (seed, epoch, sample) alone, so an interrupted run can go on with the very same batches.
"""

import itertools
import logging
import threading
from collections.abc import Sequence

import keras
import numpy as np

from keras_regpose import codec, geometry
from keras_regpose.data.augment import Augmentation, augment
from keras_regpose.data.images import ImageError, read_image
from keras_regpose.data.sample import Sample
from keras_regpose.skeleton import Skeleton

_log = logging.getLogger(__name__)


class CropLoader:
    """Cuts the crop of a sample and encodes its target; keeps decoded photographs while they fit in memory.

    An image that cannot be read is named once in the log, counted in `unreadable`, and its place is taken by the
    next sample.

    Args:
        samples: sequence of `Sample`.
        skeleton: `Skeleton`.
        input_size: (height, width) of the crops in pixels.
        augmentation: `Augmentation` or None for plain crops.
        seed: int. Seeds augmentation and order.
        cache_bytes: int. Decoded photographs are kept up to this size in all.
        max_unreadable_share: float. A larger share of unreadable images than this is an error.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        skeleton: Skeleton,
        input_size: tuple[int, int],
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache_bytes: int = 1 << 30,
        max_unreadable_share: float = 0.1,
    ):
        if len(samples) == 0:
            raise ValueError("The data set is empty: there is nothing to load")
        if samples[0].keypoints.shape != (len(skeleton), 2):
            raise ValueError(
                f"The samples have {len(samples[0].keypoints)} keypoints, the skeleton {skeleton.name!r} of the model "
                f"has {len(skeleton)}. Use from_preset(name, skeleton=...) for a model with other keypoints"
            )
        self.samples = samples
        self.skeleton = skeleton
        self.input_size = input_size
        self.augmentation = augmentation
        self.seed = seed
        self.max_unreadable_share = max_unreadable_share
        self.unreadable: dict[str, str] = {}
        self._cache: dict[str, np.ndarray] = {}
        self._cache_bytes_left = cache_bytes
        self._lock = threading.Lock()

    def order(self, epoch: int, shuffle: bool) -> np.ndarray:
        """Returns the order of the samples in an epoch."""
        if not shuffle:
            return np.arange(len(self.samples))
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.samples))

    def load(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the (H, W, 3) uint8 RGB crop and the (K, 3) float32 target of a sample."""
        for step in range(len(self.samples)):
            sample = self.samples[(index + step) % len(self.samples)]
            try:
                image = self._read(sample)
            except (ImageError, FileNotFoundError) as error:
                self._count_unreadable(sample, error)
                continue
            return self._crop(sample, image, np.random.default_rng((self.seed, epoch, index, 1)))
        raise ImageError("None of the images could be read")

    def _crop(self, sample, image, generator):
        center, scale = geometry.box_to_center_scale(sample.box)
        keypoints, visible, rotation, flipped = sample.keypoints, sample.visible, 0.0, False
        if self.augmentation is not None:
            flipped, center, scale, rotation, keypoints, visible = augment(
                self.augmentation, center, scale, keypoints, visible, image.shape[1], self.skeleton, generator
            )
        scale = geometry.fix_aspect_ratio(scale, self.input_size)
        matrix = geometry.crop_matrix(center, scale, rotation, self.input_size)
        keypoints = geometry.transform_points(keypoints, matrix)
        if flipped:
            # Mirroring the photograph first, as the reference does, is this one matrix.
            matrix = geometry.mirror_matrix(matrix, image.shape[1])
        crop = geometry.crop_image(image, matrix, self.input_size)
        return crop, codec.encode(keypoints, visible, self.input_size)

    def _read(self, sample):
        if not isinstance(sample.image, str):
            return sample.image
        image = self._cache.get(sample.image)
        if image is None:
            image = read_image(sample.image)
            with self._lock:
                if sample.image not in self._cache and image.nbytes <= self._cache_bytes_left:
                    self._cache[sample.image] = image
                    self._cache_bytes_left -= image.nbytes
        return image

    def _count_unreadable(self, sample, error):
        with self._lock:
            if sample.image not in self.unreadable:
                self.unreadable[sample.image] = str(error)
                _log.warning("Skipped: %s", error)
            share = len(self.unreadable) / len(self.samples)
        if share > self.max_unreadable_share:
            raise ImageError(
                f"{len(self.unreadable)} of {len(self.samples)} images cannot be read, more than the "
                f"{self.max_unreadable_share:.0%} allowed. The last: {error}"
            )


class PoseBatches(keras.utils.PyDataset):
    """Batches of a `CropLoader`, for backends without tf.data."""

    def __init__(self, loader: CropLoader, batch_size: int, shuffle: bool, drop_remainder: bool, epoch: int = 0):
        super().__init__(workers=2)
        self.loader = loader
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.drop_remainder = drop_remainder
        self.epoch = epoch

    def __len__(self):
        full, rest = divmod(len(self.loader.samples), self.batch_size)
        return full + (1 if rest and not self.drop_remainder else 0)

    def __getitem__(self, batch):
        order = self.loader.order(self.epoch, self.shuffle)
        chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        crops, targets = zip(*(self.loader.load(self.epoch, index) for index in chosen), strict=True)
        return np.stack(crops), np.stack(targets)

    def on_epoch_end(self):
        self.epoch += 1


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
):
    """Turns samples into what `model.fit` takes.

    Args:
        samples: sequence of `Sample`, such as `Coco(...)`.
        model: `PoseRegressor`. Gives the skeleton and the input size.
        training: bool. Whether to shuffle, to augment and to drop an incomplete last batch.
        batch_size: int. Samples per batch, over all devices.
        augmentation: `Augmentation` or None. What to do to training samples; None means the COCO recipe's.
        seed: int. Seeds order and augmentation.
        epoch: int. The first epoch's number: with the same seed, a resumed run sees the batches it would have seen.
        repeat: bool. Whether a `tf.data.Dataset` goes on epoch after epoch, for `fit(steps_per_epoch=...)`. Otherwise
            it is one epoch long and every pass over it, a mere look at its first batch included, is the next epoch.
        cache_bytes: int. Decoded photographs are kept in memory up to this size.
        max_unreadable_share: float. Unreadable images are named and skipped up to this share of the samples.

    Returns:
        Batches of (B, H, W, 3) uint8 RGB crops and (B, K, 3) float32 targets (x, y in crop units, weight): a
        `tf.data.Dataset` on the TensorFlow backend, else a `keras.utils.PyDataset`.

    Raises:
        ValueError: If the samples are empty, fewer than a training batch, or of another skeleton.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> dataset = rp.data.make_dataset(rp.data.Synthetic(8, seed=0), model, training=True, batch_size=4)
    >>> crops, targets = next(iter(dataset))
    >>> tuple(crops.shape), tuple(targets.shape)
    ((4, 64, 48, 3), (4, 17, 3))
    """
    if training and augmentation is None:
        augmentation = Augmentation.coco()
    loader = CropLoader(
        samples,
        model.skeleton,
        model.input_size,
        augmentation=augmentation if training else None,
        seed=seed,
        cache_bytes=cache_bytes,
        max_unreadable_share=max_unreadable_share,
    )
    batches = PoseBatches(loader, batch_size, shuffle=training, drop_remainder=training, epoch=epoch)
    if len(batches) == 0:
        raise ValueError(f"{len(samples)} samples do not fill one batch of {batch_size}. Choose a smaller batch_size")
    if keras.backend.backend() == "tensorflow":
        return _as_tensorflow_dataset(batches, repeat)
    return batches


def _as_tensorflow_dataset(batches, repeat):
    import tensorflow as tf

    loader = batches.loader

    used = len(batches) * batches.batch_size if batches.drop_remainder else len(loader.samples)

    def sample_numbers():
        if repeat:
            for epoch in itertools.count(batches.epoch):
                yield from ((epoch, index) for index in loader.order(epoch, batches.shuffle)[:used])
        epoch = batches.epoch
        batches.epoch += 1
        yield from ((epoch, index) for index in loader.order(epoch, batches.shuffle)[:used])

    def load(epoch, index):
        crop, target = tf.numpy_function(loader.load, [epoch, index], (tf.uint8, tf.float32))
        crop.set_shape((*loader.input_size, 3))
        target.set_shape((len(loader.skeleton), 3))
        return crop, target

    number = tf.TensorSpec((), tf.int64)
    dataset = tf.data.Dataset.from_generator(sample_numbers, output_signature=(number, number))
    dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batches.batch_size, drop_remainder=batches.drop_remainder)
    length = tf.data.INFINITE_CARDINALITY if repeat else len(batches)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(length))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options).prefetch(2)
