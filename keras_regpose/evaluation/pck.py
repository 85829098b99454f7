"""Percentage of correct keypoints (PCK), and the small measures of distance beside it.

Source: Yang and Ramanan, "Articulated human detection with flexible mixtures of parts", TPAMI 2013, section 6.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Real

from keras_regpose.arrays import PerKeypoint, PerPerson, Points, check_people
from keras_regpose.skeleton import Skeleton

TORSO = ("left_shoulder", "right_hip")


def normalized_distances(
    pred: Points,
    truth: Points,
    visible: PerKeypoint,
    normalizer: PerPerson | float,
    skeleton: Skeleton | None = None,
    left_out: Sequence[str] = (),
) -> Float[np.ndarray, "people keypoints"]:
    """Distances between predicted and true keypoints, in units of each person's size.

    Args:
        pred: (N, K, 2) array of predicted keypoints.
        truth: (N, K, 2) array of true keypoints, in the coordinates of `pred`. Values of unlabelled keypoints are
            never read.
        visible: (N, K) array, 0 or False for unlabelled keypoints.
        normalizer: (N,) array, the length that counts as 1 for each person, or one float for all. A person with 0 or
            NaN is left out.
        skeleton: `Skeleton` that the keypoints must have, or None.
        left_out: sequence of the names of keypoints in it that do not count.

    Returns:
        (N, K) float32 array, NaN where the keypoint is not labelled or does not count, or the person is left out.

    Raises:
        ValueError: If shapes do not fit together, values are not finite, a normaliser is negative or nothing counts.

    Example:

    >>> pred, truth = np.array([[[3.0, 4.0], [0.0, 0.0]]]), np.zeros((1, 2, 2))
    >>> normalized_distances(pred, truth, [[1, 0]], [10.0]).tolist()
    [[0.5, nan]]
    """
    count, subject = ("K", "A comparison") if skeleton is None else (len(skeleton), f"Skeleton {skeleton.name!r}")
    pred, truth, visible = check_people(subject, count, pred=pred, truth=truth, visible=visible).values()
    normalizer = np.asarray(normalizer, np.float64)
    normalizer = normalizer if normalizer.ndim else np.full(len(pred), normalizer)
    if normalizer.shape != pred.shape[:1] or np.isinf(normalizer).any() or (normalizer < 0).any():
        given = f"shape {normalizer.shape}, smallest value {normalizer.min(initial=np.inf)}"
        needed = f"one length per person, {len(pred)} in all, none negative or infinite"
        raise ValueError(f"The normaliser must be {needed}. Received: {given}")
    counted = (visible != 0) & (normalizer > 0)[:, None]
    if not np.isfinite(pred).all():
        raise ValueError("Predicted keypoints must be finite. Received: NaN or infinity")
    if not np.isfinite(truth[counted]).all():
        raise ValueError("Labelled keypoints of the ground truth must be finite. Received: NaN or infinity")
    offsets = np.where(counted[..., None], pred - truth, np.nan)
    # float32, so that a distance of exactly the threshold is not moved across it by rounding.
    distances = (np.linalg.norm(offsets, axis=-1) / normalizer[:, None]).astype(np.float32)
    if skeleton is not None:
        distances[:, list(map(skeleton.index, left_out))] = np.nan
    if np.isnan(distances).all():
        raise ValueError("There is nothing to measure: no person has both a labelled keypoint and a size above 0")
    return distances


def pck(
    pred: Points,
    truth: Points,
    visible: PerKeypoint,
    normalizer: PerPerson | float,
    skeleton: Skeleton,
    threshold: float = 0.2,
) -> dict[str, float]:
    """Fraction of labelled keypoints that lie within a fraction of the person's size.

    A keypoint is correct if its distance ≤ threshold × normaliser.

    Args:
        pred, truth, visible: (N, K, 2), (N, K, 2) and (N, K) arrays. See `normalized_distances`.
        normalizer: (N,) array, the size of each person in the unit of the keypoints, such as `torso_size`,
            `box_diagonal` or `pair_distance`. A person with 0 or NaN is left out.
        skeleton: Skeleton of the keypoints.
        threshold: float. Fraction of the normaliser.

    Returns:
        Dict of fractions in [0, 1], not percent: one for each keypoint name without its side, such as `"neck"` and
        `"elbow"` (left and right together; NaN if none is labelled), then `"Mean"` over all labelled keypoints. Two
        counts follow: `"persons"` evaluated and persons `"left_out"` for want of a normaliser.

    Raises:
        ValueError: If shapes do not fit together, values are not finite or nothing is labelled.

    Example:

    >>> skeleton = Skeleton("arm", ("neck", "left_hand", "right_hand"), flip_pairs=(("left_hand", "right_hand"),))
    >>> pred = np.array([[[0.0, 0.0], [9.0, 0.0], [0.0, 30.0]]])
    >>> pck(pred, np.zeros((1, 3, 2)), np.ones((1, 3)), [50.0], skeleton)
    {'neck': 1.0, 'hand': 0.5, 'Mean': 0.6666666666666666, 'persons': 1, 'left_out': 0}
    """
    distances = normalized_distances(pred, truth, visible, normalizer, skeleton)
    correct = np.where(np.isnan(distances), np.nan, distances <= np.float32(threshold))
    joints = np.array([name.removeprefix("left_").removeprefix("right_") for name in skeleton.keypoints])
    result = {name: _mean(correct[:, joints == name]) for name in dict.fromkeys(joints.tolist())}
    result["Mean"] = _mean(correct)
    sizes = np.broadcast_to(np.asarray(normalizer, np.float64), len(distances))
    persons = int((sizes > 0).sum())
    return {**result, "persons": persons, "left_out": len(distances) - persons}


def torso_size(keypoints: Points, visible: PerKeypoint, skeleton: Skeleton) -> Float[np.ndarray, " people"]:
    """Distance from left shoulder to right hip, the normaliser of PCK on Leeds Sports Pose.

    Args:
        keypoints: (N, K, 2) array of true keypoints.
        visible: (N, K) array, 0 or False for unlabelled keypoints.
        skeleton: Skeleton of the keypoints. It must have `left_shoulder` and `right_hip`.

    Returns:
        (N,) float64 array in the unit of the keypoints; NaN where one of the two is unlabelled, so that `pck` leaves
        the person out.

    Raises:
        ValueError: If shapes do not fit together or the skeleton lacks one of the two keypoints.

    Example:

    >>> skeleton = Skeleton("torso", ("left_shoulder", "right_hip"))
    >>> points = np.array([[[3.0, 4.0], [0.0, 0.0]]] * 2)
    >>> torso_size(points, [[1, 1], [1, 0]], skeleton).tolist()
    [5.0, nan]
    """
    return pair_distance(keypoints, visible, skeleton, TORSO)


def pair_distance(
    keypoints: Points, visible: PerKeypoint, skeleton: Skeleton, pair: Sequence[str]
) -> Float[np.ndarray, " people"]:
    """Distance between two named keypoints of each person, a normaliser of PCK for any skeleton.

    Args:
        keypoints: (N, K, 2) array of true keypoints.
        visible: (N, K) array, 0 or False for unlabelled keypoints.
        skeleton: Skeleton of the keypoints.
        pair: two different names of its keypoints.

    Returns:
        (N,) float64 array in the unit of the keypoints; NaN where one of the two is unlabelled, so that `pck` leaves
        the person out.

    Raises:
        ValueError: If shapes do not fit together, or the pair is not two of the skeleton's keypoints.

    Example:

    >>> skeleton = Skeleton("fish", ("mouth", "fin", "tail"))
    >>> points = np.array([[[0.0, 0.0], [9.0, 9.0], [30.0, 40.0]]])
    >>> pair_distance(points, [[1, 1, 1]], skeleton, ("mouth", "tail")).tolist()
    [50.0]
    """
    if isinstance(pair, str) or len(set(pair)) != 2 or len(pair) != 2:
        raise ValueError(f"A distance is between two different keypoints, such as ('neck', 'hip'). Received: {pair!r}")
    ends, subject = [skeleton.index(name) for name in pair], f"A distance of {skeleton.name!r}"
    keypoints, visible = check_people(subject, len(skeleton), keypoints=keypoints, visible=visible).values()
    size = np.linalg.norm(keypoints[:, ends[0]] - keypoints[:, ends[1]], axis=-1)
    return np.where(visible[:, ends].all(-1), size, np.nan)


def box_size(boxes: Real[np.ndarray, "people 4"]) -> PerPerson:
    """Longer side of each box, the usual normaliser of PCK where there is no torso.

    Args:
        boxes: (N, 4) array of xyxy boxes in the unit of the keypoints.

    Returns:
        (N,) float64 array.

    Raises:
        ValueError: If the shape is another one.

    Example:

    >>> box_size([[10, 10, 40, 90]]).tolist()
    [80.0]
    """
    boxes = check_people("The size", "K", boxes=boxes)["boxes"]
    return (boxes[:, 2:] - boxes[:, :2]).max(-1)


def box_diagonal(boxes: Real[np.ndarray, "people 4"]) -> PerPerson:
    """Diagonal of each box, a normaliser of PCK for any skeleton.

    Args:
        boxes: (N, 4) array of xyxy boxes in the unit of the keypoints.

    Returns:
        (N,) float64 array.

    Raises:
        ValueError: If the shape is another one.

    Example:

    >>> box_diagonal([[10, 10, 40, 50]]).tolist()
    [50.0]
    """
    boxes = check_people("The diagonal", "K", boxes=boxes)["boxes"]
    return np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=-1)


def auc(
    pred: Points,
    truth: Points,
    visible: PerKeypoint,
    normalizer: PerPerson | float = 30.0,
    thresholds: int | Sequence[float] = 20,
) -> float:
    """Area under the curve of PCK over its threshold, as hand pose papers report it.

    At each threshold, the fraction of distances strictly below it is averaged over the keypoints, each of equal
    weight. Source: `keypoint_auc` of MMPose 1.3.2.

    Args:
        pred, truth, visible: (N, K, 2), (N, K, 2) and (N, K) arrays. See `normalized_distances`.
        normalizer: float or (N,) array. The length that counts as 1.
        thresholds: int n for the thresholds 0, 1/n, … (n−1)/n, or the thresholds themselves.

    Returns:
        Fraction in [0, 1].

    Raises:
        ValueError: If shapes do not fit together, values are not finite or nothing is labelled.

    Example:

    >>> auc(np.array([[[4.0, 0.0]]]), np.zeros((1, 1, 2)), [[1]], normalizer=20, thresholds=4)
    0.75
    """
    distances = normalized_distances(pred, truth, visible, normalizer)
    distances = distances[:, ~np.isnan(distances).all(0)]
    steps = np.arange(thresholds) / thresholds if isinstance(thresholds, int) else thresholds
    labelled = ~np.isnan(distances)
    return float(np.mean([((distances < np.float32(t)).sum(0) / labelled.sum(0)).mean() for t in steps]))


def epe(pred: Points, truth: Points, visible: PerKeypoint) -> float:
    """End-point error: mean distance over all labelled keypoints, in the unit of the keypoints.

    Args:
        pred, truth, visible: (N, K, 2), (N, K, 2) and (N, K) arrays. See `normalized_distances`.

    Returns:
        float.

    Raises:
        ValueError: If shapes do not fit together, values are not finite or nothing is labelled.

    Example:

    >>> epe(np.array([[[3.0, 4.0], [9.0, 0.0]]]), np.zeros((1, 2, 2)), [[1, 1]])
    7.0
    """
    distances = normalized_distances(pred, truth, visible, 1.0)
    return float(np.nanmean(distances, dtype=np.float64))


def mean_error(pred: Points, truth: Points, visible: PerKeypoint, skeleton: Skeleton) -> dict[str, float]:
    """Mean distance between predicted and labelled place, for each keypoint by itself and over all.

    Args:
        pred, truth, visible: (N, K, 2), (N, K, 2) and (N, K) arrays. See `normalized_distances`.
        skeleton: Skeleton of the keypoints.

    Returns:
        Dict in the unit of the keypoints: one for each keypoint's name (NaN if it is labelled nowhere), then `"Mean"`
        over all labelled keypoints, which is `epe`.

    Raises:
        ValueError: If shapes do not fit together, values are not finite or nothing is labelled.

    Example:

    >>> skeleton = Skeleton("stick", ("grip", "tip"))
    >>> mean_error(np.array([[[3.0, 4.0], [9.0, 0.0]]]), np.zeros((1, 2, 2)), [[1, 1]], skeleton)
    {'grip': 5.0, 'tip': 9.0, 'Mean': 7.0}
    """
    distances = normalized_distances(pred, truth, visible, 1.0, skeleton).astype(np.float64)
    return dict(zip((*skeleton.keypoints, "Mean"), map(_mean, (*distances.T, distances)), strict=True))


def _mean(values):
    """Returns the mean of what is not NaN, or NaN if all is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
