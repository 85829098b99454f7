"""Object keypoint similarity between poses, and the non-maximum suppression that is built on it.

Source: https://cocodataset.org/#keypoints-eval for the similarity; `oks_nms` and `soft_oks_nms` of MMPose 1.3.2 for
the suppression.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Real

from keras_regpose.skeleton import COCO17


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
    first, first_areas = check_poses(first, first_areas)
    second, second_areas = check_poses(second, second_areas)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"OKS compares poses of equal keypoint count. Received: {first.shape[1]} and {second.shape[1]} keypoints"
        )
    variances = (2 * check_sigmas(sigmas, first.shape[1])) ** 2
    squared = ((first[:, None] - second[None]) ** 2).sum(-1)
    # The tiny number keeps two poses of area 0 comparable.
    areas = (first_areas[:, None] + second_areas[None]) / 2 + np.spacing(1)
    exponent = squared / variances / areas[..., None] / 2
    return np.exp(-exponent).mean(-1).astype(np.float32)


def oks_nms(
    keypoints: Real[np.ndarray, "people keypoints 2"],
    scores: Real[np.ndarray, " people"],
    areas: Real[np.ndarray, " people"],
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
    scores, similarity = _scores_and_similarity(keypoints, scores, areas, threshold, sigmas)
    order = _descending(scores)
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        order = rest[similarity[best, rest] <= np.float32(threshold)]
    return np.array(kept, dtype=int)


def soft_oks_nms(
    keypoints: Real[np.ndarray, "people keypoints 2"],
    scores: Real[np.ndarray, " people"],
    areas: Real[np.ndarray, " people"],
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
    scores, similarity = _scores_and_similarity(keypoints, scores, areas, threshold, sigmas)
    order = _descending(scores)
    scores = scores[order]
    kept = []
    while order.size and len(kept) < max_poses:
        best, rest = order[0], order[1:]
        kept.append(best)
        scores = scores[1:] * np.exp(-(similarity[best, rest] ** 2) / np.float32(threshold))
        again = _descending(scores)
        order, scores = rest[again], scores[again]
    return np.array(kept, dtype=int)


def check_poses(
    keypoints: Real[np.ndarray, "people keypoints 2"], areas: Real[np.ndarray, " people"]
) -> tuple[Float64[np.ndarray, "people keypoints 2"], Float64[np.ndarray, " people"]]:
    """Returns (N, K, 2) keypoints and (N,) areas as float64 arrays, or raises a ValueError that says what is wrong."""
    keypoints, areas = np.asarray(keypoints, np.float64), np.asarray(areas, np.float64)
    if keypoints.ndim != 3 or keypoints.shape[-1] != 2 or areas.shape != keypoints.shape[:1]:
        raise ValueError(
            f"Poses must be (N, K, 2) keypoints with (N,) areas. Received shapes: {keypoints.shape} and {areas.shape}"
        )
    if not (np.isfinite(keypoints).all() and np.isfinite(areas).all() and (areas >= 0).all()):
        raise ValueError("Keypoints must be finite, and areas finite and not negative. Received other values")
    return keypoints, areas


def check_sigmas(sigmas: Sequence[float] | None, keypoint_count: int) -> Float32[np.ndarray, " keypoints"]:
    """Returns the OKS sigmas as a (K,) float32 array: those given, or COCO's where there are 17 keypoints."""
    if sigmas is None:
        if keypoint_count != len(COCO17):
            raise ValueError(
                f"OKS needs one sigma per keypoint: pass sigmas=skeleton.sigmas. "
                f"Received: none for {keypoint_count} keypoints"
            )
        sigmas = COCO17.sigmas
    # float32, because the reference figures were made with it.
    checked = np.asarray(sigmas, np.float32)
    if checked.shape != (keypoint_count,) or not (np.isfinite(checked).all() and (checked > 0).all()):
        raise ValueError(f"OKS needs {keypoint_count} positive sigmas, one per keypoint. Received: {checked.tolist()}")
    return checked


def _scores_and_similarity(keypoints, scores, areas, threshold, sigmas):
    keypoints, areas = check_poses(keypoints, areas)
    scores = np.asarray(scores, np.float64)
    if scores.shape != areas.shape or not np.isfinite(scores).all():
        raise ValueError(f"NMS needs one finite score for each of {len(areas)} poses. Received: {scores.tolist()}")
    if not threshold > 0:
        raise ValueError(f"The NMS threshold must be above 0. Received: {threshold}")
    return scores, oks(keypoints, keypoints, areas, areas, sigmas)


def _descending(scores):
    # Stable, then reversed: equal scores come in reverse order on every machine, as in the reference figures.
    return np.argsort(scores, kind="stable")[::-1]
