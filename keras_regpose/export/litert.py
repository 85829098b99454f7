"""LiteRT's files, `pose.tflite`."""

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_regpose.export.frozen import float_layers
from keras_regpose.export.saved_model import write as write_saved_model
from keras_regpose.optional import import_optional

SUFFIX = ".tflite"
PRECISIONS = ("float32", "float16", "int8")
RUNS_WITH, MADE_WITH = "ai_edge_litert", ("tensorflow",)
_FLOAT = ["MUL", "ADD", "MEAN", "FULLY_CONNECTED", "LOGISTIC", "RESHAPE"]  # pixels, sums of blocks, outputs


def write(frozen, path: Path, precision: str, calibration: np.ndarray | None) -> None:
    """Writes a frozen function as a .tflite file."""
    import tensorflow as tf

    folder = path.with_name("saved_model")
    write_saved_model(frozen, folder, "float32", None)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: ({"image": crop[None]} for crop in calibration)  # pyright: ignore[reportOptionalIterable]
        # The debugger is what leaves operators in float. The 255 steps of an int8 output would be a pixel each.
        tools, data = tf.lite.experimental, converter.representative_dataset
        debugger = tools.QuantizationDebugger(converter=converter, debug_dataset=data)
        quantized = tf.lite.Interpreter(model_content=debugger.get_nondebug_quantized_model())
        in_float = float_layers([tensor["name"] for tensor in quantized.get_tensor_details()])
        debugger.options = tools.QuantizationDebugOptions(denylisted_ops=_FLOAT, denylisted_nodes=[*in_float])
        path.write_bytes(debugger.get_nondebug_quantized_model())
    else:
        path.write_bytes(converter.convert())
    shutil.rmtree(folder)


def open_export(path: Path, precision: str, threads: int) -> Callable[[np.ndarray], Mapping[str, Any]]:
    """Returns a function from (B, H, W, 3) uint8 crops to the outputs by name."""
    interpreter_module = import_optional("ai_edge_litert.interpreter", "A LiteRT export")
    runner = interpreter_module.Interpreter(str(path), num_threads=threads).get_signature_runner()
    lock = threading.Lock()  # an interpreter serves one thread at a time; without, others' results come out

    def run(crops):
        with lock:
            return runner(image=crops)

    return run
