"""How well predicted σ agrees with actual errors.

σ is the scale of a Laplace density exp(−|e| / σ) / 2σ of the error e of one coordinate, so that the mean |e| of
coordinates with the same σ should be σ, and a share p of them should lie within −σ · ln(1 − p).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from keras_regpose.evaluation.evaluate import labels
from keras_regpose.evaluation.intervals import Interval, interval, over_people
from keras_regpose.evaluation.oks import keypoint_similarity
from keras_regpose.files import MARK, draft
from keras_regpose.inference.poses import Poses
from keras_regpose.optional import import_optional

_LEVELS = np.arange(0.05, 1, 0.05)


@dataclass(frozen=True)
class Calibration:
    """Predicted σ against actual errors, with M coordinates in B bins of the same number each, by growing σ.

    Args:
        count: int. M.
        sigma: (B,) array. Mean predicted σ of each bin in pixels.
        error: (B,) array. Mean absolute error of each bin in pixels.
        coverage: (L,) array. Share of coordinates whose error lies within the interval of each level of `levels`.
        levels: (L,) array. 0.05, 0.1 … 0.95.
        factor: float. Mean |e| / σ, by which σ must be multiplied to agree with the errors; it is the one with the
            greatest likelihood. 1 is ideal, below 1 errors are smaller than σ says.
        binned_error: float. Mean over the bins of |error − sigma| / sigma, 0 is ideal: the expected normalized
            calibration error of Levi et al., Evaluating and Calibrating Uncertainty Prediction in Regression Tasks
            (2022), with the mean absolute error in place of the root of the mean square.
        binned_error_scaled: float. The same after multiplying σ by `factor`: what no common factor can mend.
        coverage_error: float. Mean over the levels of |coverage − level|, 0 is ideal: Kuleshov et al., Accurate
            Uncertainties for Deep Learning Using Calibrated Regression (2018).
        coverage_error_scaled: float. The same after multiplying σ by `factor`.
        rank_correlation: float. Spearman's, of σ and |e|: whether the model knows which coordinates are uncertain; NaN
            if all are equal.
    """

    count: int
    sigma: np.ndarray
    error: np.ndarray
    coverage: np.ndarray
    levels: np.ndarray
    factor: float
    binned_error: float
    binned_error_scaled: float
    coverage_error: float
    coverage_error_scaled: float
    rank_correlation: float

    def __str__(self) -> str:
        return (
            f"σ of {self.count} coordinates against their errors:\n"
            f"  mean |error| / σ                {self.factor:.3f}  (ideal 1)\n"
            f"  binned |error − σ| / σ          {self.binned_error:.3f}  (ideal 0; {self.binned_error_scaled:.3f} once "
            f"σ is multiplied by {self.factor:.3f})\n"
            f"  coverage error                  {self.coverage_error:.3f}  (ideal 0; {self.coverage_error_scaled:.3f} "
            f"once multiplied)\n"
            f"  rank correlation of σ, |error|  {self.rank_correlation:.3f}  (ideal 1, chance 0)"
        )


def calibrate(errors: np.ndarray, sigmas: np.ndarray, bins: int = 10) -> Calibration:
    """Compares predicted σ with actual errors.

    Args:
        errors: (M,) array of differences between predicted and true coordinates, in pixels.
        sigmas: (M,) array of their σ, in pixels.
        bins: int.

    Returns:
        `Calibration`.

    Raises:
        ValueError: If there are fewer coordinates than bins, or a σ is not positive.

    Example:

    >>> sigmas = np.linspace(1, 20, 1000)
    >>> result = calibrate(sigmas / 2, sigmas)  # errors half as great as σ says
    >>> round(result.factor, 2), round(result.binned_error, 2), round(result.binned_error_scaled, 2)
    (0.5, 0.5, 0.0)
    """
    from scipy.stats import spearmanr

    errors, sigmas = np.abs(np.ravel(errors)).astype(np.float64), np.ravel(sigmas).astype(np.float64)
    if len(errors) != len(sigmas) or len(errors) < bins:
        raise ValueError(f"A calibration needs {bins} or more errors with σ. Received: {len(errors)} and {len(sigmas)}")
    if not (np.isfinite(errors).all() and np.isfinite(sigmas).all() and (sigmas > 0).all()):
        raise ValueError("A calibration needs finite errors and positive σ")
    ratio = errors / sigmas
    factor = float(ratio.mean())
    order = np.argsort(sigmas, kind="stable")
    error = np.array([part.mean() for part in np.array_split(errors[order], bins)])
    sigma = np.array([part.mean() for part in np.array_split(sigmas[order], bins)])

    def binned_error(scale):
        return float(np.mean(np.abs(error - scale * sigma) / (scale * sigma))) if scale > 0 else float("inf")

    def coverage(scale):
        return np.array([(ratio <= -scale * np.log1p(-level)).mean() for level in _LEVELS])

    equal = np.ptp(errors) == 0 or np.ptp(sigmas) == 0
    correlation = float("nan") if equal else float(spearmanr(errors, sigmas).statistic)
    missed, missed_scaled = (float(np.abs(coverage(scale) - _LEVELS).mean()) for scale in (1.0, factor))
    figures = binned_error(1.0), binned_error(factor), missed, missed_scaled, correlation
    return Calibration(len(errors), sigma, error, coverage(1.0), _LEVELS, factor, *figures)


def calibrate_predictions(poses: Poses, positions: np.ndarray, samples: Sequence, bins: int = 10) -> Calibration:
    """Compares σ and errors of the labelled keypoints of predictions.

    Args:
        poses, positions, samples: What `evaluation.evaluate.predict_samples` returned, and what it was given.
        bins: int.

    Raises:
        ValueError: If the model predicts no σ.
    """
    if poses.sigmas is None:
        raise ValueError("A calibration needs predictions with σ, which models trained without RLE do not make")
    truth, visible = labels(poses, positions, samples)
    labelled = visible > 0
    return calibrate((poses.keypoints - truth)[labelled], poses.sigmas[labelled], bins)


def coverages(
    poses: Poses, positions: np.ndarray, samples: Sequence, flow=None, shares: Sequence[float] = (0.5, 0.8, 0.95)
) -> dict[str, Interval]:
    """Returns in how many cases the truth lies in what a model says holds it in a given share of all cases.

    Args:
        poses, positions, samples: What `predict_samples` returned, and what it was given. The model was recalibrated,
            on other people than these.
        flow: `RealNVP` or None. The model's, whose regions of highest density are measured as well.
        shares: sequence of floats.

    Returns:
        dict of the actual shares by name, such as "region 0.8", with 95 % intervals over people drawn again: "interval"
        (`Poses.intervals`), "region" (`Poses.regions`), and "density", the region in which the density of flow and σ
        together is highest (Hyndman, Computing and Graphing Highest Density Regions, 1996).

    Raises:
        ValueError: If the poses have no σ, or their model was not recalibrated.
    """
    truth, visible = labels(poses, positions, samples)
    errors, inside = np.where(visible[..., None] > 0, poses.keypoints - truth, 0), {}
    if flow is not None:
        density = np.asarray(flow.log_prob((errors / poses.sigmas).reshape(-1, 2))).reshape(visible.shape)
        drawn = np.asarray(flow.log_prob(flow.sample(20_000, seed=0)))
    for share in shares:
        inside[f"interval {share}"] = (np.abs(errors) <= poses.intervals(share)).mean(-1)
        inside[f"region {share}"] = np.hypot(*np.moveaxis(errors / poses.regions(share), -1, 0)) <= 1
        if flow is not None:
            inside[f"density {share}"] = density >= np.quantile(drawn, 1 - share)
    people = over_people({name: np.where(visible > 0, values, np.nan) for name, values in inside.items()})
    figures, drawn = people.figures(np.ones(len(poses), int)), people.drawn()
    return {name: interval(figures[name], drawn[name]) for name in sorted(figures)}


def score_error(poses: Poses, positions: np.ndarray, samples: Sequence, bins: int = 10) -> float:
    """Returns how far people's expected OKS, as their score, is from the OKS they reach: the mean over bins, by size.

    0 is ideal. Areas are those of the boxes. Source: Guo et al., On Calibration of Modern Neural Networks (2017), ECE,
    with bins of the same number of people each.

    Args:
        poses, positions, samples: As for `coverages`.
        bins: int.
    """
    truth, visible = labels(poses, positions, samples)
    squared = np.square(np.where(visible[..., None] > 0, poses.keypoints - truth, 0)).sum(-1)
    areas = (poses.boxes[:, 2:] - poses.boxes[:, :2]).prod(-1, keepdims=True)
    used = (visible > 0).any(1)
    weights, similarity = (visible > 0) + 1e-12, keypoint_similarity(squared, areas, poses.skeleton.sigmas)
    reached = np.average(similarity, axis=1, weights=weights)[used]
    expected = np.average(poses.expected_oks(), axis=1, weights=weights)[used]
    order = np.array_split(np.argsort(expected, kind="stable"), bins)
    return float(sum(abs((reached - expected)[part].sum()) for part in order) / len(expected))


def plot_calibration(calibration: Calibration, path: str | os.PathLike) -> None:
    """Writes a picture: mean |error| against mean σ of each bin, and actual against expected coverage.

    Args:
        calibration: `Calibration`.
        path: str or path. Its suffix chooses the format, such as .png or .svg.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure = import_matplotlib().Figure(figsize=(10, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    sigma, error = calibration.sigma, calibration.error
    limits = [0.8 * min(sigma.min(), error[error > 0].min(initial=sigma.min())), 1.25 * max(sigma.max(), error.max())]
    left.plot(limits, limits, color="0.6", linestyle="--", label="ideal: mean |error| = σ")
    left.plot(limits, [calibration.factor * one for one in limits], color="0.8", label=f"{calibration.factor:.2f} σ")
    left.plot(sigma, error, "o-", color="#0072b2", label=f"{len(sigma)} bins of {calibration.count} coordinates")
    left.set(xscale="log", yscale="log", xlim=limits, ylim=limits, aspect="equal")
    left.set(xlabel="predicted σ in pixels", ylabel="mean |error| in pixels", title="Error by predicted σ")
    right.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="ideal")
    right.plot(calibration.levels, calibration.coverage, "o-", color="#d55e00", label="measured")
    right.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="expected share within −σ·ln(1 − p)")
    right.set(ylabel="actual share", title="Coverage")
    left.legend(loc="upper left")
    right.legend(loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    with draft(path) as file:
        figure.savefig(file, dpi=150, format=Path(path).suffix[1:] or "png", metadata={"Creator": MARK.decode()})


def import_matplotlib() -> ModuleType:
    """Returns `matplotlib.figure`, or raises ImportError that says how to install it."""
    return import_optional("matplotlib.figure", "A plot of the calibration", "keras-regpose[plot]")
