import json

import numpy as np
import pytest

from keras_regpose.metrics import pckh
from keras_regpose.skeleton import MPII16


def test_figures_of_the_reference():
    n, k = np.arange(6)[:, None], np.arange(16)[None]
    truth = np.stack([100 + 10 * k + n, 50 + 7 * k + 2 * n], -1)
    error = (0.9 * k + n)[..., None] * np.stack([np.cos(k + n), np.sin(k + n)], -1)
    visible = (n + k) % 5 != 0
    head_size = 0.6 * (20 + 3 * np.arange(6))
    result = pckh(truth + error, truth, visible, head_size)
    expected = {"Head": 0, "Shoulder": 0, "Elbow": 0, "Wrist": 0, "Hip": 100, "Knee": 100, "Ankle": 100}
    expected |= {"Mean": 42.42424242424242, "Mean@0.1": 3.0303030303030303}
    assert list(result) == list(expected)
    assert result == pytest.approx(expected, abs=1e-9)
    # MPII counts pixels from 1: predictions that count from 0 are brought to it by adding 1.
    from_zero = truth + error - 1
    assert pckh(from_zero + 1, truth, visible, head_size) == pytest.approx(expected, abs=1e-9)


def test_predictions_of_a_published_model(golden, shared_data):
    scipy_io = pytest.importorskip("scipy.io")
    persons = scipy_io.loadmat(shared_data / "mpii_val/detections_our_format.mat")
    pred, truth = persons["pos_pred_src"].transpose(2, 0, 1), persons["pos_gt_src"].transpose(2, 0, 1)
    head_size = 0.6 * np.linalg.norm(persons["headboxes_src"][1] - persons["headboxes_src"][0], axis=0)
    visible = 1 - persons["jnt_missing"].T
    assert pred.shape == (2958, 16, 2)
    expected = json.loads((golden / "mpii_pckh.json").read_text())["results"]
    for threshold in (0.5, 0.1):
        result = pckh(pred, truth, visible, head_size, threshold)
        tenth = result.pop("Mean@0.1")
        assert result == pytest.approx(expected[f"PCKh@{threshold}"], abs=1e-6)
        assert tenth == pytest.approx(expected["PCKh@0.1"]["Mean"], abs=1e-6)


def test_a_distance_of_exactly_the_threshold_is_wrong():
    truth = np.zeros((1, 16, 2))
    for distance, percent in ((0.5, 0.0), (0.4999, 100.0)):
        pred = truth + [distance * 30.0, 0.0]
        assert pckh(pred, truth, np.ones((1, 16)), [30.0])["Mean"] == percent
    pred = truth + [0.3 * 0.1 * 70, 0.4 * 0.1 * 70]
    assert pckh(pred, truth, np.ones((1, 16)), [70.0 / 2])["Mean@0.1"] == 0.0


def test_pelvis_and_thorax_are_left_out_and_joints_weigh_by_their_count():
    truth, visible = np.zeros((4, 16, 2)), np.zeros((4, 16))
    pred = truth.copy()
    visible[:, [MPII16.index("pelvis"), MPII16.index("thorax"), MPII16.index("head_top")]] = 1
    pred[:, [MPII16.index("pelvis"), MPII16.index("thorax")]] = 999
    visible[:1, MPII16.index("left_hip")] = 1
    pred[:1, MPII16.index("left_hip")] = 999
    result = pckh(pred, truth, visible, np.full(4, 20.0))
    assert result["Head"] == 100 and result["Hip"] == 0 and np.isnan(result["Knee"])
    assert result["Mean"] == 80
    # Upper neck has no column of its own, and counts in the mean.
    visible[:, MPII16.index("upper_neck")] = 1
    pred[:, MPII16.index("upper_neck")] = 999
    assert pckh(pred, truth, visible, np.full(4, 20.0))["Mean"] == pytest.approx(400 / 9)


def test_left_and_right_weigh_the_same():
    truth, visible = np.zeros((4, 16, 2)), np.ones((4, 16))
    visible[1:, MPII16.index("left_knee")] = 0
    pred = truth.copy()
    pred[:, MPII16.index("right_knee")] = 999
    assert pckh(pred, truth, visible, np.full(4, 20.0))["Knee"] == 50


def test_a_person_without_head_size_is_left_out():
    truth = np.zeros((2, 16, 2))
    pred = truth + np.array([0, 999])[:, None, None]
    assert pckh(pred, truth, np.ones((2, 16)), [10, 0])["Mean"] == 100


def test_errors_say_what_is_wrong():
    points, visible = np.zeros((2, 17, 2)), np.ones((2, 17))
    with pytest.raises(ValueError, match=r"'mpii16' needs 'pred' of shape \(2, 16, 2\). Received shape: \(2, 17, 2\)"):
        pckh(points, points, visible, [10, 10])
    points, visible = points[:, :16], visible[:, :16]
    with pytest.raises(ValueError, match="one length per person, 2 in all"):
        pckh(points, points, visible, [10])
    with pytest.raises(ValueError, match="none negative"):
        pckh(points, points, visible, [10, -1])
    with pytest.raises(ValueError, match="Predicted keypoints must be finite"):
        pckh(points * np.nan, points, visible, [10, 10])
    with pytest.raises(ValueError, match="nothing to measure"):
        pckh(points, points, 0 * visible, [10, 10])
