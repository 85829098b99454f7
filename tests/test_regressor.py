"""PoseRegressor: every kind of backbone, training, saving, reopening."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from tiny_model import tiny_model

from keras_regpose import COCO17, LSP14, PoseRegressor, Skeleton, from_preset

RNG = np.random.default_rng(0)


def batch(size=(64, 64), keypoints=17, count=4):
    crops = RNG.integers(0, 256, (count, *size, 3)).astype("uint8")
    targets = np.concatenate([RNG.random((count, keypoints, 2)), np.ones((count, keypoints, 1))], -1)
    return crops, targets.astype("float32")


def keras_cv_backbone(include_rescaling=False):
    import keras_cv

    return keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 128],
        stackwise_blocks=[1, 1],
        stackwise_strides=[1, 2],
        block_type="basic_block",
        include_rescaling=include_rescaling,
        input_shape=(None, None, 3),
    )


def our_keras_cv_subclass():
    from keras_regpose.models.keras_cv import MobileNetV2Backbone

    return MobileNetV2Backbone(width=0.25)


BACKBONES = {
    "resnet18": lambda: "resnet18",
    "mobilenetv2": lambda: "mobilenetv2_0.25",
    "keras_cv": keras_cv_backbone,
    "our keras_cv subclass": our_keras_cv_subclass,
    "keras.applications": lambda: keras.applications.MobileNetV2(
        weights=None, include_top=False, input_shape=(64, 64, 3), alpha=0.35
    ),
    "functional": lambda: keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(8, 3, strides=4), keras.layers.BatchNormalization()]
    ),
}


@pytest.mark.parametrize(("kind", "method"), [*((kind, "rle") for kind in BACKBONES), ("functional", "deeppose")])
def test_every_backbone_builds_trains_saves_and_reopens(kind, method, tmp_path):
    model = PoseRegressor(BACKBONES[kind](), COCO17, input_size=(64, 64), method=method)
    crops, targets = batch()
    model.compile()
    history = model.fit(crops, targets, batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    outputs = model.predict(crops, verbose=0)
    assert outputs.shape == (4, 17, 4 if method == "rle" else 2)

    plain = model.to_keras()
    assert not [layer for layer in plain.layers if type(layer).__module__.startswith("keras_regpose")]
    np.testing.assert_allclose(plain.predict(crops, verbose=0), outputs, atol=1e-5)

    model.save_to_preset(tmp_path / "preset")
    np.testing.assert_array_equal(from_preset(tmp_path / "preset").predict(crops, verbose=0), outputs)


def test_a_given_backbone_sees_normalised_pixels_and_keeps_its_weights():
    backbone = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(64, 64, 3), alpha=0.35)
    for weight in backbone.weights:  # random initialisation alone makes features too small to compare
        if "gamma" in weight.name:
            weight.assign(np.full(weight.shape, 3.0))
    model = PoseRegressor(backbone, COCO17, (64, 64), pixel_mean=(127.5,) * 3, pixel_std=(127.5,) * 3)
    crops, _ = batch()
    expected = backbone.predict(crops / 127.5 - 1.0, verbose=0)
    largest = np.abs(expected).max()
    assert largest > 0.1
    # A few units of float32 rounding in the normalisation grow on their way through 52 layers of gain 3.
    np.testing.assert_allclose(model.backbone.predict(crops, verbose=0), expected, rtol=0, atol=1e-3 * largest)


def test_a_backbone_that_scales_pixels_itself_sees_them_as_they_are():
    """The ImageNet presets of KerasCV do: scaled twice, their weights would be of no use."""
    backbone = keras_cv_backbone(include_rescaling=True)
    model = PoseRegressor(backbone, COCO17, (64, 64))
    crops, targets = batch()
    expected = backbone.predict(crops.astype("float32"), verbose=0)
    tolerance = {"rtol": 1e-4, "atol": 1e-5 * np.abs(expected).max()}
    np.testing.assert_allclose(model.backbone.predict(crops, verbose=0), expected, **tolerance)
    model.compile()
    assert np.isfinite(model.fit(crops, targets, verbose=0).history["loss"]).all()
    given = PoseRegressor(backbone, COCO17, (64, 64), pixel_mean=(127.5,) * 3, pixel_std=(127.5,) * 3)
    expected = backbone.predict((crops - 127.5) / 127.5, verbose=0)
    np.testing.assert_allclose(given.backbone.predict(crops, verbose=0), expected, **tolerance)


def test_uint8_and_float_crops_are_the_same():
    model = PoseRegressor("mobilenetv2_0.25", COCO17, (64, 64))
    crops, _ = batch()
    np.testing.assert_array_equal(model.predict(crops, verbose=0), model.predict(crops.astype("float32"), verbose=0))


def test_the_step_of_training_is_traced_once():
    model, (crops, targets), traced = tiny_model(), batch((64, 48)), []
    model.compile(loss=lambda true, predicted: traced.append(1) or keras.ops.mean(predicted))
    model.fit(crops, targets, batch_size=2, epochs=2, verbose=0)
    assert len(traced) == 1


def test_the_flow_trains_and_the_likelihood_rises():
    model = tiny_model()
    crops, targets = batch((64, 48), count=16)
    before = [weight.numpy().copy() for weight in model.flow.trainable_weights]
    model.compile(keras.optimizers.Adam(1e-3))
    history = model.fit(crops, targets, batch_size=16, epochs=30, verbose=0).history
    moved = [
        np.abs(weight.numpy() - old).max() for weight, old in zip(model.flow.trainable_weights, before, strict=True)
    ]
    assert min(moved) > 0
    assert set(history) == {"loss", "rle_flow", "rle_residual", "rle_sigma"}
    assert history["rle_flow"][-1] < history["rle_flow"][0] - 10
    total = np.add(history["rle_flow"], history["rle_residual"])
    np.testing.assert_allclose(history["loss"], total, rtol=1e-4)


def test_the_keras_file_restores_model_flow_and_optimizer(tmp_path):
    model, (crops, targets) = tiny_model(), batch((64, 48))
    model.compile(keras.optimizers.Adam(1e-3), keypoint_weights=[1.0] * 17)
    model.fit(crops, targets, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    for opened in (restored, from_preset(tmp_path / "model.keras")):
        assert isinstance(opened, PoseRegressor) and opened.skeleton == COCO17
        np.testing.assert_array_equal(opened.predict(crops, verbose=0), model.predict(crops, verbose=0))
    for ours, theirs in zip(restored.flow.weights, model.flow.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    for continued in (model, restored):  # in the same order: Adam's first steps turn rounding into steps of its rate
        continued.fit(crops, targets, shuffle=False, verbose=0)
    np.testing.assert_allclose(restored.predict(crops, verbose=0), model.predict(crops, verbose=0), atol=1e-6)


def test_a_keras_file_opens_in_a_fresh_process(tmp_path):
    tiny_model().save(tmp_path / "m.keras")
    script = f"""
        import keras, keras_regpose as rp
        try:
            keras.saving.load_model({str(tmp_path / "m.keras")!r})
        except TypeError as error:
            print(str(error)[:38])
        print(rp.from_preset({str(tmp_path / "m.keras")!r}).skeleton.name)
        print(type(keras.saving.load_model({str(tmp_path / "m.keras")!r})).__name__)
        """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines() == ["Could not locate class 'PoseRegressor'", "coco17", "PoseRegressor"]


def test_keras_files_that_are_no_pose_regressor_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*missing.keras"):
        from_preset(tmp_path / "missing.keras")
    with pytest.raises(ValueError, match="always loads with weights. Received: load_weights=False"):
        from_preset(tmp_path / "any.keras", load_weights=False)
    (tmp_path / "torn.keras").write_bytes(b"torn")
    with pytest.raises(ValueError, match="torn.keras is damaged .*It must be a file that model.save wrote"):
        from_preset(tmp_path / "torn.keras")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="other.keras holds a Sequential, not a PoseRegressor"):
        from_preset(tmp_path / "other.keras")
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x)]).save(tmp_path / "code.keras")
    with pytest.raises(ValueError, match="code.keras holds a layer that can run code"):
        from_preset(tmp_path / "code.keras")


def test_a_preset_restores_the_flow_and_opens_without_this_package(tmp_path):
    model = tiny_model()
    crops, targets = batch((64, 48))
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(crops, targets, verbose=0)
    model.save_to_preset(tmp_path / "preset")
    restored = from_preset(tmp_path / "preset")
    for ours, theirs in zip(restored.flow.weights, model.flow.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())

    np.save(tmp_path / "crops.npy", crops)
    script = f"""
        import sys
        sys.modules["keras_regpose"] = sys.modules["keras_cv"] = sys.modules["tensorflow_probability"] = None
        import keras, numpy as np
        model = keras.saving.load_model({str(tmp_path / "preset")!r})
        np.save({str(tmp_path / "outputs.npy")!r}, model.predict(np.load({str(tmp_path / "crops.npy")!r}), verbose=0))
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), model.predict(crops, verbose=0), atol=1e-5)


