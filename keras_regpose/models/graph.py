"""The network as a graph of stock layers: RGB pixels → normalised → backbone → pooled → coordinates and sigmas.

Also the two translations between a graph for training and prediction here, which uses the fused batch
normalisation, and the graph that is saved, which names stock Keras layers only.
"""

import copy
import re

import keras

from keras_regpose.models.batch_norm import BatchNormalization
from keras_regpose.models.mobilenet_v2 import mobilenet_v2
from keras_regpose.models.resnet import DEPTHS, resnet

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
_FLOAT32_LAYERS = ("normalize", "coordinates", "sigma", "keypoints", "sigmas", "keypoints_and_sigmas")
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


def fused_graph(graph: keras.Model) -> keras.Model:
    """Returns a copy of a functional model that uses the fused batch normalisation."""
    return _copy_with(graph, BatchNormalization)


def stock_graph(graph: keras.Model) -> keras.Model:
    """Returns a copy of a functional model that names the stock batch normalisation, to be saved; all of it trains."""
    copied = _copy_with(graph, keras.layers.BatchNormalization)
    # What one training run froze must not stay frozen in the next, which starts from what is saved.
    unfreeze(copied)
    return copied


def unfreeze(model: keras.Model) -> None:
    """Makes all layers train. A model's own switch, where it is on already, does not reach them."""
    for layer in model._flatten_layers(include_self=False):
        layer.trainable = True


def graph_with_dtype(graph: keras.Model, dtype: str) -> keras.Model:
    """Returns a copy of a functional model whose layers compute in another precision.

    Args:
        graph: keras.Model, as `pose_graph` returns it.
        dtype: str. Name of a dtype policy. What computes on pixels and on coordinates stays in float32.
    """
    plain = keras.Model(graph.inputs[0], graph.outputs[0], name=graph.name)
    copied = keras.Model.from_config(_set_dtype(copy.deepcopy(plain.get_config()), dtype))
    copied.set_weights(plain.get_weights())
    return copied


def _set_dtype(config, dtype):
    for layer in config["layers"]:
        if "layers" in layer["config"]:
            _set_dtype(layer["config"], dtype)
        elif layer["class_name"] != "InputLayer" and layer["config"]["name"] not in _FLOAT32_LAYERS:
            layer["config"]["dtype"] = dtype
    return config


def _copy_with(graph, batch_norm):
    plain = keras.Model(graph.inputs[0], graph.outputs[0], name=graph.name)
    copied = keras.Model.from_config(_replace_batch_norm(plain.get_config(), batch_norm))
    copied.set_weights(plain.get_weights())
    return copied


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
    config = _replace_batch_norm(keras.Model(backbone.inputs, backbone.outputs).get_config(), BatchNormalization)
    image = keras.Input((*input_size, 3), name="image")
    entry = keras.Model(image, _normalize_layer(pixel_mean, pixel_std)(image)).get_config()
    (input_layer,) = (layer for layer in config["layers"] if layer["class_name"] == "InputLayer")
    config = _rename_source(config, input_layer["name"], "normalize")
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


def _replace_batch_norm(config, layer_class):
    """Returns a functional model's config with every batch normalisation of the given class, nested models included."""
    config = copy.deepcopy(config)
    for layer in config["layers"]:
        if layer["class_name"] == "BatchNormalization":
            serialized = keras.saving.serialize_keras_object(layer_class())
            layer.update({key: serialized[key] for key in ("module", "class_name", "registered_name")})
        elif "layers" in layer["config"]:
            layer["config"] = _replace_batch_norm(layer["config"], layer_class)
    return config


def sources_of(config: dict) -> dict[str, list[str]]:
    """Returns {layer: the layers whose outputs it takes} for a functional model's config."""
    return {layer["config"]["name"]: _sources(layer["inbound_nodes"]) for layer in config["layers"]}


def users_of(config: dict) -> dict[str, list[str]]:
    """Returns {layer: the layers that take its output} for a functional model's config."""
    users = {layer["config"]["name"]: [] for layer in config["layers"]}
    for name, sources in sources_of(config).items():
        for source in sources:
            users[source].append(name)
    return users


def repeated_layers(config: dict) -> set[str]:
    """Returns the layers that are called more than once in a functional model's config."""
    return {layer["config"]["name"] for layer in config["layers"] if len(layer["inbound_nodes"]) > 1}


def without_layers(config: dict, replacements: dict[str, str]) -> dict:
    """Returns a functional model's config without some layers: who took their output takes that of another layer.

    Args:
        config: dict, from `get_config`.
        replacements: dict. Name of a layer to leave out → name of the layer to take from instead.
    """
    for old, new in replacements.items():
        config = _rename_source(config, old, new)
    layers = [layer for layer in config["layers"] if layer["config"]["name"] not in replacements]
    return config | {"layers": layers}


def _sources(value):
    """Returns the names of the layers that tensors in a serialised call come from."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return [value["config"]["keras_history"][0]]
        value = list(value.values())
    return [name for item in value for name in _sources(item)] if isinstance(value, list | tuple) else []


def _rename_source(value, old, new):
    """Makes every layer that takes the output of layer `old` take that of layer `new`."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            history = value["config"]["keras_history"]
            if history[0] == old:
                value["config"]["keras_history"] = [new, *history[1:]]
            return value
        return {key: _rename_source(item, old, new) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_rename_source(item, old, new) for item in value)
    return value
