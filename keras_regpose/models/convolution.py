"""What both backbones are made of: convolution with symmetric padding, and batch normalisation, as PyTorch has them."""

import keras

from keras_regpose.models.batch_norm import BatchNormalization


def convolution(x, filters: int, kernel_size: int, stride: int, name: str):
    """Applies a convolution without bias, padded by half its size on every side."""
    if kernel_size > 1:
        x = keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    normal = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    layer = keras.layers.Conv2D(filters, kernel_size, stride, use_bias=False, kernel_initializer=normal, name=name)
    return layer(x)


def batch_norm(x, name: str, gamma_initializer: str = "ones"):
    """Applies batch normalisation with PyTorch's momentum and epsilon."""
    return BatchNormalization(momentum=0.9, epsilon=1e-5, gamma_initializer=gamma_initializer, name=name)(x)
