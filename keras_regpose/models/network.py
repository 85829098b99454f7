"""The network as a graph of stock layers: RGB pixels → normalised → backbone → pooled → coordinates and sigmas."""

import re

import keras

from keras_regpose.models.batch_norm import BatchNormalization
from keras_regpose.models.mobilenet_v2 import mobilenet_v2
from keras_regpose.models.resnet import DEPTHS, resnet
from keras_regpose.models.rewrite import rename_source, replace_batch_norm

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
BACKBONE_NAMES = tuple(f"resnet{depth}" for depth in DEPTHS) + ("mobilenetv2",)


def pose_graph(backbone, keypoint_count, input_size, method, pixel_mean=None, pixel_std=None):
    """Builds the network.

    Args:
        backbone: str or keras.Model. A name (`"resnet50"`, `"mobilenetv2"`, `"mobilenetv2_0.5"` for half the width),
            or a model from images (B, H, W, 3) to one feature map, such as a KerasCV backbone.
        keypoint_count: int.
        input_size: (height, width) of the crops.
        method: "rle" (coordinates and sigmas) or "deeppose" (coordinates alone).
        pixel_mean: 3 floats or None. Subtracted from R, G, B (0–255) before the backbone; see `PoseRegressor`.
        pixel_std: 3 floats or None. Divides the difference.

    Returns:
        keras.Model from (B, H, W, 3) RGB 0–255 to (B, K, 4) or (B, K, 2) in crop units.
    """
    scaled_inside = not isinstance(backbone, str) and _begins_with_scaling(backbone)
    if pixel_mean is None:
        pixel_mean = (0.0, 0.0, 0.0) if scaled_inside else IMAGENET_MEAN
    if pixel_std is None:
        pixel_std = (1.0, 1.0, 1.0) if scaled_inside else IMAGENET_STD
    inputs, features = (
        _named_backbone(backbone, input_size, pixel_mean, pixel_std)
        if isinstance(backbone, str)
        else _given_backbone(backbone, input_size, pixel_mean, pixel_std)
    )
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    return keras.Model(inputs, pose_head(pooled, keypoint_count, method), name="pose_regressor")


def pose_head(pooled, keypoint_count: int, method: str):
    """Applies the regression head to pooled features (B, C)."""
    # The reference's single matrix of 4 rows a keypoint, as two: exports can then scale each range on its own.
    # Predictions start at the crop's centre, as in the original paper's code. Started at its corner, a network without
    # pretrained features stays there: the flow learns the constant offset sooner than the network does.
    coordinates = _dense(pooled, 2 * keypoint_count, None, "coordinates", bias=0.5)
    coordinates = keras.layers.Reshape((keypoint_count, 2), dtype="float32", name="keypoints")(coordinates)
    if method == "deeppose":
        return coordinates
    sigma = _dense(pooled, 2 * keypoint_count, "sigmoid", "sigma")
    sigma = keras.layers.Reshape((keypoint_count, 2), dtype="float32", name="sigmas")(sigma)
    return keras.layers.Concatenate(dtype="float32", name="keypoints_and_sigmas")([coordinates, sigma])


def _named_backbone(name, input_size, pixel_mean, pixel_std):
    resnet_name = re.fullmatch(r"resnet(\d+)", name)
    mobilenet_name = re.fullmatch(r"mobilenetv2(?:_(\d*\.?\d+))?", name)
    if not (resnet_name and int(resnet_name[1]) in DEPTHS) and not mobilenet_name:
        raise ValueError(
            f"Unknown backbone {name!r}. Known: {', '.join(BACKBONE_NAMES)} (with a width: mobilenetv2_0.5). "
            "Any Keras model that gives one feature map can be passed instead of a name."
        )
    image = keras.Input((*input_size, 3), name="image")
    normalized = _normalize_layer(pixel_mean, pixel_std)(image)
    if resnet_name:
        return image, resnet(normalized, int(resnet_name[1]))["P5"]
    return image, mobilenet_v2(normalized, float(mobilenet_name[1] or 1))["P5"]


def _given_backbone(backbone, input_size, pixel_mean, pixel_std):
    if not isinstance(backbone, keras.Model) or not getattr(backbone, "inputs", None):
        raise ValueError(
            "The backbone must be a name or a functional keras.Model (a KerasCV, keras.applications or KerasHub "
            f"backbone). Received: {type(backbone).__name__}"
        )
    if len(backbone.inputs) != 1 or len(backbone.outputs) != 1 or len(backbone.outputs[0].shape) != 4:
        shapes = [tuple(output.shape) for output in backbone.outputs]
        raise ValueError(
            "The backbone must turn one image into one feature map (B, H, W, C). "
            f"Received: {len(backbone.inputs)} inputs, outputs {shapes}. Leave out its classifier (include_top=False)."
        )
    config = replace_batch_norm(keras.Model(backbone.inputs, backbone.outputs).get_config(), BatchNormalization)
    image = keras.Input((*input_size, 3), name="image")
    entry = keras.Model(image, _normalize_layer(pixel_mean, pixel_std)(image)).get_config()
    (input_layer,) = (layer for layer in config["layers"] if layer["class_name"] == "InputLayer")
    config = rename_source(config, input_layer["name"], "normalize")
    config["layers"] = entry["layers"] + [layer for layer in config["layers"] if layer["class_name"] != "InputLayer"]
    config["input_layers"] = entry["input_layers"]
    flat = keras.Model.from_config(config)
    flat.set_weights(backbone.get_weights())
    return flat.inputs[0], flat.outputs[0]


def _begins_with_scaling(backbone):
    return isinstance(backbone, keras.Model) and any(
        isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization) for layer in backbone.layers[:2]
    )


def _normalize_layer(pixel_mean, pixel_std):
    scale = [1 / std for std in pixel_std]
    offset = [-mean / std for mean, std in zip(pixel_mean, pixel_std, strict=True)]
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="normalize")


def _dense(x, units, activation, name, bias=0.0):
    return keras.layers.Dense(
        units,
        activation=activation,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        dtype="float32",
        name=name,
    )(x)
