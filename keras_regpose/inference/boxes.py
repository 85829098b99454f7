"""The boxes of people, in all the forms in which they are given."""

import functools
import logging
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from keras_regpose.data.detections import read_detections
from keras_regpose.data.people import People
from keras_regpose.inference.detectors import are_detections, boxes_from_detections, keras_hub_detector
from keras_regpose.inference.people_finder import THRESHOLD, PeopleFinder
from keras_regpose.inference.sources import Frame
from keras_regpose.skeleton import Skeleton

_log = logging.getLogger(__name__)
_EVERY = 5  # frames from one finding to the next where people are followed

# Finds the (N, 4) xyxy boxes of a frame and their (N,) scores; the number is the frame's position in its source.
BoxFinder = Callable[[Frame, int], tuple[np.ndarray, np.ndarray]]


def check_boxes(boxes: Any) -> tuple[Float32[np.ndarray, "people 4"], Float32[np.ndarray, " people"]]:
    """Returns the boxes of one image and their scores.

    Args:
        boxes: (N, 4) array, tensor or list, xyxy in image pixels; (N, 5) with the detector's score behind each box; or
            what a detector found, see `boxes_from_detections`.

    Returns:
        (N, 4) and (N,) float32 arrays. Boxes that came without a score have the score 1.

    Raises:
        ValueError: If they are not xyxy boxes of a positive, finite size.

    Example:

    >>> check_boxes([[10, 20, 50, 90, 0.75]])
    (array([[10., 20., 50., 90.]], dtype=float32), array([0.75], dtype=float32))
    """
    try:
        array = boxes_from_detections(boxes)
    except (TypeError, ValueError):
        if are_detections(boxes):
            raise
        array = np.asarray(np.nan, np.float32)  # which is no table of boxes
    if array.size == 0:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    if array.ndim != 2 or array.shape[1] not in (4, 5):
        raise ValueError(
            "Boxes must be (N, 4): x1, y1, x2, y2 in pixels, or (N, 5) with a score behind. "
            f"Received: {' '.join(repr(boxes).split()):.200}"
        )
    bad = ~np.isfinite(array).all(1) | (array[:, 2] <= array[:, 0]) | (array[:, 3] <= array[:, 1])
    bad |= (np.abs(array[:, :4]) > 1e7).any(1)
    _refuse(bad, array, "is not x1, y1, x2, y2 in pixels with x2 > x1 and y2 > y1")
    scores = array[:, 4].copy() if array.shape[1] == 5 else np.ones(len(array), np.float32)
    return array[:, :4].copy(), scores


def _refuse(bad, boxes, why):
    """Raises ValueError if any box is bad, with the first that is; `bad` has a truth value for each."""
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(f"Box {first} {why}. Received: {boxes[first].tolist()}")


def box_finder(
    boxes: Any, skeleton: Skeleton, images: str, count: int | None = None, score_threshold: float | None = None
) -> BoxFinder:
    """Returns the function that finds the boxes of each frame in turn, all of them in the image.

    Args:
        boxes: See `PoseRegressor.estimate`.
        skeleton: `Skeleton`. The keypoints that are looked for: people find themselves, other things do not.
        images: str. What the boxes are for: "one" image, a "list" of images, of which each has its own boxes, or a
            "stream", whose images may also share their boxes.
        count: int or None. How many images there are, where it is known.
        score_threshold: float or None. Boxes with a lower score are left out. It is `PeopleFinder`'s threshold, too.

    Raises:
        FileNotFoundError: If the boxes are a path and there is no such file.
        ValueError: If the boxes are wrong, do not fit the images, or are needed and missing.
        ImportError: If a detector of KerasHub is asked for, which is not installed.
    """

    def found_by(name):
        """Returns the finder of a name, of a file of detections, or of None."""
        if name is None and not skeleton.is_human:
            raise ValueError(
                f"Nothing finds what has the keypoints of {skeleton.name!r} in a picture: pass boxes, a detector, or "
                'boxes="image" if it fills each picture'
            )
        if name is None:
            finder = PeopleFinder(THRESHOLD if score_threshold is None else score_threshold)
            return lambda frame, position: finder(frame.image)
        if name == "image":
            return lambda frame, position: [[0, 0, *frame.image.shape[1::-1]]]
        if isinstance(name, str) and name.startswith("keras_hub:"):
            detector = keras_hub_detector(name.removeprefix("keras_hub:"))
            return lambda frame, position: detector(frame.image)
        return _of_detections(name)

    boxes_of = _boxes_of_frames(boxes, images, count, functools.cache(found_by))

    def find(frame, position):
        found, scores = check_boxes(boxes_of(frame, position))
        if score_threshold is not None:
            found, scores = found[scores >= score_threshold], scores[scores >= score_threshold]
        height, width = frame.image.shape[:2]
        outside = (found[:, 2:] <= 0).any(1) | (found[:, 0] >= width) | (found[:, 1] >= height)
        _refuse(outside, found, f"lies outside of the image, which has {width} × {height} pixels")
        return found, scores

    return find


