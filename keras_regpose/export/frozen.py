"""A network as a TensorFlow function with constants for weights: what the writers of all formats are given."""

import re
from collections.abc import Sequence


def frozen_function(graph):
    """Returns a TensorFlow function with constants for weights, from `image` to `keypoints` (and `sigmas`).

    Args:
        graph: keras.Model of stock layers, from (B, H, W, 3) RGB 0–255.

    Returns:
        A concrete function of (B, H, W, 3) uint8, whose `output_names` are the names of its outputs.
    """
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    names = [layer.name for layer in graph.layers if layer.name in ("keypoints", "sigmas")]
    outputs = keras.Model(graph.inputs[0], [graph.get_layer(name).output for name in names])
    image = tf.TensorSpec((None, *graph.input_shape[1:]), tf.uint8, name="image")
    concrete = tf.function(lambda image: outputs(image, training=False)).get_concrete_function(image)
    frozen = convert_variables_to_constants_v2(concrete)
    frozen.output_names = names
    return frozen


def graph_with_names(frozen):
    """Returns the graph of a frozen function, with the outputs named as they are called."""
    definition = frozen.graph.as_graph_def()
    renamed = {tensor.op.name: name for tensor, name in zip(frozen.outputs, frozen.output_names, strict=True)}
    for node in definition.node:
        node.name = renamed.get(node.name, node.name)
    return definition


def float_layers(names: Sequence[str]) -> set[str]:
    """Returns which layers int8 leaves in float: those that move keypoints by more than all the others together.

    They are the first block of MobileNetV2, whose few channels differ most, and the integral head, whose maps an
    expectation is taken of. Of a network with both, all else in int8 moves keypoints by a third as much.

    Args:
        names: list of str. Names of all layers, or of nodes that were made of layers: `model/NAME/operation`.

    Example:

    >>> float_layers(["model/lateral4_1/Conv", "model/layer2_0_expand_1/Conv"])
    {'model/lateral4_1/Conv'}
    """
    block = "|conv1|layer1_" if any("layer1_0_project" in name for name in names) else ""
    return {name for name in names if re.search(f"(^|/)(lateral|pyramid|maps{block})", name)}
