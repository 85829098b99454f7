"""What kind of error each predicted keypoint makes.

Source: Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017, section 3.
"""

from collections.abc import Sequence

import numpy as np

from keras_regpose.data.people import People
from keras_regpose.data.records import estimated_area
from keras_regpose.data.sample import Sample
from keras_regpose.evaluation.oks import keypoint_similarity
from keras_regpose.inference.poses import Poses
from keras_regpose.skeleton import Skeleton

KINDS = ("good", "near_miss", "sides_swapped", "another_place", "far_off")
_NEAR, _GOOD = 0.5, 0.85


def error_kinds(poses: Poses, positions: np.ndarray, samples: Sequence[Sample]) -> np.ndarray:
    """Sorts predicted keypoints by kind of error.

    With the similarity exp(−d² / (2·(2σ)²·a)) of OKS to the place of a label, σ being the skeleton's and a the person's
    area, a keypoint is: good if it is at least .85 similar to its own place; a near miss from .5; otherwise, of the
    places of all other labels in the picture, the most similar one decides if it is at least .5: it is that of the same
    joint on the person's other side, or another one, be it of this person or of somebody else; if there is none, the
    keypoint is far off.

    Args:
        poses, positions, samples: What `evaluation.evaluate.predict_samples` returned, and what it was given.

    Returns:
        (N, K) int array of places in `KINDS`; −1 for keypoints that are not labelled.

    Example:

    >>> from keras_regpose.skeleton import Skeleton
    >>> hands = Skeleton("hands", ("left", "right"), flip_pairs=(("left", "right"),))
    >>> truth, box = np.array([[10, 50], [90, 50]], np.float32), np.array([0, 0, 100, 100], np.float32)
    >>> sample = Sample("photo.jpg", box, truth, np.ones(2, np.float32), 1, 1, area=5000)
    >>> poses = Poses([[[90, 51], [50, 99]]], np.ones((1, 2)), [box], [1], hands)
    >>> [KINDS[kind] for kind in error_kinds(poses, np.array([0]), [sample])[0]]
    ['sides_swapped', 'far_off']
    """
    people = People.of(samples, poses.skeleton)
    truth, labelled = np.asarray(people.field("keypoints"), float), np.asarray(people.field("visible")) > 0
    sizes = zip(people.field("area"), people.field("box"), strict=True)
    areas = np.array([area or estimated_area(box) for area, box in sizes])
    partners = poses.skeleton.flip_permutation
    photographs, every = people.photographs, np.arange(len(partners))
    order = np.argsort(photographs, kind="stable")
    ends = np.searchsorted(photographs[order], [photographs, photographs + 1]).T
    kinds = np.full(poses.keypoints.shape[:2], -1)
    for row, position in enumerate(positions.tolist()):
        there = order[slice(*ends[position])]
        me = int(np.flatnonzero(there == position)[0])
        squared = ((poses.keypoints[row, :, None, None] - truth[there]) ** 2).sum(-1)
        similar = keypoint_similarity(squared, areas[there][:, None], poses.skeleton.sigmas)
        similar = np.where(labelled[there], similar, 0)  # predicted keypoint × person × labelled keypoint
        own = similar[every, me, every].copy()
        similar[every, me, every] = 0
        other = similar.reshape(len(every), -1)
        is_partner = (other.argmax(1) == me * len(every) + partners) & (partners != every)
        swapped = np.where(other.max(1) < _NEAR, KINDS.index("far_off"), KINDS.index("another_place") - is_partner)
        kinds[row] = np.where(own >= _GOOD, 0, np.where(own >= _NEAR, 1, swapped))
    return np.where(labelled[positions], kinds, -1)


def error_shares(kinds: np.ndarray, skeleton: Skeleton) -> dict[str, dict[str, float]]:
    """Returns, for each keypoint's name and for "all", how many are labelled and the share of each of `KINDS`.

    Args:
        kinds: (N, K) int array, from `error_kinds`.
        skeleton: `Skeleton` with K keypoints.
    """
    shares = {}
    for name, column in zip((*skeleton.keypoints, "all"), [*kinds.T, kinds.ravel()], strict=True):
        counts = np.bincount(column[column >= 0], minlength=len(KINDS))
        rates = (counts / max(1, counts.sum())).tolist()
        shares[name] = {"labelled": int(counts.sum()), **dict(zip(KINDS, rates, strict=True))}
    return shares
