"""The integral head: a map of each keypoint over the crop, whose expectation is the keypoint's position.

Source: Integral Human Pose Regression (Sun et al., 2018), §2. The maps come from a pyramid that adds fine features to
coarse ones, after Feature Pyramid Networks (Lin et al., 2017), in the shape that MoveNet Lightning has, so that its
weights can be a start. In the geometry of our backbones the cell i of a map of stride s lies at the pixel s · i.
"""

import keras
import numpy as np

from keras_regpose.models.backbones import backbone_with

STRIDES = (4, 8, 16)
_CHANNELS = (64, 32, 24, 24)  # of the pyramid, the coarsest first
_LAST = 96  # channels behind the pyramid


def pyramid(image, features):
    """Merges the features of a backbone's stages.

    Args:
        image: Keras tensor that the backbone starts from.
        features: (B, h, w, C) Keras tensor, its last features, of stride 32.

    Returns:
        (B, H / 4, W / 4, 96) Keras tensor.

    Raises:
        ValueError: If the backbone is not in the table of backbones, or the image's sides are no multiples of 32.
    """
    if image.shape[1] % 32 or image.shape[2] % 32:
        raise ValueError(f"The integral head needs sides that are multiples of 32. Received: {image.shape[1:3]}")
    levels = _levels(image, features)
    x = keras.layers.Conv2D(_CHANNELS[0], 1, name="lateral32")(features)
    for stride, before, channels in zip(STRIDES[::-1], _CHANNELS[:-1], _CHANNELS[1:], strict=True):
        # Half a coarse cell further, as in MoveNet: the crops of our backbones' cells lie half a cell before.
        x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"pyramid{stride}_pad")(x)
        x = keras.layers.UpSampling2D(interpolation="bilinear", name=f"pyramid{stride}_upsampled")(x)
        x = keras.layers.Cropping2D(1, name=f"pyramid{stride}_cropped")(x)
        lateral = keras.layers.Conv2D(before, 1, name=f"lateral{stride}")(levels[stride])
        x = keras.layers.Add(name=f"pyramid{stride}_sum")([x, lateral])
        x = _separable(x, channels, f"pyramid{stride}")
    return _separable(x, _LAST, "pyramid")


def integral(x, pooled, keypoint_count: int):
    """Turns the pyramid into coordinates and sigmas, in crop units.

    Args:
        x: (B, h, w, C) Keras tensor, as `pyramid` returns it.
        pooled: (B, D) Keras tensor. The mean of the backbone's last features, which σ depends on, too.
        keypoint_count: int.

    Returns:
        (B, K, 2) coordinates, and (B, D + K) Keras tensor that σ is regressed from.
    """
    height, width = x.shape[1:3]
    cells = height * width
    rows, columns = np.mgrid[:height, :width].reshape(2, cells)

    def flat(x, name):
        x = keras.layers.Reshape((cells, keypoint_count), dtype="float32", name=f"{name}_flat")(x)
        return keras.layers.Permute((2, 1), dtype="float32", name=f"{name}_first")(x)

    def expectation(x, values, name):
        """The sum over all cells, as a mean, of what is multiplied by values."""
        x = keras.layers.Rescaling((values * cells).tolist(), dtype="float32", name=f"{name}_weighted")(x)
        return keras.layers.GlobalAveragePooling1D("channels_first", dtype="float32", name=f"{name}_mean")(x)

    maps = keras.layers.Conv2D(keypoint_count, 1, dtype="float32", name="maps")(x)
    share = keras.layers.Softmax(dtype="float32", name="maps_share")(flat(maps, "maps"))
    parts = []
    for axis, values in (("x", columns / width), ("y", rows / height)):
        part = expectation(share, values, f"maps_{axis}")
        parts.append(keras.layers.Reshape((keypoint_count, 1), dtype="float32", name=f"maps_{axis}_column")(part))
    coordinates = keras.layers.Concatenate(dtype="float32", name="keypoints")(parts)
    # What the network sees where it finds a keypoint says how sure it is of it.
    local = keras.layers.Conv2D(keypoint_count, 1, dtype="float32", name="maps_local")(x)
    seen = keras.layers.Multiply(dtype="float32", name="maps_seen")([share, flat(local, "maps_local")])
    seen = expectation(seen, np.ones(cells), "maps_local")
    return coordinates, keras.layers.Concatenate(dtype="float32", name="maps_and_pooled")([pooled, seen])


def _levels(image, features):
    """Returns {stride: the output of the first stage that has it}."""
    model = keras.Model(image, features)
    backbone = backbone_with(model.layers)
    if backbone is None:
        raise ValueError("The integral head needs a backbone by name, whose stages are known. Received another model")
    staged = ((backbone.stage_of(layer.name), layer.output) for layer in model.layers)
    last = {stage: output for stage, output in staged if stage is not None}
    # Of two stages of a stride the first one comes last, and stays.
    return {image.shape[1] // last[stage].shape[1]: last[stage] for stage in sorted(last, reverse=True)}


def _separable(x, channels, name):
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = keras.layers.Conv2D(channels, 1, name=f"{name}_pointwise")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
