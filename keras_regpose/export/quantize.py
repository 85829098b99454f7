"""Post-training int8: the ranges of activations are taken from calibration crops.

Coordinates and sigmas come from two small matrices of their own, which stay in float with the pooling before them: they
cost nothing, and a scale wide enough for coordinates would leave the sigmas a few steps.
"""

import logging
from pathlib import Path

import numpy as np

from keras_regpose.export.sidecar import import_optional

_BATCH = 8  # crops
_QUANTIZED = ("Conv", "Add", "MaxPool", "Clip", "Relu")


def quantize_onnx(source: Path, target: Path, crops: np.ndarray) -> None:
    """Writes the ONNX file `source` in int8 to `target`, quantized by ONNX Runtime.

    Args:
        source: path of an ONNX file with the input `image`.
        target: path of the file to write.
        crops: (N, H, W, 3) uint8 array, RGB.
    """
    quantization = import_optional("onnxruntime.quantization", "An int8 export")
    graph = import_optional("onnx", "An int8 export").load(source).graph
    constants = {constant.name for constant in graph.initializer}
    # Pixels are scaled and shifted in float, and rounded once, when they go into the first convolution.
    shifts = [node.name for node in graph.node if node.op_type == "Add" and not constants.isdisjoint(node.input)]

    class Crops(quantization.CalibrationDataReader):
        def __init__(self):
            self.rest = iter(np.array_split(crops, -(-len(crops) // _BATCH)))

        def get_next(self):
            batch = next(self.rest, None)
            return None if batch is None else {"image": batch}

    # It advises to merge operators first, which is done, and says so through the root logger.
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        quantization.quantize_static(
            source,
            target,
            Crops(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            nodes_to_exclude=shifts,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            # The mean of the batches' ranges: the range of all crops would be that of the strangest one.
            extra_options={"CalibMovingAverage": True},
        )
    finally:
        logging.root.setLevel(level)
