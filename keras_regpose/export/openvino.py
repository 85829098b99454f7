"""OpenVINO's files, `pose.xml` with `pose.bin`."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_regpose.export.frozen import graph_with_names
from keras_regpose.export.onnx import write as write_onnx
from keras_regpose.optional import import_optional

SUFFIX = ".xml"
PRECISIONS = ("float32", "bfloat16", "int8")
RUNS_WITH, MADE_WITH = "openvino", ("openvino",)
_RUNS_IN = {"float32": "f32", "int8": "f32", "bfloat16": "bf16"}


def write(frozen, path: Path, precision: str, calibration: np.ndarray | None) -> None:
    """Writes a frozen function as OpenVINO's two files, .xml and .bin."""
    openvino = import_optional("openvino", "An OpenVINO export")
    if precision == "int8":
        # ONNX Runtime's quantization of these networks deviates half as much as NNCF's, at the same speed.
        quantized = path.with_name("quantized.onnx")
        write_onnx(frozen, quantized, precision, calibration)
        model = openvino.convert_model(quantized)
    else:
        model = openvino.convert_model(graph_with_names(frozen))
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


def computes_bfloat16() -> bool:
    """Returns whether the processor says that it computes in bfloat16. OpenVINO also does so slowly on one without."""
    return _processor_has({"avx512_bf16", "amx_bf16", "bf16"})


def _processor_has(features):
    file = Path("/proc/cpuinfo")  # which other systems than Linux do not have
    return file.exists() and not features.isdisjoint(file.read_text("utf-8").split())


def open_export(path: Path, precision: str, threads: int) -> Callable[[np.ndarray], Mapping[str, Any]]:
    """Returns a function from (B, H, W, 3) uint8 crops to the outputs by name."""
    openvino = import_optional("openvino", "An OpenVINO export")
    settings: dict = {"INFERENCE_PRECISION_HINT": _RUNS_IN[precision], "PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_NUM_THREADS"] = threads
    if precision == "int8" and not _processor_has({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}):
        # Products of eight bits overflow silently on processors that lack VNNI: compute them in float32 there.
        settings["LP_TRANSFORMS_MODE"] = False
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    lock = threading.Lock()  # a request serves one thread at a time, on all the cores that it was given

    def run(crops):
        with lock:
            outputs = request.infer({"image": crops}, share_inputs=True)
            return {port.get_any_name(): values for port, values in outputs.items()}

    return run
