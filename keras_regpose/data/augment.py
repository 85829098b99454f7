"""Random mirroring, half bodies, shifts, scales and rotations of the region that is cut out for training.

Only numbers are changed here: the pipeline draws all of it into one affine map, so the photograph is resampled once.
Source: `RandomFlip`, `RandomHalfBody` and `RandomBBoxTransform` of MMPose 1.3.2, with their order of draws.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Real, Shaped

from keras_regpose.skeleton import Skeleton

_PROBABILITIES = [f"{change}_probability" for change in ("flip", "half_body", "shift", "scale", "rotation")]
_Pair = Real[np.ndarray, "2"]
_Keypoints = Real[np.ndarray, "keypoints 2"]
_Flags = Shaped[np.ndarray, " keypoints"]
# Half bodies: who qualifies, which half is preferred, and the padding around it.
MIN_KEYPOINTS = 9
MIN_UPPER_KEYPOINTS = 2
MIN_LOWER_KEYPOINTS = 3
UPPER_BODY_PREFERENCE = 0.7
HALF_BODY_PADDING = 1.5


@dataclass(frozen=True)
class Augmentation:
    """How strongly and how often training samples are changed. The defaults are the COCO recipe of the published rows.

    Shift, scale and rotation follow a standard normal distribution truncated to ±1, times the limits below.

    Args:
        flip_probability: float. Share of samples that are mirrored left-right.
        half_body_probability: float. Share of the people with at least 9 labelled keypoints of whom the upper or
            lower half is cut out. Skeletons without halves are left alone.
        shift_factor: float. Largest shift of the centre in each direction, as a fraction of the padded box.
        shift_probability: float. Share of samples that are shifted.
        scale_range: (low, high). The region's size is multiplied by a number between these.
        scale_probability: float. Share of samples whose size is changed.
        rotation: float. Largest rotation in degrees.
        rotation_probability: float. Share of samples that are rotated.

    Raises:
        ValueError: If a number is out of range.

    Example:

    >>> Augmentation.mpii().shift_probability, Augmentation(rotation=30).rotation
    (0.0, 30)
    """

    flip_probability: float = 0.5
    half_body_probability: float = 0.3
    shift_factor: float = 0.16
    shift_probability: float = 0.3
    scale_range: tuple[float, float] = (0.5, 1.5)
    scale_probability: float = 1.0
    rotation: float = 80.0
    rotation_probability: float = 0.6

    def __post_init__(self):
        object.__setattr__(self, "scale_range", tuple(self.scale_range))
        for name in _PROBABILITIES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1. Received: {getattr(self, name)}")
        for name in ("shift_factor", "rotation"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be a number of at least 0. Received: {getattr(self, name)}")
        if len(self.scale_range) != 2 or not 0 < self.scale_range[0] <= self.scale_range[1] < np.inf:
            raise ValueError(f"scale_range must be (low, high) with 0 < low ≤ high. Received: {self.scale_range!r:.80}")

    @classmethod
    def coco(cls) -> "Augmentation":
        """The recipe of the published COCO rows."""
        return cls()

    @classmethod
    def mpii(cls) -> "Augmentation":
        """The recipe of the published MPII rows: no half bodies and no shifts."""
        return cls(half_body_probability=0.0, shift_probability=0.0)

    @classmethod
    def none(cls) -> "Augmentation":
        """Changes nothing."""
        return replace(cls(), **dict.fromkeys(_PROBABILITIES, 0.0))


def augment(
    augmentation: Augmentation,
    center: _Pair,
    scale: _Pair,
    keypoints: _Keypoints,
    visible: _Flags,
    image_width: int,
    skeleton: Skeleton,
    generator: np.random.Generator,
) -> tuple[bool, _Pair, _Pair, float, _Keypoints, _Flags]:
    """Draws one random change of a sample. What is passed in stays as it is.

    Everything returned belongs to the photograph as it is after mirroring: `geometry.mirror_matrix` makes the crop
    matrix of the mirrored photograph one of the photograph itself.

    Args:
        augmentation: `Augmentation`.
        center: (2,) array. Centre of the region in image pixels, from `geometry.box_to_center_scale`.
        scale: (2,) array. Its width and height with padding, before `geometry.fix_aspect_ratio`.
        keypoints: (K, 2) array in image pixels.
        visible: (K,) array, 1 for labelled keypoints and 0 for others.
        image_width: int. Width of the photograph in pixels.
        skeleton: `Skeleton` of the keypoints.
        generator: `np.random.Generator`. Equal states give equal results.

    Returns:
        flipped: bool, whether to mirror the photograph.
        center, scale: (2,) float32 arrays.
        rotation: float, degrees for `geometry.crop_matrix`.
        keypoints: (K, 2) array, mirrored and with left and right exchanged if `flipped`; not yet in crop pixels.
        visible: (K,) array in the same order.

    Example:

    >>> from keras_regpose.skeleton import MPII16
    >>> points = np.arange(32.0).reshape(16, 2)
    >>> flipped, center, _, _, points, _ = augment(
    ...     Augmentation(flip_probability=1, half_body_probability=0, shift_probability=0),
    ...     np.array([20, 30]), np.array([40, 50]), points, np.ones(16), 100, MPII16, np.random.default_rng(0)
    ... )
    >>> flipped, center.tolist(), points[5].tolist()
    (True, [79.0, 30.0], [99.0, 1.0])
    """
    flipped = bool(generator.random() < augmentation.flip_probability)
    if flipped:
        permutation = skeleton.flip_permutation
        keypoints, visible = keypoints[permutation], visible[permutation]
        keypoints[:, 0] = image_width - 1 - keypoints[:, 0]
        center = np.array([image_width - 1 - center[0], center[1]])

    points = _half_body(augmentation.half_body_probability, keypoints, visible, skeleton, generator)
    extent = np.ptp(points, axis=0) if len(points) else np.zeros(2)
    if extent.any():  # otherwise there is no region to cut out
        center, scale = points.mean(axis=0), extent * HALF_BODY_PADDING

    shift_x, shift_y, zoom, turn = _truncated_normal(generator, 4)
    if generator.random() < augmentation.shift_probability:
        center = center + augmentation.shift_factor * np.array([shift_x, shift_y]) * scale
    if generator.random() < augmentation.scale_probability:
        low, high = augmentation.scale_range
        scale = scale * ((low + high) / 2 + zoom * (high - low) / 2)
    rotation = turn * augmentation.rotation if generator.random() < augmentation.rotation_probability else 0.0
    return flipped, np.asarray(center, np.float32), np.asarray(scale, np.float32), rotation, keypoints, visible


def _half_body(probability, keypoints, visible, skeleton, generator):
    """Returns the labelled keypoints of the upper or lower body, or none where the whole person is kept."""
    labelled = visible > 0.5
    if labelled.sum() < MIN_KEYPOINTS or generator.random() >= probability:
        return keypoints[:0]
    prefer_upper = generator.random() < UPPER_BODY_PREFERENCE
    halves = [np.array(list(map(skeleton.index, half)), int) for half in (skeleton.upper_body, skeleton.lower_body)]
    halves = [half[labelled[half]] for half in halves]
    enough = (MIN_UPPER_KEYPOINTS, MIN_LOWER_KEYPOINTS)
    halves = [half for half, least in zip(halves, enough, strict=True) if len(half) >= least]
    return keypoints[halves[0 if prefer_upper else -1]] if halves else keypoints[:0]


def _truncated_normal(generator, count):
    """Draws standard normal numbers between −1 and 1. Rejection is exact, and here faster than an inverse CDF."""
    values = []
    while len(values) < count:
        value = generator.standard_normal()
        if -1 <= value <= 1:
            values.append(value)
    return values
