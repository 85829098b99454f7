"""Samples → predictions → the data set's own metric."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from keras_regpose import geometry
from keras_regpose.data.people import People, Subset
from keras_regpose.data.sample import Sample
from keras_regpose.data.unreadable import UnreadableImages
from keras_regpose.evaluation.coco import coco_evaluation, coco_figures
from keras_regpose.evaluation.intervals import Interval, Population, interval, over_people, over_pictures
from keras_regpose.evaluation.landmarks import are_landmarks, landmark_figures
from keras_regpose.evaluation.pck import TORSO, box_diagonal, epe, normalized_distances, pck, torso_size
from keras_regpose.evaluation.pckh import EXCLUDED, pckh
from keras_regpose.images import ImageError
from keras_regpose.inference.estimator import estimate_frames
from keras_regpose.inference.poses import Poses
from keras_regpose.inference.sources import Frame, read_ahead, read_picture
from keras_regpose.skeleton import MPII16


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
    options = {"flip_test": flip_test, "batch_size": batch_size, "keep_pictures": False}
    for poses in estimate_frames(model, photographs, lambda frame, _: boxes.pop(frame.frame), **options):
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
    return Poses(skeleton=model.skeleton, quantiles=parts[0].quantiles, **joined), positions[order]


def _photographs(people, groups, boxes, max_unreadable_share) -> Iterator[Frame]:
    """Yields each photograph, numbered, and puts the boxes of its people under this number."""
    unreadable = UnreadableImages(len(people), max_unreadable_share)
    for number, group in enumerate(groups):
        chosen = [people[position] for position in group.tolist()]
        try:
            frame = read_picture(chosen[0].image)
            chosen[0].check_size(frame.image)
        except ImageError as error:
            unreadable.add(number, error, len(group))
            continue
        boxes[number] = np.stack([one.box for one in chosen]), np.array([one.box_score for one in chosen], np.float32)
        yield Frame(frame.image, frame.source, number)


class Scores(dict[str, float]):
    """The figures of predictions by name, and the people and pictures that they are of.

    Args:
        figures: dict.
        measure: str. What makes a keypoint correct, such as "PCK: within 0.2 torso lengths"; "" without labels.
        populations: list of `Population`: people, and pictures for AP and AR.
    """

    def __init__(self, figures: dict[str, float], measure: str, populations: list[Population]):
        super().__init__(figures)
        self.measure = measure
        self.populations = populations

    @cached_property
    def drawn(self) -> dict[str, np.ndarray]:
        """Figures of people and pictures drawn again, by name; see `Population.drawn`."""
        return {name: values for one in self.populations for name, values in one.drawn().items()}

    @property
    def intervals(self) -> dict[str, Interval]:
        """The main figures with their 95 % intervals, by name."""
        return {name: interval(self[name], drawn) for name, drawn in self.drawn.items() if self[name] != -1}

    def minus(self, other: "Scores") -> dict[str, Interval]:
        """Returns the differences to other predictions for the same samples, with their 95 % intervals, by name.

        Both are scored on the same draws of people and pictures, so that an interval is narrower than those of the two
        figures suggest. Where it holds 0, these people do not tell whose figure is greater.

        Raises:
            ValueError: If the others are of other people or pictures.
        """
        if [one.count for one in self.populations] != [one.count for one in other.populations]:
            raise ValueError("Only scores of the same people can be compared: score both on the same samples")
        return {key: interval(self[key] - other[key], self.drawn[key] - other.drawn[key]) for key in self.intervals}


def score_predictions(
    poses: Poses,
    positions: np.ndarray,
    samples: Sequence[Sample],
    input_size: tuple[int, int],
    score_mode: str | None = None,
    nms: str | None = "oks",
) -> Scores:
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
        `Scores`, a dict: AP, AR … in [0, 1] for data with `annotations`, and where keypoints are labelled, "PCK" and
        "error" of `correct_keypoints`, whose figures other data has. Faces and hands of other data have those of their
        field: NME of WFLW's keypoints in percent of the eyes' distance, and PCK@0.2 of the box's longer side, AUC up to
        30 pixels, and EPE in pixels of hands, as MMPose's recipes for them do.
    """
    if not len(poses):
        raise ValueError("There is nothing to score: no image could be read")
    people = People.of(samples, poses.skeleton)
    if people.annotations is None:
        if are_landmarks(poses.skeleton):
            return Scores(*landmark_figures(poses, *labels(poses, positions, people)))
        return correct_keypoints(poses, positions, people)
    chosen = Subset(people, positions)
    _, scale = geometry.box_to_center_scale(poses.boxes)
    areas = geometry.fix_aspect_ratio(scale, input_size).prod(-1).astype(np.float64)
    columns: dict[str, Any] = {name: chosen.field(name) for name in ("image_id", "id", "category_id")}
    columns |= {"keypoints": poses.keypoints, "scores": poses.scores, "area": areas, "box": poses.boxes}
    columns["box_score"] = poses.box_scores.astype(np.float64)
    columns |= {} if poses.sigmas is None else {"sigmas": poses.sigmas}
    predictions = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if score_mode is None:
        score_mode = "bbox_keypoint" if poses.sigmas is None else "bbox_rle"
    evaluation = coco_evaluation(predictions, people.truth() or {}, score_mode, nms, sigmas=poses.skeleton.sigmas)
    figures, pictures = coco_figures(evaluation), over_pictures(evaluation)
    if not (labels(poses, positions, people)[1] > 0).any():
        return Scores(figures, "", [pictures])
    correct = correct_keypoints(poses, positions, people, "PCK")
    figures |= {name: correct[name] for name in ("PCK", "error")}
    return Scores(figures, correct.measure, [pictures, *correct.populations])


