"""How far figures would move with other people: 95 % intervals by the percentile bootstrap.

People, or for COCO's AP and AR whole pictures, are drawn again with replacement, as many as there are; the figures of
such draws spread as those of other samples would. Two models are compared on the same draws, so that what makes people
hard for both falls out of the difference.
Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13 and 16.
"""

import contextlib
import copy
import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keras_regpose.evaluation.coco import coco_figures
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


def over_people(values: dict[str, np.ndarray], draws: int = 2000, by_keypoint: bool = False) -> Population:
    """Returns the people over whose labelled keypoints figures are means.

    Args:
        values: dict of (N, K) arrays, NaN where a keypoint does not count, by the name of the figure.
        draws: int. See `Population`.
        by_keypoint: bool. Whether figures are means of the keypoints' means, so that each keypoint weighs the same.
    """

    def columns(of_values):
        return np.stack([each if by_keypoint else each.sum(1, keepdims=True) for each in map(of_values, values)])

    sums = columns(lambda name: np.nan_to_num(np.asarray(values[name], np.float64)))
    counts = columns(lambda name: ~np.isnan(values[name]))

    def figures(times):
        with np.errstate(invalid="ignore"):  # a draw of people without labels has no mean
            means = times @ sums / (times @ counts)
            means = np.nansum(means, -1) / (~np.isnan(means)).sum(-1)
        return dict(zip(values, means, strict=True))

    return Population(sums.shape[1], draws, figures)


def over_pictures(evaluation, draws: int = 400) -> Population:
    """Returns the pictures of a COCO evaluation. Nothing is matched again, since each picture is matched by itself.

    Args:
        evaluation: `pycocotools.cocoeval.COCOeval` after `evaluate`.
        draws: int. See `Population`.
    """
    params, again = evaluation.params, copy.copy(evaluation)
    shape = len(params.catIds), len(params.areaRng), len(params.imgIds)
    found = np.array([*evaluation.evalImgs, None], object)[:-1].reshape(shape)

    def figures(times):
        again.evalImgs = found[..., np.repeat(np.arange(shape[2]), times)].ravel().tolist()
        with contextlib.redirect_stdout(io.StringIO()):
            again.accumulate()
            again.summarize()
        return {name: float("nan") if value == -1 else value for name, value in coco_figures(again).items()}

    return Population(shape[2], draws, figures)