def test_another_precision_keeps_the_weights_and_the_flow():
    model = PoseRegressor("mobilenetv2_0.25", COCO17, (64, 48))
    half = model.with_dtype("mixed_bfloat16")
    assert half.get_layer("layer3_0_project").compute_dtype == "bfloat16"
    for name in ("normalize", "coordinates", "sigma", "keypoints_and_sigmas"):
        assert half.get_layer(name).compute_dtype == "float32"
    assert len(half.variables) == len(model.variables)
    for ours, theirs in zip(half.variables, model.variables, strict=True):
        assert ours is not theirs and ours.dtype == "float32"
        np.testing.assert_array_equal(np.array(ours), np.array(theirs))
    crops = np.random.default_rng(0).integers(0, 256, (4, 64, 48, 3)).astype("uint8")
    difference = np.abs(half.predict_on_batch(crops) - model.predict_on_batch(crops)).max()
    assert 0 < difference < 0.1  # of a crop; random weights spread predictions over half of it


def test_other_keypoints_keep_the_backbone_bit_for_bit():
    model = PoseRegressor("mobilenetv2_0.25", COCO17, (32, 32))
    crops, _ = batch((32, 32))
    other = model.with_skeleton(LSP14)
    assert other.output_shape == (None, 14, 4)
    np.testing.assert_array_equal(other.backbone.predict(crops, verbose=0), model.backbone.predict(crops, verbose=0))
    assert other.flow is not model.flow


