"""The density of people's joints that residual log-likelihood estimation has learned."""

import numpy as np

from keras_regpose.inference.poses import Poses


class PoseDensity:
    """For each joint of each person, a density over the image.

    The flow G of RLE is the density of the error e = (μ − x) / σ, where μ is the predicted point and x the true one.
    That of the true point is therefore p(x) = G((μ − x) / σ) / (σx σy). All joints share G.
    Source: Human Pose Regression with Residual Log-likelihood Estimation (Li et al., 2021), eq. 7.

    Args:
        model: `PoseRegressor` with a flow.
        people: `Poses` that the model has estimated.

    Raises:
        ValueError: If the model has no flow, or the people have no σ.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> density = model.density(model.estimate(np.zeros((80, 60, 3), np.uint8), boxes="image"))
    >>> samples = density.sample(100, seed=0)
    >>> samples.shape, density.log_prob(samples).shape
    ((100, 1, 17, 2), (100, 1, 17))
    """

    def __init__(self, model, people: Poses):
        flow = getattr(model, "flow", None)
        if flow is None or people.sigmas is None:
            raise ValueError(
                "A density needs a model trained by RLE, with its flow, and poses with σ. Received: "
                + ("a model without a flow" if flow is None else "poses without σ")
            )
        self._flow = flow
        self._mean = people.keypoints
        self._sigma = people.sigmas

    def log_prob(self, points: np.ndarray) -> np.ndarray:
        """Returns the natural logarithm of the density.

        Args:
            points: (..., N, K, 2) array in image pixels, for N people of K joints.

        Returns:
            (..., N, K) float32 array. The density is per square pixel.
        """
        points = np.asarray(points, np.float32)
        if points.shape[-3:] != self._mean.shape:
            raise ValueError(f"points must have the shape (..., {self._mean.shape}). Received: {points.shape}")
        error = (self._mean - points) / self._sigma
        return np.asarray(self._flow.log_prob(error)) - np.log(self._sigma).sum(-1)

    def expected_error(self) -> np.ndarray:
        """Returns the (N, K, 2) mean absolute errors of x and y in pixels that the density expects: σ times E |e|."""
        return self._sigma * np.abs(self._flow.sample(20_000, seed=0)).mean(0)

    def sample(self, count: int, seed: int | None = None) -> np.ndarray:
        """Draws (count, N, K, 2) points in image pixels; the joints are drawn independently of each other."""
        errors = np.asarray(self._flow.sample(count * self._mean[..., 0].size, seed))
        return self._mean - self._sigma * errors.reshape(count, *self._mean.shape)
