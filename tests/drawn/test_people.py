"""Drawn people: determinism, plausible bodies, labels that agree with the picture, and COCO annotations."""

import pickle
import time

import numpy as np
import pytest

from keras_regpose.drawn.people import Synthetic
from keras_regpose.drawn.person import random_person
from keras_regpose.metrics import coco_keypoints
from keras_regpose.skeleton import COCO17, LSP14, MPII16, Skeleton


def assert_equal(first, second):
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.keypoints, second.keypoints)
    np.testing.assert_array_equal(first.box, second.box)
    np.testing.assert_array_equal(first.visible, second.visible)
    assert (first.image_id, first.id, first.area) == (second.image_id, second.id, second.area)


def test_a_sample_depends_on_seed_and_index_alone():
    samples, more = Synthetic(12, seed=4), Synthetic(500, seed=4)
    for index in (11, 0, 5, 5):
        assert_equal(samples[index], more[index])
    assert_equal(samples[-1], samples[11])
    assert_equal(samples[3:5][1], samples[4])
    assert_equal(pickle.loads(pickle.dumps(samples))[7], samples[7])
    assert np.abs(samples[0].keypoints - Synthetic(12, seed=5)[0].keypoints).max() > 1
    assert np.abs(samples[0].image.astype(int) - samples[11].image).mean() > 5


def test_arrays_are_as_sample_promises():
    sample = Synthetic(3, image_size=(120, 90))[1]
    assert sample.image.shape == (120, 90, 3) and sample.image.dtype == np.uint8
    assert sample.keypoints.shape == (17, 2) and sample.keypoints.dtype == np.float32
    assert sample.box.shape == (4,) and sample.box.dtype == np.float32
    assert sample.visible.shape == (17,) and set(sample.visible) <= {0.0, 1.0}
    assert sample.head_size is None
    sample.image[:] = 0
    assert Synthetic(3, image_size=(120, 90))[1].image.any()


def test_drawing_into_a_sample_does_not_change_the_next():
    samples = Synthetic(5)
    kept = samples[0].image
    samples[0].image[:] = 0
    np.testing.assert_array_equal(samples[0].image, kept)


def test_labelled_joints_are_in_the_image_and_in_the_box():
    samples = Synthetic(300, seed=2)
    height, width = samples.image_size
    for index in range(len(samples)):
        number, place = samples._locate(index)
        figure = samples._figures(number)[place]
        left, top, right, bottom = figure.box
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        points = figure.keypoints[figure.inside]
        assert len(points) >= 4
        assert (points >= [max(left, 0), max(top, 0)]).all() and (points <= [right, bottom]).all()
        outside = figure.keypoints[~figure.inside]
        assert ((outside < 0) | (outside > [width - 1, height - 1])).any(-1).all()


def test_bodies_are_human():
    generator = np.random.default_rng(0)
    for _ in range(200):
        joints, parts = random_person(generator)

        def length(first, second, joints=joints):
            return np.linalg.norm(joints[first] - joints[second])

        for name in ("left", "right"):
            assert 0.85 < length(f"{name}_hip", f"{name}_knee") / length(f"{name}_knee", f"{name}_ankle") < 1.2
            assert 1.0 < length(f"{name}_shoulder", f"{name}_elbow") / length(f"{name}_elbow", f"{name}_wrist") < 1.3
            for first, middle, last, limit in (("hip", "knee", "ankle", 135), ("shoulder", "elbow", "wrist", 125)):
                upper = joints[f"{name}_{middle}"] - joints[f"{name}_{first}"]
                lower = joints[f"{name}_{last}"] - joints[f"{name}_{middle}"]
                cosine = upper @ lower / np.linalg.norm(upper) / np.linalg.norm(lower)
                assert np.degrees(np.arccos(np.clip(cosine, -1, 1))) <= limit + 1e-3
            # Knees bend backward: in front of the shin, where the toes point, lies the thigh's continuation.
            thigh = joints[f"{name}_knee"] - joints[f"{name}_hip"]
            shin = joints[f"{name}_ankle"] - joints[f"{name}_knee"]
            ahead = joints[f"{name}_toe"] - joints[f"{name}_ankle"]
            assert thigh @ (ahead - shin * (ahead @ shin) / (shin @ shin)) > -1e-9
        assert length("left_shoulder", "right_shoulder") > 1.2 * length("left_hip", "right_hip")
        assert len(parts) >= 25


