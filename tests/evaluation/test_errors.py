"""Errors by kind: each made on purpose."""

import numpy as np
import pytest

from keras_regpose import LSP14, Poses
from keras_regpose.data import Sample
from keras_regpose.evaluation.errors import KINDS, error_kinds, error_shares

# Keypoints far from each other, so that nothing lies at two places; σ of LSP's wrist is .062 of the root of the area.
GRID = np.stack([100 + 80 * (np.arange(14) % 4), 100 + 80 * (np.arange(14) // 4)], -1).astype(np.float32)
AREA = 10_000.0


def person(offset=0.0, image="a.jpg", visible=None, area=AREA, number=0):
    visible = np.ones(14, np.float32) if visible is None else visible
    return Sample(image, np.array([0, 0, 400, 400], np.float32), GRID + offset, visible, 1, number, area=area)


def poses_of(points):
    points = np.asarray(points, np.float32)
    boxes = np.tile([0.0, 0, 400, 400], (len(points), 1))
    return Poses(points, np.ones(points.shape[:2]), boxes, np.ones(len(points)), LSP14)


def distance(name, similarity, area=AREA):
    """How far from its place a keypoint is so similar."""
    return 2 * LSP14.sigmas[LSP14.index(name)] * np.sqrt(-2 * area * np.log(similarity))


def kinds_of(points, samples, positions=None):
    positions = np.arange(len(points)) if positions is None else np.array(positions)
    found = error_kinds(poses_of(points), positions, samples)
    return [{name: KINDS[kind] for name, kind in zip(LSP14.keypoints, row, strict=True) if kind > 0} for row in found]


def test_each_kind_is_told_from_the_others():
    points = GRID.copy()
    moves = {"left_wrist": 0.86, "right_wrist": 0.84, "left_knee": 0.51, "right_knee": 0.49}
    for name, similarity in moves.items():
        points[LSP14.index(name), 1] -= distance(name, similarity)
    points[LSP14.index("left_ankle")] = GRID[LSP14.index("right_ankle")] + 1
    points[LSP14.index("neck")] = GRID[LSP14.index("left_hip")]
    points[LSP14.index("head_top")] += 500
    found = kinds_of([points], [person()])[0]
    assert found == {
        "right_wrist": "near_miss",
        "left_knee": "near_miss",
        "right_knee": "far_off",
        "left_ankle": "sides_swapped",
        "neck": "another_place",
        "head_top": "far_off",
    }


def test_all_sides_swapped():
    found = kinds_of([GRID[LSP14.flip_permutation]], [person()])[0]
    assert len(found) == 12 and set(found.values()) == {"sides_swapped"}


def test_another_person_of_the_picture_is_another_place():
    samples = [person(), person(1000, "b.jpg", number=1), person(1000, number=2)]
    elsewhere = GRID + 1000
    # The same joints of the third person, who is in the first one's picture, and who was not predicted.
    assert set(kinds_of([elsewhere], samples)[0].values()) == {"another_place"}
    assert set(kinds_of([elsewhere], samples[:2])[0].values()) == {"far_off"}
    assert kinds_of([elsewhere, elsewhere], samples, [1, 2]) == [{}, {}]
    # Other people's sides are other people's.
    assert set(kinds_of([elsewhere[LSP14.flip_permutation]], samples)[0].values()) == {"another_place"}


def test_what_is_not_labelled_has_no_error_and_is_no_place():
    visible = np.ones(14, np.float32)
    visible[LSP14.index("right_ankle")] = 0
    sample = person(visible=visible)
    sample.keypoints[LSP14.index("right_ankle")] = np.nan
    points = GRID.copy()
    points[LSP14.index("left_ankle")] = GRID[LSP14.index("right_ankle")]
    kinds = error_kinds(poses_of([points]), np.array([0]), [sample])
    assert kinds[0, LSP14.index("right_ankle")] == -1
    assert KINDS[kinds[0, LSP14.index("left_ankle")]] == "far_off"
    shares = error_shares(kinds, LSP14)
    assert shares["right_ankle"] == {"labelled": 0} | dict.fromkeys(KINDS, 0.0)
    assert shares["left_ankle"]["far_off"] == 1.0
    assert shares["all"]["labelled"] == 13 and shares["all"]["good"] == pytest.approx(12 / 13)
    assert list(shares) == [*LSP14.keypoints, "all"]


def test_people_without_an_area_have_that_of_their_box():
    points = GRID.copy()
    points[LSP14.index("neck"), 1] -= distance("neck", 0.86, 0.53 * 400 * 400)
    assert kinds_of([points], [person(area=0.0)]) == [{}]
    assert kinds_of([points], [person()])[0] == {"neck": "far_off"}
