"""Source → pictures → boxes → crops → model → keypoints in image pixels."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_regpose import codec, geometry
from keras_regpose.images import ImageError
from keras_regpose.inference.boxes import BoxFinder, box_finder
from keras_regpose.inference.poses import Poses
from keras_regpose.inference.scores import instance_score
from keras_regpose.inference.sources import Files, Frame, Video, open_source, read_ahead, read_picture

_log = logging.getLogger(__name__)

# The least scores of a box and of a person, where our finder and a σ that is calibrated decide together.
_BOX, _PERSON = 0.05, 0.03
_BATCH_SIZES = range(1, 4097)
_FARTHEST = 1e6  # crops
_WAITING_BYTES = 1 << 27  # pictures whose people wait for a full batch


def predict_crops(model, crops: np.ndarray, flip_test: bool = False, batch_size: int = 32) -> np.ndarray:
    """Runs the model on any number of crops, in few shapes: each of them is compiled once.

    Args:
        model: `PoseRegressor`, or anything with its `predict_on_batch`, `skeleton` and `input_size`.
        crops: (B, H, W, 3) array, RGB 0–255.
        flip_test: bool. Whether to average with the prediction for the mirrored crop.
        batch_size: int. Crops per run of the network. What is left over runs in powers of two.

    Returns:
        (B, K, 4 or 2) float32 array in crop units.
    """
    outputs, start = [], 0
    while start < len(crops):
        size = _run_size(len(crops) - start, batch_size)
        batch = crops[start : start + size]
        if len(batch) < size:
            batch = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), batch.dtype)])
        output = np.asarray(model.predict_on_batch(batch))
        if flip_test:
            mirrored = np.asarray(model.predict_on_batch(np.ascontiguousarray(batch[:, :, ::-1])))
            output = codec.merge_flipped(output, mirrored, model.skeleton.flip_permutation, model.input_size[1])
        outputs.append(output[: len(crops) - start])
        start += size
    output = outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
    if not np.abs(output).max(initial=0) < _FARTHEST:  # nor if it is NaN
        raise ValueError("The model gives values that are not finite, or far outside of the crop: it is damaged")
    return output


def decode_poses(output: np.ndarray, center: np.ndarray, scale: np.ndarray):
    """Turns outputs in crop units into image pixels.

    Args:
        output: (N, K, 4 or 2) array, as `predict_crops` returns it.
        center: (N, 2) array. Centres of the image regions, in pixels.
        scale: (N, 2) array. Their widths and heights, in pixels.

    Returns:
        keypoints (N, K, 2) float32 in pixels, scores (N, K) float32, and sigmas (N, K, 2) float32 in pixels or None.
    """
    keypoints = geometry.crop_to_image(output[..., :2].astype(np.float64), center, scale)
    sigmas = (output[..., 2:] * scale[:, None]).astype(np.float32) if output.shape[-1] == 4 else None
    return keypoints.astype(np.float32), codec.keypoint_scores(output).astype(np.float32), sigmas


def estimate(
    model,
    source: Any,
    boxes: Any = None,
    flip_test: bool = False,
    batch_size: int = 32,
    score_threshold: float | None = None,
    on_error: Callable[[ValueError], None] | None = None,
    pose_threshold: float | None = None,
) -> Poses | Any:
    """Estimates the poses of the people in an image, in several, or in a video.

    Args:
        model: `PoseRegressor`, or anything with its `predict_on_batch`, `skeleton` and `input_size`.
        source: One image: a path, a URL, the bytes of an image file or such a file, opened in binary mode, a PIL
            image, or an (H, W, 3) uint8 RGB array. Several: a list of those, a folder, a pattern such as
            "photos/*.jpg", a video file, or a camera's number.
        boxes: None finds the people (see `PeopleFinder`), if the model's keypoints are those of the human body; others
            need boxes. "image" takes each whole image as one person. Boxes are xyxy in image pixels: for one image an
            (N, 4) array, tensor or list, (N, 5) with the detector's scores behind, or what a detector of another
            package found in it (`inference.detectors.boxes_from_detections` says which); for several a list with the
            boxes of each image, while folders and videos also take one (N, 4) array for all. Everywhere the path of
            a COCO detections file; `People`, whose boxes are those of their pictures; a detector of KerasHub by its
            name, "keras_hub:dfine_small_coco"; or any other detector: a callable from an RGB array to boxes.
        flip_test: bool. Whether to average with the prediction for the mirrored crop, as published figures do.
        batch_size: int. People per run of the network. Those of several images or frames share a run.
        score_threshold: float or None. Boxes with a lower score of the detector are left out. None takes all that are
            given; see `thresholds` for people who are found.
        on_error: callable or None. Called with the error of each file of a folder, or frame of a video, that is
            left out because it or its boxes cannot be read. None logs a warning.
        pose_threshold: float or None. People are left out, too, whose keypoints have a lower mean score.

    Returns:
        For one image `Poses` of N people, in the order of the boxes, in image pixels; N is 0 if nobody is found. For
        a list a list of them.
        For folders, patterns, videos and cameras an iterator over them, which works while it is asked.

    Raises:
        ValueError: If the source cannot be read, or a box is not xyxy of a positive size inside of its image.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> person = rp.data.Synthetic(1, seed=0)[0]
    >>> people = model.estimate(person.image, boxes=[person.box])
    >>> people.keypoints.shape, people.sigmas.shape, people.scores.shape
    ((1, 17, 2), (1, 17, 2), (1, 17))
    """
    if isinstance(batch_size, bool) or batch_size not in _BATCH_SIZES:
        raise ValueError(f"batch_size must be a whole number from 1 to {_BATCH_SIZES[-1]}. Received: {batch_size!r}")
    opened = open_source(source)
    score_threshold, least = thresholds(model, boxes, score_threshold)
    options = {"flip_test": flip_test, "batch_size": batch_size, "pose_threshold": pose_threshold, "least": least}
    if isinstance(opened, (Files, Video)):
        count = opened.total if isinstance(opened, Files) else None
        find = box_finder(boxes, model.skeleton, "stream", count, score_threshold)
        return _stream(estimate_frames(model, opened, find, on_error=on_error or _warn, **options))
    one = isinstance(opened, Frame)
    frames = [opened] if one else map(read_picture, opened)
    find = box_finder(boxes, model.skeleton, "one" if one else "list", 1 if one else len(opened), score_threshold)
    results = []
    for poses in estimate_frames(model, frames, find, **options):
        if poses.source is not None and Path(poses.source).is_file():
            poses.image = None  # `plot` reads it again
        results.append(poses)
    return results[0] if one else results


def thresholds(model, boxes: Any, score_threshold: float | None = None) -> tuple[float | None, float]:
    """Returns the least score of a box, and that of a person, who has the box's times the mean expected OKS.

    A plate of food may look like a person to the finder, and not to the pose network; a person may be small to the
    first and clear to the second. So of models whose σ is calibrated (`quantiles`) both decide, of others the finder
    alone: `benchmarks/people_finder.py` measures what that changes.

    Args:
        model: `PoseRegressor` or exported model.
        boxes, score_threshold: See `estimate`.

    Example:

    >>> import keras_regpose as rp
    >>> thresholds(rp.from_preset("mobilenetv2_rle_people", runtime="onnx"), boxes=None)
    (0.05, 0.03)
    """
    both = boxes is None and score_threshold is None and getattr(model, "quantiles", None)
    return (_BOX, _PERSON) if both else (score_threshold, 0.0)


def only_pictures(found: Any) -> Iterator[tuple[str, Poses]]:
    """Yields files and what `estimate` found in them. Refuses frames of videos, which have no file to read again."""
    for poses in [found] if isinstance(found, Poses) else found:
        if poses.source is None or poses.frame is not None:
            raise ValueError(
                f"Files of pictures are needed. Received {poses.source or 'arrays'}: save them as pictures"
            )
        yield poses.source, poses


def estimate_frames(
    model,
    frames: Iterable[Frame | ImageError],
    find_boxes: BoxFinder,
    flip_test: bool = False,
    batch_size: int = 32,
    on_error: Callable[[ValueError], None] | None = None,
    keep_pictures: bool = True,
    pose_threshold: float | None = None,
    least: float = 0.0,
) -> Iterator[Poses]:
    """Estimates the poses in frame after frame, with the people of several frames in one batch.

    Args:
        model: See `estimate`.
        frames: iterable of `Frame`, or of the error where there should have been one. Frames of a `Files` or `Video`
            are read ahead in a thread; those of a source with a true attribute `live` are estimated one by one.
        find_boxes: `BoxFinder`, such as one from `box_finder`.
        flip_test, batch_size, pose_threshold: See `PoseRegressor.estimate`.
        least: float. The least score of a person; see `thresholds`.
        on_error: callable. Called with the error of each frame that has no picture or whose boxes are wrong. If it
            returns, the next frame follows. None raises it.
        keep_pictures: bool. Whether the results have the pictures. Without, no picture waits for a full batch.

    Yields:
        `Poses` in the order of the frames.
    """
    live = getattr(frames, "live", False)
    crops = np.empty((batch_size, *model.input_size, 3), np.uint8)  # used again: new memory takes long to fill
    # All in the order of the people: fields of `Poses`, regions of the crops, and what the network made of these.
    waiting, regions, outputs = deque(), [], deque()

    def run():
        if regions:
            found = predict_crops(model, crops[: len(regions)], flip_test, batch_size=batch_size)
            outputs.extend(zip(found, regions, strict=True))
            regions.clear()

    def finished():
        while waiting and len(waiting[0]["boxes"]) <= len(outputs):
            fields = waiting.popleft()
            poses = _poses(model, [outputs.popleft() for _ in fields["boxes"]], fields)
            if least and len(poses):
                poses = poses[instance_score(poses.box_scores, poses.expected_oks(), "expected_oks") >= least]
            yield poses if pose_threshold is None else poses[poses.scores.mean(1) >= pose_threshold]

    for position, frame in enumerate(read_ahead(frames) if hasattr(frames, "live") and not live else frames):
        try:
            if isinstance(frame, ImageError):
                raise frame
            boxes, scores = find_boxes(frame, position if frame.frame is None else frame.frame)
        except ValueError as error:
            (on_error or _raise)(error if frame is error else _named(error, frame))
            continue
        fields = {**vars(frame), "boxes": boxes, "box_scores": scores, "image_size": frame.image.shape[:2]}
        waiting.append(fields if keep_pictures else {**fields, "image": None})
        for box in boxes:
            cut = geometry.cut(frame.image, box, model.input_size)
            crops[len(regions)] = cut.crop
            regions.append((cut.center, cut.scale))
            if len(regions) == batch_size:
                run()
        if live or sum(one["image"].nbytes for one in waiting if keep_pictures) > _WAITING_BYTES:
            run()
        yield from finished()
    run()
    yield from finished()


def _poses(model, outputs, fields):
    """Returns the poses of one frame, of each person's output and region (centre and scale)."""
    shape = (0, len(model.skeleton), getattr(model, "output_shape", (4,))[-1])
    output = np.stack([output for output, _ in outputs]) if outputs else np.zeros(shape, np.float32)
    regions = np.array([region for _, region in outputs], np.float32).reshape(-1, 2, 2)
    keypoints, scores, sigmas = decode_poses(output, regions[:, 0], regions[:, 1])
    fields["quantiles"] = getattr(model, "quantiles", None)
    return Poses(keypoints=keypoints, scores=scores, sigmas=sigmas, skeleton=model.skeleton, **fields)


def _stream(results):
    for poses in results:
        yield poses
        # A list of the results of a long video must not hold all of its frames.
        poses.image = None


def _raise(error):
    raise error


def _warn(error):
    _log.warning("Left out: %s", error)


def _named(error, frame):
    """Returns the error of a frame's boxes with the name of the frame."""
    name = frame.source if frame.frame is None else f"Frame {frame.frame} of {frame.source or 'the camera'}"
    return error if name is None else ValueError(f"{name}: {error}")


def _run_size(count, batch_size):
    """Returns the number of crops of the next run: a power of two, of which at most a quarter is padding."""
    size = 1 << (count - 1).bit_length()
    if size - count > size // 4:
        size //= 2
    return min(size, batch_size)
