"""PCK, mean error and OKS as Keras metrics: what `fit` and `evaluate` show of batches of `make_dataset`."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_regpose.data.records import AREA_OF_BOX
from keras_regpose.geometry import BOX_PADDING
from keras_regpose.skeleton import Skeleton


@keras.saving.register_keras_serializable("keras_regpose")
class MeanError(keras.metrics.Mean):
    """Mean distance of predictions from labels over all batches, in pixels of the crop. NaN before there is a label.

    Args:
        input_size: (height, width) of the crops in pixels, `PoseRegressor.input_size`.
        name: str. In the logs.
        dtype: Of the sums; None for float32.

    Example:

    >>> metric = MeanError((64, 48))
    >>> metric.update_state(np.array([[[0.5, 0.5, 1], [np.nan, 0, 0]]]), np.array([[[0.75, 0.75], [0, 0]]]))
    >>> float(metric.result())
    20.0
    """

    def __init__(self, input_size: tuple[int, int], name: str = "mean_error", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.input_size = tuple(input_size)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch.

        Args:
            y_true: (B, K, 3) targets: x and y in crop units, weight. Keypoints with weight 0, or with coordinates that
                are not finite, are not labelled.
            y_pred: (B, K, 4) or (B, K, 2) outputs: x and y in crop units first.
            sample_weight: (B,) weights of people, or None.
        """
        if y_true.shape[-1] != 3:
            raise ValueError(f"{self.name} needs targets of x, y and weight. Received shape: {y_true.shape}")
        y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        labelled = ops.logical_and(y_true[..., 2] > 0, ops.all(ops.isfinite(y_true[..., :2]), -1))
        size = np.array(self.input_size[::-1], np.float32)
        truth = ops.where(labelled[..., None], y_true[..., :2], 0.0) * size
        distances = ops.sqrt(ops.sum(ops.square(y_pred[..., :2] * size - truth), -1))
        values, counted = self.measure(truth, distances, labelled)
        weights = ops.cast(counted, "float32")
        if sample_weight is not None:
            weights = weights * ops.reshape(ops.cast(sample_weight, "float32"), (-1, 1))
        super().update_state(ops.ravel(ops.where(counted, values, 0.0)), ops.ravel(weights))

    def measure(self, truth, distances, labelled):
        """Returns the values of a batch and which of them count, (B, K) each, or (B, 1) for values of people.

        Args:
            truth: (B, K, 2) labels in crop pixels.
            distances: (B, K) of the predictions from them.
            labelled: (B, K) bool.
        """
        return distances, labelled

    def result(self):
        return self.total / self.count

    def get_config(self):
        return {**super().get_config(), "input_size": self.input_size}


@keras.saving.register_keras_serializable("keras_regpose")
class PCK(MeanError):
    """Share of labelled keypoints that are predicted within a fraction of the person's size.

    Args:
        input_size: (height, width) of the crops in pixels, `PoseRegressor.input_size`.
        threshold: float. The fraction.
        pair: two names of keypoints whose distance is the size, such as `("left_shoulder", "right_hip")` with a
            threshold of 0.2; people without both are left out. None takes the diagonal of the person's box, once it has
            grown to the shape of the crop: the crop's diagonal without its padding, divided by 1.25.
        skeleton: `Skeleton` that has the pair.
        name: str. In the logs.
        dtype: Of the sums; None for float32.

    Raises:
        ValueError: If the pair is not two of the skeleton's keypoints.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> model.compile(metrics=[rp.metrics.PCK(model.input_size), rp.metrics.MeanError(model.input_size)])
    >>> validation = rp.data.make_dataset(rp.data.Synthetic(4, seed=1), model, batch_size=4)
    >>> sorted(model.evaluate(validation, verbose=0, return_dict=True))[1:3]
    ['mean_error', 'pck']
    """

    def __init__(
        self,
        input_size: tuple[int, int],
        threshold: float = 0.05,
        pair: Sequence[str] | None = None,
        skeleton: Skeleton | dict | None = None,
        name: str = "pck",
        dtype=None,
    ):
        super().__init__(input_size, name, dtype)
        skeleton = Skeleton.from_dict(skeleton) if isinstance(skeleton, dict) else skeleton
        self.threshold, self.pair, self.skeleton = threshold, pair, skeleton
        names = () if skeleton is None else skeleton.keypoints
        if pair is not None and (len(set(pair)) != 2 or not set(pair) <= set(names)):
            known = ", ".join(names) or "for which pass skeleton="
            raise ValueError(f"PCK's pair is two of the skeleton's keypoints, {known}. Received: {pair}")
        self._ends = None if pair is None else [names.index(name) for name in pair]

    def measure(self, truth, distances, labelled):
        if self._ends is None:
            sizes = np.float32(np.linalg.norm(self.input_size) / BOX_PADDING)
        else:
            first, second = self._ends
            sizes = ops.sqrt(ops.sum(ops.square(truth[:, first] - truth[:, second]), -1, keepdims=True))
            both = ops.logical_and(labelled[:, first], labelled[:, second])[:, None]
            labelled = ops.logical_and(labelled, ops.logical_and(both, sizes > 0))
        return ops.cast(distances <= self.threshold * sizes, "float32"), labelled

    def get_config(self):
        skeleton = None if self.skeleton is None else self.skeleton.to_dict()
        return {**super().get_config(), "threshold": self.threshold, "pair": self.pair, "skeleton": skeleton}


@keras.saving.register_keras_serializable("keras_regpose")
class OKS(MeanError):
    """Mean object keypoint similarity of people, as `labelled_oks` has it.

    Batches do not tell the area of a person: it is taken as 0.53 of the box, as usual, once that has grown to the shape
    of the crop.

    Args:
        input_size: (height, width) of the crops in pixels, `PoseRegressor.input_size`.
        sigmas: sequence of K floats, such as `Skeleton.sigmas`, or one for all.
        name: str. In the logs.
        dtype: Of the sums; None for float32.

    Example:

    >>> metric = OKS((64, 48), sigmas=[0.1])
    >>> metric.update_state(np.array([[[0.5, 0.5, 1]]]), np.array([[[0.5, 0.5]]]))
    >>> float(metric.result())
    1.0
    """

    def __init__(
        self, input_size: tuple[int, int], sigmas: Sequence[float] | float = 0.05, name: str = "oks", dtype=None
    ):
        super().__init__(input_size, name, dtype)
        self.sigmas = np.atleast_1d(np.asarray(sigmas, np.float32)).tolist()

    def measure(self, truth, distances, labelled):
        area = AREA_OF_BOX * np.prod(self.input_size) / BOX_PADDING**2
        scale = (np.float32(2 * area) * np.square(2 * np.array(self.sigmas, np.float32))).astype(np.float32)
        similarity = ops.where(labelled, ops.exp(-ops.square(distances) / scale), 0.0)
        count = ops.sum(ops.cast(labelled, "float32"), -1, keepdims=True)
        return ops.sum(similarity, -1, keepdims=True) / ops.maximum(count, 1.0), count > 0

    def get_config(self):
        return {**super().get_config(), "sigmas": self.sigmas}
