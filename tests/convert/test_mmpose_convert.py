"""MMPose's weights, by both of their names, give MMPose's own outputs."""

import functools
import json

import keras
import numpy as np
import pytest
from golden_weights import golden_tensor
from torch_files import write_legacy, write_zip

from keras_regpose.convert import CheckpointError, from_mmpose
from keras_regpose.hub import preset_info
from keras_regpose.models.network import IMAGENET_MEAN, IMAGENET_STD

SMALL = ["mobilenetv2_rle_coco", "resnet50_rle_coco", "resnet50_coco", "resnet50_rle_mpii", "resnet50_mpii"]
LARGE = ["resnet101_rle_coco", "resnet101_coco", "resnet101_mpii"]
LARGE += ["resnet152_rle_coco", "resnet152_coco", "resnet152_mpii"]
ROWS = [pytest.param(name) for name in SMALL] + [pytest.param(name, marks=pytest.mark.slow) for name in LARGE]
FLOW = "head.loss_module.flow_model"


@functools.cache
def rows(folder):
    return json.loads((folder / "models.json").read_text())


def golden_state_dict(golden, name):
    return {key: golden_tensor(key, tuple(shape)) for key, shape in rows(golden)[name]["state_dict"].items()}


def old_names(state_dict):
    """The names of MMPose 0.x."""
    return {
        key.replace("head.loss_module.", "head.loss.").replace("head.", "keypoint_head."): tensor
        for key, tensor in state_dict.items()
    }


def pixels(normalised):
    """RGB 0–255 that the network's first layer turns into a normalised batch."""
    return (normalised * np.array(IMAGENET_STD) + np.array(IMAGENET_MEAN)).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


@pytest.mark.parametrize("name", ROWS)
def test_outputs_equal_the_recorded_ones(name, golden):
    state_dict = golden_state_dict(golden, name)
    model = from_mmpose(state_dict, name)
    height, width = model.input_size
    batch = np.random.default_rng([0, 7]).standard_normal((2, height, width, 3)).astype(np.float32)
    # One pass for the features and the outputs.
    both = keras.Model(model.inputs, [model.get_layer("pool").input, model.outputs[0]])
    features, outputs = both.predict(pixels(batch), verbose=0)

    recorded = np.load(golden / "models.npz")
    expected = recorded[name].copy()
    expected[..., 2:] = sigmoid(expected[..., 2:])
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-4)
    mean, std = recorded[f"{name}__features_mean_std"]
    assert features.mean() == pytest.approx(mean, rel=1e-4) and features.std() == pytest.approx(std, rel=1e-4)
    batch_size, channels, feature_height, feature_width = recorded[f"{name}__features_shape_nchw"]
    assert features.shape == (batch_size, feature_height, feature_width, channels)

    flow_params = sum(np.prod(shape) for key, shape in rows(golden)[name]["state_dict"].items() if FLOW in key)
    flow_params -= 18 if flow_params else 0  # loc, cov and mask
    graph = keras.Model(model.inputs[0], model.outputs[0])
    count = sum(int(np.prod(weight.shape)) for weight in graph.trainable_weights)
    assert count == rows(golden)[name]["params"] - flow_params == preset_info(name)["params"]

    assert_same(from_mmpose(old_names(state_dict), name), model)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("resnet50_wflw"),
        pytest.param("resnet50_rhd2d"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("resnet50_wing_wflw", "resnet50_softwing_wflw", "resnet50_onehand10k")
        ),
    ],
)
def test_faces_and_hands_equal_the_recorded_ones(name, golden, tmp_path):
    family, recorded = json.loads((golden / "family.json").read_text())[name], np.load(golden / "family.npz")
    shapes = rows(golden)["resnet50_mpii"]["state_dict"] | family["shapes_unlike_resnet50_mpii"]
    state_dict = {key: golden_tensor(key, tuple(shape)) for key, shape in shapes.items()}
    current = write_zip(tmp_path / "current.pth", {"meta": {}, "state_dict": state_dict})
    old = write_legacy(tmp_path / "old.pth", {"state_dict": old_names(state_dict)})
    model = from_mmpose(current, name)
    assert_same(from_mmpose(old, name), model)
    batch = np.random.default_rng([0, 7]).standard_normal((2, 256, 256, 3)).astype(np.float32)
    both = keras.Model(model.inputs, [model.get_layer("pool").input, model.outputs[0]])
    features, outputs = both.predict(pixels(batch), verbose=0)
    np.testing.assert_allclose(outputs, recorded[f"{name}/output"], rtol=0, atol=1e-4)
    mean, std = recorded[f"{name}/features_mean_std"]
    assert features.mean() == pytest.approx(mean, rel=1e-4) and features.std() == pytest.approx(std, rel=1e-4)
    assert family["params"] == preset_info(name)["params"]


