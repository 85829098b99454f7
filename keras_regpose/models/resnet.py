"""ResNet in torchvision's geometry, as a graph of stock Keras layers.

Deep Residual Learning for Image Recognition (He et al., 2016), with the stride on the 3×3 convolution, symmetric
padding and batch norm epsilon 1e-5, so that weights trained in PyTorch fit tensor for tensor.
Layer names follow torchvision's: `layer1_0_conv1` is its `layer1.0.conv1`.
"""

import keras

from keras_regpose.models.convolution import batch_norm, convolution

# depth: blocks per stage, which are bottlenecks from 50 on
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def resnet(image, depth: int) -> dict:
    """Applies a ResNet to a normalised image.

    Args:
        image: (B, H, W, 3) Keras tensor, normalised with the ImageNet mean and standard deviation.
        depth: int. 18, 34, 50, 101 or 152.

    Returns:
        dict of Keras tensors: `"P2"` … `"P5"`, the outputs of the four stages, at strides 4 … 32.

    Raises:
        ValueError: If there is no ResNet of this depth.
    """
    if depth not in DEPTHS:
        raise ValueError(f"ResNet depth must be one of {sorted(DEPTHS)}. Received: {depth}")
    bottleneck = depth >= 50
    x = convolution(image, 64, 7, 2, name="conv1")
    x = batch_norm(x, "bn1")
    x = keras.layers.ReLU(name="relu")(x)
    # The values are not negative here, so padding with zeros is the same as the reference's padding with −∞.
    x = keras.layers.ZeroPadding2D(1, name="maxpool_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="maxpool")(x)
    features = {}
    for stage, block_count in enumerate(DEPTHS[depth], start=1):
        for block in range(block_count):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _block(x, 64 * 2 ** (stage - 1), stride, bottleneck, f"layer{stage}_{block}")
        features[f"P{stage + 1}"] = x
    return features


def _block(x, filters, stride, bottleneck, name):
    out_filters = 4 * filters if bottleneck else filters
    # (filters, kernel size, stride) of each convolution of the block
    convolutions = [(filters, 3, stride), (filters, 3, 1)]
    if bottleneck:
        convolutions = [(filters, 1, 1), (filters, 3, stride), (out_filters, 1, 1)]
    y = x
    for number, (channels, kernel_size, conv_stride) in enumerate(convolutions, start=1):
        y = convolution(y, channels, kernel_size, conv_stride, name=f"{name}_conv{number}")
        # Each block starts as the identity (Goyal et al., 2017, §5.1), as in the reference.
        y = batch_norm(y, f"{name}_bn{number}", "zeros" if number == len(convolutions) else "ones")
        if number < len(convolutions):
            y = keras.layers.ReLU(name=f"{name}_relu{number}")(y)
    if stride != 1 or x.shape[-1] != out_filters:
        x = convolution(x, out_filters, 1, stride, name=f"{name}_downsample_0")
        x = batch_norm(x, f"{name}_downsample_1")
    y = keras.layers.Add(name=f"{name}_add")([x, y])
    return keras.layers.ReLU(name=f"{name}_relu")(y)
