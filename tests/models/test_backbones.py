"""Geometry and size of the backbones against the reference's figures."""

import json

import keras
import numpy as np
import pytest

from keras_regpose.models import MobileNetV2Backbone, ResNetBackbone
from keras_regpose.models.batch_norm import BatchNormalization
from keras_regpose.models.mobilenet_v2 import make_divisible


def weight_count(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (lambda: ResNetBackbone(50), 23_508_032),
        (lambda: ResNetBackbone(101), 42_500_160),
        (lambda: ResNetBackbone(152), 58_143_808),
        (lambda: MobileNetV2Backbone(), 2_223_872),
        (lambda: ResNetBackbone(18), 11_176_512),
        (lambda: ResNetBackbone(34), 21_284_672),
    ],
)
def test_parameter_counts(make, parameters):
    assert weight_count(make()) == parameters


def test_parameter_counts_equal_the_checkpoints(golden):
    rows = json.loads((golden / "models.json").read_text())
    backbones = {"resnet50": ResNetBackbone(50), "resnet101": ResNetBackbone(101), "resnet152": ResNetBackbone(152)}
    backbones["mobilenetv2"] = MobileNetV2Backbone()
    for name, row in rows.items():
        expected = sum(
            int(np.prod(shape))
            for key, shape in row["state_dict"].items()
            if key.startswith("backbone.") and "running" not in key and "num_batches" not in key
        )
        assert weight_count(backbones[name.split("_")[0]]) == expected, name


@pytest.mark.parametrize(
    ("size", "expected"), [((256, 192), (8, 6, 2048)), ((256, 256), (8, 8, 2048)), ((384, 288), (12, 9, 2048))]
)
def test_resnet_output_shapes(size, expected):
    assert ResNetBackbone(50, input_shape=(*size, 3)).output_shape[1:] == expected


def test_mobilenet_stage_shapes():
    backbone = MobileNetV2Backbone(input_shape=(224, 224, 3))
    stages = {1: (112, 16), 2: (56, 24), 3: (28, 32), 4: (14, 64), 5: (14, 96), 6: (7, 160), 7: (7, 320)}
    blocks = {1: 1, 2: 2, 3: 3, 4: 4, 5: 3, 6: 3, 7: 1}
    for stage, (side, channels) in stages.items():
        layer = backbone.get_layer(f"layer{stage}_{blocks[stage] - 1}_project_bn")
        assert layer.output.shape[1:] == (side, side, channels)
    assert backbone.output_shape[1:] == (7, 7, 1280)


def test_mobilenet_widths():
    assert [make_divisible(0.5 * c) for c in (16, 24, 32, 64, 96, 160, 320)] == [8, 16, 16, 32, 48, 80, 160]
    assert MobileNetV2Backbone(width=2.0, input_shape=(32, 32, 3)).output_shape[-1] == 2560


def test_pyramid_levels_name_layers():
    for backbone in (ResNetBackbone(18, input_shape=(64, 64, 3)), MobileNetV2Backbone(0.25, input_shape=(64, 64, 3))):
        for level, name in backbone.pyramid_level_inputs.items():
            assert backbone.get_layer(name).output.shape[1] == 64 // 2 ** int(level[1:])


def test_backbones_are_rebuilt_from_their_config():
    for backbone in (ResNetBackbone(18), MobileNetV2Backbone(0.25)):
        copy = type(backbone).from_config(backbone.get_config())
        assert weight_count(copy) == weight_count(backbone)


def test_fused_batch_norm_equals_the_stock_layer():
    x = np.random.default_rng(0).normal(2, 3, (8, 5, 5, 6)).astype("float32")
    ours, stock = (kind(momentum=0.9, epsilon=1e-5) for kind in (BatchNormalization, keras.layers.BatchNormalization))
    for layer in (ours, stock):
        layer.build(x.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 6))
        layer.beta.assign(np.linspace(-1, 1, 6))
    np.testing.assert_allclose(ours(x, training=True), stock(x, training=True), atol=1e-5)
    np.testing.assert_allclose(ours.moving_mean, stock.moving_mean, atol=1e-6)
    # PyTorch's running variance, which the reference's is, divides by n − 1; Keras divides by n.
    count = 8 * 5 * 5
    expected = 0.9 + 0.1 * x.var((0, 1, 2)) * count / (count - 1)
    np.testing.assert_allclose(ours.moving_variance, expected, rtol=1e-5)
    stock.moving_variance.assign(ours.moving_variance)
    np.testing.assert_allclose(ours(x, training=False), stock(x, training=False), atol=1e-5)
    ours.trainable = stock.trainable = False
    np.testing.assert_allclose(ours(x, training=True), stock(x, training=True), atol=1e-5)
