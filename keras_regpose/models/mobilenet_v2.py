"""MobileNetV2 in torchvision's geometry, as a graph of stock Keras layers.

MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al., 2018), with symmetric padding and batch norm
epsilon 1e-5, so that weights trained in PyTorch fit tensor for tensor. Layer names follow MMPose's: the expansion,
depthwise and projection convolutions of `layer2.0` are `layer2_0_expand`, `layer2_0_depthwise`, `layer2_0_project`.
"""

import keras

from keras_regpose.models.convolution import batch_norm, convolution

# (expansion, channels, blocks, stride of the first block) of the seven stages; Sandler et al., table 2
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2(image, width: float = 1.0) -> dict:
    """Applies a MobileNetV2 to a normalised image.

    Args:
        image: (B, H, W, 3) Keras tensor, normalised with the ImageNet mean and standard deviation.
        width: float. Multiplier of the channels.

    Returns:
        dict of Keras tensors `"P1"` … `"P5"`: the last features at strides 2 … 32.

    Raises:
        ValueError: If the width is not positive.
    """
    if not width > 0:
        raise ValueError(f"MobileNetV2 width must be positive. Received: {width}")
    x = _conv(image, make_divisible(32 * width), 3, 2, name="conv1")
    features = {}
    for stage, (expansion, channels, blocks, stride) in enumerate(STAGES, start=1):
        for block in range(blocks):
            first_stride = stride if block == 0 else 1
            if first_stride == 2:
                features[f"P{len(features) + 1}"] = x
            x = _block(x, expansion, make_divisible(channels * width), first_stride, f"layer{stage}_{block}")
    x = _conv(x, 1280 if width <= 1 else int(1280 * width), 1, 1, name="conv2")
    features["P5"] = x
    return features


def torch_module(layer: str, library: str) -> str:
    """Returns the name of the PyTorch module that holds a layer's weights.

    torchvision counts its `features` through: the first convolution, the blocks, the last convolution. In a block it
    has a convolution, its normalisation and its activation in one member, but the projection and its normalisation in
    two. With tonylins all of them are members of the block, the activations among them.

    Args:
        layer: str. Such as `layer2_0_expand` or `layer2_0_expand_bn`.
        library: str. "mmpose", "torchvision" or "tonylins".

    Example:

    >>> [torch_module("layer2_1_project_bn", library) for library in ("mmpose", "torchvision", "tonylins")]
    ['layer2.1.conv.2.bn', 'features.3.conv.3', 'features.3.conv.7']
    """
    convolution = layer.removesuffix("_bn")
    norm = int(convolution != layer)
    kind = "bn" if norm else "conv"
    if convolution in ("conv1", "conv2"):
        if library == "mmpose":
            return f"{convolution}.{kind}"
        return f"features.{0 if convolution == 'conv1' else 18}.{norm}"
    stage, block, step = convolution.removeprefix("layer").split("_")
    steps = ("depthwise", "project") if STAGES[int(stage) - 1][0] == 1 else ("expand", "depthwise", "project")
    position = steps.index(step)
    if library == "mmpose":
        return f"layer{stage}.{block}.conv.{position}.{kind}"
    feature = 1 + sum(blocks for _, _, blocks, _ in STAGES[: int(stage) - 1]) + int(block)
    if library == "tonylins":
        return f"features.{feature}.conv.{3 * position + norm}"
    return f"features.{feature}.conv.{position + norm if step == 'project' else f'{position}.{norm}'}"


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Rounds to a multiple of `divisor`, never below 90 % of `channels`."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _block(x, expansion, channels, stride, name):
    inputs = x
    if expansion != 1:
        x = _conv(x, x.shape[-1] * expansion, 1, 1, name=f"{name}_expand")
    x = keras.layers.ZeroPadding2D(1, name=f"{name}_depthwise_pad")(x)
    # The reference's Kaiming fan-out rule counts a depthwise kernel's fan as channels · 9 / groups = 9.
    init = keras.initializers.RandomNormal(stddev=(2 / 9) ** 0.5)
    x = keras.layers.DepthwiseConv2D(3, stride, use_bias=False, depthwise_initializer=init, name=f"{name}_depthwise")(x)
    x = batch_norm(x, f"{name}_depthwise_bn")
    x = keras.layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)
    x = _conv(x, channels, 1, 1, name=f"{name}_project", activate=False)
    if stride == 1 and inputs.shape[-1] == channels:
        x = keras.layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _conv(x, filters, kernel_size, stride, name, activate=True):
    x = convolution(x, filters, kernel_size, stride, name)
    x = batch_norm(x, f"{name}_bn")
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x) if activate else x
