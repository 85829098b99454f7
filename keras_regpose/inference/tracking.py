"""Who is who in the frames of a video: people are found anew now and then, and followed by their own keypoints.

Between two findings each person who was seen within the last second is looked for where their keypoints should be now;
so is, in a frame in which people are found, who was not found there. What the network makes of these boxes is assigned
to the people by the Hungarian method (Kuhn, 1955). The cost of a pair has three parts: how little the box has in common
with that in which the person should be; how little the keypoints are like those that should be there; and how much the
colours along the limbs differ, which tells people apart where they cross. Keypoints are compared by the object keypoint
similarity, with the variance that σ says added to the tolerance of each joint, so that uncertain ones decide little. Of
two people one before the other the network often sees the front one twice: who was not found and looks like another is
left out, and goes on at the own speed until seen again.
"""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from keras_regpose.inference.boxes import BoxFinder
from keras_regpose.inference.poses import Poses
from keras_regpose.inference.sources import Frame

KEPT = 1.0  # seconds for which somebody is looked for who is not seen, or not found
_LONGEST = 1 / 3  # seconds from one finding to the next, however few frames there are
_USUAL_RATE = 25.0  # frames a second where no times are known
_COVERED = 0.5  # intersection over union with which a box that was found is that of a person
_SAME = 0.7  # similarity of two poses of one person
# Costs: of no common place, of black for white, of not having been found; and the highest at which two are the same.
_BOX, _COLORS, _UNSEEN, _DEAREST = 3.0, 2.0, 3.2, 4.0
_DRIFT = 0.5  # how far people stray from a straight way in a second, in roots of their area
_STEADY = 0.15  # seconds of which the speed is the mean
_ALONE = 0.15  # intersection over union with others up to which colours are learned
_SIGHTINGS = 30  # of which colours are the mean
_ALONG = np.array([0.2, 0.35, 0.5, 0.65, 0.8])[:, None]  # where on a limb colours are taken


class Clock:
    """Tells the seconds from the first frame on: those of the frames where they grow, otherwise by their rate."""

    def __init__(self):
        self.now, self._last = 0.0, None

    def tick(self, frame: Frame | Poses) -> float:
        """Returns when a frame is, which is later than the one before."""
        if self._last is not None:
            known = frame.time is not None and self._last.time is not None
            passed = frame.time - self._last.time if known else 0.0
            self.now += passed if passed > 0 else 1 / (frame.frame_rate or _USUAL_RATE)
        self._last = dataclasses.replace(frame, image=None)
        return self.now


class _Sightings:
    """What the network saw in the boxes of a frame, as arrays of N people, and what compares it with somebody."""

    def __init__(self, poses, image):
        self.keypoints, self.boxes = poses.keypoints.astype(np.float64), poses.boxes.astype(np.float64)
        self.areas = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(1)[:, None]
        self.tolerance = self.areas * (2 * np.asarray(poses.skeleton.sigmas)) ** 2
        # The variance of a Laplace density is 2σ²; however uncertain they are, joints are in the box or near it.
        sigmas = np.zeros_like(self.keypoints) if poses.sigmas is None else poses.sigmas
        self.variances = np.minimum(2 * np.square(sigmas, dtype=np.float64).mean(-1), self.areas / 16)
        edges = np.array(poses.skeleton.edge_indices, int).reshape(-1, 2)
        starts, stops = (self.keypoints[:, ends, None] for ends in edges.T)
        points = np.round(starts + (stops - starts) * _ALONG).astype(int)
        x, y = np.moveaxis(points.clip(0, np.subtract(image.shape[1::-1], 1)), -1, 0)
        self.colors = image[y, x].mean(-2) / 255
        # How well they are seen: not at all outside of the picture.
        inside = ((points >= 0) & (points < image.shape[1::-1])).all((-1, -2))
        sure = self.tolerance / (self.tolerance + self.variances)
        self.sure, self.clear = sure.mean(1), inside * sure[:, edges].min(-1)

    def similar(self, keypoints, variances):
        """Returns (N,) similarities to somebody's keypoints, and the (N, K) weights of these."""
        variances = self.tolerance + self.variances + variances
        weights = self.tolerance / variances
        near = np.exp(-np.square(self.keypoints - keypoints).sum(-1) / (2 * variances))
        return (weights * near).sum(1) / weights.sum(1), weights

    def cost(self, person, now):
        """Returns what it costs to take each for a person."""
        weights = self.clear * person.sightings.clip(0, 1)
        colors = (weights * np.abs(self.colors - person.colors).mean(-1)).sum(1) / np.maximum(weights.sum(1), 1e-6)
        similar, _ = self.similar(*person.expected(now))
        lost = (1 - self.sure / person.sure).clip(0)
        return 1 - similar + lost + _BOX * (1 - _overlaps(person.box(now)[None], self.boxes)[0]) + _COLORS * colors


