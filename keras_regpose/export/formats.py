"""A model → ONNX, OpenVINO, LiteRT or TF SavedModel, with a sidecar that says what it is.

Every format is made from one frozen graph: stock layers, normalisation folded, weights as constants, uint8 RGB crops
in, keypoints and sigmas out as two outputs. The file is opened again and compared with Keras before it takes its name.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_regpose import geometry
from keras_regpose.drawn.people import Synthetic
from keras_regpose.export.conditioning import conditioned
from keras_regpose.export.quantize import quantize_onnx
from keras_regpose.export.runtime import load_exported
from keras_regpose.export.sidecar import Description, Deviation, import_optional, sidecar_path, write_sidecar
from keras_regpose.images import read_image
from keras_regpose.models.rewrite import folded, graph_with_dtype

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite", "tf_saved_model": ""}
PRECISIONS = {
    "onnx": ("float32", "float16", "int8"),
    "openvino": ("float32", "bfloat16", "int8"),
    "litert": ("float32", "float16", "int8"),
    "tf_saved_model": ("float32",),
}
_CONDITIONED = ("bfloat16", "int8")  # float16 rounds so little that there is nothing to take back
_FLOAT_IN_LITERT = ["MUL", "ADD", "MEAN", "FULLY_CONNECTED", "LOGISTIC", "RESHAPE"]  # pixels, sums of blocks, outputs
_OPSET = 18
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
    graph = graph_with_dtype(model.to_keras(), "float32")
    height, width = model.input_size
    if calibration is not None or precision == "int8":
        calibration = _check_calibration(calibration, (height, width))
    if calibration is None:
        compared = calibration_crops(Synthetic(16, seed=0), model.input_size)
    else:
        compared = calibration[np.linspace(0, len(calibration) - 1, min(_COMPARED, len(calibration))).astype(int)]
    if path.exists() and (path.is_dir() != (path.suffix == "") or (path.is_dir() and not _is_replaceable(path))):
        raise ValueError(f"{path} exists and is not an export. Choose another name, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        draft = temporary / path.name
        description = Description(format, precision, model.method, model.skeleton, (height, width))
        expected = graph.predict_on_batch(compared)
        exact = Deviation.between(expected, expected, model.input_size)

        def write(graph):
            """Writes the draft and opens it by the same code as later, which wants a sidecar with some deviation."""
            _WRITERS[format](_frozen(graph), draft, precision, calibration)
            parts = sorted(file for file in temporary.rglob("*") if file.is_file() and file != sidecar_path(draft))
            return parts, write_sidecar(draft, description, exact, parts, {}), load_exported(draft)

        if precision in _CONDITIONED:
            crops = compared if calibration is None else calibration
            prepared = conditioned(graph, crops, precision)
            _, _, fast = write(prepared)
            files, sidecar, fast = write(_corrected(prepared, graph, fast, crops))
        else:
            files, sidecar, fast = write(folded(graph))
        deviation = Deviation.between(fast.predict_on_batch(compared), expected, model.input_size)
        _check_deviation(deviation, format, precision, model.input_size)
        write_sidecar(draft, description, deviation, files, facts)
        if draft.is_dir():
            _replace_folder(draft, path)
        else:
            for file in [*files, sidecar]:
                os.replace(file, path.parent / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
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
    if format is None:
        format = next((name for name, suffix in SUFFIXES.items() if suffix == path.suffix.lower()), None)
        if format is None:
            raise ValueError(
                f"The format follows from the name: .onnx, .xml (OpenVINO), .tflite (LiteRT), or no suffix (a TF "
                f"SavedModel). Received: {path.name}"
            )
    if format not in SUFFIXES:
        raise ValueError(f"format must be one of {', '.join(SUFFIXES)}. Received: {format!r}")
    if path.suffix != SUFFIXES[format]:
        expected = f"ends in {SUFFIXES[format]}" if SUFFIXES[format] else "is a folder's, without a suffix"
        raise ValueError(f"The name of an export to {format} {expected}. Received: {path.name}")
    if precision not in PRECISIONS[format]:
        raise ValueError(
            f"precision must be one of {', '.join(PRECISIONS[format])} for {format}. Received: {precision!r}"
        )
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Models are exported with the TensorFlow backend: set KERAS_BACKEND=tensorflow. "
            f"This process runs on {keras.backend.backend()}"
        )
    return format


def _check_calibration(calibration, input_size):
    shape = f"(N, {input_size[0]}, {input_size[1]}, 3)"
    if calibration is None:
        raise ValueError(
            f"int8 needs calibration crops, a uint8 array of shape {shape}: rp.export.calibration_crops(samples, "
            "model.input_size) makes them from any dataset"
        )
    calibration = np.asarray(calibration)
    if calibration.dtype != np.uint8 or calibration.ndim != 4 or calibration.shape[1:] != (*input_size, 3):
        raise ValueError(
            f"calibration must be a uint8 array of shape {shape}. "
            f"Received: {calibration.dtype} of shape {calibration.shape}"
        )
    if len(calibration) == 0:
        raise ValueError("calibration holds no crop: pass at least one, better a hundred")
    return np.ascontiguousarray(calibration)


def _check_deviation(deviation, format, precision, input_size):
    if not np.isfinite(deviation.crop_units):
        raise ValueError(
            f"The {precision} export to {format} gives values that are not finite, so nothing was written: "
            "the model's values exceed what this precision can hold, or its weights are not finite"
        )
    if precision == "float32" and deviation.crop_units > _FLOAT32_TOLERANCE:
        raise ValueError(
            f"The export to {format} does not give the model's outputs, so nothing was written: {deviation}"
        )
    if deviation.median > _USELESS * max(input_size):
        raise ValueError(
            f"The {precision} export to {format} would be of no use, so nothing was written: {deviation}. The model's "
            "values exceed what this precision can hold, or int8 was calibrated on crops unlike those compared"
        )


def _corrected(prepared, graph, fast, crops):
    """Returns the prepared graph with biases that take back what its export still moves outputs by on average.

    Source: Data-Free Quantization Through Weight Equalization and Bias Correction (Nagel et al., 2019), section 4.2,
    measured on crops and for the outputs alone.
    """
    differences = []
    for start in range(0, len(crops), _COMPARED):
        part = crops[start : start + _COMPARED]
        differences.append(_before_sigmoid(graph.predict_on_batch(part)) - _before_sigmoid(fast.predict_on_batch(part)))
    moved = np.nan_to_num(np.concatenate(differences).mean(axis=0))
    corrected = keras.Model.from_config(prepared.get_config())
    corrected.set_weights(prepared.get_weights())
    for name, shift in (("coordinates", moved[:, :2]), ("sigma", moved[:, 2:])):
        if shift.size:
            kernel, bias = corrected.get_layer(name).get_weights()
            corrected.get_layer(name).set_weights([kernel, bias + shift.ravel()])
    return corrected


def _before_sigmoid(output):
    """Returns outputs with σ as the logits that the bias is added to."""
    sigma = np.clip(output[..., 2:].astype(np.float64), 1e-6, 1 - 1e-6)
    return np.concatenate([output[..., :2], np.log(sigma / (1 - sigma))], axis=-1)


def _frozen(graph):
    """Returns a TensorFlow function with constants for weights, from `image` to `keypoints` (and `sigmas`)."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    names = [layer.name for layer in graph.layers if layer.name in ("keypoints", "sigmas")]
    outputs = keras.Model(graph.inputs[0], [graph.get_layer(name).output for name in names])
    image = tf.TensorSpec((None, *graph.input_shape[1:]), tf.uint8, name="image")
    concrete = tf.function(lambda image: outputs(image, training=False)).get_concrete_function(image)
    frozen = convert_variables_to_constants_v2(concrete)
    frozen.output_names = names
    return frozen


