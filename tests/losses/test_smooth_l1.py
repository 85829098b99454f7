"""The losses of plain regression against the reference's figures."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden_weights import golden_differences

from keras_regpose import COCO17, PoseRegressor
from keras_regpose.losses import SmoothL1, SoftWing, Wing


def targets(points, weight):
    points = np.asarray(points, "float32")
    return np.concatenate([points, np.asarray(weight, "float32")[..., None]], -1)


def test_equals_the_dossier():
    i = np.arange(12)
    pred = (0.5 + 0.25 * np.sin(1.3 * i)).reshape(2, 3, 2).astype("float32")
    target = (0.5 + 0.25 * np.sin(1.3 * i + 0.2)).reshape(2, 3, 2)
    weight = [[1, 0, 1], [1, 1, 0]]
    assert float(SmoothL1()(targets(target, weight), pred)) == pytest.approx(0.000407678932, rel=1e-5)
    assert float(SmoothL1()(targets(target, np.ones((2, 3))), pred)) == pytest.approx(0.000620859095, rel=1e-5)


def test_linear_branch_equals_the_dossier():
    pred = np.array([[[3, 0.5], [0.2, -2]]], "float32")
    assert float(SmoothL1()(targets(np.zeros((1, 2, 2)), [[1, 0]]), pred)) == pytest.approx(0.65625)
    assert float(SmoothL1()(targets(np.zeros((1, 2, 2)), [[1, 1]]), pred)) == pytest.approx(1.03625)


def test_equals_mmpose(golden):
    recorded = np.load(golden / "rle_loss.npz")
    loss = SmoothL1()(targets(recorded["target"], recorded["weight"][..., 0]), recorded["pred"])
    assert float(loss) == pytest.approx(float(recorded["smooth_l1"]), rel=1e-5)


def test_masked_nan_is_ignored():
    pred = np.array([[[0.5, 0.5], [0.1, 0.2]]], "float32")
    with_nan = SmoothL1()(targets([[[0.4, 0.5], [np.nan, np.nan]]], [[1, 0]]), pred)
    assert float(with_nan) == pytest.approx(0.5 * 0.01 / 4, rel=1e-4)


@pytest.mark.parametrize("scale", [1, 30])  # on crop units, and where the far branches are in use
@pytest.mark.parametrize(
    ("loss", "recorded"), [(SmoothL1, "SmoothL1Loss"), (Wing, "WingLoss"), (SoftWing, "SoftWingLoss")]
)
def test_losses_and_gradients_equal_mmpose(loss, recorded, scale, golden):
    arrays, expected = golden_differences(scale), np.load(golden / "family.npz")
    y_true, pred = targets(arrays["target"], arrays["weight"][..., 0]), tf.Variable(arrays["pred"])
    with tf.GradientTape() as tape:
        value = loss()(y_true, pred)
    assert float(value) == pytest.approx(float(expected[f"{recorded}/{scale}/loss"]), rel=1e-5)
    gradient = expected[f"{recorded}/{scale}/gradient"]
    np.testing.assert_allclose(tape.gradient(value, pred), gradient, rtol=1e-5, atol=1e-5 * np.abs(gradient).max())


def test_wing_losses_equal_the_dossier():
    pred = np.array([[[3, 0.5], [0.2, -2]]], "float32")
    truth = targets(np.zeros((1, 2, 2)), [[1, 1]])
    assert float(Wing()(truth, pred)) == pytest.approx(19.2789164355)
    assert float(Wing()(truth, 10 * pred)) == pytest.approx(85.2942908751)
    assert float(SoftWing()(truth, pred)) == pytest.approx(11.4294447324)
    assert float(SoftWing()(truth, 10 * pred)) == pytest.approx(115.8805493275)


@pytest.mark.parametrize("name", ["wing", "soft_wing"])
def test_a_model_is_compiled_with_a_loss_by_name_and_keeps_it(name, tmp_path):
    model = PoseRegressor("mobilenetv2_0.25", COCO17, (64, 48), method="deeppose")
    weights = [0.0] * 16 + [1.0]
    model.compile(loss=name, keypoint_weights=weights)
    model.save(tmp_path / "model.keras")
    for one in (model, keras.saving.load_model(tmp_path / "model.keras")):
        assert type(one.loss).__name__ == {"wing": "Wing", "soft_wing": "SoftWing"}[name]
        assert one.loss.keypoint_weights == weights
    with pytest.raises(ValueError, match=f"The loss '{name}' has no σ: it is for method='deeppose'"):
        PoseRegressor("mobilenetv2_0.25", COCO17, (64, 48)).compile(loss=name)