def test_flow_density_equals_the_recorded_one(golden):
    flow = from_mmpose(golden_state_dict(golden, "mobilenetv2_rle_coco"), "mobilenetv2_rle_coco").flow
    recorded = np.load(golden / "rle_loss.npz")
    for case in ("laplace_residual", "laplace_noresidual", "gaussian_residual", "gaussian_noresidual"):
        found = flow.log_prob(recorded[f"{case}__flow_x"])
        np.testing.assert_allclose(found, recorded[f"{case}__flow_log_prob"], rtol=1e-5, atol=1e-5)


def dossier_state_dict(golden, name):
    """The weights of the reference dossier, §9.9: functions of a name's place in the alphabet."""
    shapes = rows(golden)[name]["state_dict"]
    names = sorted(key for key in shapes if "num_batches_tracked" not in key and "loss_module" not in key)
    tensors = {key: golden_tensor(key, tuple(shapes[key])) for key in shapes if "loss_module" in key}
    for p, key in enumerate(names):
        shape = shapes[key]
        j = np.arange(np.prod(shape, dtype=int), dtype=np.float64)
        if len(shape) == 4:
            value = np.sqrt(2 / np.prod(shape[1:])) * np.sin(0.37 * j + p)
        elif len(shape) == 2:
            value = np.sqrt(1 / shape[1]) * np.sin(0.37 * j + p)
        elif key.endswith("running_var"):
            value = 1 + 0.2 * np.cos(0.3 * j + p)
        elif key.endswith("running_mean"):
            value = 0.1 * np.sin(0.5 * j + p)
        elif key.endswith("weight"):
            value = 1 + 0.1 * np.sin(j + p)
        else:
            value = 0.1 * np.cos(j + p)
        tensors[key] = value.reshape(shape).astype(np.float32)
    return tensors


@pytest.mark.parametrize(
    ("name", "scale", "feature_mean", "pooled", "first", "last", "sums"),
    [
        ("resnet50_rle_coco", 1, 0.1043700082, [0.001276863, 0.1102554782, 0.2156357005, 0.0476366289],
         [0.0280244874, -0.0306681795, -0.1158987999, -0.0516467693],
         [-0.0494941328, -0.1193976419, -0.0249933484, 0.0455361916], (-0.1174920202, 4.3146108076)),
        pytest.param(
         "resnet152_rle_coco", 1, 0.1318755157, [0, 0.0452693473, 0.2056895615, 0.0574283482],
         [-0.0812280787, -0.0867632665, -0.0480317835, 0.0248015961],
         [-0.0718740219, -0.0528527393, 0.058138343, 0.1164503076], (-0.0514875525, 4.4568774698),
         marks=pytest.mark.slow),
        pytest.param(
         "resnet101_mpii", 1, 0.1182828319, [0.0052089079, 0.0882774104, 0.1332544063, 0.2322704122],
         [0.0222963378, 0.0647546614], [-0.0783289679, -0.0574576574], (-0.0149192367, 2.0294718674),
         marks=pytest.mark.slow),
        ("mobilenetv2_rle_coco", 1, 0.0438158414, [0.108140715, 0.0777853002, 0, 0],
         [-0.0742782721, -0.095115143, -0.0330819126, 0.0627237649],
         [-0.0922595235, -0.0136998667, 0.0731466355, 0.0968981457], (-0.0265055092, 4.3713903775)),
        ("mobilenetv2_rle_coco", 100, 0.0438172763, None,
         [-0.0742830641, -0.0951123898, -0.0330810334, 0.0627197621],
         [-0.0922643672, -0.0136960032, 0.0731459886, 0.0968952015], (-0.0265103684, 4.3713919866)),
    ],
)  # fmt: skip
def test_outputs_equal_the_independent_figures(name, scale, feature_mean, pooled, first, last, sums, golden):
    model = from_mmpose(dossier_state_dict(golden, name), name)
    height, width = model.input_size
    batch = np.sin(0.01 * np.arange(3 * height * width)).reshape(1, 3, height, width).transpose(0, 2, 3, 1)
    model = keras.Model(model.inputs, [model.get_layer("pool").input, model.get_layer("pool").output, model.outputs[0]])
    features, found_pooled, outputs = model.predict(pixels(scale * batch), verbose=0)
    raw = outputs[0].astype(np.float64)
    raw[:, 2:] = np.log(raw[:, 2:] / (1 - raw[:, 2:]))
    tolerance = {"rtol": 0, "atol": 1e-5}
    assert features.mean() == pytest.approx(feature_mean, abs=1e-6)
    if pooled is not None:
        np.testing.assert_allclose(found_pooled[0, :4], pooled, **tolerance)
    np.testing.assert_allclose(raw[0], first, **tolerance)
    np.testing.assert_allclose(raw[-1], last, **tolerance)
    np.testing.assert_allclose([raw.sum(), np.abs(raw).sum()], sums, rtol=0, atol=1e-4)


