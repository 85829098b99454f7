"""Losses of plain regression: smooth L1, and the two that the published faces were trained with."""

import math

import keras
from keras import ops


class SmoothL1(keras.losses.Loss):
    """Mean over all coordinates of h(w·prediction − w·target), h(d) = ½d² below 1 and |d| − ½ above.

    As in MMPose's `SmoothL1Loss`, keypoints of weight 0 count in the denominator of the mean. On crop units the
    quadratic branch is practically the only one in use.

    Args:
        keypoint_weights: sequence of K floats or None. Multiplies the weights that come with the targets.
    """

    def __init__(self, keypoint_weights=None, name=None):
        super().__init__(name=name)
        self.keypoint_weights = keypoint_weights

    def call(self, y_true, y_pred):
        """Returns the (B,) losses of (B, K, 3) targets x, y, weight and (B, K, 2) predictions in crop units."""
        if y_pred.shape[-1] != 2 or y_true.shape[-1] != 3:
            needed = f"{type(self).__name__} needs predictions (B, K, 2) = x, y and targets (B, K, 3) = x, y, weight"
            raise ValueError(f"{needed}. Received: {tuple(y_pred.shape)} and {tuple(y_true.shape)}")
        y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        weight = y_true[..., 2:]
        if self.keypoint_weights is not None:
            weight = weight * ops.convert_to_tensor(self.keypoint_weights, dtype="float32")[:, None]
        difference = ops.where(weight > 0, weight * (y_pred - ops.where(weight > 0, y_true[..., :2], 0.0)), 0.0)
        return self.measure(difference)

    def measure(self, difference):
        """Returns the (B,) losses of (B, K, 2) weighted differences."""
        return ops.mean(keras.losses.huber(ops.zeros_like(difference), difference), axis=1)


class Wing(SmoothL1):
    """Sum over all coordinates of ω·ln(1 + |d| / ε) below ω and |d| − ω + ω·ln(1 + ω / ε) above, d = w·(pred − target).

    Source: Feng et al., "Wing loss for robust facial landmark localisation with convolutional neural networks",
    CVPR 2018, eq. 5, with ω = 10 and ε = 2 as in MMPose's `WingLoss`. On crop units only the first branch is in use.

    Args:
        keypoint_weights: sequence of K floats or None. Multiplies the weights that come with the targets.

    Example:

    >>> import numpy as np
    >>> float(Wing()(np.array([[[0.5, 0.5, 1.0]]]), np.array([[[0.5, 2.5]]])))  # 10 ln 2
    6.931471824645996
    """

    def measure(self, difference):
        width, curvature = 10.0, 2.0
        size = ops.abs(difference)
        near = width * ops.log(1 + size / curvature)
        far = size - width * (1 - math.log(1 + width / curvature))
        return ops.sum(ops.where(size < width, near, far), axis=(1, 2))


class SoftWing(SmoothL1):
    """Sum over all coordinates of |d| below ω₁ and ω₁ + ω₂·ln((ε + |d|) / (ε + ω₁)) above, d = w·(pred − target).

    Source: Lin et al., "Structure-coherent deep feature learning for robust face alignment", TIP 2021, with ω₁ = 2,
    ω₂ = 20 and ε = 0.5 as in MMPose's `SoftWingLoss`. On crop units it is the sum of absolute differences.

    Args:
        keypoint_weights: sequence of K floats or None. Multiplies the weights that come with the targets.

    Example:

    >>> import numpy as np
    >>> float(SoftWing()(np.array([[[0.5, 0.5, 1.0]]]), np.array([[[0.25, 1.0]]])))
    0.75
    """

    def measure(self, difference):
        start, width, curvature = 2.0, 20.0, 0.5
        size = ops.abs(difference)
        far = width * ops.log(1 + size / curvature) + start - width * math.log(1 + start / curvature)
        return ops.sum(ops.where(size < start, size, far), axis=(1, 2))


LOSSES = {"smooth_l1": SmoothL1, "wing": Wing, "soft_wing": SoftWing}  # of `method="deeppose"`
