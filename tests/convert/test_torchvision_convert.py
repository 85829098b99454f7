"""torchvision's names reach the variables that MMPose's names reach."""

import numpy as np
import pytest
from golden_weights import golden_tensor
from torch_files import write_zip

from keras_regpose import COCO17, PoseRegressor
from keras_regpose.convert import CheckpointError, load_torchvision_backbone
from keras_regpose.convert.weights import backbone_targets


def batch_norm(name, channels):
    parts = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (channels,))
    return {f"{name}.{part}": shape for part, shape in (parts | {"num_batches_tracked": ()}).items()}


def resnet_shapes(blocks_per_stage, bottleneck):
    shapes = {"conv1.weight": (64, 3, 7, 7)} | batch_norm("bn1", 64)
    channels = 64
    for stage, blocks in enumerate(blocks_per_stage, start=1):
        filters = 32 * 2**stage
        for block in range(blocks):
            name, out = f"layer{stage}.{block}", filters * (4 if bottleneck else 1)
            steps = [(filters, channels, 3), (filters, filters, 3)]
            if bottleneck:
                steps = [(filters, channels, 1), (filters, filters, 3), (out, filters, 1)]
            for number, (outputs, inputs, side) in enumerate(steps, start=1):
                shapes[f"{name}.conv{number}.weight"] = (outputs, inputs, side, side)
                shapes |= batch_norm(f"{name}.bn{number}", outputs)
            if channels != out:
                shapes[f"{name}.downsample.0.weight"] = (out, channels, 1, 1)
                shapes |= batch_norm(f"{name}.downsample.1", out)
            channels = out
    return shapes | {"fc.weight": (1000, channels), "fc.bias": (1000,)}


def mobilenet_shapes(flat=False):
    """MobileNetV2 of torchvision, or of pytorch-mobilenet-v2, where a block is one list that counts activations too."""
    shapes = {"features.0.0.weight": (32, 3, 3, 3)} | batch_norm("features.0.1", 32)
    channels, feature = 32, 1
    for expansion, filters, blocks in (
        *((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)),
    ):
        for _ in range(blocks):
            name, hidden = f"features.{feature}.conv", expansion * channels
            pairs = [(hidden, channels, 1, 1)] if expansion > 1 else []
            pairs += [(hidden, 1, 3, 3)]
            for number, shape in enumerate(pairs):
                shapes[f"{name}.{3 * number if flat else f'{number}.0'}.weight"] = shape
                shapes |= batch_norm(f"{name}.{3 * number + 1 if flat else f'{number}.1'}", hidden)
            projection = 3 * len(pairs) if flat else len(pairs)
            shapes[f"{name}.{projection}.weight"] = (filters, hidden, 1, 1)
            shapes |= batch_norm(f"{name}.{projection + 1}", filters)
            channels, feature = filters, feature + 1
    shapes |= {"features.18.0.weight": (1280, 320, 1, 1)} | batch_norm("features.18.1", 1280)
    return shapes | {"classifier.1.weight": (1000, 1280), "classifier.1.bias": (1000,)}


def filled(shapes):
    return {name: golden_tensor(name, shape) for name, shape in shapes.items()}


def test_mobilenet():
    tensors = filled(mobilenet_shapes())
    assert len(tensors) == 314  # of torchvision's state_dict
    model = PoseRegressor("mobilenetv2", COCO17, (64, 64))
    head = model.get_layer("coordinates").kernel.numpy()
    load_torchvision_backbone(model, tensors)
    places = {
        "conv1": "features.0.0",
        "layer1_0_depthwise": "features.1.conv.0.0",
        "layer1_0_project": "features.1.conv.1",
        "layer2_0_expand": "features.2.conv.0.0",
        "layer2_1_depthwise": "features.3.conv.1.0",
        "layer6_2_project": "features.16.conv.2",
        "layer7_0_expand": "features.17.conv.0.0",
        "conv2": "features.18.0",
    }
    for layer, module in places.items():
        kernel = model.get_layer(layer).kernel.numpy()
        axes = (2, 3, 0, 1) if "depthwise" in layer else (3, 2, 0, 1)
        np.testing.assert_array_equal(kernel.transpose(axes), tensors[f"{module}.weight"], err_msg=layer)
    norms = {"conv1_bn": "features.0.1", "layer1_0_project_bn": "features.1.conv.2", "conv2_bn": "features.18.1"}
    norms |= {"layer7_0_project_bn": "features.17.conv.3", "layer4_3_depthwise_bn": "features.10.conv.1.1"}
    for layer, module in norms.items():
        np.testing.assert_array_equal(model.get_layer(layer).moving_mean, tensors[f"{module}.running_mean"])
    np.testing.assert_array_equal(model.get_layer("coordinates").kernel, head)


