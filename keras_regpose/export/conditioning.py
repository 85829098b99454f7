"""A network rewritten so that a lower precision moves its outputs less; in float32 it stays nearly the same function.

Trained networks multiply some nearly constant channels by a hundred: what is left after their mean is taken away is
precise in float32 alone. What helps is done on the graph of stock layers, before any converter: batch normalisation
goes into the convolutions, channels between linear convolutions get the mean 0, and biases take back what rounding the
weights moves each channel by on average.
Source: Data-Free Quantization Through Weight Equalization and Bias Correction (Nagel et al., 2019), section 4.2, with
means measured on crops.
"""

import keras
import numpy as np

from keras_regpose.export.frozen import float_layers
from keras_regpose.models import rewrite

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
    graph = rewrite.folded(graph)
    _recentre(graph, crops)
    _compensate(graph, crops, precision)
    return graph


def rounded(kernel: np.ndarray, layer: keras.Layer, precision: str) -> np.ndarray:
    """Returns a convolution's kernel as the precision has it: int8 with a scale for each channel of the output."""
    if precision == "bfloat16":
        import ml_dtypes

        return kernel.astype(ml_dtypes.bfloat16).astype(np.float32)
    outputs = (0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (0, 1, 2)
    step = np.abs(kernel).max(axis=outputs, keepdims=True) / 127
    step[step == 0] = 1
    return np.round(kernel / step) * step


def _recentre(graph, crops):
    """Gives channels between linear convolutions the mean 0, in place."""
    sources, users, _ = rewrite.wiring(graph)
    groups = _linear_groups(graph)
    tensors = {name: graph.get_layer(name).output for group in groups for name in group}
    means = _measure(graph, tensors, crops, lambda x: x.mean((0, 1, 2)))
    for group in groups:
        shifts = {}
        for layer in graph.layers:  # in the order in which they run
            if layer.name in group and isinstance(layer, keras.layers.Add):
                shifts[layer.name] = np.sum([shifts[name] for name in sources[layer.name]], axis=0)
            elif layer.name in group:
                kernel, bias = layer.get_weights()
                shifts[layer.name] = means[layer.name]
                layer.set_weights([kernel, bias - means[layer.name]])
        for name in group:
            for user in users[name]:
                layer = graph.get_layer(user)
                if isinstance(layer, keras.layers.Conv2D):
                    kernel, bias = layer.get_weights()
                    layer.set_weights([kernel, bias + np.einsum("hwio,i->o", kernel, shifts[name])])


def _linear_groups(graph):
    """Returns lists of layers whose outputs may be shifted together, since all that takes from them takes it back.

    They are convolutions without activation, and sums of them, from which only such sums and 1×1 convolutions take.
    """

    def is_sum(layer):
        return isinstance(layer, keras.layers.Add)

    def is_plain(layer):
        return type(layer) is keras.layers.Conv2D and layer.use_bias

    def takes(layer):
        return is_plain(layer) and layer.kernel_size == (1, 1) and layer.groups == 1

    sources, users, repeated = rewrite.wiring(graph)  # what suits one input would not suit all of the repeated
    taken = {layer.name for layer in graph.layers if is_sum(layer) or takes(layer)} - repeated
    free = {one.name for one in graph.layers if is_sum(one) or (is_plain(one) and rewrite.is_linear(one))} - repeated
    free = {name for name in free if users[name] and taken.issuperset(users[name])}
    group_of = {name: {name} for name in sources}
    for layer in filter(is_sum, graph.layers):
        merged = set().union(*(group_of[name] for name in (layer.name, *sources[layer.name])))
        group_of.update(dict.fromkeys(merged, merged))
    groups = {id(group): group for group in group_of.values()}
    return [sorted(group) for group in groups.values() if group <= free]


def _compensate(graph, crops, precision):
    """Changes biases by what rounding the weights moves each channel of the output on average, in place."""
    _, _, repeated = rewrite.wiring(graph)
    layers = [layer for layer in graph.layers if type(layer) in rewrite.CONVOLUTIONS and layer.use_bias]
    in_float = float_layers([layer.name for layer in graph.layers]) if precision == "int8" else set()
    layers = [layer for layer in layers if layer.name not in repeated | in_float]
    means = _measure(graph, {layer.name: layer.input for layer in layers}, crops, _inner_mean)
    for layer in layers:
        (kernel, bias), mean = layer.get_weights(), means[layer.name]
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


def _measure(graph, tensors, crops, mean):
    """Returns the mean of each channel of tensors of a graph by name; `mean` is that of one array."""
    if not tensors:
        return {}
    measured, parts = keras.Model(graph.inputs[0], tensors), []
    for start in range(0, len(crops), _AT_ONCE):
        outputs = measured.predict_on_batch(crops[start : start + _AT_ONCE])
        parts.append({name: mean(np.asarray(output)) for name, output in outputs.items()})
    return {name: np.mean([part[name] for part in parts], axis=0) for name in tensors}
