"""A model → a file of another runtime, with a sidecar that says what it is.

Every format is made from one frozen graph: stock layers, normalisation folded, weights as constants, uint8 RGB crops
in, keypoints and sigmas out as two outputs. The file is opened again and compared with Keras before it takes its name.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_regpose import geometry
from keras_regpose.drawn.people import Synthetic
from keras_regpose.export.conditioning import conditioned
from keras_regpose.export.formats import FORMATS
from keras_regpose.export.frozen import frozen_function
from keras_regpose.export.runtime import ExportedPoseRegressor, check_crops
from keras_regpose.export.sidecar import Description, Deviation, sidecar_path, write_sidecar
from keras_regpose.files import draft, is_ours
from keras_regpose.images import read_image
from keras_regpose.models.rewrite import folded, graph_with_dtype

_CONDITIONED = ("bfloat16", "int8")  # float16 rounds so little that there is nothing to take back
_COMPARED = 32
# Of the crop's size. Converters differ from Keras by rounding alone, so that anything greater is a wrong graph.
_FLOAT32_TOLERANCE = 1e-3
# Other precisions move keypoints by less than a pixel; where half of them move so far, the values do not fit.
_USELESS = 0.05


def export_model(
    model,
    path: str | os.PathLike,
    format: str | None = None,
    precision: str = "float32",
    calibration: np.ndarray | None = None,
    **facts,
) -> Deviation:
    """Writes a model as a file that runs without Keras; see `PoseRegressor.export`, which calls this."""
    path = Path(path)
    format = _check_format(path, format, precision)
    _check_place(path)
    graph = graph_with_dtype(model.to_keras(), "float32")
    if calibration is not None or precision == "int8":
        calibration = _check_calibration(calibration, model.input_size)
    crops = calibration_crops(Synthetic(16, seed=0), model.input_size) if calibration is None else calibration
    compared = crops[np.linspace(0, len(crops) - 1, min(_COMPARED, len(crops))).astype(int)]
    description = Description(format, precision, model.method, model.skeleton, model.input_size, model.quantiles)
    expected = graph.predict_on_batch(compared)
    with draft(path) as written:
        prepared = conditioned(graph, crops, precision) if precision in _CONDITIONED else folded(graph)
        FORMATS[format].write(frozen_function(prepared), written, precision, calibration)
        fast = ExportedPoseRegressor(written, description)
        deviation = Deviation.between(fast.predict_on_batch(compared), expected, model.input_size)
        _check_deviation(deviation, format, precision, model.input_size)
        write_sidecar(written, description, deviation, facts)
        for file in written.parent.iterdir():  # pose.bin, and the sidecar; the file itself follows
            if file != written:
                os.replace(file, path.parent / file.name)
    return deviation


def calibration_crops(samples: Sequence, input_size: tuple[int, int], count: int = 128) -> np.ndarray:
    """Cuts people out of their images as `estimate` does: what int8 exports are calibrated on.

    Args:
        samples: sequence of `Sample`s, such as `Coco(...)`.
        input_size: (height, width) of the crops: the model's `input_size`.
        count: int. At most so many people, evenly spread over the samples.

    Returns:
        (N, H, W, 3) uint8 array, RGB.

    Example:

    >>> calibration_crops(Synthetic(4, seed=0), (64, 48)).shape
    (4, 64, 48, 3)
    """
    crops = []
    for index in np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int):
        sample = samples[int(index)]
        crops.append(geometry.cut(read_image(sample.image), sample.box, input_size).crop)
    return np.stack(crops)


def _check_format(path, format, precision):
    found = next((name for name, kind in FORMATS.items() if kind.SUFFIX == path.suffix), None)
    if found is None or format not in (None, found):
        given = path.name + (f" and format={format!r}" if format else "")
        suffixes = ".onnx, .xml (OpenVINO), .tflite (LiteRT), or no suffix (tf_saved_model, a folder)"
        raise ValueError(f"The format follows from the name: {suffixes}. Received: {given}")
    precisions = FORMATS[found].PRECISIONS
    if precision not in precisions:
        raise ValueError(f"precision must be one of {', '.join(precisions)} for {found}. Received: {precision!r}")
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"Exports need KERAS_BACKEND=tensorflow. This process runs on {keras.backend.backend()}")
    return found


def _check_calibration(calibration, input_size):
    if calibration is None:
        raise ValueError("int8 needs calibration=, (N, H, W, 3) crops: rp.export.calibration_crops makes them")
    calibration = check_crops("calibration", calibration, input_size)
    if len(calibration) == 0:
        raise ValueError("calibration holds no crop: pass at least one, better a hundred")
    return calibration


def _check_deviation(deviation, format, precision, input_size):
    if not np.isfinite(deviation.crop_units):
        raise ValueError(
            f"The {precision} export to {format} gives values that are not finite, so nothing was written: "
            "the model's values exceed what this precision can hold, or its weights are not finite"
        )
    if precision == "float32" and deviation.crop_units > _FLOAT32_TOLERANCE:
        raise ValueError(f"The export to {format} gives other outputs, so nothing was written: {deviation}")
    if deviation.median > _USELESS * max(input_size):
        raise ValueError(
            f"The {precision} export to {format} would be of no use, so nothing was written: {deviation}. The model's "
            "values exceed what this precision can hold, or int8 was calibrated on crops unlike those compared"
        )


def _check_place(path):
    """Refuses to replace what is no export; files are known by the sidecar beside them."""
    beside = [path, sidecar_path(path), path.with_suffix(".bin" if path.suffix == ".xml" else path.suffix)]
    taken = [file for file in beside if os.path.lexists(file)]
    empty = not path.suffix and path.is_dir() and not any(path.iterdir())
    if taken and not empty and not (is_ours(sidecar_path(path)) and path.is_dir() == (not path.suffix)):
        raise ValueError(f"{taken[0]} exists and is not an export. Choose another name, or remove it")
