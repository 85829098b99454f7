"""Post-training int8: ranges of activations from calibration crops, in each format's own tool.

Coordinates and sigmas come from two small matrices of their own. Both stay in float: they cost nothing, and a scale for
coordinates would leave the sigmas a few steps.
"""

import logging

import numpy as np

from keras_regpose.export.sidecar import import_optional


def quantize_openvino(model, crops: np.ndarray):
    """Returns an OpenVINO model in int8, quantized by NNCF."""
    nncf = import_optional("nncf", "An int8 OpenVINO export")
    nncf.set_log_level(logging.ERROR)
    return nncf.quantize(
        model,
        nncf.Dataset(crops[:, None]),
        preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(crops),
        ignored_scope=nncf.IgnoredScope(types=["MatMul"]),
    )


def quantize_onnx(source, target, crops: np.ndarray) -> None:
    """Writes the ONNX file `source` in int8 to `target`, quantized by ONNX Runtime."""
    quantization = import_optional("onnxruntime.quantization", "An int8 ONNX export")

    class Crops(quantization.CalibrationDataReader):
        def __init__(self):
            self.rest = iter(crops)

        def get_next(self):
            crop = next(self.rest, None)
            return None if crop is None else {"image": crop[None]}

    quantization.quantize_static(
        source,
        target,
        Crops(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "Add", "MaxPool", "ReduceMean", "Clip", "Relu"],
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
