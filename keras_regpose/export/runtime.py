"""An exported model, opened again: the same `estimate()` without Keras."""

import logging
import os
from pathlib import Path

import numpy as np

from keras_regpose.export.formats import FORMATS
from keras_regpose.export.openvino import computes_bfloat16
from keras_regpose.export.sidecar import EXPORT_AGAIN, Description, read_sidecar
from keras_regpose.files import damage_explained
from keras_regpose.inference.estimator import estimate

_log = logging.getLogger(__name__)
# What forked processes have inherited and cannot close: they would wait for threads that are not there.
_of_parents = []


def load_exported(path: str | os.PathLike, threads: int | None = None, trust: bool = False) -> "ExportedPoseRegressor":
    """Opens what `model.export` wrote.

    Args:
        path: str or path. The exported .onnx, .xml (OpenVINO) or .tflite file, or the folder of a TF SavedModel.
        threads: int or None. CPU threads to use; None for one per core.
        trust: bool. Whether a SavedModel is opened: it is a program, which may read and write any file of yours.

    Returns:
        `ExportedPoseRegressor`, which estimates poses as the model that it was made of does.

    Raises:
        FileNotFoundError: If there is no export, or its sidecar is missing.
        ValueError: If a file is damaged, or is a SavedModel without `trust`.
        ImportError: If the package that runs this format is not installed.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> _ = model.export("pose", verbose=False)
    >>> fast = rp.load_exported("pose", trust=True)
    >>> person = rp.data.Synthetic(1, seed=0)[0]
    >>> fast.estimate(person.image, boxes=[person.box]).keypoints.shape
    (1, 17, 2)
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, or None for one per core. Received: {threads}")
    description = read_sidecar(path, {name: kind.SUFFIX for name, kind in FORMATS.items()})
    if description.precision not in FORMATS[description.format].PRECISIONS:
        raise ValueError(f"{path} is in a precision that is not known here: {description.precision!r}. {EXPORT_AGAIN}")
    if description.format == "tf_saved_model" and not trust:
        raise ValueError(f"{path} is a program of TensorFlow: pass trust=True if you trust who made it")
    if description.precision == "bfloat16" and not computes_bfloat16():
        _log.warning("This processor does not say that it computes in bfloat16: float32 is likely to be faster here")
    return ExportedPoseRegressor(Path(path), description, threads)


def check_crops(name: str, crops, input_size: tuple[int, int]) -> np.ndarray:
    """Returns (B, H, W, 3) uint8 crops as one piece of memory, after a check that they are such."""
    crops = np.ascontiguousarray(crops)
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (*input_size, 3):
        raise ValueError(f"{name} must be uint8 (B, H, W, 3) of {input_size}. Received: {crops.dtype} {crops.shape}")
    return crops


class ExportedPoseRegressor:
    """A model that runs outside Keras; made by `load_exported`.

    Several threads may use it at once. So may worker processes: where they are forked it is opened again, since a
    runtime's threads stay behind in the parent, and where they are spawned they open it when they are given it.

    Attributes:
        skeleton: `Skeleton`. The keypoints that the model regresses.
        input_size: (height, width) of the crops in pixels.
        method: "rle" or "deeppose".
        format: "onnx", "openvino", "litert" or "tf_saved_model".
        precision: "float32", "bfloat16", "float16" or "int8".
        output_shape: (None, K, 4) with sigmas, else (None, K, 2).
        quantiles: dict or None. How many σ errors reach; see `inference/regions.py`.
    """

    def __init__(self, path: Path, description: Description, threads: int | None = None):
        self.format, self.precision, self.method = description.format, description.precision, description.method
        self.skeleton, self.input_size = description.skeleton, description.input_size
        self.quantiles = description.quantiles
        self.output_shape = (None, len(self.skeleton), 4 if self.method == "rle" else 2)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._path, self._threads = path.absolute(), threads or cores
        self._opened = os.getpid(), self._open()

    def _open(self):
        with damage_explained(self._path, EXPORT_AGAIN):
            return FORMATS[self.format].open_export(self._path, self.precision, self._threads)

    def __reduce__(self):
        return load_exported, (self._path, self._threads, True)  # it was trusted here

    def __repr__(self):
        return f"<ExportedPoseRegressor {self.format} {self.precision} {self.skeleton.name} {self.input_size}>"

    def predict_on_batch(self, crops: np.ndarray) -> np.ndarray:
        """Runs the network.

        Args:
            crops: (B, H, W, 3) uint8 array, RGB.

        Returns:
            (B, K, 4) float32 array: x, y, σx, σy in units of crop width and height; (B, K, 2) without σ.

        Raises:
            ValueError: If the crops have another shape or type, or the file does not give what its sidecar says.
        """
        crops = check_crops("crops", crops, self.input_size)
        if len(crops) == 0:
            return np.zeros((0, *self.output_shape[1:]), np.float32)
        process, run = self._opened
        if process != os.getpid():
            _of_parents.append(run)
            run = self._open()
            self._opened = os.getpid(), run
        with damage_explained(self._path, EXPORT_AGAIN):
            outputs = run(crops)
            parts = [np.asarray(outputs[name]) for name in ("keypoints", "sigmas")[: self.output_shape[-1] // 2]]
            if any(part.shape != (len(crops), self.output_shape[1], 2) for part in parts):
                raise ValueError(f"it gives outputs of shape {[part.shape for part in parts]}")
            return np.concatenate(parts, axis=-1, dtype=np.float32)

    estimate = estimate