@dataclasses.dataclass(eq=False)
class _Person:
    """Somebody who is followed, as they were seen last."""

    number: int
    findings: int = 0
    found: float = 0.0  # when
    seen: float = math.inf
    box_score: float = 0.0
    sure: float = 0.0
    margins: Any = None  # pixels from the ends of the keypoints to those of the box
    keypoints: Any = None
    variances: Any = None
    area: Any = None
    velocity: Any = 0.0
    colors: Any = 0.0
    sightings: Any = 0.0  # of each colour

    def expected(self, now):
        """Returns the keypoints as they should be now, and the variance that comes with time."""
        past = now - self.seen
        moved = self.velocity * past
        drift = (_DRIFT * past) ** 2 * self.area + np.square(moved).sum() / 4
        return self.keypoints + moved, self.variances + drift

    def box(self, now):
        """Returns the box in which this person should be now."""
        points, _ = self.expected(now)
        return np.concatenate([points.min(0), points.max(0)]) + self.margins

    def see(self, now, sightings, n, alone):
        """Takes the keypoints and colours of a sighting."""
        past, keypoints = now - self.seen, sightings.keypoints[n]
        if past > 0:
            _, weights = sightings.similar(self.keypoints, self.variances)
            moved = np.average(keypoints - self.keypoints, 0, weights[n]) / past
            self.velocity = self.velocity + (moved - self.velocity) * -math.expm1(-past / _STEADY)
        clear = sightings.clear[n] * (alone or np.all(self.sightings == 0))
        self.sightings = np.minimum(self.sightings + clear, _SIGHTINGS)
        share = clear / np.maximum(self.sightings, 1e-6)
        self.colors = self.colors + (sightings.colors[n] - self.colors) * share[:, None]
        self.seen, self.keypoints = now, keypoints
        self.variances, self.area = sightings.variances[n], sightings.areas[n]

    def find(self, now, sightings, n, score):
        """Takes the box in which this person was found and has been seen."""
        self.found, self.findings, self.box_score, self.sure = now, self.findings + 1, score, sightings.sure[n]
        self.margins = sightings.boxes[n] - np.concatenate([self.keypoints.min(0), self.keypoints.max(0)])


class Tracker:
    """Follows people: a `BoxFinder`, which is then told what was estimated in the boxes that it gave.

    Args:
        find: `BoxFinder`.
        every: int or infinity. In every so many frames boxes are found, and after a third of a second. With 1 nothing
            else is looked for; with infinity they are found in the first frame alone.
    """

    def __init__(self, find: BoxFinder, every: float):
        self._find, self._every = find, every
        self._longest, self._doubted = (math.inf, math.inf) if every == math.inf else (_LONGEST, KEPT)
        self._clock, self._people, self._numbers = Clock(), [], itertools.count(1)
        self._asked, self._since, self._count, self._image = -math.inf, 0, 0, None

    def __call__(self, frame: Frame, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the boxes of a frame, those that were found first, and their scores."""
        now, size = self._clock.tick(frame), frame.image.shape[1::-1]
        lasting = (one for one in self._people if now - one.found <= self._doubted)
        self._people = [one for one in lasting if now - one.seen <= KEPT]
        self._image, self._count, self._since = frame.image, 0, self._since + 1
        boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        if self._since >= (self._every if self._asked > -math.inf else 0) or now - self._asked > self._longest:
            boxes, scores = self._find(frame, position)
            self._asked, self._since, self._count = now, 0, len(boxes)
        people = self._people if self._every > 1 else []
        expected = np.array([one.box(now) for one in people]).reshape(-1, 4)
        shown = expected.clip(0, size * 2)
        overlaps = _overlaps(shown, boxes)
        covered = {row for row, _ in _pairs(-overlaps, overlaps >= _COVERED)}
        # Of whom less than a fifth is in the picture, nothing is to be seen.
        inside = (shown[:, 2:] - shown[:, :2]).prod(1) > np.maximum((expected[:, 2:] - expected[:, :2]).prod(1) / 5, 4)
        rest = [row for row in np.flatnonzero(inside) if row not in covered]
        followed = np.array([people[row].box_score for row in rest], np.float32)
        return np.concatenate([boxes, shown[rest].astype(np.float32)]), np.concatenate([scores, followed])

    def update(self, poses: Poses, likely: np.ndarray) -> Poses:
        """Returns the poses in the boxes that were given last with ids, by which they are ordered.

        Args:
            poses: `Poses`. Those of whom it is not probable that they are who was followed are left out.
            likely: (N,) bool array. Who may be somebody new; others may still be somebody who is known.
        """
        now, found = self._clock.now, np.arange(len(poses)) < self._count
        sightings = _Sightings(poses, self._image)
        costs = np.array([sightings.cost(one, now) for one in self._people]).reshape(len(self._people), len(poses))
        costs += np.where(found, 0, _UNSEEN)
        known = {n: self._people[row] for row, n in _pairs(costs, costs <= _DEAREST)}
        kept = {n: known.get(n) for n in range(self._count) if n in known or likely[n]}
        for n in sorted(known.keys() - kept.keys()):
            similar, _ = sightings.similar(sightings.keypoints[n], sightings.variances[n])
            if not (similar[list(kept)] >= _SAME).any():
                kept[n] = known[n]
        alone = (_overlaps(sightings.boxes, sightings.boxes[list(kept)]) > _ALONE).sum(1) <= 1
        for n, person in kept.items():
            kept[n] = person = person or _Person(next(self._numbers))
            person.see(now, sightings, n, alone[n])
            if found[n]:
                person.find(now, sightings, n, poses.box_scores[n])
        people = {*self._people, *kept.values()}
        # Who was found once, and not the next time, was perhaps nobody.
        self._people = [one for one in people if one.findings > 1 or one.found == self._asked]
        order = sorted((one.number, n) for n, one in kept.items() if one in self._people)
        ids, columns = np.array(order, int).reshape(-1, 2).T
        return dataclasses.replace(poses[columns], ids=ids)


def _overlaps(boxes, others):
    """Returns the (N, M) intersections over unions."""
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    shared = (high - low).clip(0).prod(-1)
    areas, their = ((some[:, 2:] - some[:, :2]).prod(-1) for some in (boxes, others))
    return shared / np.maximum(areas[:, None] + their - shared, 1e-6)


def _pairs(costs, possible):
    """Returns (row, column) of the assignment of the lowest cost among the pairs that are possible."""
    from scipy.optimize import linear_sum_assignment

    pairs = zip(*linear_sum_assignment(np.where(possible, costs, 1e6)), strict=True)
    return [pair for pair in pairs if possible[pair]]
