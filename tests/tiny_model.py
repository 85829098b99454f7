"""A pose regressor of two convolutions, which compiles in a second."""

import keras

from keras_regpose import COCO17, PoseRegressor


def tiny_model(method="rle"):
    """Returns it with the same weights each time."""
    keras.utils.set_random_seed(0)
    inputs = x = keras.layers.Input((64, 48, 3))
    for name, filters in (("first", 8), ("second", 16)):
        x = keras.layers.Conv2D(filters, 3, strides=2, use_bias=False, name=name)(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
        x = keras.layers.ReLU()(x)
    return PoseRegressor(keras.Model(inputs, x), COCO17, (64, 48), method)
