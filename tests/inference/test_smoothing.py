"""Smoothed keypoints on tracks with known answers: straight ways, gaps, noise, any rate, live and from files."""

import itertools

import numpy as np
import pytest
from tiny_model import tiny_model
from video_files import encode_video

import keras_regpose as rp
from keras_regpose.inference.smoothing import LAG, smoothed

ARM = rp.Skeleton("arm", ("elbow", "wrist"), edges=(("elbow", "wrist"),))
BOX = [0, 0, 100, 100]


def frames(points, sigma=2.0, rate=30, times=None, ids=None):
    """Yields poses of one person with an arm, of (N, 2, 2) keypoints and σ that fits their shape or is None."""
    points = np.asarray(points, float)
    sigmas = None if sigma is None else np.broadcast_to(sigma, points.shape)
    for n, joints in enumerate(points):
        time = n / rate if times is None else times[n]
        one = {"sigmas": None if sigmas is None else sigmas[n][None], "frame": n, "time": time, "frame_rate": rate}
        yield rp.Poses(joints[None], [[1, 1]], [BOX], [1], ARM, ids=[7 if ids is None else ids[n]], **one)


def keypoints(results):
    return np.array([poses.keypoints[0] for poses in results])


def line(times):
    """Returns an arm that moves by 60 and 30 pixels a second."""
    return np.array([(20, 30), (50, 60)]) + np.multiply.outer(times, np.array([60, 30]))[:, None]


@pytest.mark.parametrize("times", [np.arange(40) / 30, np.cumsum(np.random.default_rng(0).uniform(0.01, 0.2, 40))])
def test_what_moves_straight_stays_as_it_is(times):
    smooth = keypoints(smoothed(frames(line(times), times=times)))
    np.testing.assert_allclose(smooth, line(times), atol=0.05)


def test_noise_shrinks_and_more_where_later_frames_count():
    noise = np.random.default_rng(0).normal(0, 2, (600, 2, 2))
    truth = np.array([(20, 30), (50, 60)]) + 20 * np.sin(np.arange(600) / 30)[:, None, None]
    raw = list(frames(truth + noise))
    errors = [np.abs(keypoints(one) - truth).mean() for one in (raw, smoothed(raw, 0), smoothed(raw))]
    assert errors[0] > 1.4 * errors[1] > 1.4 * 1.4 * errors[2], errors


def test_a_joint_counts_as_much_as_it_is_certain():
    times = np.arange(31) / 30
    points, sigma = line(times), np.full((31, 2, 2), 2.0)
    points[15, 1] += 40
    wrong, told = (keypoints(smoothed(frames(points, one)))[15, 1] - line(times)[15, 1] for one in (2.0, sigma))
    sigma[15, 1] = 80
    told = keypoints(smoothed(frames(points, sigma)))[15, 1] - line(times)[15, 1]
    assert (wrong > 5).all() and (np.abs(told) < 0.1).all(), (wrong, told)


def test_gaps_are_bridged_and_sigma_grows_in_them():
    times, sigma = np.arange(61) / 30, np.full((61, 2, 2), 2.0)
    points = line(times)
    points[20:35, 0], sigma[20:35, 0] = (300, 10), 500
    results = list(smoothed(frames(points, sigma)))
    np.testing.assert_allclose(keypoints(results), line(times), atol=2)
    told = np.array([poses.sigmas[0] for poses in results])
    assert (np.diff(told[19:28, 0, 0]) > 0).all() and (np.diff(told[27:36, 0, 0]) < 0).all()
    assert 5 * told[10, 0, 0] < told[27, 0, 0] < 500
    np.testing.assert_allclose(told[:, 1], told[10, 1, 0], atol=1.2)


def test_live_results_come_at_once_and_know_nothing_of_later_frames():
    points = line(np.arange(30) / 30) + np.random.default_rng(0).normal(0, 2, (30, 2, 2))
    asked = 0

    def counted():
        nonlocal asked
        for poses in frames(points):
            asked += 1
            yield poses

    live = []
    for number, poses in enumerate(smoothed(counted(), 0), 1):
        assert asked == number
        live.append(poses)
    other = points.copy()
    other[20:] += 50
    np.testing.assert_array_equal(keypoints(live)[:20], keypoints(smoothed(frames(other), 0))[:20])
    np.testing.assert_array_equal(keypoints(live)[0], points[0].astype(np.float32))
    np.testing.assert_array_equal(keypoints(live)[-1], keypoints(smoothed(frames(points)))[-1])