def test_mobilenet_under_the_names_of_its_first_repository(tmp_path):
    """The same tensors under both kinds of names give the same backbone."""
    tensors = filled(mobilenet_shapes())
    flat = dict(zip(mobilenet_shapes(flat=True), tensors.values(), strict=True))
    assert {int(name.split(".")[3]) for name in flat if name.startswith("features.1.")} == {0, 1, 3, 4}
    assert {int(name.split(".")[3]) for name in flat if name.startswith("features.17.")} == {0, 1, 3, 4, 6, 7}
    models = [PoseRegressor("mobilenetv2", COCO17, (64, 64), method="deeppose") for _ in range(2)]
    load_torchvision_backbone(models[0], tensors)
    parallel = {f"module.{name}": tensor for name, tensor in flat.items()}
    load_torchvision_backbone(models[1], write_zip(tmp_path / "mobilenetv2.pt", parallel))
    for ours, theirs in zip(models[1].backbone.get_weights(), models[0].backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    kernel = models[1].get_layer("layer7_0_project").kernel.numpy().transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(kernel, flat["features.17.conv.6.weight"])
    del flat["features.1.conv.3.weight"]
    with pytest.raises(CheckpointError, match="lacks 'features.1.conv.3.weight'. Is it"):
        load_torchvision_backbone(models[1], flat)


@pytest.mark.parametrize(
    ("depth", "blocks", "bottleneck"),
    [
        (18, (2, 2, 2, 2), False),
        (34, (3, 4, 6, 3), False),
        (50, (3, 4, 6, 3), True),
        (101, (3, 4, 23, 3), True),
        (152, (3, 8, 36, 3), True),
    ],
)
def test_resnets(depth, blocks, bottleneck):
    tensors = filled(resnet_shapes(blocks, bottleneck))
    model = PoseRegressor(f"resnet{depth}", COCO17, (64, 64), method="deeppose")
    load_torchvision_backbone(model, tensors)
    for layer in model.backbone.layers:
        name = layer.name.replace("_", ".")
        if f"{name}.weight" in tensors:
            values = layer.get_weights()
            expected = [
                tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")[: len(values)]
            ]
            if len(values) == 1:
                expected[0] = expected[0].transpose(2, 3, 1, 0)
            for ours, theirs in zip(values, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs, err_msg=name)
        else:
            assert not layer.weights, name


@pytest.mark.parametrize("head", ["keypoint_head.final_layer.weight", "head.final_layer.weight"])
def test_the_backbone_of_a_heatmap_model_of_mmpose(head, tmp_path):
    """The same tensors under MMPose's names, with a head that is not used, give the same backbone."""
    tensors = filled(mobilenet_shapes())
    models = [PoseRegressor("mobilenetv2", COCO17, (64, 64), method="deeppose") for _ in range(2)]
    load_torchvision_backbone(models[0], tensors)
    targets = list(backbone_targets(models[1], "torchvision")), list(backbone_targets(models[1], "mmpose"))
    named = {f"backbone.{ours}": tensors[theirs] for theirs, ours in zip(*targets, strict=True)}
    named[head] = np.zeros((17, 256, 1, 1), np.float32)
    load_torchvision_backbone(models[1], write_zip(tmp_path / "td-hm_mobilenetv2.pth", {"state_dict": named}))
    for ours, theirs in zip(models[1].backbone.get_weights(), models[0].backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_files_without_counters_and_their_errors(tmp_path):
    """The first files that torchvision published have no num_batches_tracked."""
    tensors = {k: v for k, v in filled(mobilenet_shapes()).items() if "num_batches" not in k}
    model = PoseRegressor("mobilenetv2", COCO17, (64, 64))
    load_torchvision_backbone(model, write_zip(tmp_path / "mobilenet_v2.pth", tensors))
    np.testing.assert_array_equal(model.get_layer("conv2_bn").beta, tensors["features.18.1.bias"])

    before = model.get_weights()
    with pytest.raises(CheckpointError, match="lacks 'features.17.conv.3.weight'. Is it"):
        load_torchvision_backbone(model, {k: v * 2 for k, v in tensors.items() if k != "features.17.conv.3.weight"})
    with pytest.raises(CheckpointError, match=r"features.0.0.weight has shape \(16, 3, 3, 3\), the network needs \(32"):
        load_torchvision_backbone(model, tensors | {"features.0.0.weight": np.ones((16, 3, 3, 3), "f")})
    for ours, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(CheckpointError, match="Is it the checkpoint of another model"):
        load_torchvision_backbone(PoseRegressor("resnet18", COCO17, (64, 64)), tensors)
    import keras

    other = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Conv2D(8, 3)])
    with pytest.raises(ValueError, match="a backbone made by name"):
        load_torchvision_backbone(PoseRegressor(other, COCO17, (64, 64)), tensors)
