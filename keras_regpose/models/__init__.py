"""Networks: backbones in torchvision's geometry, the graph of a pose model, and graphs rewritten."""

__all__ = ["MobileNetV2Backbone", "ResNetBackbone"]


def __getattr__(name):
    # KerasCV takes seconds to import, and nothing but these two classes needs it.
    if name in ("MobileNetV2Backbone", "ResNetBackbone"):
        from keras_regpose.models import keras_cv

        return getattr(keras_cv, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