def mobilenet_shapes():
    """Tensors of MMPose 1.x's MobileNetV2 with RLE for COCO (reference dossier, §2.2 and §2.6)."""
    shapes = {}

    def convolution(name, *shape):
        shapes[f"{name}.conv.weight"] = shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{part}"] = shape[:1]
        shapes[f"{name}.bn.num_batches_tracked"] = ()

    convolution("backbone.conv1", 32, 3, 3, 3)
    channels = 32
    stages = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]
    for stage, (expansion, filters, blocks) in enumerate(stages, start=1):
        for block in range(blocks):
            name, hidden = f"backbone.layer{stage}.{block}.conv", expansion * channels
            steps = [(hidden, channels, 1, 1)] if expansion > 1 else []
            steps += [(hidden, 1, 3, 3), (filters, hidden, 1, 1)]
            for step, shape in enumerate(steps):
                convolution(f"{name}.{step}", *shape)
            channels = filters
    convolution("backbone.conv2", 1280, 320, 1, 1)
    shapes |= {"head.fc.weight": (68, 1280), "head.fc.bias": (68,)}
    shapes |= {f"{FLOW}.loc": (2,), f"{FLOW}.cov": (2, 2), f"{FLOW}.mask": (6, 2)}
    for net in (f"{FLOW}.{letter}.{number}" for letter in "st" for number in range(6)):
        for layer, shape in ((0, (64, 2)), (2, (64, 64)), (4, (2, 64))):
            shapes |= {f"{net}.{layer}.weight": shape, f"{net}.{layer}.bias": shape[:1]}
    return shapes


NAME = "mobilenetv2_rle_coco"


@pytest.fixture(scope="module")
def state_dict():
    return {name: golden_tensor(name, shape) for name, shape in mobilenet_shapes().items()}


@pytest.fixture(scope="module")
def converted(state_dict):
    return from_mmpose(state_dict, NAME)