def _graph_with_names(frozen):
    """Returns the frozen function's graph, with the outputs named as they are called."""
    definition = frozen.graph.as_graph_def()
    renamed = {tensor.op.name: name for tensor, name in zip(frozen.outputs, frozen.output_names, strict=True)}
    for node in definition.node:
        node.name = renamed.get(node.name, node.name)
    return definition


def _write_saved_model(frozen, path, precision, calibration):
    import tensorflow as tf

    def serve(image):
        return dict(zip(frozen.output_names, frozen(image), strict=True))

    module = tf.Module()
    image = tf.TensorSpec(frozen.inputs[0].shape, tf.uint8, name="image")
    module.serve = tf.function(serve, input_signature=[image])
    tf.saved_model.save(module, str(path), signatures=module.serve)


def _write_onnx(frozen, path, precision, calibration):
    tf2onnx = import_optional("tf2onnx", "An ONNX export")
    onnx = import_optional("onnx", "An ONNX export")
    onnxruntime = import_optional("onnxruntime", "An ONNX export")
    raw, merged = path.with_name("raw.onnx"), path.with_name("merged.onnx")
    model, _ = tf2onnx.convert.from_graph_def(
        _graph_with_names(frozen),
        input_names=["image:0"],
        output_names=[f"{name}:0" for name in frozen.output_names],
        opset=_OPSET,
    )
    for node in model.graph.node:
        node.input[:] = [name.removesuffix(":0") if name == "image:0" else name for name in node.input]
        node.output[:] = [
            name.removesuffix(":0") if name.removesuffix(":0") in frozen.output_names else name for name in node.output
        ]
    for value in (*model.graph.input, *model.graph.output):
        value.name = value.name.removesuffix(":0")
    onnx.save(model, raw)
    # The basic level merges padding and normalisation into convolutions, and keeps to standard operators.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(merged)
    onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    if precision == "int8":
        quantize_onnx(merged, path, calibration)
    else:
        model = onnx.load(merged)
        if precision == "float16":
            from onnxruntime.transformers.float16 import convert_float_to_float16

            model = convert_float_to_float16(model, keep_io_types=True)
        del model.opset_import[1:]
        onnx.save(model, path)
    raw.unlink()
    merged.unlink()


