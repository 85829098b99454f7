"""The rewritten network is the same function in float32, and what lower precisions take from it is given back."""

import keras
import numpy as np
import pytest

import keras_regpose as rp
from keras_regpose.export import calibration_crops
from keras_regpose.export.conditioning import _compensate, _linear_groups, _recentre, conditioned, rounded
from keras_regpose.models.rewrite import folded, graph_with_dtype


@pytest.fixture(scope="module")
def network():
    return graph_with_dtype(rp.from_preset("mobilenetv2_rle_lspet").to_keras(), "float32")


@pytest.fixture(scope="module")
def crops(network):
    return calibration_crops(rp.data.Synthetic(12, seed=3), network.input_shape[1:3])


def output_of(graph, name, crops):
    return keras.Model(graph.inputs[0], graph.get_layer(name).output).predict_on_batch(crops)


def test_recentred_channels_have_the_mean_0(network, crops):
    graph = folded(network)
    before = output_of(graph, "layer1_0_project", crops)
    _recentre(graph, crops)
    after = output_of(graph, "layer1_0_project", crops)
    assert np.abs(before.mean((0, 1, 2))).max() > 0.5 and np.abs(after.mean((0, 1, 2))).max() < 1e-3
    np.testing.assert_allclose(after - after.mean((0, 1, 2)), before - before.mean((0, 1, 2)), rtol=0, atol=2e-3)
    np.testing.assert_allclose(graph.predict_on_batch(crops), network.predict_on_batch(crops), rtol=0, atol=1e-4)


def test_layers_called_twice_stay_as_they_are():
    """What suits one of their inputs does not suit the other."""
    layers = keras.layers
    inputs = keras.Input((64, 48, 3), name="image")
    relu, shared = layers.ReLU(name="relu"), layers.Conv2D(8, 1, name="shared")
    x = relu(layers.Conv2D(8, 3, strides=2, name="a")(inputs))
    y = relu(layers.Conv2D(8, 3, padding="same", name="b")(x))
    x = layers.Add()([shared(x), shared(y)])
    x = layers.Conv2D(8, 1, name="c")(layers.Conv2D(8, 1, name="d")(x))
    graph = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(x)))
    crops = calibration_crops(rp.data.Synthetic(4, seed=0), (64, 48))
    kernel = graph.get_layer("shared").get_weights()[0]
    assert _linear_groups(graph) == [["d"], ["c"]]
    expected = graph.predict_on_batch(crops)
    _recentre(graph, crops)
    np.testing.assert_array_equal(graph.get_layer("shared").get_weights()[0], kernel)
    np.testing.assert_allclose(graph.predict_on_batch(crops), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    for precision in ("bfloat16", "int8"):
        output = conditioned(graph, crops, precision).predict_on_batch(crops)
        np.testing.assert_allclose(output, expected, rtol=0, atol=0.05 * np.abs(expected).max())


def test_rounded_weights_are_those_of_the_precision():
    kernel = np.random.default_rng(0).standard_normal((3, 3, 8, 4)).astype(np.float32)
    convolution, depthwise = keras.layers.Conv2D(4, 3), keras.layers.DepthwiseConv2D(3)
    assert np.abs(rounded(kernel, convolution, "bfloat16") / kernel - 1).max() <= 2**-8
    step = np.abs(kernel).max((0, 1, 2)) / 127
    steps = rounded(kernel, convolution, "int8") / step
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
    assert np.abs(steps).max() == pytest.approx(127) and np.abs(rounded(kernel, convolution, "int8") - kernel).max() > 0
    steps = rounded(kernel[..., :1], depthwise, "int8") / (np.abs(kernel[..., :1]).max((0, 1, 3))[:, None] / 127)
    np.testing.assert_allclose(np.abs(steps).max((0, 1, 3)), 127, rtol=1e-5)
    several = kernel[..., :2] * [1, 0.01]  # two channels of each, and each has a scale of its own
    difference = np.abs(rounded(several, depthwise, "int8") - several).max((0, 1))
    assert (difference <= np.abs(several).max((0, 1)) / 250).all()


def test_biases_take_back_what_rounded_weights_move_channels_by(network, crops):
    """This one multiplies nearly constant channels by 40: rounding its weights moves the mean of its outputs."""
    graph, compensated = folded(network), folded(network)
    layer = graph.get_layer("layer2_0_expand")
    kernel, bias = layer.get_weights()
    tensor = keras.Model(graph.inputs[0], layer.output)
    exact = tensor.predict_on_batch(crops)
    _compensate(compensated, crops, "int8")
    changed_kernel, changed_bias = compensated.get_layer("layer2_0_expand").get_weights()
    np.testing.assert_array_equal(changed_kernel, kernel)  # the converter rounds it

    def moved(bias):
        layer.set_weights([rounded(kernel, layer, "int8"), bias])
        return np.abs((tensor.predict_on_batch(crops) - exact).mean((0, 1, 2))).max()

    assert moved(bias) > 0.3 and moved(changed_bias) < 0.02


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_networks_of_every_kind_are_conditioned(precision):
    keras.utils.set_random_seed(0)
    crops = calibration_crops(rp.data.Synthetic(4, seed=0), (64, 48))
    own = keras.Input((64, 48, 3))
    plain = keras.Model(own, keras.layers.Conv2D(16, 3, strides=8, use_bias=False)(own))
    for backbone in ("resnet18", plain):
        graph = rp.PoseRegressor(backbone, rp.COCO17, (64, 48), method="deeppose").to_keras()
        result = conditioned(graph, crops, precision)
        assert np.abs(result.predict_on_batch(crops) - graph.predict_on_batch(crops)).max() < 0.02