def test_left_and_right_follow_the_view():
    samples = Synthetic(400, seed=1, people_per_image=1)
    left, right = COCO17.index("left_shoulder"), COCO17.index("right_shoulder")
    annotations = samples.annotations["annotations"]
    facing = away = 0
    for entry in annotations:
        points = np.array(entry["keypoints"]).reshape(17, 3)
        if (points[[0, left, right], 2] == 0).any() or entry["bbox"][3] < 1.5 * entry["bbox"][2]:
            continue
        width = points[left, 0] - points[right, 0]
        seen = points[:3, 2] == 2
        if seen.all() and abs(width) > 25:
            facing += 1
            assert width > 0
        elif (points[:3, 2] == 1).all() and width < -25:
            away += 1
    assert facing > 60 and away > 20


def test_annotations_are_coco_and_agree_with_the_samples():
    samples = Synthetic(25, seed=3)
    truth = samples.annotations
    assert [entry["id"] for entry in truth["annotations"]] == list(range(1, 26))
    assert {entry["id"] for entry in truth["images"]} == {entry["image_id"] for entry in truth["annotations"]}
    assert truth["categories"][0]["keypoints"] == list(COCO17.keypoints)
    assert truth["categories"][0]["skeleton"][0] == [16, 14]
    for sample, entry in zip(samples, truth["annotations"], strict=True):
        points = np.array(entry["keypoints"]).reshape(17, 3)
        np.testing.assert_array_equal(points[:, 2] > 0, sample.visible > 0)
        np.testing.assert_array_equal(points[:, :2], sample.keypoints * sample.visible[:, None])
        assert entry["num_keypoints"] == sample.visible.sum()
        assert (entry["image_id"], entry["id"], entry["area"]) == (sample.image_id, sample.id, sample.area)
        x, y, width, height = entry["bbox"]
        np.testing.assert_allclose([x, y, x + width, y + height], sample.box, atol=1e-4)
        assert sample.area == pytest.approx(0.53 * width * height, rel=1e-5)
    flags = np.array([entry["keypoints"][2::3] for entry in truth["annotations"]])
    assert 0.05 < (flags == 1).mean() < 0.5 and (flags == 2).mean() > 0.4


def test_perfect_predictions_score_one():
    samples = Synthetic(12, seed=6)
    predictions = [
        {"image_id": s.image_id, "keypoints": s.keypoints, "scores": np.ones(17), "box_score": 1.0, "area": s.area}
        for s in samples
    ]
    result = coco_keypoints(predictions, samples.annotations)
    assert result["AP"] == pytest.approx(1) and result["AR"] == pytest.approx(1)
    for entry in predictions:
        entry["keypoints"] = entry["keypoints"] + 200
    assert coco_keypoints(predictions, samples.annotations)["AP"] == pytest.approx(0)


@pytest.mark.parametrize("skeleton", [MPII16, LSP14])
def test_other_skeletons(skeleton):
    samples = Synthetic(6, seed=7, skeleton=skeleton)
    coco = Synthetic(6, seed=7)
    assert samples.skeleton is skeleton
    for sample, same in zip(samples, coco, strict=True):
        assert sample.keypoints.shape == (len(skeleton), 2)
        np.testing.assert_array_equal(
            sample.keypoints[skeleton.index("left_knee")], same.keypoints[COCO17.index("left_knee")]
        )
        np.testing.assert_array_equal(sample.image, same.image)
    if skeleton is MPII16:
        person = samples[0]
        top, neck = (person.keypoints[skeleton.index(name)] for name in ("head_top", "upper_neck"))
        assert person.head_size == pytest.approx(0.75 * np.linalg.norm(top - neck), rel=1e-5)
    assert len(samples.annotations["annotations"][0]["keypoints"]) == 3 * len(skeleton)


def test_people_per_image():
    samples = Synthetic(60, people_per_image=3)
    counts = np.bincount([samples._locate(i)[0] for i in range(60)])[:-1]
    assert set(counts) == {1, 2, 3}
    assert len({s.image_id for s in Synthetic(8, people_per_image=1)}) == 8


def test_empty_and_wrong_arguments():
    empty = Synthetic(0)
    assert len(empty) == 0 and list(empty) == [] and empty.annotations["annotations"] == []
    with pytest.raises(IndexError, match="0 samples. Received: 0"):
        empty[0]
    with pytest.raises(ValueError, match="count=-1"):
        Synthetic(-1)
    with pytest.raises(ValueError, match="32 pixels"):
        Synthetic(1, image_size=(16, 64))
    with pytest.raises(ValueError, match="cannot draw the keypoints tail"):
        Synthetic(1, skeleton=Skeleton("cat", ("nose", "tail")))


def test_drawing_is_cheap():
    samples = Synthetic(40)
    start = time.process_time()
    for sample in samples:
        assert sample.image.size
    # A few ms each; the limit leaves room for slow machines.
    assert (time.process_time() - start) / len(samples) < 0.05
