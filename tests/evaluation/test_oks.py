import numpy as np
import pytest

from keras_regpose.metrics import labelled_oks, oks, oks_nms, soft_oks_nms
from keras_regpose.skeleton import COCO17, Skeleton

# Poses, scores and figures of the reference implementation (MMPose 1.3.2).
AREAS = np.array([20000.0, 21000.0, 20000.0, 8000.0])
SCORES = np.array([2.5, 2.4, 2.0, 2.45])


@pytest.fixture
def poses():
    k = np.arange(17)
    base = np.stack([100 + 5 * k, 200 + 9 * k], -1)
    return base + np.array([[0, 0], [2, 1], [12, -7], [3, 3]])[:, None]


def test_oks_of_every_pair(poses):
    expected = [
        [1, 0.98548263, 0.65428215, 0.92853844],
        [0.98548263, 1, 0.69168186, 0.9796143],
        [0.65428215, 0.69168186, 1, 0.5930374],
        [0.92853844, 0.9796143, 0.5930374, 1],
    ]
    similarity = oks(poses, poses, AREAS, AREAS)
    assert similarity.dtype == np.float32
    np.testing.assert_allclose(similarity, expected, atol=1e-7)
    np.testing.assert_array_equal(oks(poses[:1], poses[1:], AREAS[:1], AREAS[1:]), similarity[:1, 1:])


def test_oks_uses_the_given_sigmas(poses):
    np.testing.assert_array_equal(oks(poses, poses, AREAS, AREAS, COCO17.sigmas), oks(poses, poses, AREAS, AREAS))
    # One keypoint 10 pixels off, area 1000, sigma 0.1: exp(−100 / (2·0.04·1000)).
    assert oks([[[0, 0]]], [[[6, 8]]], [1000], [1000], [0.1])[0, 0] == pytest.approx(np.exp(-1.25), abs=1e-7)


def test_poses_without_extent_do_not_divide_by_zero():
    assert oks([[[1, 1]]], [[[1, 1]], [[2, 1]]], [0], [0, 0], [0.1]).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("threshold, kept", [(0.9, [0, 2]), (0.95, [0, 3, 2]), (0.5, [0])])
def test_oks_nms(poses, threshold, kept):
    assert oks_nms(poses, SCORES, AREAS, threshold).tolist() == kept


@pytest.mark.parametrize("threshold", [0.9, 0.95, 0.5])
def test_soft_oks_nms_only_reorders(poses, threshold):
    assert soft_oks_nms(poses, SCORES, AREAS, threshold).tolist() == [0, 2, 3, 1]


def test_soft_oks_nms_lowers_scores_by_the_squared_overlap():
    # The second pose overlaps the first by 0.5: 0.9·exp(−0.25 / 0.9) = 0.68, and 0.9·exp(−0.25 / 0.3) = 0.39.
    shift = np.sqrt(2 * 0.2**2 * 1000 * np.log(2))
    three, areas = np.array([[[0.0, 0]], [[shift, 0]], [[9999, 0]]]), [1000, 1000, 1000]
    assert oks(three[:1], three[1:2], areas[:1], areas[:1], [0.1])[0, 0] == pytest.approx(0.5, abs=1e-6)
    assert soft_oks_nms(three, [1, 0.9, 0.6], areas, 0.9, [0.1]).tolist() == [0, 1, 2]
    assert soft_oks_nms(three, [1, 0.9, 0.7], areas, 0.9, [0.1]).tolist() == [0, 2, 1]
    assert soft_oks_nms(three, [1, 0.9, 0.6], areas, 0.3, [0.1]).tolist() == [0, 2, 1]


def test_soft_oks_nms_keeps_twenty_at_most(poses):
    many = np.repeat(poses, 6, axis=0)
    assert len(soft_oks_nms(many, np.arange(24.0), np.repeat(AREAS, 6))) == 20
    assert soft_oks_nms(poses, SCORES, AREAS, max_poses=2).tolist() == [0, 2]


def test_an_overlap_of_exactly_the_threshold_is_kept(poses):
    similarity = float(oks(poses, poses, AREAS, AREAS)[0, 1])
    assert oks_nms(poses[:2], SCORES[:2], AREAS[:2], similarity).tolist() == [0, 1]
    assert oks_nms(poses[:2], SCORES[:2], AREAS[:2], similarity - 1e-6).tolist() == [0]


def test_equal_scores_come_in_reverse_order():
    far_apart = np.arange(40.0)[:, None, None] * [[[1000.0, 0.0]]]
    areas = np.full(40, 100.0)
    assert oks_nms(far_apart, np.ones(40), areas, sigmas=[0.1]).tolist() == list(range(39, -1, -1))
    # Each pick of the soft variant sorts what is left, and so reverses it again.
    assert soft_oks_nms(far_apart[:4], np.ones(4), areas[:4], sigmas=[0.1]).tolist() == [3, 0, 2, 1]


def test_no_poses_give_no_indices():
    empty = np.zeros((0, 17, 2))
    for nms in (oks_nms, soft_oks_nms):
        kept = nms(empty, [], [])
        assert kept.shape == (0,) and kept.dtype.kind == "i"


def test_errors_say_what_is_wrong(poses):
    with pytest.raises(ValueError, match="OKS of 3 keypoints needs a sigma for each: pass sigmas=skeleton.sigmas"):
        oks_nms(poses[:, :3], SCORES, AREAS)
    with pytest.raises(ValueError, match="needs 17 positive sigmas"):
        oks_nms(poses, SCORES, AREAS, sigmas=[0.1])
    with pytest.raises(ValueError, match=r"'keypoints' of shape \(N, K, 2\). Received shape: \(4, 34\)"):
        oks_nms(poses.reshape(4, 34), SCORES, AREAS)
    with pytest.raises(ValueError, match=r"NMS needs 'scores' of shape \(4,\). Received shape: \(3,\)"):
        soft_oks_nms(poses, SCORES[:3], AREAS)
    with pytest.raises(ValueError, match="areas finite and not negative"):
        oks(poses, poses, AREAS, -AREAS)
    with pytest.raises(ValueError, match=r"'second' of shape \(4, 17, 2\). Received shape: \(4, 3, 2\)"):
        oks(poses, poses[:, :3], AREAS, AREAS)
    with pytest.raises(ValueError, match="must be above 0. Received: 0"):
        oks_nms(poses, SCORES, AREAS, 0)


def test_oks_of_predictions_and_labels(poses):
    visible = np.ones((4, 17))
    pairs = labelled_oks(poses, poses[::-1], visible, AREAS, COCO17)
    for n in range(4):
        expected = oks(poses[n : n + 1], poses[3 - n : 4 - n], AREAS[n : n + 1], AREAS[n : n + 1])
        assert pairs[n] == pytest.approx(float(expected[0, 0]), abs=1e-6)
    # Unlabelled keypoints are never read; sigmas are 0.05 where a skeleton has none of its own, or those given.
    two = Skeleton("two", ("a", "b"))
    truth = np.array([[[0.0, 0], [np.nan, np.nan]]] * 2)
    arguments = [[[6, 8], [0, 0]]] * 2, truth, [[1, 0], [0, 0]], [10000, 10000], two
    np.testing.assert_allclose(labelled_oks(*arguments), [np.exp(-0.5), np.nan])
    np.testing.assert_allclose(labelled_oks(*arguments, sigmas=[0.1, 0.1]), [np.exp(-0.125), np.nan])
    with pytest.raises(ValueError, match="needs 2 positive sigmas"):
        labelled_oks(*arguments, sigmas=[0.1])
