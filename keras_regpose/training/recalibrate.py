"""σ brought into agreement with the errors on data that was not trained on."""

from collections.abc import Sequence

import numpy as np

from keras_regpose import geometry
from keras_regpose.evaluation.evaluate import labels
from keras_regpose.inference.poses import Poses
from keras_regpose.inference.regions import error_quantiles

_FLOW_EPOCHS = 30


def recalibrate(model, poses: Poses, positions: np.ndarray, samples: Sequence, seed: int = 0) -> tuple[float, float]:
    """Changes what a model says of its uncertainty, in place; its keypoints stay as they are.

    Training sees smaller errors than a new photograph brings, and RLE leaves the size of σ open: the flow makes up for
    any. Here the two numbers a and b are found with which σ' = sigmoid(a · logit σ + b) has the greatest likelihood as
    the scale of a Laplace density of the errors, and are written into the head. Then the flow learns the density of
    error / σ', and `model.quantiles` what share of the errors lies within how many σ'.
    Source: Platt, "Probabilistic outputs for support vector machines" (1999), for σ in place of classes.

    Args:
        model: `PoseRegressor` of the method "rle".
        poses: `Poses` of that model, from `predict_samples`.
        positions: (N,) int array, from `predict_samples`.
        samples: The samples that they are of: people the model was not trained on, some hundreds.
        seed: int. Seeds the order in which the flow sees the errors.

    Returns:
        a and b.

    Raises:
        ValueError: If the model has no σ, or fewer than 100 keypoints are labelled.

    Example:

    >>> import keras_regpose as rp
    >>> from keras_regpose.evaluation.evaluate import predict_samples
    >>> model = rp.from_preset("mobilenetv2_rle_people", skeleton=rp.LSP14)  # its σ is new and has learned nothing
    >>> people = rp.data.Synthetic(16, seed=0, skeleton=rp.LSP14)
    >>> slope, offset = recalibrate(model, *predict_samples(model, people), people)
    >>> errors, sigmas = errors_and_sigmas(*predict_samples(model, people), people, model.input_size)
    >>> bool(abs((np.abs(errors) / sigmas).mean() - 1) < 0.05)  # |error| is σ on average
    True
    """
    from scipy.optimize import minimize

    if getattr(model, "flow", None) is None:
        raise ValueError("Only a model trained by RLE has σ to recalibrate. Received one without")
    errors, sigmas = errors_and_sigmas(poses, positions, samples, model.input_size)
    if len(errors) < 100:
        raise ValueError(f"To recalibrate σ takes 100 labelled keypoints, better thousands. The data has {len(errors)}")
    sigmas = np.clip(sigmas, 1e-6, 1 - 1e-6)
    logits = np.log(sigmas / (1 - sigmas))

    def recalibrated(slope, offset):
        return 1 / (1 + np.exp(-(np.exp(slope) * logits + offset)))

    def negative_log_likelihood(parameters):
        scale = recalibrated(*parameters)
        return np.mean(np.log(2 * scale) + np.abs(errors) / scale)

    # From the one shift that makes σ right on average; the slope as its logarithm, since its sign must stay.
    start = [0.0, np.log(np.abs(errors).mean()) - logits.mean()]
    slope, offset = minimize(negative_log_likelihood, start, method="Nelder-Mead").x
    layer = model.get_layer("sigma")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * np.exp(slope), bias * np.exp(slope) + offset])
    _fit_flow(model.flow, errors / recalibrated(slope, offset), seed)
    model.quantiles = error_quantiles(errors, recalibrated(slope, offset))
    return float(np.exp(slope)), float(offset)


def errors_and_sigmas(
    poses: Poses, positions: np.ndarray, samples: Sequence, input_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (M, 2) errors x, y of the labelled keypoints and (M, 2) their σ, both in units of the crop's size."""
    truth, visible = labels(poses, positions, samples)
    _, scale = geometry.box_to_center_scale(poses.boxes)
    scale = geometry.fix_aspect_ratio(scale, input_size)[:, None]
    labelled = visible > 0
    return ((poses.keypoints - truth) / scale)[labelled], (poses.sigmas / scale)[labelled]


def _fit_flow(flow, errors, seed):
    """Has the flow learn the density of (M, 2) errors that are divided by σ."""
    import keras

    inputs = keras.Input((2,))
    density = keras.Model(inputs, flow(inputs))
    batch = min(512, -(-len(errors) // 8))  # few errors are learned in steps enough, too
    steps = _FLOW_EPOCHS * (len(errors) // batch)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    density.compile(keras.optimizers.Adam(rate, global_clipnorm=5.0), loss=lambda _, log_density: -log_density)
    generator = np.random.default_rng(seed)
    errors = errors.astype(np.float32)
    for _ in range(_FLOW_EPOCHS):
        order = generator.permutation(len(errors))
        for first in range(0, len(errors) - batch + 1, batch):
            part = errors[order[first : first + batch]]
            density.train_on_batch(part, part)
