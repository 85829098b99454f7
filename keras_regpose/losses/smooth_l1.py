"""Smooth L1 loss of the plain regression rows."""

import keras
from keras import ops


class SmoothL1(keras.losses.Loss):
    """Mean over all coordinates of h(w·prediction − w·target), h(d) = ½d² below 1 and |d| − ½ above.

    As in MMPose's `SmoothL1Loss`, keypoints of weight 0 count in the denominator of the mean. On crop units the
    quadratic branch is practically the only one in use.

    Args:
        keypoint_weights: sequence of K floats or None. Multiplies the weights that come with the targets.
    """

    def __init__(self, keypoint_weights=None, name="smooth_l1"):
        super().__init__(name=name)
        self.keypoint_weights = keypoint_weights

    def call(self, y_true, y_pred):
        """Returns the (B,) losses of (B, K, 3) targets x, y, weight and (B, K, 2) predictions in crop units."""
        if y_pred.shape[-1] != 2 or y_true.shape[-1] != 3:
            raise ValueError(
                "Smooth L1 needs predictions (B, K, 2) = x, y and targets (B, K, 3) = x, y, weight. "
                f"Received: {tuple(y_pred.shape)} and {tuple(y_true.shape)}"
            )
        y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        weight = y_true[..., 2:]
        if self.keypoint_weights is not None:
            weight = weight * ops.convert_to_tensor(self.keypoint_weights, dtype="float32")[:, None]
        difference = ops.where(weight > 0, weight * (y_pred - ops.where(weight > 0, y_true[..., :2], 0.0)), 0.0)
        return ops.mean(keras.losses.huber(ops.zeros_like(difference), difference), axis=1)
