"""A network rewritten so that a lower precision moves its outputs less; in float32 it stays nearly the same function.

Trained networks multiply some nearly constant channels by a hundred: what is left after their mean is taken away is
precise in float32 alone. And in int8 all channels of a tensor share 255 steps, of which a weak channel gets a few. What
helps is done on the graph of stock layers, before any converter: batch normalisation goes into the convolutions,
channels between linear convolutions get the mean 0, for int8 all channels come closer to a common range, and biases
take back what rounding the weights moves each channel by on average.
Sources: Data-Free Quantization Through Weight Equalization and Bias Correction (Nagel et al., 2019), sections 4.1 and
4.2, with means and ranges measured on crops; SmoothQuant (Xiao et al., 2023), section 4, for how weights and
activations share what there is to gain.
"""

import keras
import numpy as np

from keras_regpose.export.frozen import float_layers
from keras_regpose.models import rewrite

_MEASURED = 32  # crops
_AT_ONCE = 4  # all activations of so many crops fit in memory
_SPREAD = 100  # a channel with less than a hundredth of the largest one's range counts as if it had that
_MARGIN = 1.5  # what other crops may exceed the measured ones by
_HOMOGENEOUS = (keras.layers.ZeroPadding2D, keras.layers.MaxPooling2D, keras.layers.GlobalAveragePooling2D)


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
    if precision == "int8":
        _equalize(graph, crops)
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
    means = _measure(graph, tensors, crops, lambda x: x.mean((0, 1, 2)), np.mean)
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
    """Returns lists of layers whose outputs may be shifted together.

    They are convolutions without activation, and sums of them, from which only such sums and 1×1 convolutions take.
    """

    def is_plain(layer):
        return type(layer) is keras.layers.Conv2D and layer.use_bias

    def takes(layer):
        return is_plain(layer) and layer.kernel_size == (1, 1) and layer.groups == 1

    def gives(layer):
        return is_plain(layer) and rewrite.is_linear(layer)

    return _groups(graph, gives, lambda layer: isinstance(layer, keras.layers.Add), takes)


def _groups(graph, gives, passes_on, takes):
    """Returns lists of layers whose outputs may be changed together, since all that takes from them takes it back.

    Args:
        graph: keras.Model.
        gives, passes_on, takes: functions, layer → whether its output can be changed by its own weights, is changed as
            all its inputs are, or whether its weights can take back what its input is changed by.
    """
    sources, users, repeated = rewrite.wiring(graph)  # what suits one input would not suit all of the repeated
    taken = {layer.name for layer in graph.layers if passes_on(layer) or takes(layer)} - repeated
    free = {layer.name for layer in graph.layers if passes_on(layer) or gives(layer)} - repeated
    free = {name for name in free if users[name] and taken.issuperset(users[name])}
    group_of = {name: {name} for name in sources}
    for layer in filter(passes_on, graph.layers):
        merged = set().union(*(group_of[name] for name in (layer.name, *sources[layer.name])))
        group_of.update(dict.fromkeys(merged, merged))
    groups = {id(group): group for group in group_of.values()}
    return [sorted(group) for group in groups.values() if group <= free]


