"""The network as a graph of stock layers: RGB pixels → normalised → backbone → pooled → coordinates and sigmas."""

import keras

from keras_regpose.models.backbones import build_backbone
from keras_regpose.models.integral import integral, pyramid
from keras_regpose.models.rewrite import applied, is_scaling

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def pose_graph(backbone, keypoint_count, input_size, method, pixel_mean=None, pixel_std=None, head="pooled"):
    """Builds the network.

    Args:
        backbone: str or keras.Model. A name of the table in `models/backbones.py`, or a model from images (B, H, W, 3)
            to one feature map, such as a KerasCV backbone.
        keypoint_count: int.
        input_size: (height, width) of the crops.
        method: "rle" (coordinates and sigmas) or "deeppose" (coordinates alone).
        pixel_mean: 3 floats or None. Subtracted from R, G, B (0–255) before the backbone; see `PoseRegressor`.
        pixel_std: 3 floats or None. Divides the difference.
        head: "pooled" or "integral"; see `PoseRegressor`.

    Returns:
        keras.Model from (B, H, W, 3) RGB 0–255 to (B, K, 4) or (B, K, 2) in crop units.
    """
    named = isinstance(backbone, str)
    if not named:
        _check_given(backbone)
    scales_itself = not named and any(map(is_scaling, backbone.layers[:2]))
    mean = pixel_mean if pixel_mean is not None else (0.0, 0.0, 0.0) if scales_itself else IMAGENET_MEAN
    std = pixel_std if pixel_std is not None else (1.0, 1.0, 1.0) if scales_itself else IMAGENET_STD
    image = keras.Input((*input_size, 3), name="image")
    scale, offset = [1 / one for one in std], [-one / by for one, by in zip(mean, std, strict=True)]
    normalized = keras.layers.Rescaling(scale, offset, dtype="float32", name="normalize")(image)
    features = build_backbone(backbone, normalized) if named else applied(backbone, normalized)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    merged = pyramid(image, features) if head == "integral" else None
    return keras.Model(image, pose_head(pooled, keypoint_count, method, merged), name="pose_regressor")


def pose_head(pooled, keypoint_count: int, method: str, merged=None):
    """Applies the regression head to pooled features (B, C); the integral one, to the pyramid `merged` as well."""
    if merged is not None:
        coordinates, seen = integral(merged, pooled, keypoint_count)
        return _with_sigmas(coordinates, seen, keypoint_count)
    # The reference's single matrix of 4 rows a keypoint, as two: exports can then scale each range on its own.
    # Predictions start at the crop's centre, as in the original paper's code. Started at its corner, a network without
    # pretrained features stays there: the flow learns the constant offset sooner than the network does.
    coordinates = _dense(pooled, 2 * keypoint_count, None, "coordinates", bias=0.5)
    coordinates = keras.layers.Reshape((keypoint_count, 2), dtype="float32", name="keypoints")(coordinates)
    if method == "deeppose":
        return coordinates
    return _with_sigmas(coordinates, pooled, keypoint_count)


def _with_sigmas(coordinates, seen, keypoint_count):
    sigma = _dense(seen, 2 * keypoint_count, "sigmoid", "sigma")
    sigma = keras.layers.Reshape((keypoint_count, 2), dtype="float32", name="sigmas")(sigma)
    return keras.layers.Concatenate(dtype="float32", name="keypoints_and_sigmas")([coordinates, sigma])


def _check_given(backbone):
    if not isinstance(backbone, keras.Model) or not getattr(backbone, "inputs", None):
        kinds = "a name or a functional keras.Model (a KerasCV, keras.applications or KerasHub backbone)"
        raise ValueError(f"The backbone must be {kinds}. Received: {type(backbone).__name__}")
    if len(backbone.inputs) != 1 or len(backbone.outputs) != 1 or len(backbone.outputs[0].shape) != 4:
        shapes = [tuple(output.shape) for output in backbone.outputs]
        given = f"{len(backbone.inputs)} inputs, outputs {shapes}. Leave out its classifier (include_top=False)"
        raise ValueError(f"The backbone must turn one image into one feature map (B, H, W, C). Received: {given}.")


def _dense(x, units, activation, name, bias=0.0):
    normal, constant = keras.initializers.RandomNormal(stddev=0.01), keras.initializers.Constant(bias)
    return keras.layers.Dense(
        units, activation, kernel_initializer=normal, bias_initializer=constant, dtype="float32", name=name
    )(x)