@pytest.mark.parametrize("method", ["rle", "deeppose"])
def test_other_keypoints_keep_the_rows_that_both_have(method, caplog):
    model = tiny_model(method)
    crops, _ = batch((64, 48))
    before = model.predict_on_batch(crops)[..., :2]
    order = np.random.default_rng(0).permutation(17)
    shuffled = Skeleton("shuffled", tuple(COCO17.keypoints[k] for k in order))
    after = model.with_skeleton(shuffled).predict_on_batch(crops)[..., :2]
    np.testing.assert_allclose(
        after, before[:, order], atol=1e-6
    )  # the sums of matrices of other sizes round otherwise
    arm = Skeleton("arm", ("tip", "right_wrist", "left_elbow"))
    caplog.clear()
    after = model.with_skeleton(arm).predict_on_batch(crops)[..., :2]
    np.testing.assert_array_equal(after[:, 1:], before[:, [COCO17.index("right_wrist"), COCO17.index("left_elbow")]])
    assert "of the 3 keypoints, x and y of these: right_wrist, left_elbow; the rest of the head" in caplog.text
    caplog.clear()
    assert model.with_skeleton(Skeleton("cup", ("rim", "handle"))).output_shape[1] == 2
    assert "of the 2 keypoints, x and y of these: none" in caplog.text


def test_sigma_and_the_flow_start_anew_for_other_keypoints():
    model = tiny_model()
    learned = [*model.flow.weights, *model.get_layer("sigma").weights]
    for variable in learned:
        variable.assign(np.full(variable.shape, 3.0))
    other = model.with_skeleton(Skeleton("shuffled", COCO17.keypoints[::-1]))
    assert not any((np.array(weight) == 3).any() for weight in (*other.flow.weights, *other.get_layer("sigma").weights))
    crops, _ = batch((64, 48))
    assert np.abs(other.predict_on_batch(crops)[..., 2:] - 0.5).max() < 0.1  # of the crop


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "resnet51"}, "Unknown backbone 'resnet51'"),
        ({"backbone": "mobilenetv2", "skeleton": "coco"}, "needs a Skeleton"),
        ({"backbone": "mobilenetv2", "method": "heatmap"}, "method must be one of"),
        ({"backbone": "mobilenetv2", "input_size": (16, 16)}, "at least 32 pixels"),
        ({"backbone": None}, "either a backbone or a saved graph"),
        ({"backbone": keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])}, "one feature map"),
    ],
)
def test_bad_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        PoseRegressor(**({"skeleton": COCO17} | arguments))
