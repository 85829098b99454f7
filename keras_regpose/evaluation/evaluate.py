"""Samples → predictions → the data set's own metric."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from keras_regpose import geometry
from keras_regpose.data.people import People, Subset
from keras_regpose.data.sample import Sample
from keras_regpose.data.unreadable import UnreadableImages
from keras_regpose.evaluation.coco import coco_keypoints
from keras_regpose.evaluation.pck import pck, torso_size
from keras_regpose.evaluation.pckh import pckh
from keras_regpose.images import ImageError
from keras_regpose.inference.estimator import estimate_frames
from keras_regpose.inference.poses import Poses
from keras_regpose.inference.sources import Frame, read_ahead, read_picture


def predict_samples(
    model,
    samples: Sequence[Sample],
    flip_test: bool = False,
    batch_size: int = 32,
    progress: Callable[[int], object] | None = None,
    max_unreadable_share: float = 0.1,
) -> tuple[Poses, np.ndarray]:
    """Predicts the keypoints of every sample from its box, reading each photograph once for all of its people.

    Images that cannot be read are named in the log, and their people are left out.

    Args:
        model: `PoseRegressor`.
        samples: `People` or a list of `Sample`.
        flip_test: bool. Whether to average with the prediction for the mirrored crop.
        batch_size: int.
        progress: callable or None. Called with the number of samples just done.
        max_unreadable_share: float. If the images of a larger share of the samples cannot be read, that is an error.

    Returns:
        `Poses` of the N people whose image could be read, in the order of the samples, and their (N,) int positions
        among the samples.

    Raises:
        ValueError: If the samples have other keypoints than the model, or too many images cannot be read.
    """
    people = People.of(samples, model.skeleton)
    numbers = people.photographs
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(people) else []
    boxes: dict[int | None, tuple[np.ndarray, np.ndarray]] = {}  # of the photographs that wait for the network
    photographs = read_ahead(_photographs(people, groups, boxes, max_unreadable_share))
    parts, positions = [], [np.zeros(0, int)]
    for poses in estimate_frames(
        model,
        photographs,
        lambda frame, _: boxes.pop(frame.frame),
        flip_test=flip_test,
        batch_size=batch_size,
        keep_pictures=False,
    ):
        parts.append(poses)
        positions.append(groups[poses.frame])  # pyright: ignore[reportCallIssue, reportArgumentType] -- numbered
        if progress:
            progress(len(poses))
    if progress:
        progress(len(people) - sum(map(len, parts)))  # the unreadable ones
    nobody: Any = []
    parts = parts or [Poses(nobody, nobody, nobody, nobody, model.skeleton)]
    positions = np.concatenate(positions)
    order = np.argsort(positions)
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in parts])[order]
        for name in ("keypoints", "scores", "boxes", "box_scores", "sigmas")
        if getattr(parts[0], name) is not None
    }
    return Poses(skeleton=model.skeleton, **joined), positions[order]


def _photographs(people, groups, boxes, max_unreadable_share) -> Iterator[Frame]:
    """Yields each photograph, numbered, and puts the boxes of its people under this number."""
    unreadable = UnreadableImages(len(people), max_unreadable_share)
    for number, group in enumerate(groups):
        chosen = [people[position] for position in group.tolist()]
        try:
            frame = read_picture(chosen[0].image)
        except ImageError as error:
            unreadable.add(number, error, len(group))
            continue
        boxes[number] = np.stack([one.box for one in chosen]), np.array([one.box_score for one in chosen], np.float32)
        yield Frame(frame.image, frame.source, number)


def score_predictions(
    poses: Poses,
    positions: np.ndarray,
    samples: Sequence[Sample],
    input_size: tuple[int, int],
    score_mode: str | None = None,
    nms: str | None = "oks",
) -> dict[str, float]:
    """Scores predictions with the metric of their data set.

    Args:
        poses: `Poses`, from `predict_samples`.
        positions: (N,) int array, from `predict_samples`.
        samples: the samples they were made for.
        input_size: (height, width) of the model's crops. The area that a crop shows enters the suppression.
        score_mode: str or None. How COCO instance scores are made; None is "bbox_rle" for outputs with σ and
            "bbox_keypoint" for others, as the published rows do.
        nms: "oks", "soft_oks" or None. Suppression of doubled poses before COCO's evaluation.

    Returns:
        dict: AP, AR … in [0, 1] for data with `annotations`; else see `correct_keypoints`.
    """
    if not len(poses):
        raise ValueError("There is nothing to score: no image could be read")
    people = People.of(samples, poses.skeleton)
    if people.annotations is None:
        return correct_keypoints(poses, positions, people)
    chosen = Subset(people, positions)
    _, scale = geometry.box_to_center_scale(poses.boxes)
    columns = {
        "image_id": chosen.field("image_id"),
        "id": chosen.field("id"),
        "keypoints": poses.keypoints,
        "scores": poses.scores,
        "box_score": poses.box_scores.astype(np.float64),
        "area": geometry.fix_aspect_ratio(scale, input_size).prod(-1).astype(np.float64),
        "box": poses.boxes,
    }
    predictions = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if score_mode is None:
        score_mode = "bbox_keypoint" if poses.sigmas is None else "bbox_rle"
    return coco_keypoints(predictions, people.annotations, score_mode, nms, sigmas=poses.skeleton.sigmas)


def correct_keypoints(poses: Poses, positions: np.ndarray, samples: Sequence[Sample]) -> dict[str, float]:
    """Returns PCKh in percent for samples with head sizes, and PCK at 0.2 torso lengths in [0, 1] for others.

    Args:
        poses, positions, samples: See `score_predictions`.
    """
    people = People.of(samples, poses.skeleton)
    truth, visible = labels(poses, positions, people)
    head_sizes = Subset(people, positions).field("head_size")
    if None not in head_sizes:
        return pckh(poses.keypoints, truth, visible, np.array(head_sizes))
    return pck(poses.keypoints, truth, visible, torso_size(truth, visible, poses.skeleton), poses.skeleton)


def labels(poses: Poses, positions: np.ndarray, samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the true keypoints (N, K, 2) in pixels, and visibilities (N, K), of people that were predicted."""
    people = People.of(samples, poses.skeleton)
    return np.asarray(people.field("keypoints"))[positions], np.asarray(people.field("visible"))[positions]


def evaluate(
    model,
    samples: Sequence[Sample],
    flip_test: bool = False,
    batch_size: int = 32,
    progress: Callable[[int], object] | None = None,
    score_mode: str | None = None,
    nms: str | None = "oks",
) -> dict[str, float]:
    """Predicts every sample and returns its data set's metric; see `predict_samples` and `score_predictions`.

    Example:

    >>> import keras_regpose as rp
    >>> from keras_regpose.evaluation.evaluate import evaluate
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> sorted(evaluate(model, rp.data.Synthetic(4, seed=1)))[:3]
    ['AP', 'AP50', 'AP75']
    """
    people = People.of(samples, model.skeleton)
    poses, positions = predict_samples(model, people, flip_test, batch_size, progress)
    return score_predictions(poses, positions, people, model.input_size, score_mode, nms)
