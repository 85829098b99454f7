"""Files that run a model without Keras, several times faster, and what opens them again."""

from keras_regpose.export.formats import calibration_crops, export_model
from keras_regpose.export.runtime import ExportedPoseRegressor, load_exported
from keras_regpose.export.sidecar import Deviation

__all__ = ["Deviation", "ExportedPoseRegressor", "calibration_crops", "export_model", "load_exported"]
