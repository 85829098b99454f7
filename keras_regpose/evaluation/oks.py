"""Object keypoint similarity between poses, and the non-maximum suppression that is built on it.

Source: https://cocodataset.org/#keypoints-eval for the similarity; `oks_nms` and `soft_oks_nms` of MMPose 1.3.2 for
the suppression.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int, Real

from keras_regpose.arrays import PerKeypoint, PerPerson, Points, check_arrays, check_people
from keras_regpose.skeleton import COCO17, Skeleton


def oks(
    first: Real[np.ndarray, "first keypoints 2"],
    second: Real[np.ndarray, "second keypoints 2"],
    first_areas: Real[np.ndarray, " first"],
    second_areas: Real[np.ndarray, " second"],
    sigmas: Sequence[float] | None = None,
) -> Float[np.ndarray, "first second"]:
    """Object keypoint similarity of every pose with every other.

    OKS = mean over k of exp(−d_k² / (2·(2σ_k)²·a)), where a is the mean of the two poses' areas. All keypoints count,
    however low their score.

    Args:
        first: (N, K, 2) array. Poses in pixels.
        second: (M, K, 2) array. Poses in pixels.
        first_areas: (N,) array. Areas of the persons in square pixels.
        second_areas: (M,) array. Areas of the persons in square pixels.
        sigmas: sequence of K floats, such as `Skeleton.sigmas`, or None for COCO's 17 keypoints.

    Returns:
        (N, M) float32 array of similarities from 0 to 1.

    Raises:
        ValueError: If shapes do not fit together, or `sigmas` is needed and missing.

    Example:

    >>> pose = np.zeros((1, 2, 2))
    >>> moved = pose + [[6.0, 8.0], [0.0, 0.0]]
    >>> round(float(oks(pose, moved, [2500], [2500], sigmas=[0.1, 0.1])[0, 0]), 4)
    0.8033
    """
    given = {"first": (first, "N K 2"), "second": (second, "M K 2")}
    given |= {"first_areas": (first_areas, "N"), "second_areas": (second_areas, "M")}
    first, second, first_areas, second_areas = check_arrays("OKS", finite=True, **given)
    if min(first_areas.min(initial=0), second_areas.min(initial=0)) < 0:
        raise ValueError("OKS needs areas finite and not negative. Received a negative one")
    squared = ((first[:, None] - second[None]) ** 2).sum(-1)
    areas = (first_areas[:, None, None] + second_areas[None, :, None]) / 2
    return keypoint_similarity(squared, areas, sigmas).mean(-1).astype(np.float32)


def labelled_oks(
    pred: Points,
    truth: Points,
    visible: PerKeypoint,
    areas: PerPerson,
    skeleton: Skeleton,
    sigmas: Sequence[float] | None = None,
) -> Float[np.ndarray, " people"]:
    """Object keypoint similarity of each person's prediction and labels, as COCO's evaluation computes it.

    OKS = mean over labelled k of exp(−d_k² / (2·(2σ_k)²·a)).

    Args:
        pred: (N, K, 2) array of predicted keypoints, in pixels.
        truth: (N, K, 2) array of true keypoints, in pixels. Values of unlabelled keypoints are never read.
        visible: (N, K) array, 0 or False for unlabelled keypoints.
        areas: (N,) array. Areas of the persons in square pixels.
        skeleton: Skeleton of the keypoints.
        sigmas: sequence of K floats, or None for those of the skeleton, which are 0.05 unless it says otherwise.

    Returns:
        (N,) float64 array of similarities from 0 to 1; NaN where no keypoint is labelled.

    Raises:
        ValueError: If shapes do not fit together.

    Example:

    >>> stick = Skeleton("stick", ("grip", "tip"))
    >>> labelled_oks([[[6, 8], [99, 0]]], np.zeros((1, 2, 2)), [[1, 0]], [10000], stick).round(3).tolist()
    [0.607]
    """
    given = {"pred": pred, "truth": truth, "visible": visible, "areas": areas}
    pred, truth, visible, areas = check_people(f"OKS of {skeleton.name!r}", len(skeleton), **given).values()
    labelled = visible > 0
    squared = np.where(labelled, ((pred - truth) ** 2).sum(-1), 0)
    similarity = keypoint_similarity(squared, areas[:, None], skeleton.sigmas if sigmas is None else sigmas)
    with np.errstate(invalid="ignore"):  # nobody's mean is NaN
        return np.where(labelled, similarity, 0).sum(-1) / labelled.sum(-1)


def keypoint_similarity(squared: np.ndarray, areas: np.ndarray, sigmas: Sequence[float] | None) -> np.ndarray:
    """Returns exp(−d² / (2·(2σ)²·a)) of (..., K) squared distances in pixels, with areas that broadcast to them."""
    variances = (2 * check_sigmas(sigmas, squared.shape[-1])) ** 2
    # The tiny number keeps two poses of area 0 comparable.
    return np.exp(-squared / variances / (areas + np.spacing(1)) / 2)


def oks_nms(
    keypoints: Points,
    scores: PerPerson,
    areas: PerPerson,
    threshold: float = 0.9,
    sigmas: Sequence[float] | None = None,
) -> Int[np.ndarray, " kept"]:
    """Keeps the best pose and drops those that resemble it, again and again.

    Args:
        keypoints: (N, K, 2) array. The poses of one image, in pixels.
        scores: (N,) array. One score per pose.
        areas: (N,) array. Areas of the persons in square pixels.
        threshold: float. A pose whose OKS with a kept one exceeds this is dropped.
        sigmas: sequence of K floats, such as `Skeleton.sigmas`, or None for COCO's 17 keypoints.

    Returns:
        (kept,) int array of positions in `keypoints`, by descending score. Of equal scores the later pose goes first.

    Raises:
        ValueError: If shapes do not fit together, or `sigmas` is needed and missing.

    Example:

    >>> poses = np.array([[[0.0, 0]], [[1, 0]], [[90, 0]]])
    >>> oks_nms(poses, [0.8, 0.9, 0.1], [900, 900, 900], sigmas=[0.1]).tolist()
    [1, 2]
    """
    return _picked(keypoints, scores, areas, threshold, sigmas, soft=False)


def soft_oks_nms(
    keypoints: Points,
    scores: PerPerson,
    areas: PerPerson,
    threshold: float = 0.9,
    sigmas: Sequence[float] | None = None,
    max_poses: int = 20,
) -> Int[np.ndarray, " kept"]:
    """Orders poses so that those resembling better ones come late, and keeps the first ones.

    After each pick, the remaining scores are multiplied by exp(−OKS² / threshold). Nothing else is dropped, and the
    lowered scores serve the order alone.

    Args:
        keypoints: (N, K, 2) array. The poses of one image, in pixels.
        scores: (N,) array. One score per pose.
        areas: (N,) array. Areas of the persons in square pixels.
        threshold: float. The larger, the weaker the lowering.
        sigmas: sequence of K floats, such as `Skeleton.sigmas`, or None for COCO's 17 keypoints.
        max_poses: int. How many poses to keep at most.

    Returns:
        (kept,) int array of positions in `keypoints`, in the order in which they were picked.

    Raises:
        ValueError: If shapes do not fit together, or `sigmas` is needed and missing.

    Example:

    >>> poses = np.array([[[0.0, 0]], [[1, 0]], [[90, 0]]])
    >>> soft_oks_nms(poses, [0.8, 0.9, 0.5], [900, 900, 900], sigmas=[0.1]).tolist()
    [1, 2, 0]
    """
    return _picked(keypoints, scores, areas, threshold, sigmas, soft=True)[:max_poses]


def check_sigmas(sigmas: Sequence[float] | None, keypoint_count: int) -> Float32[np.ndarray, " keypoints"]:
    """Returns the OKS sigmas as a (K,) float32 array: those given, or COCO's where there are 17 keypoints."""
    if sigmas is None:
        if keypoint_count != len(COCO17):
            raise ValueError(f"OKS of {keypoint_count} keypoints needs a sigma for each: pass sigmas=skeleton.sigmas")
        sigmas = COCO17.sigmas
    # float32, because the reference figures were made with it.
    checked = np.asarray(sigmas, np.float32)
    if checked.shape != (keypoint_count,) or not (np.isfinite(checked).all() and (checked > 0).all()):
        raise ValueError(f"OKS needs {keypoint_count} positive sigmas, one per keypoint. Received: {checked.tolist()}")
    return checked


def _picked(keypoints, scores, areas, threshold, sigmas, soft):
    """Returns the positions of poses, each the best of those that are left by the ones before."""
    _, scores = check_arrays("NMS", finite=True, keypoints=(keypoints, "N K 2"), scores=(scores, "N"))
    if not threshold > 0:
        raise ValueError(f"The NMS threshold must be above 0. Received: {threshold}")
    similarity, kept = oks(keypoints, keypoints, areas, areas, sigmas), []
    order = _descending(scores)
    scores = scores[order]
    while order.size:
        kept.append(order[0])
        order, scores = order[1:], scores[1:]
        alike = similarity[kept[-1], order]
        if soft:
            scores = scores * np.exp(-(alike**2) / np.float32(threshold))
        left = _descending(scores) if soft else alike <= np.float32(threshold)
        order, scores = order[left], scores[left]
    return np.array(kept, dtype=int)


def _descending(scores):
    # Stable, then reversed: equal scores come in reverse order on every machine, as in the reference figures.
    return np.argsort(scores, kind="stable")[::-1]
