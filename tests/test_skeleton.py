"""Skeletons: those built in, and what a user's own must satisfy."""

import pytest

from keras_regpose import COCO17, HAND21, LSP14, MPII16, RHD21, WFLW98, Skeleton
from keras_regpose.skeleton import SKELETONS

SIZES = [(COCO17, 17, 19), (MPII16, 16, 15), (LSP14, 14, 14), (WFLW98, 98, 93), (HAND21, 21, 20), (RHD21, 21, 20)]


@pytest.mark.parametrize(("skeleton", "count", "edges"), SIZES)
def test_sizes(skeleton, count, edges):
    assert (len(skeleton), len(skeleton.sigmas), len(skeleton.edges)) == (count, count, edges)


def test_flip_permutations_equal_the_reference():
    assert COCO17.flip_permutation.tolist() == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    assert MPII16.flip_permutation.tolist() == [5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10]
    assert LSP14.flip_permutation.tolist() == [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13]


def test_faces_and_hands_flip_as_the_reference():
    mirrored = WFLW98.flip_permutation
    assert mirrored[[0, 16, 33, 41, 54, 60, 64, 75, 76, 96]].tolist() == [32, 16, 46, 47, 54, 72, 68, 65, 82, 97]
    assert mirrored[mirrored].tolist() == list(range(98)) and (mirrored == range(98)).sum() == 10
    # A hand that is mirrored is a hand of the other side, with the same keypoints.
    assert HAND21.flip_permutation.tolist() == RHD21.flip_permutation.tolist() == list(range(21))


def test_the_two_orders_of_hands_are_told_apart():
    assert sorted(HAND21.keypoints) == sorted(RHD21.keypoints) and HAND21.keypoints != RHD21.keypoints
    assert HAND21.keypoints[1:3] == ("thumb1", "thumb2") and RHD21.keypoints[1:3] == ("thumb4", "thumb3")
    for skeleton in (HAND21, RHD21):
        assert Skeleton.from_category({"name": "hand", "keypoints": list(skeleton.keypoints)}) is skeleton


def test_coco_sigmas_halves_and_edges_equal_the_reference():
    expected = [26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]
    assert [round(1000 * sigma) for sigma in COCO17.sigmas] == expected
    assert [*map(COCO17.index, COCO17.upper_body)] == list(range(11))
    assert [*map(COCO17.index, COCO17.lower_body)] == list(range(11, 17))
    reference = "15-13 13-11 16-14 14-12 11-12 5-11 6-12 5-6 5-7 6-8 7-9 8-10 1-2 0-1 0-2 1-3 2-4 3-5 4-6".split()
    assert [f"{i}-{j}" for i, j in COCO17.edge_indices] == reference


def test_round_trip_through_json_values():
    for skeleton in SKELETONS.values():
        assert Skeleton.from_dict(skeleton.to_dict()) == skeleton


def test_sigmas_default():
    assert Skeleton("two", ("a", "b")).sigmas == (0.05, 0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keypoints": ()}, "at least one keypoint"),
        ({"keypoints": "nose"}, "sequence of names"),
        ({"keypoints": ("a", "a")}, "Repeated: a"),
        ({"keypoints": ("a", "b"), "edges": (("a", "c"),)}, "has no 'c'"),
        ({"keypoints": ("a", "b"), "edges": (("a", "a"),)}, "two different keypoints"),
        ({"keypoints": ("a", "b", "c"), "flip_pairs": (("a", "b"), ("b", "c"))}, "one flip pair only"),
        ({"keypoints": ("a", "b"), "sigmas": (0.1,)}, "2 positive sigmas"),
        ({"keypoints": ("a", "b"), "sigmas": (0.1, float("nan"))}, "2 positive sigmas"),
        ({"keypoints": ("a", "b"), "upper_body": ("a",), "lower_body": ("a",)}, "both the upper and the lower"),
    ],
)
def test_mistakes_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        Skeleton("mine", **arguments)


@pytest.mark.parametrize("values", [None, {"name": "x"}, {"name": "x", "keypoints": ["a"], "colour": "red"}])
def test_damaged_descriptions_are_explained(values):
    with pytest.raises(ValueError, match="'name' and 'keypoints'"):
        Skeleton.from_dict(values)


def test_flip_pairs_of_a_file_count_from_one():
    category = {"name": "arm", "keypoints": ["hand", "other"], "flip_pairs": [[1, 2]]}
    assert Skeleton.from_category(category).flip_pairs == (("hand", "other"),)
    with pytest.raises(ValueError, match=r"flip_pairs of 'arm' must count its keypoints from 1 to 2: \[\[0, 1\]\]"):
        Skeleton.from_category(category | {"flip_pairs": [[0, 1]]})
