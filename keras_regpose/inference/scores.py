"""One score per person, of the score of its box and those of its keypoints."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Real

from keras_regpose.arrays import check_arrays, floats

SCORE_MODES = ("bbox", "keypoint", "bbox_keypoint", "bbox_rle", "expected_oks")


def expected_oks(
    sigmas: Real[np.ndarray, "people keypoints 2"],
    areas: Real[np.ndarray, " people"],
    oks_sigmas: Sequence[float] | np.ndarray,
) -> Float[np.ndarray, "people keypoints"]:
    """Returns the object keypoint similarity that is to be expected if errors are distributed as σ says.

    The mean of exp(−e² / 2s²) over the Laplace density exp(−|e| / b) / 2b of an axis' error e is
    √(π/2) · s/b · exp(s² / 2b²) · erfc(s / √2b), with b = σ and s = 2k√a, where k is the keypoint's constant and a the
    person's area. Errors in x and y are independent, so that the two means are multiplied.

    Args:
        sigmas: (N, K, 2) array. σx and σy in pixels.
        areas: (N,) array. Areas of the people in square pixels, such as those of their boxes.
        oks_sigmas: sequence of K floats: `Skeleton.sigmas`.

    Returns:
        (N, K) float64 array between 0 and 1.

    Raises:
        ValueError: If shapes do not fit together.

    Example:

    >>> expected_oks([[[5, 5], [50, 50]]], [10000], [0.1, 0.1]).round(3).tolist()
    [[0.896, 0.14]]
    """
    from scipy.special import erfcx  # which few need, and which takes long to import

    shapes = {"sigmas": (sigmas, "N K 2"), "areas": (areas, "N"), "oks_sigmas": (oks_sigmas, "K")}
    sigmas, areas, constants = check_arrays("The expected OKS", **shapes)
    ratio = 2 * constants[:, None] * np.sqrt(areas)[:, None, None] / np.maximum(sigmas, 1e-9)
    return (np.sqrt(np.pi / 2) * ratio * erfcx(ratio / np.sqrt(2))).prod(-1)


def instance_score(
    box_scores: Real[np.ndarray, "*people"] | float,
    keypoint_scores: Real[np.ndarray, "*people keypoints"] | list[float],
    mode: str = "bbox_rle",
    keypoint_threshold: float = 0.2,
) -> Real[np.ndarray, "*people"]:
    """One score per person, by which detections are ranked.

    - `"bbox"`: the box score.
    - `"keypoint"`: mean of the keypoint scores.
    - `"bbox_keypoint"`: box score × mean of the keypoint scores above `keypoint_threshold`; 0 if there are none.
    - `"bbox_rle"`: box score + mean of the keypoint scores + their maximum, so up to 3.
    - `"expected_oks"`: box score × mean of the keypoint scores, which are those of `expected_oks` then.

    Args:
        box_scores: (...) array. The detector's confidences.
        keypoint_scores: (..., K) array.
        mode: str. One of the five above.
        keypoint_threshold: float. Used by `"bbox_keypoint"` alone.

    Returns:
        (...) array of floats.

    Raises:
        ValueError: If `mode` is unknown.

    Example:

    >>> [float(instance_score(0.5, [0.1, 0.4, 0.8], mode).round(4)) for mode in SCORE_MODES]
    [0.5, 0.4333, 0.3, 1.7333, 0.2167]
    """
    box_scores, keypoint_scores = floats(box_scores), floats(keypoint_scores)
    if mode == "bbox":
        return box_scores
    if mode == "keypoint":
        return np.asarray(keypoint_scores.mean(-1))
    if mode == "bbox_keypoint":
        confident = keypoint_scores > keypoint_threshold
        # One after the other and in float64, as the reference adds them, so that its ties are ties here. (sum pairs.)
        total = np.where(confident, keypoint_scores, 0).cumsum(-1, dtype=np.float64)[..., -1]
        return np.asarray(box_scores * (total / np.maximum(confident.sum(-1), 1)))
    if mode == "bbox_rle":
        return np.asarray(box_scores + keypoint_scores.mean(-1) + keypoint_scores.max(-1))
    if mode == "expected_oks":
        return np.asarray(box_scores * keypoint_scores.mean(-1))
    raise ValueError(f"The score mode must be one of {', '.join(SCORE_MODES)}. Received: {mode!r}")


def coco_result(image_id: int | str, category_id: int, points, point_scores, score, box=None) -> dict:
    """Returns a person in COCO's result format.

    Args:
        image_id, category_id: The numbers of the image and of what it is, 1 for a person.
        points: (K, 2) array. Keypoints x, y in image pixels.
        point_scores: (K,) array.
        score: The person's.
        box: (4,) array or None. The person's box, xyxy in image pixels.
    """
    keypoints = np.column_stack([points, point_scores]).ravel().tolist()
    result = {"image_id": image_id, "category_id": category_id, "keypoints": keypoints, "score": float(score)}
    if box is not None:
        left, top, right, bottom = box.tolist()
        result["bbox"] = [left, top, right - left, bottom - top]
    return result
