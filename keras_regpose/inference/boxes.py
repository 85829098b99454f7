"""The boxes of people, in all the forms in which they are given."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_regpose.inference.detectors import boxes_from_supervision
from keras_regpose.inference.sources import Frame

_PERSON = 1  # COCO's category number

# Finds the (N, 4) xyxy boxes of a frame and their (N,) scores; the number is the frame's position in its source.
BoxFinder = Callable[[Frame, int], tuple[np.ndarray, np.ndarray]]


def check_boxes(boxes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the boxes of one image and their scores.

    Args:
        boxes: (N, 4) array or list, xyxy in image pixels; (N, 5) with the detector's score behind each box; or
            `supervision.Detections`.

    Returns:
        (N, 4) and (N,) float32 arrays. Boxes that came without a score have the score 1.

    Raises:
        ValueError: If they are not xyxy boxes of a positive, finite size.

    Example:

    >>> check_boxes([[10, 20, 50, 90, 0.75]])
    (array([[10., 20., 50., 90.]], dtype=float32), array([0.75], dtype=float32))
    """
    if hasattr(boxes, "xyxy"):
        boxes = boxes_from_supervision(boxes)
    try:
        array = np.asarray(boxes, np.float32)
    except (TypeError, ValueError):
        array = np.zeros(1, np.float32)
    if array.size == 0:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    if array.ndim != 2 or array.shape[1] not in (4, 5):
        raise ValueError(
            "Boxes must be (N, 4): x1, y1, x2, y2 in pixels, or (N, 5) with a score behind. "
            f"Received: {' '.join(repr(boxes).split()):.200}"
        )
    bad = ~np.isfinite(array).all(1) | (array[:, 2] <= array[:, 0]) | (array[:, 3] <= array[:, 1])
    bad |= (np.abs(array[:, :4]) > 1e7).any(1)
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"Box {first} is not x1, y1, x2, y2 in pixels with x2 > x1 and y2 > y1. Received: {array[first].tolist()}"
        )
    scores = array[:, 4].copy() if array.shape[1] == 5 else np.ones(len(array), np.float32)
    return array[:, :4].copy(), scores


def check_inside(boxes: np.ndarray, image_size: tuple[int, int]) -> None:
    """Raises ValueError if a box has nothing in common with an image of (height, width)."""
    height, width = image_size
    outside = (boxes[:, 2] <= 0) | (boxes[:, 3] <= 0) | (boxes[:, 0] >= width) | (boxes[:, 1] >= height)
    if outside.any():
        first = int(np.argmax(outside))
        raise ValueError(
            f"Box {first} lies outside of the image, which has {width} × {height} pixels. "
            f"Received: {boxes[first].tolist()}"
        )


def box_finder(boxes: Any, images: str, count: int | None = None) -> BoxFinder:
    """Returns the function that finds the boxes of each frame in turn.

    Args:
        boxes: See `PoseRegressor.estimate`.
        images: str. What the boxes are for: "one" image, a "list" of images, of which each has its own boxes, or a
            "stream", whose images may also share their boxes.
        count: int or None. How many images there are, where it is known.

    Raises:
        ValueError: If the boxes are wrong, or do not fit the images.
    """
    if boxes is None:
        return _whole_image
    if isinstance(boxes, (str, os.PathLike)):
        return CocoDetections(boxes)
    if callable(boxes):
        return lambda frame, position: check_boxes(boxes(frame.image))
    if images != "one" and not _are_of_one_image(boxes):
        return _box_by_box(boxes, count)
    found = check_boxes(boxes)
    if images == "list":
        raise ValueError(
            f"A list of {count} images needs a list with the boxes of each image. Received: boxes of one image"
        )
    return lambda frame, position: found


class CocoDetections:
    """The people in a file of COCO's detection results: image_id, category_id 1, bbox as x, y, width, height, score.

    The boxes of an image are those whose image_id is the name of its file, with or without suffix, or the number that
    this name is (000000000785.jpg has the image_id 785). In a video it is the frame's number, from 0.

    Args:
        path: str or path of the JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a file of detections, or has a box of no size.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        try:
            records = json.loads(Path(self.path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no file of boxes at {self.path}") from None
        except (ValueError, OSError) as error:
            raise ValueError(f"The file of boxes {self.path} cannot be read: {error}") from error
        if not isinstance(records, list):
            raise ValueError(
                f"{self.path} is not a COCO detections file: it holds {type(records).__name__}, expected a list"
            )
        by_image = {}
        for number, record in enumerate(records):
            try:
                if record.get("category_id", _PERSON) != _PERSON:
                    continue
                x, y, width, height = (float(value) for value in record["bbox"])
                row = [x, y, x + width, y + height, float(record.get("score", 1.0))]
                by_image.setdefault(record["image_id"], []).append(row)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"Record {number} of {self.path} has no image_id and bbox of x, y, width, height"
                ) from error
        self.by_image = {}
        for image_id, rows in by_image.items():
            try:
                self.by_image[image_id] = check_boxes(rows)
            except ValueError as error:
                raise ValueError(f"{self.path}, image {image_id}: {error}") from None

    def __call__(self, frame: Frame, position: int) -> tuple[np.ndarray, np.ndarray]:
        for image_id in image_ids(frame):
            if image_id in self.by_image:
                return self.by_image[image_id]
        return check_boxes([])


def image_ids(frame: Frame) -> list[int | str]:
    """Returns what COCO files may call a frame, the most likely first."""
    if frame.frame is not None:
        return [frame.frame]
    if frame.source is None:
        return []
    path = Path(frame.source)
    numbers = [int(path.stem)] if path.stem.isdecimal() else []
    return [*numbers, path.stem, path.name]


def _whole_image(frame, position):
    height, width = frame.image.shape[:2]
    return np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32)


def _are_of_one_image(boxes):
    """Whether these are boxes, rather than the boxes of one image after the other."""
    if hasattr(boxes, "xyxy"):
        return True
    if isinstance(boxes, np.ndarray) and boxes.dtype != object:
        return boxes.ndim <= 2
    boxes = list(boxes)
    return bool(boxes) and np.ndim(boxes[0]) == 1 and np.size(boxes[0]) > 0


def _box_by_box(boxes, count):
    boxes = list(boxes)
    if count is not None and len(boxes) != count:
        raise ValueError(f"There are {count} images and boxes for {len(boxes)} of them: give each image its own list")

    def find(frame, position):
        if position >= len(boxes):
            raise ValueError(f"There are boxes for {len(boxes)} images, and image {position} has none")
        entry = boxes[position]
        return _whole_image(frame, position) if entry is None else check_boxes(entry)

    return find
