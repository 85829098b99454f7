"""Keypoints over time: what the frames around each say of it, weighed by σ.

A Kalman filter for each coordinate of each joint: between two frames joints keep their speed but for random
accelerations, in proportion to the person's size, and what the network sees has the variance that its σ says. Where a
joint is uncertain, the frames around decide, and the σ of the result grows with the distance to them. Of files frames
that come later count as well (Rauch, Tung and Striebel, 1965), as far as `LAG` reaches; live sources have none.
"""

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from keras_regpose.inference.poses import Poses
from keras_regpose.inference.tracking import KEPT, Clock

LAG = 0.5  # seconds of later frames that count
_WAITING_BYTES = 1 << 28  # pictures of later frames in memory, at most
_CHANGE = 6.0  # of a joint's speed in a second, in roots of the person's area per second
_PLAIN = 0.02  # what stands for σ where a model predicts none, in roots of the person's area
_SIGMA = 1.0  # of a result, in roots of the filter's variance: see benchmarks/video.py


class _Step(NamedTuple):
    """What is known of one person in a frame, before and with what was seen there; (K, 2, 2) and (K, 2, 2, 2)."""

    time: float
    flow: Any  # (2, 2), from position and speed at the step before to those here
    expected: Any
    expected_covariance: Any
    state: Any
    covariance: Any


def smoothed(results: Iterable[Poses], lag: float = LAG) -> Iterator[Poses]:
    """Smooths the keypoints of people who have ids.

    Args:
        results: iterable of `Poses` of the frames of a video, in order.
        lag: float. Seconds of later frames that count, and for which each result waits; 0 for live sources.

    Yields:
        `Poses` with other keypoints and σ; scores and boxes are those of the frame.
    """
    clock, waiting, people = Clock(), deque(), {}
    for poses in results:
        now = clock.tick(poses)
        steps = dict(zip(poses.ids, _steps(poses, now, people), strict=True))
        people = {one: step for one, step in (people | steps).items() if now - step.time <= KEPT}
        waiting.append((poses, now, steps))
        while waiting and (
            now - waiting[0][1] >= lag
            or sum(one.image.nbytes for one, _, _ in waiting if one.image is not None) > _WAITING_BYTES
        ):
            yield _settled(waiting)
    while waiting:
        yield _settled(waiting)


def _steps(poses, now, people):
    """Yields the step of each person of a frame; `people` has the last one of each, by id."""
    areas = (poses.boxes[:, 2:] - poses.boxes[:, :2]).prod(1)
    for n, number in enumerate(poses.ids):
        seen = poses.keypoints[n].astype(np.float64)
        noise = _PLAIN**2 * areas[n] if poses.sigmas is None else np.square(poses.sigmas[n], dtype=np.float64) + 1e-6
        if number in people:
            last = people[number]
            past = now - last.time
            flow = np.array([[1, past], [0, 1]])
            spread = _CHANGE**2 * areas[n] * np.array([[past**3 / 3, past**2 / 2], [past**2 / 2, past]])
            expected, expected_covariance = last.state @ flow.T, flow @ last.covariance @ flow.T + spread
        else:  # the first frame says where a joint is, and not how fast
            flow, expected = np.eye(2), np.stack([seen, np.zeros_like(seen)], -1)
            expected_covariance = np.zeros((*seen.shape, 2, 2)) + areas[n] * np.diag([1e4, _CHANGE**2])
        gain = expected_covariance[..., 0] / (expected_covariance[..., 0, 0] + noise)[..., None]
        state = expected + gain * (seen - expected[..., 0])[..., None]
        covariance = expected_covariance - gain[..., None] * expected_covariance[..., :1, :]
        yield _Step(now, flow, expected, expected_covariance, state, covariance)


def _settled(waiting):
    """Takes the first frame that waits, and returns its poses by all that is known of it."""
    poses = waiting[0][0]
    keypoints, sigmas = poses.keypoints.copy(), None if poses.sigmas is None else poses.sigmas.copy()
    for n, number in enumerate(poses.ids):
        chain = [those[number] for _, _, those in waiting if number in those]
        state, covariance = chain[-1].state, chain[-1].covariance
        for step, after in zip(chain[-2::-1], chain[:0:-1], strict=True):
            back = step.covariance @ after.flow.T @ np.linalg.inv(after.expected_covariance)
            state = step.state + (back @ (state - after.expected)[..., None])[..., 0]
            covariance = step.covariance + back @ (covariance - after.expected_covariance) @ back.swapaxes(-1, -2)
        keypoints[n] = state[..., 0]
        if sigmas is not None:
            sigmas[n] = _SIGMA * np.sqrt(covariance[..., 0, 0])
    waiting.popleft()
    return dataclasses.replace(poses, keypoints=keypoints, sigmas=sigmas)
