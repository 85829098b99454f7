"""MPII's files become samples that count pixels from 0."""

import json

import numpy as np
import pytest
import scipy.io

from keras_regpose import geometry
from keras_regpose.data.mpii import Mpii
from keras_regpose.skeleton import MPII16


def person(**changes):
    joints = np.arange(32.0).reshape(16, 2) * 5 + 1
    return {
        "image": "a.jpg",
        "center": [101.0, 61.0],
        "scale": 0.5,
        "joints": joints.tolist(),
        "joints_vis": [1] * 16,
        **changes,
    }


def write(folder, records):
    (folder / "mpii.json").write_text(json.dumps(records))
    return folder / "mpii.json"


@pytest.fixture
def people(shared_data):
    folder = shared_data / "mmpose_testdata" / "mpii"
    return Mpii(folder / "test_mpii.json", folder)


def test_counts_of_the_reference(people):
    assert len(people) == 5 and people.skeleton == MPII16 and people.annotations is None and people.skipped == []
    assert [sample.id for sample in people] == [0, 1, 2, 3, 4]


def test_centers_and_scales_of_the_reference(people):
    expected = {
        "005808361.jpg": ((965, 409.7773132), 1179.6220703),
        "052475643.jpg": ((315, 245.4275208), 440.4587402),
        "051423444.jpg": ((1029, 442.0885010), None),
    }
    found = {sample.image[-13:]: sample for sample in people}
    for name, (expected_center, side) in expected.items():
        center, scale = geometry.box_to_center_scale(found[name].box)
        np.testing.assert_allclose(center, expected_center, atol=1e-3)
        assert scale[0] == pytest.approx(scale[1], abs=1e-3)
        if side:
            assert scale[0] == pytest.approx(side, abs=1e-3)


def test_joints_are_counted_from_0(people):
    np.testing.assert_array_equal(people[0].keypoints[:2], [[803, 710], [815, 509]])
    assert people[0].visible.tolist() == [1] * 16
    assert people[0].box.dtype == people[0].keypoints.dtype == people[0].visible.dtype == np.float32


def test_unlabelled_joints(tmp_path):
    joints = np.full((16, 2), 31.0)
    joints[3] = -1
    visible = [1] * 16
    visible[3] = 0
    sample = Mpii(write(tmp_path, [person(joints=joints.tolist(), joints_vis=visible)]), tmp_path)[0]
    assert sample.visible.tolist() == visible
    np.testing.assert_array_equal(sample.keypoints[2:5], [[30, 30], [0, 0], [30, 30]])


def test_box_of_a_made_up_person(tmp_path):
    sample = Mpii(write(tmp_path, [person()]), tmp_path)[0]
    # Centre (101 − 1, 61 + 15 · 0.5 − 1), 100 pixels high.
    np.testing.assert_allclose(sample.box, [50, 17.5, 150, 117.5])


def test_people_of_an_image_share_its_number(tmp_path):
    records = [person(image="b.jpg"), person(image="a.jpg"), person(image="b.jpg")]
    people = Mpii(write(tmp_path, records), tmp_path)
    assert [sample.image_id for sample in people] == [0, 1, 0]
    assert people[2].image == str(tmp_path / "b.jpg")


def test_head_sizes(tmp_path):
    boxes = np.zeros((2, 2, 3))
    boxes[1, :, 0], boxes[1, :, 1], boxes[:, :, 2] = (30, 40), (6, 8), [[10, 10], [13, 14]]
    scipy.io.savemat(tmp_path / "gt.mat", {"headboxes_src": boxes})
    # The second person is left out; the third keeps its own head box.
    records = [person(), person(joints_vis=[0] * 16), person()]
    path = write(tmp_path, records)
    people = Mpii(path, tmp_path, head_boxes=tmp_path / "gt.mat")
    assert [(sample.id, sample.head_size) for sample in people] == [(0, pytest.approx(30)), (2, pytest.approx(3))]
    assert Mpii(path, tmp_path)[0].head_size is None
    with pytest.raises(ValueError, match=r"must be \(2, 2, 2\).*Received: \(2, 2, 3\)"):
        Mpii(write(tmp_path, records[:2]), tmp_path, head_boxes=tmp_path / "gt.mat")


def test_head_boxes_of_the_validation_set(tmp_path, shared_data):
    path = shared_data / "mpii_val" / "detections_our_format.mat"
    people = Mpii(write(tmp_path, [person()] * 2958), tmp_path, head_boxes=path)
    head_sizes = np.array([sample.head_size for sample in people])
    boxes = scipy.io.loadmat(path)["headboxes_src"].astype(float)
    diagonal = np.hypot(boxes[1, 0] - boxes[0, 0], boxes[1, 1] - boxes[0, 1])
    np.testing.assert_allclose(head_sizes, 0.6 * diagonal)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"joints": [[1, 2]] * 14}, "list of joints has 28 numbers, expected 32"),
        ({"joints": [[float("nan"), 2]] * 16}, "not finite"),
        ({"joints_vis": [1] * 15}, "joints_vis has 15 numbers, expected 16"),
        ({"center": [float("nan"), 2]}, "center has values that are not finite"),
        ({"center": [-1.0, -1.0]}, "its center is not labelled"),
        ({"scale": 0}, "its scale must be above 0, received 0.0"),
        ({"scale": None}, "its scale"),
    ],
)
def test_one_broken_record_is_skipped_and_named(tmp_path, changes, why):
    people = Mpii(write(tmp_path, [person(**changes), *[person()] * 10]), tmp_path)
    assert len(people) == 10 and people[0].id == 1
    ((what, reason),) = people.skipped
    assert what == "person at position 0" and why in reason
    with pytest.raises(ValueError, match="1 of 1 records"):
        Mpii(write(tmp_path, [person(**changes)]), tmp_path)


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        Mpii(tmp_path / "nowhere.json", tmp_path)
    path = write(tmp_path, [person()])
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        Mpii(path, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"There is no file .*gt\.mat"):
        Mpii(path, tmp_path, head_boxes=tmp_path / "gt.mat")
    (tmp_path / "gt.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(60))
    with pytest.raises(ValueError, match=r"gt\.mat is not a MATLAB file that can be read"):
        Mpii(path, tmp_path, head_boxes=tmp_path / "gt.mat")
    scipy.io.savemat(tmp_path / "gt.mat", {"other": np.zeros(2)})
    with pytest.raises(ValueError, match=r"gt\.mat has no variable 'headboxes_src'"):
        Mpii(path, tmp_path, head_boxes=tmp_path / "gt.mat")
    with pytest.raises(ValueError, match="has no people with labelled joints"):
        Mpii(write(tmp_path, []), tmp_path)
    with pytest.raises(ValueError, match="not an MPII file: it holds dict, expected a list"):
        Mpii(write(tmp_path, {"images": []}), tmp_path)
    with pytest.raises(ValueError, match="it has no field 'image'"):
        Mpii(write(tmp_path, [{"joints": []}]), tmp_path)
