"""Samples → predictions → figures: each photograph is read once, and every kind of samples is taken."""

from collections import Counter

import cv2
import numpy as np
import pytest
from tiny_model import tiny_model

from keras_regpose import COCO17, LSP14, MPII16, Poses, Skeleton
from keras_regpose.data import Coco, People, Sample, Synthetic
from keras_regpose.evaluation.evaluate import correct_keypoints, evaluate, predict_samples, score_predictions
from keras_regpose.images import ImageError
from keras_regpose.inference import sources
from keras_regpose.metrics import compare
from keras_regpose.training import KeypointMetrics, train


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Ten people in four photographs, in no order."""
    folder = tmp_path_factory.mktemp("photographs")
    samples = []
    for number, drawn in enumerate(Synthetic(10, seed=0, people_per_image=1)):
        path = str(folder / f"{number % 4}.png")
        if number < 4:
            cv2.imwrite(path, drawn.image[..., ::-1])
        samples.append(Sample(path, drawn.box, drawn.keypoints, drawn.visible, number % 4, number, box_score=0.5))
    return samples


@pytest.fixture
def reads(monkeypatch):
    """Counts how often each picture is read."""
    counted, read = Counter(), sources.read_image

    def counting(image):
        counted[image] += 1
        return read(image)

    monkeypatch.setattr(sources, "read_image", counting)
    return counted


def test_each_photograph_is_read_once_and_each_sample_has_its_own_poses(model, people, reads):
    done = []
    poses, positions = predict_samples(model, people, flip_test=True, batch_size=4, progress=done.append)
    assert set(reads.values()) == {1} and len(reads) == 4
    assert positions.tolist() == list(range(10)) and sum(done) == 10
    np.testing.assert_array_equal(poses.boxes, [person.box for person in people])
    assert poses.box_scores.tolist() == [0.5] * 10 and poses.image is None
    for position, person in enumerate(people):
        alone = model.estimate(person.image, [person.box], flip_test=True)
        np.testing.assert_allclose(poses.keypoints[position], alone.keypoints[0], atol=1e-3)
        np.testing.assert_allclose(poses.sigmas[position], alone.sigmas[0], atol=1e-3)


def test_evaluation_of_small_coco_reads_each_photograph_once(model, shared_data, reads):
    folder = shared_data / "coco_mini"
    people = Coco(folder / "annotations" / "person_keypoints_val2017.json", folder / "val2017")
    assert evaluate(model, people)["AP"] >= 0
    assert set(reads.values()) == {1} and set(reads) == set(people.field("image")) and len(reads) < len(people)


def test_validation_reads_each_photograph_once_an_epoch(people, reads):
    model = tiny_model()
    history = train(model, people, people, epochs=2, batch_size=5, validate_every=1, verbose=0)
    assert set(reads.values()) == {2} and len(reads) == 4 and len(history["val_PCK"]) == 2
    assert evaluate(model, people)["Mean"] == pytest.approx(history["val_PCK"][1], abs=1e-6)


def validated(model, samples):
    """Returns what `KeypointMetrics` adds to the logs of an epoch."""
    validation, logs = KeypointMetrics(samples, epochs=1), {}
    validation.set_model(model)
    validation.on_train_begin()
    validation.on_epoch_end(0, logs)
    return logs


@pytest.mark.parametrize("form", [list, tuple, lambda samples: People(samples, COCO17)[:]])
def test_validation_takes_any_samples(model, people, reads, form):
    assert validated(model, form(people)) == {"val_PCK": pytest.approx(evaluate(model, people)["Mean"], abs=1e-6)}
    assert set(reads.values()) == {2} and len(reads) == 4


def test_samples_of_another_skeleton_are_refused_before_training_begins(model):
    with pytest.raises(ValueError, match="have 14 keypoints, the skeleton 'coco17' of the model has 17"):
        validated(model, Synthetic(2, skeleton=LSP14))


def test_a_slice_is_scored_against_its_own_truth(model):
    people = Synthetic(12, seed=3)
    part = people[3:9]
    poses, positions = predict_samples(model, part)
    figures = score_predictions(poses, positions, part, model.input_size)
    perfect = poses[np.arange(6)]
    perfect.keypoints = np.stack(part.field("keypoints"))
    assert score_predictions(perfect, positions, part, model.input_size)["AP"] == pytest.approx(1)
    assert figures["AP"] < 1
    # Nobody was predicted for the others: against the whole truth, their people are missed.
    whole = score_predictions(perfect, positions + 3, people, model.input_size)
    assert whole["AR"] == pytest.approx(len(part) / len(people))


def test_unreadable_photographs_are_named_once_and_their_people_left_out(model, people, caplog):
    missing = [Sample("/nowhere.jpg", s.box, s.keypoints, s.visible, 9, 90 + n) for n, s in enumerate(people[:2])]
    samples = [*people[:5], *missing, *people[5:]]
    done = []
    with pytest.raises(
        ImageError,
        match="2 of 12 people's images cannot be read, more than the 10% allowed. The last: There is no image",
    ):
        predict_samples(model, samples)
    caplog.clear()
    poses, positions = predict_samples(model, samples, max_unreadable_share=0.2, progress=done.append)
    assert positions.tolist() == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11] and len(poses) == 10 and sum(done) == 12
    assert caplog.text.count("Skipped: There is no image file at /nowhere.jpg") == 1
    whole, _ = predict_samples(model, people)
    np.testing.assert_allclose(poses.keypoints, whole.keypoints, atol=1e-3)
    with pytest.raises(ValueError, match="nothing to score: no image could be read"):
        score_predictions(*predict_samples(model, missing, max_unreadable_share=1), missing, model.input_size)


def test_boxes_outside_of_the_image_are_black_crops(model, people):
    outside = [Sample(people[0].image, people[0].box + 5000, people[0].keypoints, people[0].visible, 0, 0)]
    poses, _ = predict_samples(model, outside)
    assert len(poses) == 1 and np.isfinite(poses.keypoints).all()


BOLT = Skeleton("bolt", ("head", "shank", "tip"))


def parts(skeleton, count=20, head_size=None, visible=None, seed=0):
    """Labelled things of a skeleton in boxes of 30 by 40 pixels, and predictions, off by exactly 2 or 3 pixels."""
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, 30, (count, len(skeleton), 2)).astype(np.float32)
    visible = np.ones((count, len(skeleton)), np.float32) if visible is None else visible
    box = np.array([0, 0, 30, 40], np.float32)
    samples = [Sample("x.jpg", box, points[n], visible[n], 0, n, 1.0, 1.0, head_size) for n in range(count)]
    moved = points + np.array([[[2, 0]] if n % 2 else [[0, 3]] for n in range(count)], np.float32)
    poses = Poses(moved, np.ones(moved.shape[:2]), np.tile(box, (count, 1)), np.ones(count), skeleton)
    return poses, np.arange(count), samples


def test_skeletons_without_a_torso_are_measured_by_the_box():
    figures = correct_keypoints(*parts(BOLT))
    # 0.05 of the diagonal of 50 pixels is 2.5.
    assert figures.measure == "PCK: within 0.05 of the box's diagonal"
    assert (figures["Mean"], figures["tip"], figures["persons"]) == (0.5, 0.5, 20)
    assert figures["error"] == pytest.approx(2.5, abs=1e-6)
    assert {name: each.value for name, each in figures.intervals.items()} == {"Mean": 0.5, "error": figures["error"]}
    low, high = figures.intervals["Mean"][1:]
    assert 0.2 < low < 0.4 and 0.6 < high < 0.8


def test_people_of_whom_no_torso_is_labelled_are_measured_by_the_box():
    visible = np.ones((20, 17), np.float32)
    visible[:, COCO17.index("left_shoulder")] = 0
    assert "box's diagonal" in correct_keypoints(*parts(COCO17, visible=visible)).measure
    visible[3, COCO17.index("left_shoulder")] = 1
    figures = correct_keypoints(*parts(COCO17, visible=visible))
    assert figures.measure == "PCK: within 0.2 torso lengths" and figures["left_out"] == 19


def test_head_sizes_are_for_the_keypoints_of_mpii():
    figures = correct_keypoints(*parts(MPII16, head_size=5.0))
    assert figures.measure.startswith("PCKh") and (figures["Mean"], figures["Mean@0.1"]) == (50, 0)
    assert figures.intervals["Mean"].value == 50 and figures.intervals["Mean"].low > 20
    assert "box's diagonal" in correct_keypoints(*parts(BOLT, head_size=5.0)).measure


def test_annotated_data_has_pck_and_the_error_as_well(model):
    people = Synthetic(12, seed=3)
    scores = evaluate(model, people)
    plain = correct_keypoints(*predict_samples(model, people), people)
    assert scores["PCK"] == pytest.approx(plain["Mean"]) and scores["error"] == pytest.approx(plain["error"])
    assert list(scores)[:10] == ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]
    assert scores["APM"] != -1 or "APM" not in scores.intervals
    for name, (value, low, high) in scores.intervals.items():
        assert value == scores[name] and low <= value <= high, name


def test_detected_boxes_have_no_labels_to_measure(model):
    people = Synthetic(6, seed=3)
    unlabelled = [Sample(s.image, s.box, 0 * s.keypoints, 0 * s.visible, s.image_id, s.id) for s in people]
    detected = People(unlabelled, COCO17, people.annotations, detected=True)
    scores = evaluate(model, detected)
    assert "PCK" not in scores and scores.measure == "" and scores["AP"] >= 0
    with pytest.raises(ValueError, match="Validation needs labelled keypoints. Received: 6 people without any"):
        validated(model, unlabelled)


def test_models_of_other_sizes_are_compared_on_the_same_people(model, people):
    from keras_regpose import PoseRegressor

    other = PoseRegressor("mobilenetv2_0.25", COCO17, (96, 64))
    drawn = Synthetic(12, seed=3)
    first, second = (evaluate(one, drawn) for one in (model, other))
    differences = compare(model, other, drawn)
    assert set(differences) == set(first.intervals) >= {"AP", "PCK", "error"}
    for name, (value, low, high) in differences.items():
        assert value == pytest.approx(first[name] - second[name], abs=1e-6) and low <= high
    same = first.minus(first)
    assert all(difference == (0, 0, 0) for difference in same.values())
    with pytest.raises(ValueError, match="Only scores of the same people can be compared"):
        first.minus(evaluate(model, people))
    mirrored = Skeleton("mirrored", tuple(COCO17.keypoints[place] for place in COCO17.flip_permutation))
    with pytest.raises(ValueError, match="same keypoints in the same order. Received: nose, left_eye.*; and nose, ri"):
        compare(model, PoseRegressor("mobilenetv2_0.25", mirrored, (96, 64)), drawn)


class OneAtATime:
    """A sequence that makes its samples when it is asked."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def test_validation_takes_sequences_that_are_no_lists(model, people):
    expected = pytest.approx(evaluate(model, people)["Mean"], abs=1e-6)
    assert validated(model, OneAtATime(people)) == {"val_PCK": expected}
    assert validated(model, np.array(people, object)) == {"val_PCK": expected}
    with pytest.raises(ValueError, match="Samples must be a list of Sample.* Received: generator"):
        validated(model, (sample for sample in people))
    with pytest.raises(ValueError, match="Validation needs labelled keypoints. Received: 0 people"):
        validated(model, [])