@pytest.mark.parametrize("rate, ahead", [(30, 15), (8, 4), (100, 50)])
def test_files_wait_for_half_a_second_and_no_longer(rate, ahead):
    asked = 0

    def counted():
        nonlocal asked
        for poses in frames(np.zeros((300, 2, 2)), rate=rate):
            asked += 1
            yield poses

    for number, _ in enumerate(itertools.islice(smoothed(counted()), 100), 1):
        assert asked - number in (ahead, ahead + 1)
    assert len(list(smoothed(frames(np.zeros((300, 2, 2)), rate=rate)))) == 300


def test_large_pictures_wait_for_less(monkeypatch):
    monkeypatch.setattr("keras_regpose.inference.smoothing._WAITING_BYTES", 5 * 300)
    held = []
    for poses in frames(np.zeros((40, 2, 2))):
        poses.image = np.zeros((10, 10, 3), np.uint8)
        held.append(poses)
    taken = 0

    def counted():
        nonlocal taken
        for poses in held:
            taken += 1
            yield poses

    for number, _ in enumerate(itertools.islice(smoothed(counted()), 20), 1):
        assert taken - number <= 5


def test_people_are_smoothed_each_alone_and_a_gap_of_more_than_a_second_begins_anew():
    points = np.concatenate([np.full((20, 2, 2), 10.0), np.full((20, 2, 2), 90.0)])
    ids = [1] * 20 + [2] * 20
    np.testing.assert_allclose(keypoints(smoothed(frames(points, ids=ids))), points, atol=1e-3)
    times = np.arange(40) / 30 + np.repeat([0, 2.0], 20)
    np.testing.assert_allclose(keypoints(smoothed(frames(points, times=times))), points, atol=1e-3)
    times = np.arange(40) / 30 + np.repeat([0, 0.5], 20)
    assert 15 < keypoints(smoothed(frames(points, times=times), 0))[20, 0, 0] < 90


def test_without_sigma_the_size_says_it():
    points = np.full((30, 2, 2), 50.0) + np.random.default_rng(0).normal(0, 2, (30, 2, 2))
    results = list(smoothed(frames(points, None)))
    assert all(poses.sigmas is None for poses in results)
    assert np.abs(keypoints(results) - 50).mean() < 0.6 * np.abs(points - 50).mean()
    np.testing.assert_allclose(keypoints(results), keypoints(smoothed(frames(points, 2.0))), atol=1e-3)


def test_times_that_run_back_and_nobody():
    assert list(smoothed([])) == []
    points, times = np.full((30, 2, 2), 50.0), np.r_[np.arange(15) / 30, np.arange(15) / 30]
    np.testing.assert_allclose(keypoints(smoothed(frames(points, times=times))), 50, atol=1e-3)
    nobody = rp.Poses([], [], [], [], ARM, ids=[])
    assert [len(poses) for poses in smoothed([nobody] * 40)] == [0] * 40


@pytest.mark.parametrize("method", ["rle", "deeppose"])
def test_videos_are_smoothed_in_order_with_their_pictures(tmp_path, method):
    clip = encode_video(tmp_path / "clip.mp4", [n / 25 for n in range(40)])
    model, boxes = tiny_model(method), [[[5, 5, 40, 60]]] * 40
    plain, smooth = [], []
    for poses, one in zip(model.estimate(clip, boxes), model.estimate(clip, boxes, smooth=True), strict=True):
        assert (one.frame, one.time) == (poses.frame, poses.time) and np.array_equal(one.image, poses.image)
        assert one.ids.tolist() == [1] and np.array_equal(one.scores, poses.scores)
        plain.append(poses.keypoints[0])
        smooth.append(one.keypoints[0])
    assert np.abs(np.diff(smooth, 2, axis=0)).mean() < 0.5 * np.abs(np.diff(plain, 2, axis=0)).mean()
    assert LAG == 0.5
