"""Faces and hands are read, predicted and scored as MMPose does, from files as it distributes them."""

import json

import numpy as np
import pytest
from golden_weights import golden_people, golden_tensor
from validation_sets import FILES, write_validation_set

from keras_regpose import HAND21, RHD21, WFLW98, Poses
from keras_regpose.convert import from_mmpose
from keras_regpose.data import Landmarks, People, Sample
from keras_regpose.datasets import open_dataset
from keras_regpose.evaluation.evaluate import predict_samples, score_predictions
from keras_regpose.skeleton import SKELETONS
from keras_regpose.zoo import preset_info

ROWS = ["resnet50_wflw", "resnet50_onehand10k", "resnet50_rhd2d"]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("resnet50_wing_wflw", "resnet50_softwing_wflw")]


@pytest.fixture(scope="module")
def family(golden):
    return json.loads((golden / "family.json").read_text())


def write(folder, row):
    write_validation_set(row, folder)
    return open_dataset(preset_info(row)["dataset"], folder, "val")


@pytest.mark.parametrize("row", ROWS + SLOW)
def test_the_whole_path_equals_mmposes(row, family, golden, tmp_path):
    recorded, people = np.load(golden / "family.npz"), write(tmp_path, row)
    np.testing.assert_allclose(people.field("box"), recorded[f"{row}/boxes"], rtol=0, atol=1e-4)
    shapes = json.loads((golden / "models.json").read_text())["resnet50_mpii"]["state_dict"]
    shapes |= family[row]["shapes_unlike_resnet50_mpii"]
    model = from_mmpose({name: golden_tensor(name, tuple(shape)) for name, shape in shapes.items()}, row)
    for name, flip in (("plain", False), ("flip", True)):
        poses, positions = predict_samples(model, people, flip_test=flip)
        assert positions.tolist() == [0, 1, 2]
        np.testing.assert_allclose(poses.keypoints, recorded[f"{row}/{name}"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("row", [*ROWS, "resnet50_wing_wflw", "resnet50_softwing_wflw"])
def test_figures_equal_those_of_mmposes_metrics(row, family):
    skeleton = SKELETONS[preset_info(row)["skeleton"]]
    drawn = golden_people(60, len(skeleton))
    samples = [
        Sample("", box, truth, visible, number, number)
        for number, (box, truth, visible) in enumerate(
            zip(drawn["boxes"], drawn["truth"], drawn["visible"], strict=True)
        )
    ]
    poses = Poses(drawn["pred"], np.ones((60, len(skeleton))), drawn["boxes"], np.ones(60), skeleton)
    scores = score_predictions(poses, np.arange(60), People(samples, skeleton), (256, 256))
    expected = {"NME": "NME", "PCK": "PCK@0.2", "AUC": "AUC", "EPE": "EPE"}
    assert family[row]["metrics"]
    for name, value in family[row]["metrics"].items():
        ours = scores[expected[name]] / (100 if name == "NME" else 1)
        assert ours == pytest.approx(value, rel=1e-6), name
        value, low, high = scores.intervals[expected[name]]
        assert low < value < high
    assert scores.measure.startswith("NME" if skeleton is WFLW98 else "PCK: within 0.2 of the box's longer side")


def test_a_square_around_the_centre_is_the_box_of_a_face(family, tmp_path):
    face = write(tmp_path, "resnet50_wflw")[1]
    record = family["resnet50_wflw"]["annotations"]["annotations"][1]
    np.testing.assert_allclose((face.box[:2] + face.box[2:]) / 2, record["center"], atol=1e-4)
    np.testing.assert_allclose(face.box[2:] - face.box[:2], 200 * record["scale"], atol=1e-3)
    assert np.ptp(face.box[2:] - face.box[:2]) < 1e-3 and face.visible.dtype == np.float32


def test_points_keep_the_order_of_rhds_file_whatever_its_names_say(family, tmp_path):
    contents = family["resnet50_rhd2d"]["annotations"]
    assert contents["categories"][0]["keypoints"] == list(HAND21.keypoints)
    hand = write(tmp_path, "resnet50_rhd2d")[0]
    points = np.array(contents["annotations"][0]["keypoints"])
    np.testing.assert_array_equal(hand.keypoints, np.float32(points[:, :2]))
    np.testing.assert_array_equal(hand.visible, points[:, 2])


def test_training_reads_the_other_file(tmp_path):
    write(tmp_path, "resnet50_wflw")
    with pytest.raises(FileNotFoundError, match="face_landmarks_wflw_train.json"):
        open_dataset("wflw", tmp_path, "train")
    assert len(open_dataset("wflw", tmp_path, "test")) == 3
    with pytest.raises(ValueError, match="Boxes from a detections file are for COCO data"):
        open_dataset("wflw", tmp_path, "val", boxes="boxes.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 0}, "annotation 1: its scale must be above 0, received 0.0"),
        ({"center": [1]}, "annotation 1: its center has 1 numbers, expected 2"),
        ({"keypoints": [1, 2, 1]}, "annotation 1: it has 3 keypoint numbers"),
    ],
)
def test_broken_records_are_told(change, message, tmp_path):
    write(tmp_path, "resnet50_wflw")
    path = tmp_path / FILES["wflw"]
    contents = json.loads(path.read_text())
    contents["annotations"][1] |= change
    path.write_text(json.dumps(contents))
    with pytest.raises(ValueError, match=message):
        Landmarks(path, tmp_path / "images", WFLW98)
    faces = Landmarks(path, tmp_path / "images", WFLW98, max_skipped_share=0.5)
    assert len(faces) == 2 and faces.skipped[0][0] == "annotation 1"


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "people.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match="is not in COCO's format"):
        Landmarks(path, tmp_path, RHD21)
    path.write_text('{"images": [], "annotations": []}')
    with pytest.raises(ValueError, match="has nobody with labelled keypoints"):
        Landmarks(path, tmp_path, RHD21)