def assert_same(model, other):
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_every_tensor_has_its_place(state_dict, converted):
    assert len(state_dict) == 389
    head, bias = state_dict["head.fc.weight"], state_dict["head.fc.bias"]
    coordinates, sigma = converted.get_layer("coordinates"), converted.get_layer("sigma")
    for keypoint, axis in ((0, 0), (0, 1), (5, 0), (16, 1)):
        row, column = 4 * keypoint + axis, 2 * keypoint + axis
        np.testing.assert_array_equal(coordinates.kernel[:, column], head[row])
        np.testing.assert_array_equal(sigma.kernel[:, column], head[row + 2])
        assert coordinates.bias[column] == bias[row] and sigma.bias[column] == bias[row + 2]
    expand = converted.get_layer("layer2_0_expand").kernel
    np.testing.assert_array_equal(expand[0, 0], state_dict["backbone.layer2.0.conv.0.conv.weight"][:, :, 0, 0].T)
    depthwise = converted.get_layer("layer1_0_depthwise").kernel
    np.testing.assert_array_equal(depthwise[:, :, 7, 0], state_dict["backbone.layer1.0.conv.0.conv.weight"][7, 0])
    variance = converted.get_layer("layer7_0_project_bn").moving_variance
    np.testing.assert_array_equal(variance, state_dict["backbone.layer7.0.conv.2.bn.running_var"])
    # The first coupling keeps the second coordinate, the next the first.
    for coupling, kept, changed in ((0, 1, 0), (1, 0, 1)):
        (kernel_in, _), _, (kernel_out, bias_out) = converted.flow.scale_networks[coupling]
        np.testing.assert_array_equal(kernel_in[0], state_dict[f"{FLOW}.s.{coupling}.0.weight"][:, kept])
        np.testing.assert_array_equal(kernel_out[:, 0], state_dict[f"{FLOW}.s.{coupling}.4.weight"][changed])
        assert bias_out[0] == state_dict[f"{FLOW}.s.{coupling}.4.bias"][changed]


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_files_of_both_formats_and_names(write, state_dict, converted, tmp_path):
    training = {"meta": {"epoch": 210}, "state_dict": state_dict, "optimizer": {"state": {0: np.ones(3)}}}
    assert_same(from_mmpose(write(tmp_path / "epoch_210.pth", training), NAME), converted)
    published = {"state_dict": old_names(state_dict) | {"data_preprocessor.mean": np.zeros(3)}}
    assert_same(from_mmpose(str(write(tmp_path / "old.pth", published)), NAME), converted)


def test_wrapped_and_half_precision_tensors(state_dict, converted):
    assert_same(from_mmpose({f"module.{name}": tensor for name, tensor in state_dict.items()}, NAME), converted)
    halves = {name: tensor.astype(np.float16) for name, tensor in state_dict.items()}
    half = from_mmpose({"state_dict": halves}, NAME)
    kernel = half.get_layer("conv1").kernel.numpy()
    np.testing.assert_array_equal(kernel, converted.get_layer("conv1").kernel.numpy().astype(np.float16))


@pytest.mark.parametrize(
    ("change", "preset", "message"),
    [
        ({"backbone.conv1.conv.weight": None}, NAME, "it lacks 'backbone.conv1.conv.weight'. Is it"),
        ({"backbone.conv3.weight": np.ones(3)}, NAME, "it has 'backbone.conv3.weight', which the network does not"),
        ({"head.fc.bias": np.ones(67, "f")}, NAME, r"head.fc.bias has shape \(67,\), the network needs \(68,\)"),
        ({"head.fc.bias": np.ones(68, int)}, NAME, "head.fc.bias is not a tensor of floating-point numbers"),
        ({"head.fc.bias": "text"}, NAME, "head.fc.bias is not a tensor of floating-point numbers"),
        ({f"{FLOW}.mask": np.ones((6, 2))}, NAME, "mask is not that of MMPose's flow"),
        ({"keypoint_head.fc.bias": np.ones(68, "f")}, NAME, "has head.fc.bias twice"),
        ({}, "resnet50_rle_coco", "lacks 'backbone.conv1.weight', .* and 260 more, and has .* and 255 more"),
        ({}, "resnet50_rle_cocos", "no preset 'resnet50_rle_cocos'. Did you mean resnet50_rle_coco"),
        (None, NAME, "holds no state_dict"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, preset, message, state_dict):
    changed = {} if change is None else {k: v for k, v in (state_dict | change).items() if v is not None}
    with pytest.raises(ValueError, match=message) as error:
        from_mmpose(changed, preset)
    assert "\n" not in str(error.value)


def test_a_name_with_another_checksum_is_refused(state_dict, tmp_path):
    path = write_zip(tmp_path / "mobilenetv2-39b73bd5_20220922.pth", {"state_dict": state_dict})
    with pytest.raises(CheckpointError, match="the name says 39b73bd5"):
        from_mmpose(path, NAME)