def _write_openvino(frozen, path, precision, calibration):
    openvino = import_optional("openvino", "An OpenVINO export")
    if precision == "int8":
        # ONNX Runtime's quantization of these networks deviates half as much as NNCF's, at the same speed.
        quantized = path.with_name("quantized.onnx")
        _write_onnx(frozen, quantized, precision, calibration)
        model = openvino.convert_model(quantized)
    else:
        model = openvino.convert_model(_graph_with_names(frozen))
        if precision == "bfloat16":
            _keep_head_in_float32(model)
    for port in (*model.inputs, *model.outputs):
        port.get_tensor().set_names({name.removesuffix(":0") for name in port.get_names() if "/" not in name})
    openvino.save_model(model, path, compress_to_fp16=precision == "bfloat16")
    path.with_name("quantized.onnx").unlink(missing_ok=True)


def _keep_head_in_float32(model):
    """Writes matrix products as products and sums, which OpenVINO leaves in float32.

    It gives the outputs of its own product in bfloat16: steps of a pixel, where the crop has 256.
    """
    from openvino import opset13 as ops

    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul":
            kernel = node.input_value(1).get_node().data
            kernel = kernel.T if node.get_attributes()["transpose_b"] else kernel
            features = ops.unsqueeze(node.input_value(0), ops.constant(np.int64(2)))
            products = ops.multiply(features, ops.constant(kernel[None].astype(np.float32)))
            node.output(0).replace(ops.reduce_sum(products, ops.constant(np.int64(1)), False).output(0))


def _write_litert(frozen, path, precision, calibration):
    import tensorflow as tf

    folder = path.with_name("saved_model")
    _write_saved_model(frozen, folder, "float32", None)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: ({"image": crop[None]} for crop in calibration)
        # The debugger is what leaves operators in float. The 255 steps of an int8 output would be a pixel each.
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter,
            debug_dataset=converter.representative_dataset,
            debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=_FLOAT_IN_LITERT),
        )
        path.write_bytes(debugger.get_nondebug_quantized_model())
    else:
        path.write_bytes(converter.convert())
    shutil.rmtree(folder)


def _is_replaceable(folder):
    return sidecar_path(folder).is_file() or not any(folder.iterdir())


def _replace_folder(draft, target):
    """Puts a folder in the place of another, which is there until the new one is."""
    if target.exists():
        os.replace(target, draft.with_name("replaced"))
    os.replace(draft, target)


_WRITERS = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "litert": _write_litert,
    "tf_saved_model": _write_saved_model,
}
