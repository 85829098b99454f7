import numpy as np
import pytest

from keras_regpose.evaluation.pck import normalized_distances
from keras_regpose.metrics import auc, box_diagonal, box_size, epe, mean_error, pair_distance, pck, torso_size
from keras_regpose.skeleton import COCO17, LSP14, MPII16, Skeleton

FIVE = Skeleton("five", ("a", "b", "c", "d", "e"))


@pytest.fixture
def one_wrong():
    """Two persons, five keypoints: b of the first is 14 pixels off, c is unlabelled."""
    pred = np.tile([[10.0, 0], [20, 20], [0, 0], [30, 30], [0, 10]], (2, 1, 1))
    truth = pred.copy()
    truth[0, 1] = [10, 10]
    truth[:, 2] = [-1, 0]
    return pred, truth, np.tile([True, True, False, True, True], (2, 1))


@pytest.fixture
def four_distances():
    """One person whose labelled keypoints are 4, 8, 14.14 and 20 pixels off."""
    pred = np.array([[[10.0, 4], [10, 18], [0, 0], [40, 40], [20, 10]]])
    truth = np.array([[[10.0, 0], [10, 10], [0, -1], [30, 30], [0, 10]]])
    return pred, truth, np.array([[True, True, False, True, True]])


# The figures of this test, of auc and of epe are those of the reference's unit tests.
def test_accuracy_per_keypoint(one_wrong):
    result = pck(*one_wrong, [10.0, 10.0], FIVE, threshold=0.5)
    assert np.isnan(result.pop("c"))
    assert result == {"a": 1, "b": 0.5, "d": 1, "e": 1, "Mean": 0.875, "persons": 2, "left_out": 0}


def test_a_person_without_normaliser_is_left_out_and_counted(one_wrong):
    for missing in (0.0, np.nan):
        result = pck(*one_wrong, [missing, 10.0], FIVE, threshold=0.5)
        assert (result["b"], result["Mean"], result["persons"], result["left_out"]) == (1, 1, 1, 1)
        with pytest.raises(ValueError, match="nothing to measure"):
            pck(*one_wrong, [missing, missing], FIVE)


def test_left_and_right_share_a_name_and_weigh_by_count():
    pred = np.zeros((3, 14, 2))
    truth, visible = pred.copy(), np.ones((3, 14))
    truth[:, LSP14.index("left_elbow")] = 50
    visible[1:, LSP14.index("left_elbow")] = 0
    result = pck(pred, truth, visible, np.full(3, 100.0), LSP14)
    assert list(result) == [
        *("ankle", "knee", "hip", "wrist", "elbow", "shoulder", "neck", "head_top"),
        *("Mean", "persons", "left_out"),
    ]
    assert result["elbow"] == 0.75 and result["wrist"] == 1
    assert result["Mean"] == pytest.approx(39 / 40)


@pytest.mark.parametrize("size", [3.0, 7.0, 30.0, 70.0, 110.0])
def test_a_distance_of_exactly_the_threshold_is_correct(size):
    truth, visible = np.zeros((1, 5, 2)), np.ones((1, 5))
    assert pck(truth + [0.2 * size, 0], truth, visible, [size], FIVE)["Mean"] == 1
    assert pck(truth + [0.2001 * size, 0], truth, visible, [size], FIVE)["Mean"] == 0


def test_unlabelled_keypoints_may_be_nan_in_the_truth(one_wrong):
    pred, truth, visible = one_wrong
    truth[:, 2] = np.nan
    assert pck(pred, truth, visible, [10.0, 10.0], FIVE, threshold=0.5)["Mean"] == 0.875


def test_torso_size_is_left_shoulder_to_right_hip():
    for skeleton in (LSP14, COCO17, MPII16):
        points, visible = np.zeros((3, len(skeleton), 2)), np.ones((3, len(skeleton)))
        points[:, skeleton.index("left_shoulder")] = [30, 40]
        visible[1, skeleton.index("left_shoulder")] = 0
        visible[2, skeleton.index("right_hip")] = 0
        np.testing.assert_array_equal(torso_size(points, visible, skeleton), [50, np.nan, np.nan])
    with pytest.raises(ValueError, match="Skeleton 'five' has no 'left_shoulder'. It has: a, b, c, d, e"):
        torso_size(np.zeros((1, 5, 2)), np.ones((1, 5)), FIVE)
    with pytest.raises(ValueError, match=r"A distance of 'lsp14' needs 'keypoints' of shape \(3, 14, 2\)"):
        torso_size(points, visible, LSP14)


