"""One score per person, of the score of its box and those of its keypoints."""

import numpy as np
from jaxtyping import Real

from keras_regpose.arrays import floats

SCORE_MODES = ("bbox", "keypoint", "bbox_keypoint", "bbox_rle")


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

    Args:
        box_scores: (...) array. The detector's confidences.
        keypoint_scores: (..., K) array.
        mode: str. One of the four above.
        keypoint_threshold: float. Used by `"bbox_keypoint"` alone.

    Returns:
        (...) array of floats.

    Raises:
        ValueError: If `mode` is unknown.

    Example:

    >>> [float(instance_score(0.5, [0.1, 0.4, 0.8], mode).round(4)) for mode in SCORE_MODES]
    [0.5, 0.4333, 0.3, 1.7333]
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
    raise ValueError(f"The score mode must be one of {', '.join(SCORE_MODES)}. Received: {mode!r}")
