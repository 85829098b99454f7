"""Residual log-likelihood estimation: the loss, and its parts by name.

Human Pose Regression with Residual Log-likelihood Estimation (Li et al., 2021), eq. 7–9, in the form in which MMPose
trained the published weights.
"""

import math

import keras
from keras import ops


def rle_terms(
    pred, target, log_prob, distribution: str = "laplace", residual: bool = True, unit_errors: bool = False
) -> dict:
    """The parts of the RLE loss, for each person.

    With the error e = (prediction − target) / σ, the loss of one keypoint of weight w is
    w · Σ over x, y of [ (log σ − log G(e)) + (log 2σ + |e|) ], where G is the density that the flow has learned.
    The density counts once for x and once for y, and log σ stands in both parts: so do the published weights have it.

    Args:
        pred: (B, K, 4) tensor in crop units: x, y, σx, σy.
        target: (B, K, 3) tensor: x, y in crop units and the weight. Keypoints of weight 0 never touch the result,
            whatever their coordinates, NaN included.
        log_prob: callable. (B, K, 2) errors → (B, K) log-density, `RealNVP.log_prob`.
        distribution: "laplace" or "gaussian". The density Q of the residual part.
        residual: bool. Whether to add the residual part (log Q) at all.
        unit_errors: bool. Whether the flow part measures errors and σ by the mean of |e| in the batch, so that it does
            not change when all σ grow alike: the density learns the shape of the errors, and their size is left to the
            residual part. Otherwise any factor may move between σ and the density. Not in the reference.

    Returns:
        dict of (B,) float32 tensors: `"flow"`, `"residual"` (their sum is the loss) and `"sigma"`, the mean σ of the
        person's weighted keypoints.

    Raises:
        ValueError: If the shapes or the distribution are not as above.
    """
    if pred.shape[-1] != 4 or target.shape[-1] != 3:
        needed = "predictions (B, K, 4) = x, y, σx, σy and targets (B, K, 3) = x, y, weight"
        raise ValueError(f"RLE needs {needed}. Received: {tuple(pred.shape)} and {tuple(target.shape)}")
    if distribution not in ("laplace", "gaussian"):
        raise ValueError(f"RLE's distribution must be 'laplace' or 'gaussian'. Received: {distribution!r}")
    pred, target = ops.cast(pred, "float32"), ops.cast(target, "float32")
    weight = target[..., 2:]
    # Masked before the flow, not after: NaN times 0 is NaN, in the gradient too.
    used = weight > 0
    error = ops.where(used, pred[..., :2] - ops.where(used, target[..., :2], 0.0), 0.0)
    sigma = ops.where(used, pred[..., 2:], 1.0)
    mask = ops.cast(used, "float32")
    log_sigma = ops.log(sigma)
    log_size = 0.0
    if unit_errors:
        # No gradient through the errors: where the density fits badly, larger errors would lower the loss.
        sizes = ops.sum(weight * ops.abs(ops.stop_gradient(error)) / (sigma + 1e-9))
        log_size = ops.log(sizes / ops.maximum(2 * ops.sum(weight * mask), 1e-6) + 1e-6)
    error = error / (sigma + 1e-9)
    flow = log_sigma + log_size - log_prob(error / ops.exp(log_size))[..., None]
    terms = {"flow": ops.sum(weight * flow, axis=(1, 2))}
    if not residual:
        negative_log_q = ops.zeros_like(error)
    elif distribution == "laplace":
        negative_log_q = log_sigma + math.log(2) + ops.abs(error)
    else:
        negative_log_q = log_sigma + 0.5 * math.log(2 * math.pi) + 0.5 * ops.square(error)
    terms["residual"] = ops.sum(weight * negative_log_q, axis=(1, 2))
    terms["sigma"] = ops.sum(sigma * mask, axis=(1, 2)) / ops.maximum(2 * ops.sum(mask, axis=(1, 2)), 1.0)
    return terms


class RLE(keras.losses.Loss):
    """Residual log-likelihood loss for `compile`; the mean over the batch of each person's sum over keypoints.

    It is legitimately negative once the density is good: choose the best checkpoint by AP or PCK, never by the loss.

    Args:
        flow: `RealNVP`. It must also hang on the model, since Keras trains no layer that only a loss knows.
        distribution: "laplace" or "gaussian".
        residual: bool. Whether to add the residual part.
        keypoint_weights: sequence of K floats or None. Multiplies the weights that come with the targets.
        trackers: dict of `keras.metrics.Mean` or None. Receives the parts by name (`flow`, `residual`, `sigma`).
        unit_errors: bool. Whether the flow sees errors of mean size 1; see `rle_terms`.
    """

    def __init__(
        self, flow, distribution="laplace", residual=True, keypoint_weights=None, trackers=None, unit_errors=False
    ):
        super().__init__(name="rle")
        self.flow = flow
        self.distribution = distribution
        self.residual = residual
        self.keypoint_weights = keypoint_weights
        self.trackers = trackers or {}
        self.unit_errors = unit_errors

    def call(self, y_true, y_pred):
        if self.keypoint_weights is not None:
            weights = ops.convert_to_tensor(self.keypoint_weights, dtype="float32")
            y_true = ops.concatenate([y_true[..., :2], y_true[..., 2:] * weights[:, None]], axis=-1)
        terms = rle_terms(y_pred, y_true, self.flow.log_prob, self.distribution, self.residual, self.unit_errors)
        for name, tracker in self.trackers.items():
            tracker.update_state(terms[name])
        return terms["flow"] + terms["residual"]
