"""The backbones as `keras_cv.models.Backbone` subclasses, for use wherever KerasCV takes one.

`PoseRegressor("resnet50", ...)` builds the same graph without importing KerasCV.
"""

import keras
import keras_cv

from keras_regpose.models.mobilenet_v2 import mobilenet_v2
from keras_regpose.models.resnet import resnet


class _Backbone(keras_cv.models.Backbone):
    """A network of ours as KerasCV's backbones are: its last feature map, and the names of those before."""

    def __init__(self, build, settings, input_shape, **kwargs):
        image = keras.Input(input_shape, name="image")
        features = build(image, **settings)
        super().__init__(inputs=image, outputs=features["P5"], **kwargs)
        self.settings = settings
        self.pyramid_level_inputs = {level: tensor._keras_history.operation.name for level, tensor in features.items()}

    def get_config(self):
        return self.settings | {"input_shape": self.input_shape[1:], "name": self.name}


@keras.saving.register_keras_serializable("keras_regpose")
class ResNetBackbone(_Backbone):
    """ResNet in torchvision's geometry; see `keras_regpose.models.resnet`.

    Args:
        depth: int. 18, 34, 50, 101 or 152.
        input_shape: (height, width, 3); None for sides of any length.

    Example:

    >>> backbone = ResNetBackbone(18)
    >>> backbone.output_shape
    (None, None, None, 512)
    """

    def __init__(self, depth: int, input_shape: tuple = (None, None, 3), **kwargs):
        super().__init__(resnet, {"depth": depth}, input_shape, **kwargs)


@keras.saving.register_keras_serializable("keras_regpose")
class MobileNetV2Backbone(_Backbone):
    """MobileNetV2 in torchvision's geometry; see `keras_regpose.models.mobilenet_v2`.

    Args:
        width: float. Multiplier of the channels.
        input_shape: (height, width, 3); None for sides of any length.

    Example:

    >>> backbone = MobileNetV2Backbone(width=0.25)
    >>> backbone.output_shape
    (None, None, None, 1280)
    """

    def __init__(self, width: float = 1.0, input_shape: tuple = (None, None, 3), **kwargs):
        super().__init__(mobilenet_v2, {"width": width}, input_shape, **kwargs)
