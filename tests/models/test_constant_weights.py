"""Constants are faster, and never those of other weights than the model's."""

import concurrent.futures

import keras
import numpy as np
import pytest

import keras_regpose as rp
from keras_regpose.export import calibration_crops
from keras_regpose.models import constant_weights

PLAIN_RUNS = 3
CROPS = calibration_crops(rp.data.Synthetic(3, seed=0), (160, 160))


@pytest.fixture(autouse=True)
def soon_constant(monkeypatch):
    monkeypatch.setattr(constant_weights, "PLAIN_RUNS", PLAIN_RUNS)


@pytest.fixture
def model():
    return rp.from_preset("mobilenetv2_rle_lspet")


def run_until_constant(model):
    for _ in range(PLAIN_RUNS + 1):
        output = model.fastest_network.predict_on_batch(CROPS)
    assert model.fastest_network._fast is not None
    return output


def test_outputs_stay_the_same(model):
    expected = model.predict_on_batch(CROPS)
    assert np.ptp(expected[..., 0], axis=0).max() > 1e-3
    for _ in range(PLAIN_RUNS):
        np.testing.assert_array_equal(model.fastest_network.predict_on_batch(CROPS), expected)
    assert model.fastest_network._fast is None
    np.testing.assert_allclose(run_until_constant(model), expected, rtol=0, atol=5e-6)
    for count in (1, 2):
        output = model.fastest_network.predict_on_batch(CROPS[:count])
        assert output.shape == (count, 14, 4) and output.dtype == np.float32
        np.testing.assert_allclose(output, expected[:count], rtol=0, atol=5e-6)


def one_assigned(model):
    bias = model.get_layer("coordinates").bias
    values = bias.numpy()
    values[3] += 0.25
    bias.assign(values)


def one_element_written_by_tensorflow(model):
    model.get_layer("coordinates").bias.value[3].assign(0.75)


def all_set(model):
    model.set_weights([weight * 0.9 for weight in model.get_weights()])


def trained(model):
    model.compile(keras.optimizers.SGD(1e-2), loss="mse")
    model.fit(CROPS, np.full((3, 14, 4), 0.3, np.float32), batch_size=3, verbose=0)


@pytest.mark.parametrize("change", [one_assigned, one_element_written_by_tensorflow, all_set, trained])
def test_a_changed_weight_counts_at_once(model, change):
    """Also where TensorFlow would write in place, as its optimizers do."""
    before = run_until_constant(model)
    change(model)
    expected = model.predict_on_batch(CROPS)
    assert np.abs(expected - before).max() > 1e-3
    np.testing.assert_array_equal(model.fastest_network.predict_on_batch(CROPS), expected)
    if change is not one_element_written_by_tensorflow:  # that makes TensorFlow copy at each read: it stays plain
        np.testing.assert_allclose(run_until_constant(model), expected, rtol=0, atol=5e-6)
    change(model)
    np.testing.assert_array_equal(model.fastest_network.predict_on_batch(CROPS), model.predict_on_batch(CROPS))


def test_weights_of_replicas_are_seen_as_well():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = rp.from_preset("mobilenetv2_rle_lspet")
    before = run_until_constant(model)
    with strategy.scope():
        trained(model)
    expected = model.predict_on_batch(CROPS)
    assert np.abs(expected - before).max() > 1e-3
    np.testing.assert_array_equal(model.fastest_network.predict_on_batch(CROPS), expected)


def test_lower_precision_is_rounded_as_the_model_rounds(model):
    half = model.with_dtype("mixed_bfloat16")
    for network in (half, half.with_skeleton(rp.COCO17)):  # the second one's own policy is float32
        expected = network.predict_on_batch(CROPS)
        np.testing.assert_allclose(run_until_constant(network), expected, rtol=0, atol=5e-6)
    assert np.abs(half.predict_on_batch(CROPS) - model.predict_on_batch(CROPS)).max() > 1e-4


def test_weights_that_layers_get_later_are_seen(model):
    dense = model.get_layer("coordinates")
    before = run_until_constant(model)
    dense.enable_lora(2)
    dense.lora_kernel_b.assign(dense.lora_kernel_b + 0.1)
    assert np.abs(model(CROPS) - before).max() > 1e-3
    model.predict_function = None  # Keras itself goes on with the function that it has made before
    expected = model.predict_on_batch(CROPS)
    np.testing.assert_array_equal(model.fastest_network.predict_on_batch(CROPS), expected)
    np.testing.assert_allclose(run_until_constant(model), expected, rtol=0, atol=5e-6)


class Halved(keras.layers.Conv2D):
    """A convolution that computes something else than one."""

    def call(self, inputs):
        return super().call(inputs) / 2


class Unregistered(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2.0


def with_layers(*layers):
    x = inputs = keras.Input((64, 48, 3))
    for layer in layers:
        x = layer(x)
    with keras.saving.custom_object_scope({"Halved": Halved, "Unregistered": Unregistered}):
        return rp.PoseRegressor(keras.Model(inputs, x), rp.COCO17, (64, 48))


def test_layers_of_users_own():
    """A subclass is not folded, and a network that cannot be made anew runs on as it is."""
    crops = CROPS[:, :64, :48]
    halved = with_layers(Halved(8, 3, strides=8), keras.layers.BatchNormalization())
    unregistered = with_layers(Unregistered(), keras.layers.Conv2D(8, 3, strides=8))
    for model in (halved, unregistered):
        expected = model.predict_on_batch(crops)
        for _ in range(2 * PLAIN_RUNS):
            np.testing.assert_allclose(model.fastest_network.predict_on_batch(crops), expected, rtol=1e-4, atol=1e-5)


def test_threads_share_it(model):
    expected = model.predict_on_batch(CROPS)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda _: model.fastest_network.predict_on_batch(CROPS), range(12)))
    np.testing.assert_allclose(outputs, [expected] * 12, rtol=0, atol=5e-6)
    assert model.fastest_network._fast is not None


def test_estimates_run_through_it(model):
    picture = CROPS[0]
    first = model.estimate(picture)
    for _ in range(PLAIN_RUNS):
        last = model.estimate(picture)
    assert model.fastest_network._fast is not None
    np.testing.assert_allclose(last.keypoints, first.keypoints, rtol=0, atol=1e-3)
    one_assigned(model)
    assert np.abs(model.estimate(picture).keypoints - last.keypoints).max() > 1


def test_copies_have_their_own(model):
    run_until_constant(model)
    copied = model.with_dtype("float32")
    one_assigned(copied)
    expected = copied.predict_on_batch(CROPS)
    assert np.abs(expected - model.predict_on_batch(CROPS)).max() > 0.1
    np.testing.assert_allclose(run_until_constant(copied), expected, rtol=0, atol=5e-6)
    assert model.fastest_network is model.fastest_network
