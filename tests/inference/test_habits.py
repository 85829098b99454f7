"""What users of the neighbouring packages do every day takes one line here: one test per habit."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from conftest import GOLDEN

import keras_regpose as rp
from keras_regpose.cli import main

PRESET = "mobilenetv2_rle_lspet"
BOXES = [[10, 20, 60, 100], [30, 10, 90, 110]]


@pytest.fixture(scope="module")
def model():
    return rp.from_preset(PRESET)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "street.png"
    return Path(shutil.copyfile(GOLDEN / "people.png", path))  # of four people


def test_the_smallest_program_has_three_lines(photo, monkeypatch):
    monkeypatch.chdir(photo.parent)
    program = """
import keras_regpose as rp
model = rp.from_preset("mobilenetv2_rle_lspet")
model.estimate("street.png").save("poses.png")
"""
    exec(program, {})
    assert PIL.Image.open(photo.parent / "poses.png").size == (256, 169)
    (photo.parent / "poses.png").unlink()


def test_any_source(model, photo):
    rgb = cv2.imread(str(photo))[..., ::-1]
    expected = model.estimate(photo)
    for source in (str(photo), rgb, PIL.Image.open(photo)):
        np.testing.assert_array_equal(model.estimate(source).keypoints, expected.keypoints)
    assert [len(poses) for poses in model.estimate([photo, rgb])] == [4, 4]


def test_folders_and_videos_are_lazy(model, photo, tmp_path):
    folder = model.estimate(photo.parent)
    assert next(folder) and next(folder, None) is None
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(3):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    video = model.estimate(tmp_path / "v.avi")
    assert iter(video) is video and [poses.frame for poses in video] == [0, 1, 2]


def test_boxes_are_optional_a_list_or_any_detector(model, photo):
    assert len(model.estimate(photo)) == 4
    assert model.estimate(photo, boxes="image").boxes.tolist() == [[0, 0, 256, 169]]
    given = model.estimate(photo, boxes=BOXES)
    found = model.estimate(photo, boxes=lambda image: BOXES)
    assert given.boxes.tolist() == found.boxes.tolist() == BOXES
    np.testing.assert_array_equal(given.keypoints, found.keypoints)


def test_results_are_read_selected_and_handed_on(model, photo, tmp_path):
    people = model.estimate(photo, boxes=BOXES)
    assert people.xy.shape == (2, 14, 2) and people.scores.shape == (2, 14) and people.boxes.shape == (2, 4)
    assert people.sigmas.shape == (2, 14, 2) and (people.sigmas > 0).all()
    assert len(people) == 2 and [len(person) for person in people] == [1, 1] and len(people[:1]) == 1
    assert isinstance(people.plot(), PIL.Image.Image) and people.plot().size == (256, 169)
    people.save(tmp_path / "people.json")
    assert json.loads((tmp_path / "people.json").read_text()) == json.loads(people.to_json())
    assert [entry["image_id"] for entry in people.to_coco(7)] == [7, 7]


def test_results_become_supervision_keypoints(model, photo):
    supervision = pytest.importorskip("supervision")
    people = model.estimate(photo, boxes=BOXES)
    keypoints = people.to_supervision()
    assert isinstance(keypoints, supervision.KeyPoints)
    np.testing.assert_array_equal(keypoints.xy, people.xy)


def test_the_command_does_the_same(model, photo, tmp_path):
    assert main(["predict", "--preset", PRESET, str(photo), "--output", str(tmp_path)]) == 0
    assert PIL.Image.open(tmp_path / "street.png").size == (256, 169)
    from_command = rp.Poses.from_json((tmp_path / "street.json").read_text())
    # The command runs the export that comes with the preset, whose large weights are rounded.
    np.testing.assert_allclose(from_command.keypoints, model.estimate(photo).keypoints, atol=0.05)


def test_the_same_call_gives_the_same_answer(model, photo):
    first, second = (model.estimate(photo, boxes=BOXES, flip_test=True) for _ in range(2))
    np.testing.assert_array_equal(first.keypoints, second.keypoints)
    np.testing.assert_array_equal(first.sigmas, second.sigmas)


def test_export_is_one_call(model, photo, tmp_path):
    pytest.importorskip("ai_edge_litert")
    model.export(tmp_path / "pose.tflite", verbose=False)
    fast = rp.load_exported(tmp_path / "pose.tflite")
    np.testing.assert_allclose(fast.estimate(photo).keypoints, model.estimate(photo).keypoints, atol=0.05)


def test_a_wrong_name_is_answered_with_those_that_exist():
    with pytest.raises(ValueError, match=PRESET):
        rp.from_preset("mobilenetv2_rle_lsp")
