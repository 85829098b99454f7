"""EfficientNet-B0 of `keras.applications` as one more backbone: built, frozen by stages, started, saved, exported."""

import keras
import numpy as np
import pytest
from test_zoo import multiply_accumulates

from keras_regpose import COCO17, PoseRegressor, from_preset, load_exported
from keras_regpose.convert import load_imagenet_backbone
from keras_regpose.data import Synthetic
from keras_regpose.export import calibration_crops
from keras_regpose.export.formats import FORMATS
from keras_regpose.training import train
from keras_regpose.training.optimizer import frozen_stages

SIZE = (64, 48)


@pytest.fixture(scope="module")
def reference():
    """The model of keras.applications, with random weights: it divides pixels by 255."""
    keras.utils.set_random_seed(0)
    return keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(*SIZE, 3))


@pytest.fixture(scope="module")
def model(reference, tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = PoseRegressor("efficientnetb0", COCO17, SIZE, pixel_mean=(0, 0, 0), pixel_std=(255, 255, 255))
    file = tmp_path_factory.mktemp("weights") / "efficientnetb0_notop.weights.h5"
    reference.save_weights(file)
    load_imagenet_backbone(model, file)
    return model


def test_it_has_the_size_and_the_cost_of_the_paper(reference):
    model = PoseRegressor("efficientnetb0", COCO17, (224, 224))
    weights = [weight for weight in model.backbone.trainable_weights]
    assert sum(weight.shape.num_elements() for weight in weights) == reference.count_params() - 42_023 == 4_007_548
    assert multiply_accumulates(model.backbone) / 1e9 == pytest.approx(0.385, abs=0.005)  # Tan and Le, table 2: 0.39


def test_its_features_are_those_of_keras_applications(reference, model):
    crops = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype("uint8")
    expected = reference.predict_on_batch(crops.astype("float32"))
    features = model.backbone.predict_on_batch(crops)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_stages_freeze_and_train(model):
    people = Synthetic(4, seed=0)
    trained = model.with_dtype("float32")
    before = {variable.path: np.array(variable) for variable in trained.variables}
    train(trained, people, epochs=1, batch_size=4, frozen_stages=3, learning_rate=1e-2, warmup=0, verbose=0)
    moved = {path for path, old in before.items() if not np.array_equal(old, np.array(dict_of(trained)[path]))}
    assert not [path for path in moved if path.startswith(("stem_", "block1", "block2", "block3"))]
    assert {path.split("/")[0] for path in moved} >= {"block4a_expand_conv", "block7a_bn", "top_conv", "sigma"}
    with pytest.raises(ValueError, match="frozen_stages must be at most 7 for this backbone. Received: 8"):
        with frozen_stages(model, 8):
            pass


def dict_of(model):
    return {variable.path: variable for variable in model.variables}


def test_stages_that_nobody_knows_are_an_error():
    inputs = keras.layers.Input((*SIZE, 3))
    own = PoseRegressor(keras.Model(inputs, keras.layers.Conv2D(4, 3, strides=4, name="mine")(inputs)), COCO17, SIZE)
    with pytest.raises(ValueError, match="frozen_stages must be -1 for a backbone whose stages are not known"):
        train(own, Synthetic(4, seed=0), epochs=1, batch_size=4, frozen_stages=0, verbose=0)
    known = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(*SIZE, 3), alpha=0.35)
    known = PoseRegressor(known, COCO17, SIZE)
    with frozen_stages(known, 0):
        frozen = [layer.name for layer in known.layers if layer.weights and not layer.trainable]
    assert frozen == ["Conv1", "bn_Conv1"]


def test_it_is_saved_and_computes_in_half_precision(model, tmp_path):
    crops = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype("uint8")
    model.save_to_preset(tmp_path / "preset")
    expected = model.predict_on_batch(crops)
    np.testing.assert_array_equal(from_preset(tmp_path / "preset").predict_on_batch(crops), expected)
    plain = keras.saving.load_model(tmp_path / "preset")
    np.testing.assert_allclose(plain.predict_on_batch(crops), expected, rtol=0, atol=1e-5)
    half = model.with_dtype("mixed_bfloat16")
    assert half.get_layer("block2a_expand_conv").compute_dtype == "bfloat16"
    assert 0 < np.abs(half.predict_on_batch(crops) - expected).max() < 0.1


def test_weights_that_do_not_fit_are_explained(model, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="There is no file of weights"):
        load_imagenet_backbone(model, tmp_path / "missing.h5")
    (tmp_path / "torn.h5").write_bytes(b"torn")
    with pytest.raises(ValueError, match="torn.h5 does not hold weights of EfficientNetB0"):
        load_imagenet_backbone(model, tmp_path / "torn.h5")
    with pytest.raises(ValueError, match="ImageNet weights for: efficientnetb0. For a ResNet or MobileNetV2, download"):
        load_imagenet_backbone(PoseRegressor("mobilenetv2_0.25", COCO17, SIZE))


CASES = [(name, precision) for name, format in FORMATS.items() for precision in format.PRECISIONS]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), CASES)
def test_it_is_exported_in_every_format(name, precision, model, tmp_path):
    crops = calibration_crops(Synthetic(16, seed=3), SIZE)
    path = tmp_path / f"pose{FORMATS[name].SUFFIX}"
    deviation = model.export(path, name, precision, crops if precision == "int8" else None, verbose=False)
    output, expected = load_exported(path).predict_on_batch(crops), model.predict_on_batch(crops)
    if precision == "float32":
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-4)
    assert deviation.median < 1
