"""A network rewritten to predict faster: batch normalisation goes into convolutions, pixels are scaled by rows."""

import keras
import numpy as np

from keras_regpose.models.graph import sources_of, users_of, without_layers

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def folded(graph: keras.Model) -> keras.Model:
    """Returns a copy whose batch normalisation is part of the convolution before it, wherever there is one.

    What it does to pixels is `scaled_by_rows`.

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
    copied = keras.Model.from_config(without_layers(config, folds))
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
