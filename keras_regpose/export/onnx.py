"""ONNX files, which ONNX Runtime runs.

int8 takes the ranges of activations from calibration crops. Coordinates and sigmas come from two small matrices of
their own, which stay in float with the pooling before them: they cost nothing, and a scale wide enough for coordinates
would leave the sigmas a few steps. So do the layers that `float_layers` names.
"""

import gc
import logging
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from keras_regpose.export.frozen import float_layers, graph_with_names
from keras_regpose.optional import import_optional

SUFFIX = ".onnx"
PRECISIONS = ("float32", "float16", "int8")
RUNS_WITH, MADE_WITH = "onnxruntime", ("tf2onnx", "onnx")
_OPSET = 18
_BATCH = 8  # crops
# So many weights float16 halves. Rounding the few of the first layers too would move keypoints by 0.1 px, not 0.01.
_LARGE = 50_000
_QUANTIZED = ("Conv", "Add", "MaxPool", "Clip", "Relu")


def write(frozen, path: Path, precision: str, calibration: np.ndarray | None) -> None:
    """Writes a frozen function as an ONNX file of standard operators."""
    tf2onnx = import_optional("tf2onnx", "An ONNX export")
    onnx = import_optional("onnx", "An ONNX export")
    onnxruntime = import_optional("onnxruntime", "An ONNX export")
    merged = path.with_name("merged.onnx")
    graph, outputs = graph_with_names(frozen), [f"{name}:0" for name in frozen.output_names]
    names = {f"{name}:0": name for name in ("image", *frozen.output_names)}
    model, _ = tf2onnx.convert.from_graph_def(
        graph, input_names=["image:0"], output_names=outputs, opset=_OPSET, tensors_to_rename=names
    )
    gc.collect()  # tf2onnx leaves eighty times the size of the model behind, in objects that refer to each other
    # The basic level merges padding and normalisation into convolutions, and keeps to standard operators.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(merged)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    if precision == "int8":
        _quantize(merged, path, calibration)
    else:
        model = onnx.load(merged)
        if precision == "float16":
            _store_in_half(model.graph)
        del model.opset_import[1:]
        onnx.save(model, path)
    merged.unlink()


def _store_in_half(graph):
    """Stores weights in float16. They become float32 when the file is opened: few processors compute in float16."""
    import onnx

    for constant in graph.initializer:
        if constant.data_type == onnx.TensorProto.FLOAT and np.prod(constant.dims) >= _LARGE:
            name, weights = constant.name, onnx.numpy_helper.to_array(constant)
            constant.CopyFrom(onnx.numpy_helper.from_array(weights.astype(np.float16), f"{name}_half"))
            graph.node.insert(0, onnx.helper.make_node("Cast", [constant.name], [name], to=onnx.TensorProto.FLOAT))


def _quantize(source, target, crops):
    """Writes the ONNX file `source` in int8 to `target`, quantized by ONNX Runtime."""
    quantization = import_optional("onnxruntime.quantization", "An int8 export")
    graph = import_optional("onnx", "An int8 export").load(source).graph
    constants = {constant.name for constant in graph.initializer}
    # Pixels are scaled and shifted in float, and rounded once, when they go into the first convolution.
    floats = [node.name for node in graph.node if node.op_type == "Add" and not constants.isdisjoint(node.input)]
    # A depthwise convolution does not bear its layer's name, but the activation behind it does.
    layers = {one.name: one.name if "/" in one.name else after.name for one, after in pairwise(graph.node)}
    in_float = float_layers(list(layers.values()))
    floats += [name for name, layer in layers.items() if layer in in_float]
    batches = ({"image": batch} for batch in np.array_split(crops, -(-len(crops) // _BATCH)))
    # It advises to merge operators first, which is done, and says so through the root logger.
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        quantization.quantize_static(
            source,
            target,
            SimpleNamespace(get_next=lambda: next(batches, None)),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            nodes_to_exclude=floats,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            # The mean of the batches' ranges: the range of all crops would be that of the strangest one.
            extra_options={"CalibMovingAverage": True},
        )
    finally:
        logging.root.setLevel(level)


def open_export(path: Path, precision: str, threads: int) -> Callable[[np.ndarray], Mapping[str, Any]]:
    """Returns a function from (B, H, W, 3) uint8 crops to the outputs by name."""
    onnxruntime = import_optional("onnxruntime", "An ONNX export")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Without it int8 overflows silently on processors that lack VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda crops: dict(zip(names, session.run(names, {"image": crops}), strict=True))
