"""Networks rewritten as serialised graphs: normalisation fused or stock or folded, other precisions, layers left out.

A graph for training and prediction here uses the fused batch normalisation; the graph that is saved names stock Keras
layers only. A graph that is exported has its batch normalisation in the convolutions, and scales pixels by rows.
"""

import copy
from typing import Any

import keras
import numpy as np

from keras_regpose.models.batch_norm import BatchNormalization

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
# Layers that compute in float32 whatever the others do.
_OF_PIXELS = ("InputLayer", "Rescaling", "Normalization")
_OF_COORDINATES = ("coordinates", "sigma", "keypoints", "sigmas", "keypoints_and_sigmas")


def fused_graph(graph: keras.Model) -> keras.Model:
    """Returns a copy of a functional model that uses the fused batch normalisation."""
    return _rebuilt(graph, _batch_norm_of(BatchNormalization))


def stock_graph(graph: keras.Model) -> keras.Model:
    """Returns a copy of a functional model that names the stock batch normalisation, to be saved; all of it trains."""
    copied = _rebuilt(graph, _batch_norm_of(keras.layers.BatchNormalization))
    # What one training run froze must not stay frozen in the next, which starts from what is saved.
    unfreeze(copied)
    return copied


def graph_with_dtype(graph: keras.Model, dtype: str) -> keras.Model:
    """Returns a copy of a functional model whose layers compute in another precision.

    Args:
        graph: keras.Model, as `pose_graph` returns it.
        dtype: str. Name of a dtype policy. What computes on pixels and on coordinates stays in float32.
    """

    def change(layer):
        if layer["class_name"] not in _OF_PIXELS and layer["config"]["name"] not in _OF_COORDINATES:
            layer["config"]["dtype"] = dtype

    return _rebuilt(graph, change)


def unfreeze(model: keras.Model) -> None:
    """Makes all layers train. A model's own switch, where it is on already, does not reach them."""
    for layer in model._flatten_layers(include_self=False):
        layer.trainable = True


def _rebuilt(graph, change):
    plain = keras.Model(graph.inputs[0], graph.outputs[0], name=graph.name)
    copied = keras.Model.from_config(_changed(plain.get_config(), change))
    copied.set_weights(plain.get_weights())
    return copied


def _changed(config, change):
    """Returns a functional model's config with each layer's changed, those of nested models included."""
    config = copy.deepcopy(config)
    for layer in config["layers"]:
        if "layers" in layer["config"]:
            layer["config"] = _changed(layer["config"], change)
        else:
            change(layer)
    return config


def _batch_norm_of(layer_class):
    serialized = keras.saving.serialize_keras_object(layer_class())

    def change(layer):
        if layer["class_name"] == "BatchNormalization":
            layer.update({key: serialized[key] for key in ("module", "class_name", "registered_name")})

    return change


