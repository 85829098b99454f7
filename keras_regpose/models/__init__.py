"""Networks: backbones in torchvision's geometry, the graph of a pose model, and graphs rewritten."""

from keras_regpose.optional import forwarded

__all__ = ["MobileNetV2Backbone", "ResNetBackbone"]

# KerasCV takes seconds to import, and nothing but these two classes needs it.
__getattr__ = forwarded(__name__, dict.fromkeys(__all__, "keras_regpose.models.keras_cv"))
