"""Networks rewritten as serialised graphs: normalisation fused or stock or folded, other precisions, layers left out.

A graph for training and prediction here uses the fused batch normalisation; the graph that is saved names stock Keras
layers only. A graph that is exported has its batch normalisation in the convolutions, and scales pixels by rows.
"""

import keras
import numpy as np

from keras_regpose.models.batch_norm import BatchNormalization

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
# Layers that compute in float32 whatever the others do, as those that scale pixels.
_OF_COORDINATES = ("coordinates", "sigma", "keypoints", "maps")  # and all whose names begin so


def fused_graph(graph: keras.Model) -> keras.Model:
    """Returns a copy of a functional model that uses the fused batch normalisation."""
    return _copied(graph, _with_batch_norm(BatchNormalization))


def stock_graph(graph: keras.Model) -> keras.Model:
    """Returns a copy of a functional model that names the stock batch normalisation, to be saved; all of it trains."""
    copied = _copied(graph, _with_batch_norm(keras.layers.BatchNormalization))
    # What one training run froze must not stay frozen in the next, which starts from what is saved.
    unfreeze(copied)
    return copied


def graph_with_dtype(graph: keras.Model, dtype: str) -> keras.Model:
    """Returns a copy of a functional model whose layers compute in another precision.

    Args:
        graph: keras.Model, as `pose_graph` returns it.
        dtype: str. Name of a dtype policy. What computes on pixels and on coordinates stays in float32.
    """

    def clone(layer):
        stays = is_scaling(layer) or layer.name.startswith(_OF_COORDINATES)
        return type(layer).from_config(layer.get_config() | ({} if stays else {"dtype": dtype}))

    return _copied(graph, clone)


def unfreeze(model: keras.Model) -> None:
    """Makes all layers train. A model's own switch, where it is on already, does not reach them."""
    for layer in model._flatten_layers(include_self=False):
        layer.trainable = True


def _copied(graph, clone=None, call=None, inputs=None):
    """Returns a copy of a functional model and those nested in it; see `keras.models.clone_model`."""
    plain = keras.Model(graph.inputs[0], graph.outputs[0], name=graph.name)
    copied = keras.models.clone_model(plain, inputs, clone, call, recursive=True)
    for layer in (layer for layer in copied.layers if layer.weights):
        layer.set_weights(plain.get_layer(layer.name).get_weights())
    return copied


def _with_batch_norm(layer_class):
    def clone(layer):
        is_norm = type(layer) in (keras.layers.BatchNormalization, BatchNormalization)
        return (layer_class if is_norm else type(layer)).from_config(layer.get_config())

    return clone


def is_scaling(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer does nothing but scale pixels."""
    return isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization)


def applied(model: keras.Model, x):
    """Applies a functional model to a tensor, layer by layer, with the fused batch normalisation.

    Args:
        model: keras.Model with one input and one output. It stays as it is.
        x: Keras tensor, the output of a layer that computes from an input.

    Returns:
        Keras tensor, of layers that lie side by side with those that `x` comes from.
    """
    (image,) = keras.utils.get_source_inputs(x)

    def call(layer, *args, **kwargs):
        args = keras.tree.map_structure(lambda value: x if value is image else value, args)
        return layer(*args, **kwargs)

    return _copied(model, _with_batch_norm(BatchNormalization), call, image).outputs[0]


def without_scaling(model: keras.Model) -> keras.Model:
    """Returns a copy of a functional model without the layers that scale pixels."""
    return _copied(model, call=_leaving_out(is_scaling))


def _leaving_out(is_left_out):
    """Returns a function that applies layers, but passes on the input of those that are left out."""

    def call(layer, *args, **kwargs):
        return args[0] if is_left_out(layer) else layer(*args, **kwargs)

    return call


def wiring(graph: keras.Model) -> tuple[dict[str, list[str]], dict[str, list[str]], set[str]]:
    """Returns how the layers of a functional model hang together, by their names.

    Returns:
        {layer: the layers whose outputs it takes}, {layer: the layers that take its output}, and the layers that are
        called more than once.
    """
    calls = {layer["config"]["name"]: layer["inbound_nodes"] for layer in graph.get_config()["layers"]}
    sources = {name: _sources(nodes) for name, nodes in calls.items()}
    users = {name: [] for name in calls}
    for name, taken in sources.items():
        for source in taken:
            users[source].append(name)
    return sources, users, {name for name, nodes in calls.items() if len(nodes) > 1}


def _sources(value):
    """Returns the names of the layers that tensors in a serialised call come from."""
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return [value["config"]["keras_history"][0]]
        value = list(value.values())
    return [name for item in value for name in _sources(item)] if isinstance(value, list | tuple) else []


def folded(graph: keras.Model) -> keras.Model:
    """Returns a copy whose batch normalisation is part of the convolution before it, wherever there is one.

    Dropout, which predicts nothing, is left out. What it does to pixels is `scaled_by_rows`.

    Args:
        graph: keras.Model, functional, of stock layers.

    Returns:
        keras.Model that gives the same outputs, but for rounding, when it predicts.
    """
    plain = keras.Model(graph.inputs[0], graph.outputs[0], name=graph.name)
    sources, users, _ = wiring(plain)
    folds = {}
    for layer in graph.layers:
        before = sources.get(layer.name, ())
        if isinstance(layer, keras.layers.BatchNormalization) and len(before) == 1 and layer.axis in (-1, 3):
            convolution = graph.get_layer(before[0])
            if is_linear(convolution) and users[before[0]] == [layer.name]:
                folds[layer.name] = convolution.name

    def clone(layer):
        bias = {"use_bias": True} if layer.name in folds.values() else {}
        return type(layer).from_config(layer.get_config() | bias)

    leave_out = _leaving_out(lambda layer: layer.name in folds or isinstance(layer, keras.layers.Dropout))
    copied = keras.models.clone_model(plain, clone_function=clone, call_function=leave_out)
    scales = {convolution: graph.get_layer(name) for name, convolution in folds.items()}
    for layer in (layer for layer in copied.layers if layer.weights):
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

    return _copied(graph, call=call)


def is_linear(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer is a convolution without an activation. What subclasses compute is not known."""
    return type(layer) in CONVOLUTIONS and layer.activation is keras.activations.linear


def along_outputs(layer: keras.layers.Layer, values: np.ndarray) -> np.ndarray:
    """Returns values for each channel of a convolution's output in the shape that multiplies its kernel."""
    return values.reshape(-1, layer.depth_multiplier) if isinstance(layer, keras.layers.DepthwiseConv2D) else values