def is_scaling(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer does nothing but scale pixels."""
    return isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization)


def applied(model: keras.Model, x):
    """Applies a functional model to a tensor, layer by layer, with the fused batch normalisation.

    Args:
        model: keras.Model with one input and one output. It stays as it is.
        x: Keras tensor, the output of a layer that computes from one input.

    Returns:
        Keras tensor of a new graph, in which the layers that `x` comes from and those of the model lie side by side.
    """
    config = _changed(keras.Model(model.inputs, model.outputs).get_config(), _batch_norm_of(BatchNormalization))
    before = keras.Model(input_of(x), x).get_config()
    (input_layer,) = (layer for layer in config["layers"] if layer["class_name"] == "InputLayer")
    config = rename_source(config, input_layer["name"], before["output_layers"][0])
    config["layers"] = before["layers"] + [layer for layer in config["layers"] if layer["class_name"] != "InputLayer"]
    config["input_layers"] = before["input_layers"]
    flat = keras.Model.from_config(config)
    flat.set_weights(model.get_weights())
    return flat.outputs[0]


def input_of(tensor):
    """Returns the input, a Keras tensor, from which a tensor of a graph with one input is computed.

    One way back is enough. `keras.utils.get_source_inputs` goes all ways, whose number doubles with every residual
    block: for ResNet-101 it does not end.
    """
    node = tensor._keras_history.operation._inbound_nodes[tensor._keras_history.node_index]
    while not node.is_input:
        tensor = node.input_tensors[0]
        node = tensor._keras_history.operation._inbound_nodes[tensor._keras_history.node_index]
    return tensor


def without_scaling(model: keras.Model) -> keras.Model:
    """Returns a copy of a functional model without the layers that scale pixels."""
    config = keras.Model(model.inputs, model.outputs).get_config()
    sources = sources_of(config)
    scaling = {layer.name: sources[layer.name][0] for layer in model.layers if is_scaling(layer)}
    copied = keras.Model.from_config(without_layers(config, scaling))
    copy_weights(model, copied)
    return copied


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Gives each layer of a model the weights of the layer of the same name of another."""
    for layer in target.layers:
        layer.set_weights(source.get_layer(layer.name).get_weights())


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
        while new in replacements:
            new = replacements[new]
        config = rename_source(config, old, new)
    layers = [layer for layer in config["layers"] if layer["config"]["name"] not in replacements]
    return config | {"layers": layers}


def _sources(value):
    """Returns the names of the layers that tensors in a serialised call come from."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return [value["config"]["keras_history"][0]]
        value = list(value.values())
    return [name for item in value for name in _sources(item)] if isinstance(value, list | tuple) else []


def rename_source(value: Any, old: str, new: str) -> Any:
    """Makes every layer that takes the output of layer `old` take that of layer `new`."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            history = value["config"]["keras_history"]
            if history[0] == old:
                value["config"]["keras_history"] = [new, *history[1:]]
            return value
        return {key: rename_source(item, old, new) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(rename_source(item, old, new) for item in value)
    return value


def folded(graph: keras.Model) -> keras.Model:
    """Returns a copy whose batch normalisation is part of the convolution before it, wherever there is one.

    Dropout, which predicts nothing, is left out. What it does to pixels is `scaled_by_rows`.

    Args:
        graph: keras.Model, functional, of stock layers.

    Returns:
        keras.Model that gives the same outputs, but for rounding, when it predicts.
    """
    config = keras.Model(graph.inputs[0], graph.outputs[0], name=graph.name).get_config()
    sources, users = sources_of(config), users_of(config)
    folds = {}
    for layer in graph.layers:
        before = sources.get(layer.name, ())
        if isinstance(layer, keras.layers.BatchNormalization) and len(before) == 1 and layer.axis in (-1, 3):
            convolution = graph.get_layer(before[0])
            if is_linear(convolution) and users[before[0]] == [layer.name]:
                folds[layer.name] = convolution.name
    for layer in config["layers"]:
        if layer["config"]["name"] in folds.values():
            layer["config"]["use_bias"] = True
    dropout = {layer.name: sources[layer.name][0] for layer in graph.layers if isinstance(layer, keras.layers.Dropout)}
    copied = keras.Model.from_config(without_layers(config, folds | dropout))
    scales = {convolution: graph.get_layer(name) for name, convolution in folds.items()}
    for layer in copied.layers:
        weights = graph.get_layer(layer.name).get_weights()
        if layer.name in scales:
            norm = scales[layer.name]
            scale = 1 / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
            scale = scale * norm.gamma.numpy() if norm.scale else scale
            bias = (weights[1] if len(weights) > 1 else 0) - norm.moving_mean.numpy()
            bias = bias * scale + (norm.beta.numpy() if norm.center else 0)
            weights = [weights[0] * along_outputs(layer, scale), bias]
        layer.set_weights(weights)
    return scaled_by_rows(copied)


def scaled_by_rows(graph: keras.Model) -> keras.Model:
    """Returns a copy that scales the channels of pixels along whole rows of an image, to the same values.

    Kernels for CPUs that repeat 3 numbers along the last axis take many times as long as for a row of 3 W numbers.

    Args:
        graph: keras.Model, functional.

    Returns:
        keras.Model.
    """

    def call(layer, *args, **kwargs):
        shape = args[0].shape[1:] if type(layer) is keras.layers.Rescaling and np.ndim(layer.scale) else ()
        if len(shape) != 3 or None in shape:
            return layer(*args, **kwargs)
        height, width, channels = shape
        config = layer.get_config()
        del config["name"]  # a layer may be called more than once
        for name in ("scale", "offset"):
            config[name] = np.tile(np.broadcast_to(config[name], channels), width).tolist()
        rows = keras.layers.Reshape((height, width * channels), dtype=layer.dtype_policy)(args[0])
        rows = keras.layers.Rescaling.from_config(config)(rows)
        return keras.layers.Reshape(shape, dtype=layer.dtype_policy)(rows)

    copied = keras.models.clone_model(graph, call_function=call)
    copied.set_weights(graph.get_weights())
    return copied


def is_linear(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer is a convolution without an activation. What subclasses compute is not known."""
    return type(layer) in CONVOLUTIONS and layer.activation is keras.activations.linear


def along_outputs(layer: keras.layers.Layer, values: np.ndarray) -> np.ndarray:
    """Returns values for each channel of a convolution's output in the shape that multiplies its kernel."""
    return values.reshape(-1, layer.depth_multiplier) if isinstance(layer, keras.layers.DepthwiseConv2D) else values
