"""The folded network is the same function, whatever it is made of."""

import keras
import numpy as np
import pytest

import keras_regpose as rp
from keras_regpose.export import calibration_crops
from keras_regpose.models.rewrite import folded, graph_with_dtype, scaled_by_rows


def randomised(graph, seed=0):
    """Gives every batch normalisation statistics that matter."""
    generator = np.random.default_rng(seed)
    for layer in graph.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            low_high = {"gamma": (0.5, 2), "beta": (-1, 1), "moving_mean": (-1, 1), "moving_variance": (0.2, 3)}
            layer.set_weights([generator.uniform(*low_high[weight.name], weight.shape) for weight in layer.weights])
    return graph


def test_folding_leaves_no_normalisation_and_the_same_outputs():
    network = graph_with_dtype(rp.from_preset("mobilenetv2_rle_lspet").to_keras(), "float32")
    crops = calibration_crops(rp.data.Synthetic(12, seed=3), network.input_shape[1:3])
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


def test_folding_a_depthwise_convolution_that_makes_several_channels_of_each():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)(inputs)
    graph = randomised(keras.Model(inputs, keras.layers.ReLU()(keras.layers.BatchNormalization()(x))))
    image = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    assert len(folded(graph).layers) == 3
    np.testing.assert_allclose(folded(graph)(image), graph(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offset", [[-2.1, -2.0, -1.8], 0.5])
def test_pixels_scaled_by_rows_have_the_same_values(offset):
    image = keras.Input((6, 5, 3))
    scaling = keras.layers.Rescaling([0.017, 0.0175, 0.0174], offset)
    network = keras.Model(image, keras.layers.Conv2D(4, 3)(scaling(scaling(image))))  # and a layer may be called twice
    rewritten = scaled_by_rows(network)
    lengths = [len(layer.scale) for layer in rewritten.layers if isinstance(layer, keras.layers.Rescaling)]
    assert lengths == [15, 15]
    crops = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3)).astype(np.uint8)
    np.testing.assert_allclose(rewritten.predict_on_batch(crops), network.predict_on_batch(crops), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "scaling, shape",
    [
        (keras.layers.Rescaling(1 / 255), (6, 5, 3)),  # one number repeats as fast as a row
        (keras.layers.Rescaling([1.0, 2.0, 3.0]), (None, None, 3)),  # how long a row is, is not known
        (keras.layers.Rescaling([1.0, 2.0, 3.0]), (3,)),
    ],
)
def test_other_scaling_stays(scaling, shape):
    image = keras.Input(shape)
    assert len(scaled_by_rows(keras.Model(image, scaling(image))).layers) == 2
