"""One sample → its crop and target: read, augment, cut, encode.

Also the order of the samples in an epoch, since it decides which photographs are at hand already. Both depend on
(seed, epoch, sample) alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_regpose import codec, geometry
from keras_regpose.data.augment import Augmentation, augment
from keras_regpose.data.cache import PhotographCache
from keras_regpose.data.people import People
from keras_regpose.data.sample import Sample
from keras_regpose.data.unreadable import UnreadableImages
from keras_regpose.images import ImageError
from keras_regpose.skeleton import Skeleton

# People of one photograph come within this many samples of each other, so that it is decoded once for all of them.
# Large against a batch, so that few batches hold two of them, and small enough for a few hundred photographs in memory.
SPREAD = 1000


@dataclass(eq=False)
class CropLoader:
    """Cuts the crop of a sample and encodes its target; keeps decoded photographs while they fit.

    An image that cannot be read is named once in the log, counted in `unreadable`, and its place is taken by the
    next sample.

    Args:
        samples: sequence of `Sample`.
        skeleton: `Skeleton`.
        input_size: (height, width) of the crops in pixels.
        augmentation: `Augmentation` or None for plain crops.
        seed: int. Seeds augmentation and order.
        cache: `PhotographCache`. What reads the photographs; by default it keeps a gibibyte of them in memory.
        max_unreadable_share: float. A larger share of unreadable images than this is an error.
    """

    samples: Sequence[Sample]
    skeleton: Skeleton
    input_size: tuple[int, int]
    augmentation: Augmentation | None = None
    seed: int = 0
    cache: PhotographCache = field(default_factory=lambda: PhotographCache(1 << 30))
    max_unreadable_share: float = 0.1

    def __post_init__(self):
        if len(self.samples) == 0:
            raise ValueError("The data set is empty: there is nothing to load")
        self.samples = People.of(self.samples, self.skeleton)
        self.unreadable = UnreadableImages(len(self.samples), self.max_unreadable_share)
        self._photographs = self.samples.photographs
        self._last_order: tuple = (None, None)

    def order(self, epoch: int, shuffle: bool) -> np.ndarray:
        """Returns the order of the samples in an epoch.

        Shuffled, the photographs come in random order, and each person up to `SPREAD` samples after the photograph's
        turn. With one person per photograph this is the usual uniform shuffle.
        """
        key, order = self._last_order  # both at once: another thread may replace them
        if key != (epoch, shuffle):
            order = self._shuffled(epoch) if shuffle else np.arange(len(self.samples))
            self._last_order = ((epoch, shuffle), order)
        return order

    def _shuffled(self, epoch):
        generator = np.random.default_rng((self.seed, epoch))
        count, photographs = len(self.samples), int(self._photographs.max()) + 1
        turns = generator.permutation(photographs) * (count / photographs)
        return np.argsort(turns[self._photographs] + generator.uniform(0, SPREAD, count), kind="stable")

    def load_batch(self, epoch: int, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the (B, H, W, 3) uint8 RGB crops and the (B, K, 3) float32 targets of samples."""
        crops = np.empty((len(indices), *self.input_size, 3), np.uint8)
        targets = np.empty((len(indices), len(self.skeleton), 3), np.float32)
        for place, index in enumerate(indices):
            crops[place], targets[place] = self.load(epoch, index)
        return crops, targets

    def load(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the (H, W, 3) uint8 RGB crop and the (K, 3) float32 target of a sample."""
        for step in range(len(self.samples)):
            sample = self.samples[(index + step) % len(self.samples)]
            try:
                image = self.cache.read(sample.image) if isinstance(sample.image, str) else sample.image
                sample.check_size(image)
            except ImageError as error:
                self.unreadable.add(sample.image, error)
                continue
            return self._crop(sample, image, np.random.default_rng((self.seed, epoch, index, 1)))
        raise ImageError("None of the images could be read")

    def _crop(self, sample, image, generator):
        if not np.isfinite(sample.keypoints[sample.visible > 0]).all():
            name = sample.image if isinstance(sample.image, str) else f"the picture with image_id {sample.image_id}"
            raise ImageError(f"The labels of {name} are not all numbers: correct them, or leave the person out")
        center, scale = geometry.box_to_center_scale(sample.box)
        keypoints, visible, rotation, flipped = sample.keypoints, sample.visible, 0.0, False
        if self.augmentation is not None:
            flipped, center, scale, rotation, keypoints, visible = augment(
                self.augmentation, center, scale, keypoints, visible, image.shape[1], self.skeleton, generator
            )
        cut = geometry.cut_region(image, center, scale, self.input_size, rotation, flipped)
        keypoints = geometry.transform_points(keypoints, cut.matrix)
        return cut.crop, codec.encode(keypoints, visible, self.input_size)