def correct_keypoints(poses: Poses, positions: np.ndarray, samples: Sequence[Sample], name: str = "Mean") -> Scores:
    """Returns PCKh in percent for MPII's keypoints with head sizes, PCK in [0, 1] for others, and the mean error.

    PCK is that of `pck`: at 0.2 of the torso; where a skeleton has no left shoulder and right hip, or nobody has both
    labelled, at 0.05 of the diagonal of the box, which is about as strict for people. "error" is in pixels.

    Args:
        poses, positions, samples: See `score_predictions`.
        name: str. What the share of all correct keypoints is called. Under another name than "Mean" it is PCK of MPII
            as well.
    """
    people = People.of(samples, poses.skeleton)
    truth, visible = labels(poses, positions, people)
    pred, skeleton = poses.keypoints, poses.skeleton
    heads = np.array(Subset(people, positions).field("head_size"), float)  # None is NaN
    if name == "Mean" and heads.all() and not np.isnan(heads).any() and skeleton.keypoints == MPII16.keypoints:
        measure = "PCKh: within 0.5 head sizes, in percent"
        figures = pckh(pred, truth, visible, heads)
        distances = normalized_distances(pred, truth, visible, heads, MPII16, EXCLUDED)
        correct = {"Mean": 100.0 * (distances < np.float32(0.5)), "Mean@0.1": 100.0 * (distances < np.float32(0.1))}
    else:
        sizes, threshold, measure = box_diagonal(poses.boxes), 0.05, "PCK: within 0.05 of the box's diagonal"
        if set(TORSO) <= set(skeleton.keypoints) and (torso_size(truth, visible, skeleton) > 0).any():
            sizes, threshold = torso_size(truth, visible, skeleton), 0.2
            measure = "PCK: within 0.2 torso lengths"
        figures = pck(pred, truth, visible, sizes, skeleton, threshold)
        figures[name] = figures["Mean"]
        distances = normalized_distances(pred, truth, visible, sizes)
        correct = {name: 1.0 * (distances <= np.float32(threshold))}
    correct = {name: np.where(np.isnan(distances), np.nan, values) for name, values in correct.items()}
    population = over_people({**correct, "error": normalized_distances(pred, truth, visible, 1.0)})
    return Scores(figures | {"error": epe(pred, truth, visible)}, measure, [population])


def labels(poses: Poses, positions: np.ndarray, samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the true keypoints (N, K, 2) in pixels, and visibilities (N, K), of people that were predicted."""
    people = People.of(samples, poses.skeleton)
    return np.asarray(people.field("keypoints"))[positions], np.asarray(people.field("visible"))[positions]


def evaluate(
    model, samples: Sequence[Sample], score_mode: str | None = None, nms: str | None = "oks", **options
) -> Scores:
    """Predicts every sample and returns its data set's metric; see `score_predictions`.

    Args:
        model: `PoseRegressor`, or an exported one.
        samples: `People` or a list of `Sample`.
        score_mode, nms: See `coco_keypoints`.
        **options: See `predict_samples`: flip_test, batch_size, progress, max_unreadable_share.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> scores = rp.metrics.evaluate(model, rp.data.Synthetic(4, seed=1))
    >>> sorted(scores)[:3], scores.measure
    (['AP', 'AP50', 'AP75'], 'PCK: within 0.2 torso lengths')
    >>> value, low, high = scores.intervals["error"]  # in pixels, with the ends of its 95 % interval
    >>> low <= value <= high
    True
    """
    poses, positions = predict_samples(model, samples, **options)
    return score_predictions(poses, positions, samples, model.input_size, score_mode, nms)


def compare(model, other, samples: Sequence[Sample], **options) -> dict[str, Interval]:
    """Compares two models on the same people: how much greater the first one's figures are than the other's.

    Args:
        model, other: `PoseRegressor`s of the same keypoints. Their crops may have different sizes.
        samples: `People` or a list of `Sample`.
        **options: See `evaluate`.

    Returns:
        dict of `Interval` by figure: the difference, and the ends of its 95 % interval; see `Scores.minus`.

    Raises:
        ValueError: If the models have different keypoints.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> rp.metrics.compare(model, model, rp.data.Synthetic(4, seed=1))["error"]
    Interval(value=0.0, low=0.0, high=0.0)
    """
    check_same_keypoints(model, other)
    return evaluate(model, samples, **options).minus(evaluate(other, samples, **options))


def check_same_keypoints(model, other) -> None:
    """Raises ValueError unless two models have the same keypoints in the same order: else labels would fit one only."""
    names, others = model.skeleton.keypoints, other.skeleton.keypoints
    if names != others:
        received = "; and ".join(map(", ".join, (names, others)))
        raise ValueError(f"Compared models need the same keypoints in the same order. Received: {received}")
