"""Files that run a model without Keras, several times faster, and what opens them again."""

from keras_regpose.export.runtime import ExportedPoseRegressor, load_exported
from keras_regpose.export.sidecar import Deviation

__all__ = ["Deviation", "ExportedPoseRegressor", "calibration_crops", "export_model", "load_exported"]


def __getattr__(name):
    # Running an export needs no Keras, making one does.
    if name in ("calibration_crops", "export_model"):
        from keras_regpose.export import exporter

        return getattr(exporter, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
