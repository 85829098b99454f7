"""PCKh: percentage of correct keypoints in units of the head's size, the measure of the MPII data set.

Source: Andriluka et al., "2D human pose estimation: new benchmark and state of the art analysis", CVPR 2014; joints,
weights and strictness as in `MpiiPCKAccuracy` of MMPose 1.3.2.
"""

import numpy as np

from keras_regpose.arrays import PerKeypoint, PerPerson, Points
from keras_regpose.evaluation.pck import normalized_distances
from keras_regpose.skeleton import MPII16

_PAIRS = ("Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
GROUPS = {"Head": ("head_top",), **{name: (f"left_{name.lower()}", f"right_{name.lower()}") for name in _PAIRS}}
EXCLUDED = ("pelvis", "thorax")


def pckh(
    pred: Points, truth: Points, visible: PerKeypoint, head_size: PerPerson, threshold: float = 0.5
) -> dict[str, float]:
    """PCKh of MPII's 16 keypoints, in percent.

    A keypoint is correct if its distance is strictly below threshold × head size.

    `pred` and `truth` must be in the same coordinates. MPII's own files count pixels from 1, while this package counts
    from 0 and its MPII reader subtracts 1: predictions of a model and keypoints of the reader fit together as they
    are. With keypoints taken straight from MPII's files, pass `pred + 1`.

    Args:
        pred: (N, 16, 2) array of predicted keypoints, in pixels.
        truth: (N, 16, 2) array of true keypoints, in pixels.
        visible: (N, 16) array, 0 or False for unlabelled keypoints.
        head_size: (N,) array in pixels: 0.6 × diagonal of the annotated head box. A person with 0 is left out.
        threshold: float. Fraction of the head size.

    Returns:
        Dict in percent: Head, Shoulder, Elbow, Wrist, Hip, Knee, Ankle (mean of left and right; NaN if none is
        labelled), Mean (over all labelled keypoints except pelvis and thorax, so each joint weighs by its count; upper
        neck is included), and Mean@0.1, the same with threshold 0.1.

    Raises:
        ValueError: If shapes do not fit together, values are not finite or nothing is labelled.

    Example:

    >>> truth = np.arange(32.0).reshape(1, 16, 2)
    >>> result = pckh(truth + [3.0, 4.0], truth, np.ones((1, 16)), [20.0])
    >>> result["Head"], result["Mean"], result["Mean@0.1"]
    (100.0, 100.0, 0.0)
    """
    distances = normalized_distances(pred, truth, visible, head_size, MPII16, left_out=EXCLUDED)
    result = {}
    for group, names in GROUPS.items():
        joints = [distances[:, MPII16.index(name)] for name in names]
        joints = [_percent_below(joint, threshold) for joint in joints if not np.isnan(joint).all()]
        result[group] = float(np.mean(joints)) if joints else float("nan")
    result["Mean"] = _percent_below(distances, threshold)
    result["Mean@0.1"] = _percent_below(distances, 0.1)
    return result


def _percent_below(distances, threshold):
    return float(100 * (distances < np.float32(threshold)).sum() / (~np.isnan(distances)).sum())
