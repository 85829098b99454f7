"""The integral head: coordinates are expectations of its maps, and it is saved, exported and cut as the other head."""

import keras
import numpy as np
import pytest

import keras_regpose as rp
from keras_regpose.models.integral import STRIDES


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 96), head="integral")


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)


def test_coordinates_are_the_expectation_of_the_maps(model, crops):
    maps = keras.Model(model.inputs[0], model.get_layer("maps").output).predict(crops, verbose=0)
    assert maps.shape == (2, 16, 24, 17)
    share = np.exp(maps - maps.max((1, 2), keepdims=True))
    share /= share.sum((1, 2), keepdims=True)
    x = (share.sum(1) * (np.arange(24) * 4 / 96)[:, None]).sum(1)
    y = (share.sum(2) * (np.arange(16) * 4 / 64)[:, None]).sum(1)
    np.testing.assert_allclose(model.predict(crops, verbose=0)[..., :2], np.stack([x, y], -1), atol=1e-5)


def test_one_bright_cell_is_where_the_keypoint_is(model):
    """The cell i of a map of stride 4 is the pixel 4 i of our backbones' geometry."""
    logits = keras.layers.Input((16, 24, 17))
    tail = logits
    for name in ("maps_flat", "maps_first", "maps_share"):
        tail = model.get_layer(name)(tail)
    x = model.get_layer("maps_x_mean")(model.get_layer("maps_x_weighted")(tail))
    y = model.get_layer("maps_y_mean")(model.get_layer("maps_y_weighted")(tail))
    values = np.full((1, 16, 24, 17), -50, np.float32)
    values[0, 5, 20] = 50
    found = keras.Model(logits, [x, y]).predict(values, verbose=0)
    np.testing.assert_allclose([found[0][0, 3], found[1][0, 3]], [20 * 4 / 96, 5 * 4 / 64], rtol=1e-6)


def test_the_pyramid_takes_the_first_stage_of_each_stride(model):
    for name, stride, channels in (("mobilenetv2", STRIDES, (24, 32, 64)), ("resnet18", STRIDES, (64, 128, 256))):
        built = rp.PoseRegressor(name, rp.COCO17, input_size=(64, 64), head="integral")
        assert [built.get_layer(f"lateral{s}").input.shape[-1] for s in stride] == list(channels)


def test_other_keypoints_keep_the_maps_of_those_they_share(model, crops):
    other = model.with_skeleton(rp.LSP14)
    assert other.head == "integral" and other.output_shape == (None, 14, 4)
    before, after = (one.predict(crops, verbose=0)[..., :2] for one in (model, other))
    ankle = rp.LSP14.keypoints.index("right_ankle"), rp.COCO17.keypoints.index("right_ankle")
    np.testing.assert_allclose(after[:, ankle[0]], before[:, ankle[1]], atol=1e-6)


def test_it_is_saved_and_exported(model, crops, tmp_path):
    model.save_to_preset(tmp_path / "preset")
    opened = rp.from_preset(tmp_path / "preset")
    assert opened.head == "integral"
    # Presets keep their weights in half precision.
    np.testing.assert_allclose(opened.predict(crops, verbose=0), model.predict(crops, verbose=0), atol=2e-3)
    assert model.export(tmp_path / "pose.onnx", calibration=crops, verbose=False).maximum < 1e-3


def test_in_half_precision_maps_stay_exact(model, crops):
    half = model.with_dtype("mixed_bfloat16")
    assert half.get_layer("maps").compute_dtype == "float32"
    assert half.get_layer("pyramid4_pointwise").compute_dtype == "bfloat16"
    np.testing.assert_allclose(half.predict(crops, verbose=0), model.predict(crops, verbose=0), atol=0.02)


def test_what_it_cannot_be_built_on_is_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48), head="integral")
    with pytest.raises(ValueError, match="integral with the method 'rle'"):
        rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 64), head="integral", method="deeppose")
    inputs = keras.layers.Input((64, 64, 3))
    own = keras.Model(inputs, keras.layers.Conv2D(8, 3, strides=32, padding="same")(inputs))
    with pytest.raises(ValueError, match="a backbone by name"):
        rp.PoseRegressor(own, rp.COCO17, input_size=(64, 64), head="integral")
