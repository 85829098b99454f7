"""Networks: backbones in torchvision's geometry and the pose regressor built on any backbone."""

from keras_regpose.models.regressor import PoseRegressor

__all__ = ["MobileNetV2Backbone", "PoseRegressor", "ResNetBackbone"]


def __getattr__(name):
    # KerasCV takes seconds to import, and nothing but these two classes needs it.
    if name in ("MobileNetV2Backbone", "ResNetBackbone"):
        from keras_regpose.models import keras_cv_backbones

        return getattr(keras_cv_backbones, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
