"""Distillation: what another model sees, as labels to learn from.

A teacher says where keypoints are that nobody has labelled, of annotated people and of people in pictures without any
annotations, and how sure it is: its positions count as much as the expected object keypoint similarity.
Source: Radosavovic et al., Data Distillation: Towards Omni-Supervised Learning (2018), section 4.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_regpose.data.people import People
from keras_regpose.data.sample import Sample
from keras_regpose.evaluation.evaluate import predict_samples
from keras_regpose.inference.estimator import only_pictures
from keras_regpose.skeleton import matched_keypoints

_SURE = 0.3  # what the teacher is less sure of is left out
_MOST = 0.99  # from 1 on a visibility says that somebody has labelled it


def taught(
    people: People, teacher: Any, pictures: Any = None, progress: Callable[[int], object] | None = None
) -> People:
    """Fills in the keypoints that nobody has labelled, and adds the people of pictures without annotations.

    Labels stay as they are. A keypoint of the teacher's has a visibility between 0 and 1, its weight in the loss.

    Args:
        people: `People` to learn from, with the student's skeleton.
        teacher: `PoseRegressor` or exported model, with keypoints that the skeleton has, too, by name.
        pictures: what `estimate` takes, such as a folder, or None. Pictures in which the teacher finds people itself.
        progress: callable or None. Called with the number of people just seen.

    Returns:
        `People`.

    Raises:
        ValueError: If the teacher knows none of the keypoints, or a video is among the pictures.

    Example:

    >>> import keras_regpose as rp
    >>> people = rp.data.Synthetic(2, seed=0, skeleton=rp.LSP14)  # of which the head's top is not the teacher's
    >>> teacher = rp.from_preset("mobilenetv2_rle_people")
    >>> unlabelled = [dataclasses.replace(one, visible=0 * one.visible) for one in people]
    >>> learned = taught(rp.data.People(unlabelled, rp.LSP14), teacher)
    >>> bool((learned[0].visible < 1).all()), float(learned[0].visible[-1])
    (True, 0.0)
    """
    skeleton = people.skeleton
    nothing = np.zeros((len(teacher.skeleton), 3), np.float32)
    blank = {"keypoints": nothing[:, :2], "visible": nothing[:, 2], "head_size": None}
    asked = People([dataclasses.replace(sample, **blank) for sample in people], teacher.skeleton)
    poses, positions = predict_samples(teacher, asked, progress=progress)
    points, weights = _in_skeleton(poses, skeleton)
    samples = list(people)
    for position, point, weight in zip(positions.tolist(), points, weights, strict=True):
        sample = samples[position]
        labelled = sample.visible > 0
        keypoints = np.where(labelled[:, None], sample.keypoints, point)
        visible = np.where(labelled, sample.visible, weight)
        samples[position] = dataclasses.replace(sample, keypoints=keypoints, visible=visible)
    for picture, found in only_pictures([] if pictures is None else teacher.estimate(pictures)):
        for box, point, weight in zip(found.boxes, *_in_skeleton(found, skeleton), strict=True):
            number = len(samples)
            samples.append(Sample(picture, box, point, weight, -number, number))
    return People([sample for sample in samples if (sample.visible > 0).any()], skeleton)


def _in_skeleton(poses, skeleton):
    """Returns (N, K, 2) positions and (N, K) weights in the order of another skeleton, 0 where it has no such one."""
    kept = matched_keypoints(skeleton.keypoints, poses.skeleton.keypoints)
    if not kept:
        raise ValueError(f"The teacher's skeleton {poses.skeleton.name!r} has no keypoint of {skeleton.name!r}")
    points = np.zeros((len(poses), len(skeleton), 2), np.float32)
    weights = np.zeros(points.shape[:2], np.float32)
    sure = poses.scores if poses.sigmas is None else poses.expected_oks()
    points[:, list(kept)] = poses.keypoints[:, list(kept.values())]
    weights[:, list(kept)] = np.where(sure < _SURE, 0, np.minimum(sure, _MOST))[:, list(kept.values())]
    return points, weights
