"""Adapters that turn detectors of other packages into a callable image → boxes, for `estimate(..., boxes=detector)`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import keras
    import supervision


def keras_cv_detector(
    detector: "keras.Model",
    person: int,
    input_size: tuple[int, int] = (640, 640),
    score_threshold: float = 0.3,
) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a KerasCV `YOLOV8Detector` find people.

    The image is scaled into `input_size`, padded at the right and at the bottom as `keras_cv.layers.Resizing(
    pad_to_aspect_ratio=True)` does, and the boxes are brought back into its pixels.

    Args:
        detector: `keras_cv.models.YOLOV8Detector`, or another KerasCV detector whose `predict` returns the dict boxes,
            confidence, classes. Its bounding box format must be "xyxy", "xywh", "center_xywh", "rel_xyxy" or
            "rel_xywh".
        person: int. The number of the class of people: 14 for the presets trained on Pascal VOC.
        input_size: (height, width) in pixels, multiples of 32.
        score_threshold: float. Boxes with a lower confidence are left out.

    Returns:
        Callable from an (H, W, 3) uint8 RGB array to (N, 5) float32: x1, y1, x2, y2 in pixels and the confidence.

    Raises:
        ValueError: If the bounding box format is another one.

    Example:

    >>> detector = keras_cv.models.YOLOV8Detector.from_preset(  # doctest: +SKIP
    ...     "yolo_v8_m_pascalvoc", bounding_box_format="xywh"
    ... )
    >>> people = model.estimate("street.jpg", boxes=keras_cv_detector(detector, person=14))  # doctest: +SKIP
    """
    box_format = detector.bounding_box_format
    if box_format not in ("xyxy", "xywh", "center_xywh", "rel_xyxy", "rel_xywh"):
        raise ValueError(
            "The detector's bounding_box_format must be xyxy, xywh, center_xywh, rel_xyxy or rel_xywh. "
            f"Received: {box_format!r}"
        )
    height, width = input_size

    def detect(image):
        share = min(height / image.shape[0], width / image.shape[1])
        size = max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share))
        padded = np.zeros((1, height, width, 3), np.float32)
        padded[0, : size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        found = detector.predict(padded, verbose=0)
        boxes, scores = np.array(found["boxes"][0], np.float32), np.asarray(found["confidence"][0], np.float32)
        chosen = (np.asarray(found["classes"][0]) == person) & (scores >= score_threshold)
        boxes, scores = boxes[chosen], scores[chosen]
        if box_format.startswith("rel_"):
            boxes *= [width, height, width, height]
        if box_format == "center_xywh":
            boxes[:, :2] -= boxes[:, 2:] / 2
        if box_format.endswith("xywh"):
            boxes[:, 2:] += boxes[:, :2]
        boxes /= np.array([size[0] / image.shape[1], size[1] / image.shape[0]] * 2, np.float32)
        boxes = boxes.clip(0, np.array(image.shape[1::-1] * 2, np.float32))
        real = (boxes[:, 2:] > boxes[:, :2]).all(1)
        return np.concatenate([boxes, scores[:, None]], axis=1)[real]

    return detect


def boxes_from_supervision(detections: "supervision.Detections", person: int | None = None) -> np.ndarray:
    """Returns the boxes of `supervision.Detections`, which many packages' detectors produce.

    `estimate(image, boxes=detections)` takes all of them; use this function to take people only.

    Args:
        detections: `supervision.Detections`.
        person: int or None. The number of the class of people (0 for models trained by YOLO's numbering of COCO, 1 for
            those that keep COCO's own), or None for boxes of all classes.

    Returns:
        (N, 5) float32 array: x1, y1, x2, y2 in pixels and the confidence, 1 where there is none.

    Raises:
        ValueError: If people are asked for and the detections have no classes.
    """
    boxes = np.asarray(detections.xyxy, np.float32).reshape(-1, 4)
    scores = np.ones(len(boxes)) if detections.confidence is None else np.asarray(detections.confidence)
    rows = np.concatenate([boxes, scores[:, None]], axis=1, dtype=np.float32)
    if person is None:
        return rows
    if detections.class_id is None:
        raise ValueError("The detections have no class_id, so that people cannot be told from other things")
    return rows[np.asarray(detections.class_id) == person]