def _equalize(graph, crops):
    """Brings the ranges of a tensor's channels closer to each other, in place.

    A channel is multiplied, and the weights that take from it divided, by √(w / r): r is its range and w its largest
    weight, so that neither the activations nor the weights take all of the spread.
    """
    _, users, _ = rewrite.wiring(graph)
    groups = [[graph.get_layer(name) for name in group] for group in _scalable_groups(graph)]

    def is_activated(layer):  # int8 has no numbers for what an activation changes first
        takers = [graph.get_layer(user) for user in users[layer.name]]
        return len(takers) == 1 and isinstance(takers[0], keras.layers.ReLU | keras.layers.Activation)

    tensors = {layer.name: layer.output for group in groups for layer in group if not is_activated(layer)}
    peaks = _measure(graph, tensors, crops, lambda x: np.abs(x).max(tuple(range(x.ndim - 1))), np.max)
    for group in groups:
        takers = [graph.get_layer(user) for layer in group for user in users[layer.name]]
        takers = [layer for layer in takers if not _is_homogeneous(layer)]
        ranges = [peaks[layer.name] for layer in group if layer.name in peaks]
        kernels = [layer.get_weights()[0] for layer in takers if not isinstance(layer, keras.layers.DepthwiseConv2D)]
        weights = [np.abs(kernel).reshape(-1, *kernel.shape[-2:]).max((0, 2)) for kernel in kernels]
        scale = np.sqrt(_of_largest(weights) / _of_largest(ranges))
        scale /= np.exp(np.log(scale).mean())
        limits = [layer.max_value for layer in group if getattr(layer, "max_value", None)]
        if limits:
            # Values are cut off at the activation's own limit, of which a channel must stay away by a margin.
            room = min(limits) / _MARGIN / np.maximum(np.max(ranges, axis=0), min(limits) / _SPREAD)
            scale = np.clip(scale / scale.min(), 1, np.maximum(room, 1))
        for layer in group:
            if isinstance(layer, rewrite.CONVOLUTIONS):
                kernel, bias = layer.get_weights()
                layer.set_weights([kernel * rewrite.along_outputs(layer, scale), bias * scale])
        for layer in takers:
            kernel, *rest = layer.get_weights()
            layer.set_weights([kernel / scale[:, None], *rest])


def _scalable_groups(graph):
    """Returns lists of layers whose outputs may be scaled together, channel by channel.

    They are convolutions without activation, and what multiplies with its input: activations, padding, pooling, sums.
    """
    return _groups(graph, lambda layer: rewrite.is_linear(layer) and layer.use_bias, _is_homogeneous, _takes_scaled)


def _is_homogeneous(layer):
    """Returns whether a layer's output is scaled, channel by channel, as its inputs are."""
    if isinstance(layer, keras.layers.ReLU):
        return layer.threshold == 0
    if isinstance(layer, keras.layers.Add):
        return len({tensor.shape for tensor in layer.input}) == 1
    if isinstance(layer, keras.layers.Activation):
        return layer.activation is keras.activations.relu
    return isinstance(layer, _HOMOGENEOUS)


def _takes_scaled(layer):
    """Returns whether a layer's weights can take back what its input was multiplied by."""
    return type(layer) in (*rewrite.CONVOLUTIONS, keras.layers.Dense) and getattr(layer, "groups", 1) == 1


def _of_largest(values):
    """Returns what share of the largest of its tensor's channels each has, in any of the tensors, at least 1 %."""
    shares = [value / value.max() for value in values if value.max() > 0]
    return np.maximum(np.max(shares, axis=0), 1 / _SPREAD) if shares else np.ones(1)


def _compensate(graph, crops, precision):
    """Changes biases by what rounding the weights moves each channel of the output on average, in place."""
    _, _, repeated = rewrite.wiring(graph)
    layers = [layer for layer in graph.layers if type(layer) in rewrite.CONVOLUTIONS and layer.use_bias]
    in_float = float_layers([layer.name for layer in graph.layers]) if precision == "int8" else set()
    layers = [layer for layer in layers if layer.name not in repeated | in_float]
    means = _measure(graph, {layer.name: layer.input for layer in layers}, crops, _inner_mean, np.mean)
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


def _measure(graph, tensors, crops, statistic, merged):
    """Returns a statistic of tensors of a graph by name, `merged` (such as np.mean) over all parts of the crops."""
    if not tensors:
        return {}
    measured, parts = keras.Model(graph.inputs[0], tensors), []
    for start in range(0, len(crops), _AT_ONCE):
        outputs = measured.predict_on_batch(crops[start : start + _AT_ONCE])
        parts.append({name: statistic(np.asarray(output)) for name, output in outputs.items()})
    return {name: merged([part[name] for part in parts], axis=0) for name in tensors}
