"""A network rewritten so that a lower precision moves its outputs less; in float32 it stays the same function.

Trained networks multiply some nearly constant channels by a hundred: what is left after their mean is taken away is
precise in float32 alone. Three changes help, all of them made on the graph of stock layers, before any converter:
batch normalisation goes into the convolutions, channels between linear convolutions get the mean 0 and a common range,
and biases take back what rounding the weights moves each channel by on average.
Source: Data-Free Quantization Through Weight Equalization and Bias Correction (Nagel et al., 2019), sections 4.1 and
4.2, with means and ranges measured on crops.
"""

import keras
import numpy as np

from keras_regpose.models.folding import CONVOLUTIONS, folded, is_linear
from keras_regpose.models.graph import sources_of, users_of

_MEASURED = 32  # crops
_AT_ONCE = 4  # all activations of so many crops fit in memory


def conditioned(graph: keras.Model, crops: np.ndarray, precision: str) -> keras.Model:
    """Returns a copy of a graph that gives nearly the same outputs in a lower precision.

    Args:
        graph: keras.Model in float32, of stock layers.
        crops: (N, H, W, 3) uint8 array, RGB: means and ranges are measured on up to 32 of them.
        precision: "bfloat16", whose weights come rounded already, or "int8", which a converter rounds to.

    Returns:
        keras.Model.
    """
    crops = crops[np.linspace(0, len(crops) - 1, min(_MEASURED, len(crops))).astype(int)]
    graph = folded(graph)
    _equalize(graph, crops)
    _compensate(graph, crops, precision)
    return graph


def rounded(kernel: np.ndarray, layer: keras.Layer, precision: str) -> np.ndarray:
    """Returns a convolution's kernel as the precision has it: int8 with a scale for each channel of the output."""
    if precision == "bfloat16":
        import ml_dtypes

        return kernel.astype(ml_dtypes.bfloat16).astype(np.float32)
    outputs = (0, 1, 3) if isinstance(layer, keras.layers.DepthwiseConv2D) else (0, 1, 2)
    step = np.abs(kernel).max(axis=outputs, keepdims=True) / 127
    step[step == 0] = 1
    return np.round(kernel / step) * step


def _equalize(graph, crops):
    """Gives channels between linear convolutions the mean 0 and a common range, in place."""
    config = graph.get_config()
    sources, users = sources_of(config), users_of(config)
    groups = _linear_groups(graph, sources, users)
    tensors = [name for group in groups for name in group]
    if not tensors:
        return
    measured = _measure(graph, tensors, crops, lambda x: np.stack([f((0, 1, 2)) for f in (x.mean, x.min, x.max)]))
    means = {name: parts[:, 0].mean(0) for name, parts in zip(tensors, measured, strict=True)}
    peaks = {name: np.stack([p[:, 1].min(0), p[:, 2].max(0)]) for name, p in zip(tensors, measured, strict=True)}
    for group in groups:
        ranges = np.max([np.abs(peaks[name] - means[name]).max(0) for name in group], axis=0)
        ranges = np.maximum(ranges, 1e-2 * ranges.max()) if ranges.max() > 0 else np.ones_like(ranges)
        scale = ranges / np.exp(np.log(ranges).mean())
        shifts = {}
        for layer in graph.layers:  # in the order in which they run
            if layer.name not in group:
                continue
            if isinstance(layer, keras.layers.Add):
                shifts[layer.name] = np.sum([shifts[name] for name in sources[layer.name]], axis=0)
                continue
            kernel, bias = layer.get_weights()
            shifts[layer.name] = means[layer.name]
            layer.set_weights([kernel / scale, (bias - means[layer.name]) / scale])
        for name in group:
            for user in users[name]:
                layer = graph.get_layer(user)
                if isinstance(layer, keras.layers.Conv2D):
                    kernel, bias = layer.get_weights()
                    moved = np.einsum("hwio,i->o", kernel, shifts[name])
                    layer.set_weights([kernel * scale[:, None], bias + moved])


def _linear_groups(graph, sources, users):
    """Returns lists of layers whose outputs may be shifted and scaled together.

    They are convolutions without activation, and sums of them, from which only such sums and 1×1 convolutions take.
    """
    linear = {
        layer.name
        for layer in graph.layers
        if (
            isinstance(layer, keras.layers.Add)
            or (isinstance(layer, keras.layers.Conv2D) and is_linear(layer) and layer.use_bias)
        )
        and users[layer.name]
        and all(_takes_linear(graph.get_layer(user)) for user in users[layer.name])
    }
    group_of = {name: {name} for name in linear}
    broken = set()
    for layer in graph.layers:
        if isinstance(layer, keras.layers.Add):
            together = set(sources[layer.name]) | {layer.name}
            merged = set().union(*(group_of.get(name, {name}) for name in together))
            if not together <= linear:
                broken |= merged
            for name in merged:
                group_of[name] = merged
    groups = {id(group): group for group in group_of.values()}
    return [sorted(group) for group in groups.values() if not group & broken and group <= linear]


def _takes_linear(layer):
    return isinstance(layer, keras.layers.Add) or (
        isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1) and layer.groups == 1 and layer.use_bias
    )


def _compensate(graph, crops, precision):
    """Changes biases by what rounding the weights moves each channel of the output on average, in place."""
    layers = [layer for layer in graph.layers if isinstance(layer, CONVOLUTIONS) and layer.use_bias]
    if not layers:
        return
    measured = _measure(graph, [layer.input for layer in layers], crops, _inner_mean)
    for layer, mean in zip(layers, (parts.mean(0) for parts in measured), strict=True):
        kernel, bias = layer.get_weights()
        lost = (kernel - rounded(kernel, layer, precision)).sum((0, 1))
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            bias = bias + (lost * mean[:, None]).ravel()
        elif layer.groups == 1:
            bias = bias + mean @ lost
        layer.set_weights([rounded(kernel, layer, precision) if precision == "bfloat16" else kernel, bias])


def _inner_mean(x):
    """Returns the mean of each channel, without the border, which may be padding."""
    inner = x[:, 1:-1, 1:-1] if min(x.shape[1:3]) > 2 else x
    return inner.mean((0, 1, 2))


def _measure(graph, tensors, crops, statistic):
    """Returns for each tensor of a graph (or layer, by name) an array of its statistic over each part of the crops."""
    tensors = [graph.get_layer(tensor).output if isinstance(tensor, str) else tensor for tensor in tensors]
    measured, parts = keras.Model(graph.inputs[0], tensors), []
    for start in range(0, len(crops), _AT_ONCE):
        outputs = measured.predict_on_batch(crops[start : start + _AT_ONCE])
        outputs = outputs if isinstance(outputs, list) else [outputs]
        parts.append([statistic(np.asarray(output)) for output in outputs])
    return [np.stack(values) for values in zip(*parts, strict=True)]