def frames_between(boxes: Any, track: bool | int) -> float:
    """Returns in every how many frames boxes are found where people are followed: never is 0, once is infinity.

    Args:
        boxes, track: See `PoseRegressor.estimate`.

    Raises:
        ValueError: If `track` is another number.

    Example:

    >>> frames_between(None, True), frames_between(None, 3), frames_between([[5, 5, 50, 90]], True)
    (5, 3, inf)
    """
    if not (track >= 0 and track % 1 == 0):
        raise ValueError(f"track must be True, False, or a whole number of frames. Received: {track!r}")
    named = isinstance(boxes, (str, os.PathLike))
    if track and boxes is not None and not (named or callable(boxes) or isinstance(boxes, People)):
        return math.inf if _are_of_one_image(boxes) else int(track)
    if track is not True:
        return int(track)
    if boxes is None or callable(boxes) or (named and os.fspath(boxes).startswith("keras_hub:")):
        return _EVERY
    return 1


def _boxes_of_frames(boxes, images, count, found_by):
    """Returns the function that gives the boxes of a frame in any form that `check_boxes` takes."""
    if boxes is None or isinstance(boxes, (str, os.PathLike)):
        return found_by(boxes)
    if isinstance(boxes, People):
        rows = np.column_stack([np.asarray(boxes.field("box")), boxes.field("box_score")])
        return _looked_up({image: rows[places] for image, places in boxes.by_picture.items()}, "the annotations")
    if callable(boxes):
        return lambda frame, position: boxes(frame.image)
    if images != "one" and not _are_of_one_image(boxes):
        return _box_by_box(boxes, count, found_by)
    rows = np.column_stack(check_boxes(boxes))
    if images == "list":
        raise ValueError(
            f"A list of {count} images needs a list with the boxes of each image. Received: boxes of one image"
        )
    return lambda frame, position: rows


def _of_detections(path):
    """Returns the finder of the people in a COCO detections file.

    The boxes of an image are those whose image_id is the name of its file, with or without suffix, or the number that
    this name is (000000000785.jpg has the image_id 785). In a video it is the frame's number, from 0.
    """
    by_image: dict[int | str, list] = {}
    for detection in read_detections(path)[0]:
        by_image.setdefault(detection.image_id, []).append([*detection.box, detection.score])

    known = ", ".join(map(str, list(by_image)[:3]))
    return _looked_up(by_image, f"{os.fspath(path)}, whose image_ids are names or numbers of files: {known} …")


def _looked_up(by_image, where):
    """Returns the finder of the boxes under the first known name of a frame; the first frame without one is named."""
    without = []

    def boxes_of(frame, position):
        names = (*image_ids(frame), os.path.abspath(frame.source or ""))
        found = next((by_image[name] for name in names if name in by_image), None)
        if found is None and not without:
            without.append(frame)
            _log.warning("%s has no box in %s; others may have none either", frame.source, where)
        return [] if found is None else found

    return boxes_of


def image_ids(frame: Frame) -> list[int | str]:
    """Returns what COCO files may call a frame, the most likely first."""
    if frame.frame is not None:
        return [frame.frame]
    if frame.source is None:
        return []
    path = Path(frame.source)
    numbers = [int(path.stem)] if path.stem.isdecimal() else []
    return [*numbers, path.stem, path.name]


def _are_of_one_image(boxes):
    """Whether these are boxes, rather than the boxes of one image after the other."""
    if are_detections(boxes):
        return True
    if hasattr(boxes, "ndim") and boxes.dtype != object:
        return boxes.ndim <= 2
    boxes = list(boxes)
    return bool(boxes) and not are_detections(boxes[0]) and np.ndim(boxes[0]) == 1 and np.size(boxes[0]) > 0


def _box_by_box(boxes, count, found_by):
    boxes = list(boxes)
    if count is not None and len(boxes) != count:
        raise ValueError(f"There are {count} images and boxes for {len(boxes)} of them: give each image its own list")

    def boxes_of(frame, position):
        if position >= len(boxes):
            raise ValueError(f"There are boxes for {len(boxes)} images, and image {position} has none")
        one = boxes[position]
        return found_by(one)(frame, position) if one is None or isinstance(one, str) else one

    return boxes_of