def test_box_size_is_the_longer_side():
    np.testing.assert_array_equal(box_size([[10, 20, 40, 30], [0, 0, 5, 9]]), [30, 9])
    with pytest.raises(ValueError, match=r"Received shape: \(4,\)"):
        box_size([0, 0, 5, 9])


def test_auc(four_distances):
    assert auc(*four_distances, normalizer=20, thresholds=4) == pytest.approx(0.375, abs=1e-12)
    assert auc(*four_distances, normalizer=[20.0], thresholds=[0.0, 0.25, 0.5, 0.75]) == pytest.approx(0.375, abs=1e-12)


def test_auc_gives_each_keypoint_equal_weight():
    # One keypoint seen three times and always right, another seen once and wrong.
    pred, truth = np.zeros((3, 2, 2)), np.zeros((3, 2, 2))
    truth[:, 1] = 99
    assert auc(pred, truth, [[1, 0], [1, 0], [1, 1]], thresholds=[0.5]) == 0.5


def test_auc_counts_distances_strictly_below_the_threshold():
    assert auc([[[10.0, 0]]], [[[0.0, 0]]], [[1]], normalizer=20, thresholds=[0.5, 0.51]) == 0.5


def test_epe(four_distances):
    assert epe(*four_distances) == pytest.approx(11.5355339, abs=1e-6)


def test_errors_say_what_is_wrong(four_distances):
    pred, truth, visible = four_distances
    with pytest.raises(
        ValueError, match=r"Skeleton 'lsp14' needs 'pred' of shape \(1, 14, 2\). Received shape: \(1, 5, 2\)"
    ):
        pck(pred, truth, visible, [10.0], LSP14)
    with pytest.raises(ValueError, match=r"needs 'truth' of shape \(1, 5, 2\). Received shape: \(1, 4, 2\)"):
        epe(pred, truth[:, :4], visible)
    with pytest.raises(ValueError, match="Predicted keypoints must be finite"):
        epe(pred * np.nan, truth, visible)
    with pytest.raises(ValueError, match="ground truth must be finite"):
        epe(pred, truth * np.nan, visible)
    with pytest.raises(ValueError, match="one length per person, 1 in all"):
        pck(pred, truth, visible, [10.0, 10.0], FIVE)
    with pytest.raises(ValueError, match="nothing to measure"):
        auc(pred, truth, 0 * visible)


def test_distances_are_in_units_of_the_normaliser(four_distances):
    np.testing.assert_allclose(
        normalized_distances(*four_distances, 20.0), [[0.2, 0.4, np.nan, 0.70710678, 1.0]], rtol=1e-6
    )


def test_a_pair_of_keypoints_as_normaliser():
    points, visible = np.zeros((3, 5, 2)), np.ones((3, 5))
    points[:, 3] = [30, 40]
    visible[1, 0] = visible[2, 3] = 0
    np.testing.assert_array_equal(pair_distance(points, visible, FIVE, ("a", "d")), [50, np.nan, np.nan])
    np.testing.assert_array_equal(pair_distance(points, visible, FIVE, ["d", "c"]), [50, 50, np.nan])
    with pytest.raises(ValueError, match="Skeleton 'five' has no 'neck'. It has: a, b, c, d, e"):
        pair_distance(points, visible, FIVE, ("a", "neck"))
    for pair in ("ab", ("a",), ("a", "a"), ("a", "b", "c")):
        with pytest.raises(ValueError, match="two different keypoints"):
            pair_distance(points, visible, FIVE, pair)


def test_box_diagonal():
    np.testing.assert_array_equal(box_diagonal([[10, 20, 40, 60], [0, 0, 5, 12]]), [50, 13])
    with pytest.raises(ValueError, match=r"Received shape: \(4,\)"):
        box_diagonal([0, 0, 5, 9])


def test_mean_error_of_each_keypoint(one_wrong, four_distances):
    pred, truth, visible = one_wrong
    errors = mean_error(pred, truth, visible, FIVE)
    assert np.isnan(errors.pop("c"))
    assert errors == {"a": 0, "b": pytest.approx(200**0.5 / 2), "d": 0, "e": 0, "Mean": pytest.approx(200**0.5 / 8)}
    assert mean_error(*four_distances, FIVE)["Mean"] == pytest.approx(epe(*four_distances))
