"""Scores of faces and hands, as those who publish on them measure."""

import numpy as np

from keras_regpose.arrays import PerKeypoint, PerPerson, Points
from keras_regpose.evaluation.intervals import Population, over_people
from keras_regpose.evaluation.pck import auc, box_size, epe, normalized_distances, pair_distance
from keras_regpose.inference.poses import Poses
from keras_regpose.skeleton import HAND21, RHD21, WFLW98, Skeleton

EYE_CORNERS = ("kpt-60", "kpt-72")  # the outer ones, of WFLW


def are_landmarks(skeleton: Skeleton) -> bool:
    """Returns whether these are the keypoints of WFLW's faces, or of a hand."""
    return skeleton.keypoints in (WFLW98.keypoints, HAND21.keypoints, RHD21.keypoints)


def nme(pred: Points, truth: Points, visible: PerKeypoint, normalizer: PerPerson | float) -> float:
    """Normalised mean error: mean distance over all labelled keypoints, in percent of each face's size.

    Args:
        pred, truth, visible: (N, K, 2), (N, K, 2) and (N, K) arrays. See `normalized_distances`.
        normalizer: (N,) array, the size of each face; of WFLW, the `pair_distance` of the outer corners of the eyes,
            `("kpt-60", "kpt-72")`. A face with 0 or NaN is left out.

    Returns:
        float, in percent.

    Raises:
        ValueError: If shapes do not fit together, values are not finite or nothing is labelled.

    Example:

    >>> round(nme(np.array([[[3.0, 4.0], [9.0, 0.0]]]), np.zeros((1, 2, 2)), [[1, 1]], [100.0]), 4)
    7.0
    """
    return float(100 * np.nanmean(normalized_distances(pred, truth, visible, normalizer), dtype=np.float64))


def landmark_figures(
    poses: Poses, truth: Points, visible: PerKeypoint
) -> tuple[dict[str, float], str, list[Population]]:
    """Returns the figures of faces or hands, how they were measured, and their people; see `score_predictions`."""
    pair = poses.keypoints, truth, visible
    error, distances = {"error": epe(*pair)}, normalized_distances(*pair, 1.0)
    faces = poses.skeleton.keypoints == WFLW98.keypoints
    populations = [over_people({"error": distances} if faces else {"error": distances, "EPE": distances})]
    if faces:
        eyes = pair_distance(truth, visible, poses.skeleton, EYE_CORNERS)
        populations.append(over_people({"NME": 100 * normalized_distances(*pair, eyes)}))
        measure = "NME: mean distance in percent of that between the outer corners of the eyes"
        return {"NME": nme(*pair, eyes)} | error, measure, populations
    sizes, steps = box_size(poses.boxes), np.arange(20) / 20
    figures = {"PCK@0.2": auc(*pair, sizes, (0.2,)), "AUC": auc(*pair), "EPE": error["error"]}
    shares = [normalized_distances(*pair, 30.0)[..., None] < np.float32(steps)]
    shares.insert(0, normalized_distances(*pair, sizes)[..., None] < np.array([0.2], np.float32))
    correct = [np.where(np.isnan(distances), np.nan, share.mean(-1)) for share in shares]
    populations.append(over_people(dict(zip(figures, correct, strict=False)), by_keypoint=True))
    measure = "PCK: within 0.2 of the box's longer side; AUC: of PCK from 0 to 30 pixels; EPE: mean distance in pixels"
    return figures | error, measure, populations
