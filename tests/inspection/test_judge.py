"""Judging labels: planted errors come first where features tell the true places, with the kind that was planted."""

import dataclasses

import numpy as np
import pytest

import keras_regpose as rp
from keras_regpose import geometry
from keras_regpose.inspection.features import CropFeatures
from keras_regpose.inspection.judge import judge_labels, priors
from keras_regpose.inspection.judgement import ANOTHER, SWAPPED

SIZE = (64, 48)


@pytest.fixture(scope="module")
def judged():
    """90 people with three planted errors, judged by features that hold the true places with some noise."""
    drawn = rp.data.Synthetic(90, seed=5, people_per_image=1)
    people = [dataclasses.replace(drawn[i], image=f"{i}.jpg") for i in range(len(drawn))]
    generator = np.random.default_rng(0)
    center, scale = geometry.box_to_center_scale(np.array([one.box for one in people]))
    points = np.array([one.keypoints for one in people]) - center[:, None]
    places = points / geometry.fix_aspect_ratio(scale, SIZE)[:, None] + 0.5
    mirrored = places[:, rp.COCO17.flip_permutation] * [-1, 1] + [1, 0]
    outputs = np.stack([places, mirrored], 1) + generator.normal(0, 0.01, (90, 2, 17, 2))
    outputs = np.concatenate([outputs, np.full_like(outputs, 0.02)], -1).astype(np.float32)
    maps = [generator.normal(size=(90, 2, *grid, 4)).astype(np.float16) for grid in ((8, 6), (4, 3), (2, 2))]
    features = CropFeatures(tuple(maps), outputs, rp.COCO17, np.arange(90))
    order = rp.COCO17.flip_permutation
    people[10] = dataclasses.replace(
        people[10], keypoints=people[10].keypoints[order], visible=people[10].visible[order]
    )
    corner = people[20].box[:2] - people[21].box[:2]
    people[20] = dataclasses.replace(people[20], keypoints=people[21].keypoints + corner, visible=people[21].visible)
    moved = people[30].keypoints.copy()
    wrist = int(np.flatnonzero(people[30].visible > 0)[-1])
    moved[wrist] += 0.4 * (people[30].box[2:] - people[30].box[:2])
    people[30] = dataclasses.replace(people[30], keypoints=moved)
    judged, model = rp.data.People(people, rp.COCO17), rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, SIZE)
    return people, wrist, judge_labels(judged, model, folds=2, head_steps=20, steps=1000, features=features)


def test_planted_errors_come_first(judged):
    _, wrist, judgement = judged
    assert set(np.argsort(-judgement.scores)[:3].tolist()) == {10, 20, 30}
    assert judgement.kinds[10] == SWAPPED and judgement.kinds[20] == ANOTHER
    assert judgement.keypoint_scores[30].argmax() == wrist


def test_labels_above_zero_are_the_planted_ones(judged):
    _, _, judgement = judged
    assert {10, 20} <= set(np.flatnonzero(judgement.scores > 0).tolist()) <= {10, 20, 30}


@pytest.mark.parametrize("shares", [(0.85, 0.1, 0.02, 0.03), (0.95, 0.01, 0.01, 0.03), (0.6, 0.1, 0.2, 0.1)])
def test_shares_of_wrong_labels_are_found(shares):
    """Labels of a kind look alike (normal, of that kind's mean); the judge knows how alike, not how common they are."""
    generator, count = np.random.default_rng(0), 20000
    kinds = generator.choice(4, count, p=shares)
    means = 3 * np.eye(4)[:, 1:]
    seen = means[kinds] + generator.normal(size=(count, 3))
    likely = -((seen[:, None] - means) ** 2).sum(-1) / 2
    learned = np.log([1 / 2, 1 / 8, 1 / 8, 1 / 4])
    judged = likely[:, 1:] - likely[:, :1] + learned[1:] - learned[0]
    expected = np.log(shares) - learned
    np.testing.assert_allclose(priors(judged), expected[1:] - expected[0], atol=0.15)


def test_a_set_without_wrong_labels_keeps_a_share_of_one_label_a_kind():
    found = priors(np.full((50, 3), -30.0))
    np.testing.assert_allclose(found, np.log([4 / 50, 4 / 50, 2 / 50]), atol=1e-3)


def test_suspects_name_the_annotation_and_the_keypoints(judged):
    people, wrist, judgement = judged
    rows = judgement.suspects(rp.data.People(people, rp.COCO17), 3)
    by_position = {row["position"]: row for row in rows}
    assert by_position[30]["annotation_id"] == people[30].id and by_position[30]["picture"] == "30.jpg"
    assert by_position[30]["kind"] not in (SWAPPED, ANOTHER)
    assert by_position[30]["keypoints"] == [rp.COCO17.keypoints[wrist]]
    assert set(by_position[10]["keypoints"]) <= {name for pair in rp.COCO17.flip_pairs for name in pair}


def test_too_few_people_for_the_folds_are_refused():
    model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=SIZE)
    with pytest.raises(ValueError, match="at least 2 folds, and 10 people for each. Received: 15 people, 2 folds"):
        judge_labels(rp.data.Synthetic(15, seed=0), model, folds=2)
