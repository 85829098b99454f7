"""How far figures would move with other people: 95 % intervals by the percentile bootstrap.

People, or for COCO's AP and AR whole pictures, are drawn again with replacement, as many as there are; the figures of
such draws spread as those of other samples would. Two models are compared on the same draws, so that what makes people
hard for both falls out of the difference.
Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 and 16.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_regpose.evaluation.coco import RESULT_NAMES
from keras_regpose.progress import progress_bar


class Interval(NamedTuple):
    """A figure, or the difference of two, with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class Population(NamedTuple):
    """Units that can be drawn again, and the figures of a draw.

    Args:
        count: int. Number of units: people or pictures.
        draws: int. How many draws make an interval.
        figures: callable from a (count,) int array, how often each unit was drawn, to the figures by name. NaN where a
            draw has none.
    """

    count: int
    draws: int
    figures: Callable[[np.ndarray], dict[str, float]]

    def drawn(self, seed: int = 0) -> dict[str, np.ndarray]:
        """Returns the (draws,) figures of all draws, by name. Equal seeds draw the same units."""
        generator, rows = np.random.default_rng(seed), []
        with progress_bar(total=self.draws, unit=" draws", delay=2) as bar:
            for _ in range(self.draws):
                chosen = generator.integers(self.count, size=self.count)
                rows.append(self.figures(np.bincount(chosen, minlength=self.count)))
                bar.update()
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def interval(value: float, drawn: np.ndarray) -> Interval:
    """Returns a figure with the interval that the middle 95 % of its draws span.

    Args:
        value: float. The figure of the units themselves.
        drawn: (draws,) array, from `Population.drawn`; of a difference, the difference of two such arrays.

    Example:

    >>> heights = np.random.default_rng(0).normal(170, 10, (100, 1))
    >>> people = over_people({"height": heights})
    >>> [round(number, 1) for number in interval(heights.mean(), people.drawn()["height"])]
    [170.8, 168.8, 172.7]
    """
    return Interval(float(value), *np.nanquantile(drawn, [0.025, 0.975]).tolist())


def over_people(values: dict[str, np.ndarray], draws: int = 2000) -> Population:
    """Returns the people over whose labelled keypoints figures are means.

    Args:
        values: dict of (N, K) arrays, NaN where a keypoint does not count, by the name of the figure.
        draws: int. See `Population`.
    """
    sums = np.stack([np.nansum(array, 1, dtype=np.float64) for array in values.values()], 1)
    counts = np.stack([(~np.isnan(array)).sum(1) for array in values.values()], 1)

    def figures(times):
        with np.errstate(invalid="ignore"):  # a draw of people without labels has no mean
            return dict(zip(values, times @ sums / (times @ counts), strict=True))

    return Population(len(sums), draws, figures)


def over_pictures(evaluation, draws: int = 400) -> Population:
    """Returns the pictures of a COCO evaluation. Nothing is matched again, since each picture is matched by itself.

    Args:
        evaluation: `pycocotools.cocoeval.COCOeval` after `evaluate`.
        draws: int. See `Population`.
    """
    params = evaluation.params
    shape = len(params.catIds), len(params.areaRng), len(params.imgIds)
    found = np.array([*evaluation.evalImgs, None], object)[:-1].reshape(shape)
    areas = [[_curves(entries, params) for entries in found[:, area]] for area in range(shape[1])]

    def figures(times):
        # Of each range of areas, (2, thresholds) precision and recall: the mean over the categories that have people.
        with warnings.catch_warnings(action="ignore"):
            every, medium, large = (np.nanmean([curves(times) for curves in categories], 0) for categories in areas)
        values = np.stack([every.mean(1), every[:, 0], every[:, 5], medium.mean(1), large.mean(1)], 1)
        return {name: float(value) for name, value in zip(RESULT_NAMES, values.ravel(), strict=True)}

    return Population(shape[2], draws, figures)


def _curves(entries, params):
    """Returns the function from draws to (2, thresholds) average precision and recall, NaN where nobody is labelled.

    Args:
        entries: (pictures,) array of what `COCOeval.evaluateImg` returned of a category and range of areas.
        params: `COCOeval.params`.
    """
    pictures = np.array([picture for picture, entry in enumerate(entries) if entry is not None], int)
    known = entries[pictures]
    people = np.zeros(len(entries), int)
    people[pictures] = [np.sum(entry["gtIgnore"] == 0) for entry in known]

    def joined(key):
        rows = [np.broadcast_to(entry[key], entry["dtMatches"].shape) for entry in known]
        return np.concatenate([np.zeros((len(params.iouThrs), 0)), *rows], 1)

    order = np.argsort(-joined("dtScores")[0], kind="stable")
    picture = np.repeat(pictures, np.array([len(entry["dtScores"]) for entry in known], int))[order]
    counted = joined("dtIgnore")[:, order] == 0
    hits = [np.flatnonzero(row) for row in counted & (joined("dtMatches")[:, order] > 0)]

    def curves(times):
        labelled, weights = times @ people, times[picture]
        detections = (weights * counted).cumsum(1)
        result = np.full((2, len(hits)), np.nan)
        for threshold, places in enumerate(hits if labelled else ()):
            # From one hit to the next, precision falls: it is looked at where there are hits alone, and is 0 beyond.
            correct = weights[places].cumsum()
            precision = correct / (detections[threshold, places] + np.spacing(1))
            best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
            reached = np.searchsorted(correct / labelled, params.recThrs)
            result[:, threshold] = best[reached].mean(), correct[-1:].sum() / labelled
        return result

    return curves
