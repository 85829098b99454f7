"""The rewritten network is the same function in float32, and what lower precisions take from it is given back."""

import keras
import numpy as np
import pytest

import keras_regpose as rp
from keras_regpose.export import calibration_crops
from keras_regpose.export.conditioning import _compensate, _equalize, conditioned, folded, rounded
from keras_regpose.models.graph import graph_with_dtype


@pytest.fixture(scope="module")
def network():
    return graph_with_dtype(rp.from_preset("mobilenetv2_rle_lspet").to_keras(), "float32")


@pytest.fixture(scope="module")
def crops(network):
    return calibration_crops(rp.data.Synthetic(12, seed=3), network.input_shape[1:3])


def randomised(graph, seed=0):
    """Gives every batch normalisation statistics that matter."""
    generator = np.random.default_rng(seed)
    for layer in graph.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            low_high = {"gamma": (0.5, 2), "beta": (-1, 1), "moving_mean": (-1, 1), "moving_variance": (0.2, 3)}
            layer.set_weights([generator.uniform(*low_high[weight.name], weight.shape) for weight in layer.weights])
    return graph


def test_folding_leaves_no_normalisation_and_the_same_outputs(network, crops):
    graph = folded(network)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in graph.layers)
    np.testing.assert_allclose(graph.predict_on_batch(crops), network.predict_on_batch(crops), rtol=0, atol=2e-5)


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv2_0.25"])
def test_folding_takes_statistics_of_any_size(backbone):
    keras.utils.set_random_seed(0)
    graph = randomised(rp.PoseRegressor(backbone, rp.COCO17, (64, 48)).to_keras())
    crops = calibration_crops(rp.data.Synthetic(4, seed=0), (64, 48))
    expected = graph.predict_on_batch(crops)
    np.testing.assert_allclose(folded(graph).predict_on_batch(crops), expected, rtol=1e-3, atol=1e-4)


def test_a_normalisation_without_a_convolution_before_it_stays():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.BatchNormalization(name="first")(inputs)  # no convolution before it
    x = y = keras.layers.Conv2D(8, 3, name="shared")(x)
    x = keras.layers.BatchNormalization(name="second")(x)  # its convolution has another user
    x = keras.layers.Add()([x, y])
    x = keras.layers.Conv2D(8, 1, activation="relu", name="active")(x)
    x = keras.layers.BatchNormalization(name="third", scale=False)(x)  # behind an activation
    x = keras.layers.Conv2D(4, 1, use_bias=False, name="plain")(x)
    x = keras.layers.BatchNormalization(name="fourth", center=False)(x)
    graph = keras.Model(inputs, keras.layers.ReLU()(x))
    for layer in graph.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([weight.numpy() + 0.3 for weight in layer.weights])
    result = folded(graph)
    names = {layer.name for layer in result.layers}
    assert {"first", "second", "third"} <= names and "fourth" not in names
    image = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    np.testing.assert_allclose(result(image), graph(image), rtol=1e-4, atol=1e-5)


def test_equalized_channels_have_the_mean_0_and_one_range(network, crops):
    graph = folded(network)
    tensor = keras.Model(graph.inputs[0], graph.get_layer("layer1_0_project").output)
    before = tensor.predict_on_batch(crops).reshape(-1, 16)
    _equalize(graph, crops)
    tensor = keras.Model(graph.inputs[0], graph.get_layer("layer1_0_project").output)
    after = tensor.predict_on_batch(crops).reshape(-1, 16)
    assert np.abs(before.mean(0)).max() > 0.5 and np.abs(after.mean(0)).max() < 1e-3
    spread_before, spread_after = (np.abs(x - x.mean(0)).max(0) for x in (before, after))
    assert spread_after.max() / spread_after.min() < 0.5 * spread_before.max() / spread_before.min()
    np.testing.assert_allclose(graph.predict_on_batch(crops), network.predict_on_batch(crops), rtol=0, atol=1e-4)


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
