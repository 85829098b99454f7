"""Files that run a model without Keras, several times faster, and what opens them again."""

from keras_regpose.export.runtime import ExportedPoseRegressor, load_exported
from keras_regpose.export.sidecar import Deviation
from keras_regpose.optional import forwarded

__all__ = ["Deviation", "ExportedPoseRegressor", "calibration_crops", "export_model", "load_exported"]

# Running an export needs no Keras, making one does.
__getattr__ = forwarded(__name__, dict.fromkeys(("calibration_crops", "export_model"), "keras_regpose.export.exporter"))
