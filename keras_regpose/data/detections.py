"""Detected people in a file of COCO's result format."""

import os
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from keras_regpose.data.records import LARGEST, collect, to_floats
from keras_regpose.files import read_json

_PERSON = 1  # COCO's category number


class Detection(NamedTuple):
    """A detected person.

    Args:
        position: int. The record's place in the file, from 0.
        image_id: int or str. The image's number or name.
        box: (4,) float32 array, xyxy in image pixels.
        score: float. The detector's confidence.
        category_id: int. The number of what it is, 1 for a person.
    """

    position: int
    image_id: int | str
    box: np.ndarray
    score: float
    category_id: int = _PERSON


def read_detections(
    path: str | os.PathLike, max_skipped_share: float = 0.0, categories: Collection = (_PERSON,)
) -> tuple[list[Detection], list[tuple[str, str]]]:
    """Reads the people of a file of detections, a JSON list of records.

    A record has image_id, bbox (x, y, width, height in pixels) and score. Where its category_id is another, it is
    left out.

    Args:
        path: str or path.
        max_skipped_share: float. Broken records are skipped up to this share, above it reading fails.
        categories: collection of numbers, by default that of people alone.

    Returns:
        list of `Detection` in the file's order, and list of (record, why) of the broken ones.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a JSON list, or too many records are broken.
    """
    path = os.fspath(path)
    records = read_json(path)
    if not isinstance(records, list):
        raise ValueError(f"{path} is not a COCO detections file: it holds {type(records).__name__}, expected a list")
    make = lambda position, record: _detection(position, record, categories)  # noqa: E731
    return collect(records, make, "detection", path, max_skipped_share)


def _detection(position, record, categories):
    category = record.get("category_id", next(iter(categories)))
    if category not in categories:
        return None
    image_id, score = record["image_id"], float(record["score"])
    if not isinstance(image_id, (int, str)):
        raise ValueError(f"its image_id {image_id!r} is neither a number nor a name")
    x, y, width, height = to_floats(record["bbox"], (4,), "box").astype(np.float32)
    box = np.array([x, y, x + width, y + height], np.float32)
    if not (width > 0 and height > 0 and np.abs(box).max() <= LARGEST and np.isfinite(score)):
        raise ValueError(f"its box {record['bbox']} has no size, or its score {score} is not a number")
    return Detection(position, image_id, box, score, category)
