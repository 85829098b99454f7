"""The whole path from photograph to keypoints against MMPose's, with the same weights."""

import json

import numpy as np
import pytest
from golden_weights import golden_tensor

from keras_regpose.convert import from_mmpose
from keras_regpose.inference.estimator import decode_poses, predict_crops


@pytest.fixture(scope="module")
def models():
    return {}


def build(models, golden, preset):
    if preset not in models:
        shapes = json.loads((golden / "models.json").read_text())[preset]["state_dict"]
        state = {name: golden_tensor(name, tuple(shape)) for name, shape in shapes.items()}
        models.clear()
        models[preset] = from_mmpose(state, preset)
    return models[preset]


@pytest.mark.parametrize("flip", [False, True], ids=["plain", "flip"])
@pytest.mark.parametrize("case", range(32))
def test_keypoints_and_scores_equal_mmpose(models, golden, shared_data, case, flip):
    records = json.loads((golden / "pipeline.json").read_text())
    assert len(records) == 32
    record = records[case]
    model = build(models, golden, record["preset"])
    x, y, width, height = record["bbox_xywh"]
    box = np.array([x, y, x + width, y + height], np.float32)
    (image,) = shared_data.rglob(record["image"])
    people = model.estimate(str(image), boxes=[box], flip_test=flip)
    expected = record["flip" if flip else "plain"]
    # The crops are MMPose's bit for bit. What is left is the rounding of the networks' sums.
    np.testing.assert_allclose(people.keypoints[0], expected["keypoints"], rtol=0, atol=5e-3)
    np.testing.assert_allclose(people.scores[0], expected["scores"], rtol=0, atol=1e-5)


def test_recorded_crops_give_the_same_keypoints(models, golden, golden_crops):
    """With MMPose's own crops nothing is left to interpolation."""
    records = json.loads((golden / "pipeline.json").read_text())
    crops = json.loads((golden / "crops.json").read_text())
    compared = 0
    for record in records:
        for number, crop in enumerate(crops):
            if crop["image"] != record["image"] or crop["bbox_xywh"] != record["bbox_xywh"] or crop["rotation_deg"]:
                continue
            model = build(models, golden, record["preset"])
            if tuple(crop["size_wh"]) != model.input_size[::-1]:
                continue
            picture = golden_crops[golden_crops.files[number]][..., ::-1]
            center, scale = np.array([crop["center"]]), np.array([crop["scale_aspect_fixed"]])
            for flip in (False, True):
                output = predict_crops(model, picture[None], flip_test=flip)
                keypoints, _, _ = decode_poses(output, center, scale)
                expected = record["flip" if flip else "plain"]["keypoints"]
                np.testing.assert_allclose(keypoints[0], expected, atol=1e-3)
                compared += 1
    assert compared >= 2
