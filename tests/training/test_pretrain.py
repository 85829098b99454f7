"""Heatmap pretraining: the targets of MMPose, and a backbone that an RLE run starts from."""

import dataclasses

import keras
import numpy as np
import pytest
from tiny_model import tiny_model

from keras_regpose import COCO17, PoseRegressor, from_preset
from keras_regpose.cli import main
from keras_regpose.data import Synthetic
from keras_regpose.data.crops import CropLoader
from keras_regpose.training import Recipe, loop, pretrain, starting_model, train
from keras_regpose.training.pretrain import HeatmapLoss, draw_heatmaps, heatmap_model

# MSRAHeatmap(input_size=(192, 256), heatmap_size=(48, 64), sigma=2) of MMPose 1.3.2:
# keypoint in crop pixels → sum of its heatmap, highest pixel (row, column), highest value, pixels above 0
RECORDED = {
    (96.0, 128.0): (25.081287, (32, 24), 1.0, 169),
    (4.1, 250.3): (11.675457, (63, 1), 1.0, 56),
    (-9.0, 30.0): (10.036583, (8, 0), 0.8824969, 78),
    (100.7, 61.9): (25.08129, (15, 25), 1.0, 169),
    (-30.0, 30.0): (0.0, (0, 0), 0.0, 0),
}
CORNER = [  # rows 60–63, columns 0–3 of the second
    [0.28650478, 0.32465243, 0.28650478, 0.19691166],
    [0.5352614, 0.60653067, 0.5352614, 0.36787942],
    [0.7788007, 0.8824969, 0.7788007, 0.5352614],
    [0.8824969, 1.0, 0.8824969, 0.60653067],
]


def test_heatmaps_are_those_of_mmpose():
    target = np.array([[[x / 192, y / 256, 1.0] for x, y in RECORDED]], np.float32)
    heatmaps = np.array(draw_heatmaps(target, 64, 48)[0])[0]
    for index, (total, highest, value, positive) in enumerate(RECORDED.values()):
        drawn = heatmaps[..., index]
        assert drawn.sum() == pytest.approx(total, rel=1e-5)
        assert np.unravel_index(drawn.argmax(), drawn.shape) == highest
        assert drawn.max() == pytest.approx(value, abs=1e-6)
        assert (drawn > 0).sum() == positive
    np.testing.assert_allclose(heatmaps[60:64, 0:4, 1], CORNER, atol=1e-6)


def test_keypoints_outside_the_crop_reach_into_it():
    """MMPose draws what of a Gaussian is inside, so the pipeline must give such keypoints their weight."""
    weights = []
    person = Synthetic(1, seed=0)[0]
    left, top, right, bottom = person.box
    part = dataclasses.replace(
        person, box=np.array([left, top, (left + right) / 2, (3 * top + bottom) / 4], np.float32)
    )
    for outside in (False, True):
        loader = CropLoader([part], COCO17, (64, 48), targets_outside=outside)
        weights.append(loader.load(0, 0)[1][:, 2])
    assert weights[0].sum() < weights[1].sum() == (part.visible > 0).sum()


def test_heatmap_training_uses_them(monkeypatch):
    asked = []
    original = loop.make_dataset
    monkeypatch.setattr(loop, "make_dataset", lambda *a, **o: asked.append(o["targets_outside"]) or original(*a, **o))
    for function in (pretrain, train):
        function(tiny_model(), Synthetic(4, seed=0), epochs=1, batch_size=4, verbose=0)
    assert asked == [True, False]


def test_the_loss_is_the_mean_square_over_all_pixels_of_labelled_keypoints():
    target = np.array([[[0.5, 0.5, 1.0], [np.nan, np.nan, 0.0]]], np.float32)
    heatmaps, _ = draw_heatmaps(target, 16, 12)
    prediction = np.array(heatmaps) + np.array([0.5, 3.0], np.float32)
    assert float(HeatmapLoss()(target, prediction)) == pytest.approx(0.5**2 / 2, rel=1e-5)


def test_the_head_makes_heatmaps_eight_times_the_features():
    model = PoseRegressor("mobilenetv2_0.25", COCO17, (64, 48))
    trained = heatmap_model(model)
    assert model.backbone.output_shape[1:3] == (2, 2)  # 48 pixels are one and a half strides
    assert trained.output_shape == (None, 16, 16, 17)
    shared = {id(variable) for variable in model.variables} & {id(variable) for variable in trained.variables}
    assert len(shared) == len(model.backbone.variables)


def test_a_pretrained_backbone_starts_an_rle_run(tmp_path, capsys):
    small = ["--dataset", "synthetic", "--count", "8", "--backbone", "mobilenetv2_0.25", "--input-size", "64x48"]
    small += ["--epochs", "2", "--batch-size", "4"]
    pretraining = ["train", "--recipe", "mobilenetv2_heatmap_coco", "--from-random", *small]
    assert main([*pretraining, "--output", str(tmp_path / "heatmaps")]) == 0
    assert "Loss: " in capsys.readouterr().out
    pretrained = from_preset(tmp_path / "heatmaps" / "best")

    recipe = Recipe.of("mobilenetv2_rle_coco").changed(backbone="mobilenetv2_0.25", input_size=(64, 48))
    with pytest.raises(ValueError, match="pretrained with heatmaps: run the recipe"):
        starting_model(recipe, COCO17)
    model = starting_model(recipe, COCO17, tmp_path / "heatmaps" / "best")
    for ours, theirs in zip(model.backbone.weights, pretrained.backbone.weights, strict=True):
        np.testing.assert_array_equal(np.array(ours), np.array(theirs))
    assert np.array(model.get_layer("coordinates").bias).max() == 0

    regression = ["train", "--recipe", "mobilenetv2_rle_coco", *small, "--start", str(tmp_path / "heatmaps" / "best")]
    assert main([*regression, "--output", str(tmp_path / "rle")]) == 0
    assert from_preset(tmp_path / "rle" / "best").method == "rle"
    with pytest.raises(ValueError, match="or of other shapes. Pass --start with weights of the same backbone"):
        starting_model(recipe.changed(backbone="mobilenetv2_0.5"), COCO17, tmp_path / "heatmaps" / "best")


def test_a_start_that_is_missing_is_explained():
    keras.utils.set_random_seed(0)
    with pytest.raises(ValueError, match="torchvision's ImageNet weights of resnet50: download"):
        starting_model(Recipe.of("resnet50_rle_coco").changed(input_size=(64, 64)), COCO17)
