"""Detectors of other packages as a callable image → boxes, and what they found, for `estimate(..., boxes=...)`."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from keras_regpose.optional import import_optional

if TYPE_CHECKING:
    import keras

_log = logging.getLogger(__name__)
_FORMATS = ("xyxy", "yxyx", "xywh", "center_xywh", "rel_xyxy", "rel_yxyx", "rel_xywh")  # of boxes
_PERSON_OF = {80: 0, 91: 1}  # COCO's class numbers, consecutive or as published, by how many there are


def keras_cv_detector(
    detector: "keras.Model", person: int, input_size: tuple[int, int] = (640, 640), score_threshold: float = 0.3
) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a KerasCV `YOLOV8Detector` find people.

    The image is scaled into `input_size`, padded at the right and at the bottom as `keras_cv.layers.Resizing(
    pad_to_aspect_ratio=True)` does, and the boxes are brought back into its pixels.

    Args:
        detector: `keras_cv.models.YOLOV8Detector`, or another KerasCV detector whose `predict` returns the dict boxes,
            confidence, classes (or labels, as in KerasHub). Its bounding box format must be "xyxy", "yxyx", "xywh",
            "center_xywh", "rel_xyxy", "rel_yxyx" or "rel_xywh".
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
    import keras

    box_format = detector.bounding_box_format
    if box_format not in _FORMATS:
        known = " or ".join([", ".join(_FORMATS[:-1]), _FORMATS[-1]])
        raise ValueError(f"The detector's bounding_box_format must be {known}. Received: {box_format!r}")
    height, width = input_size

    def detect(image):
        share = min(height / image.shape[0], width / image.shape[1])
        size = max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share))
        padded = np.zeros((1, height, width, 3), np.float32)
        padded[0, : size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        found = detector.predict(padded, verbose=0)
        boxes, scores = np.array(found["boxes"][0], np.float32), np.asarray(found["confidence"][0], np.float32)
        classes = np.asarray(found["labels" if "labels" in found else "classes"][0])
        chosen = (classes == person) & (scores >= score_threshold)
        boxes, scores = boxes[chosen], scores[chosen]
        boxes = keras.utils.bounding_boxes.convert_format(boxes, box_format, "xyxy", height, width)
        boxes = keras.ops.convert_to_numpy(boxes)
        boxes = boxes / np.array([size[0] / image.shape[1], size[1] / image.shape[0]] * 2, np.float32)
        boxes = boxes.clip(0, np.array(image.shape[1::-1] * 2, np.float32))
        real = (boxes[:, 2:] > boxes[:, :2]).all(1)
        return np.concatenate([boxes, scores[:, None]], axis=1)[real]

    return detect


def keras_hub_detector(name: str, person: int | None = None, score_threshold: float = 0.3) -> Callable:
    """Loads a detector of KerasHub by its name; `estimate(..., boxes="keras_hub:NAME")` does the same.

    Args:
        name: str. A preset of `keras_hub.models.ObjectDetector`, such as "dfine_small_coco" or
            "retinanet_resnet50_fpn_coco", which KerasHub downloads and keeps; or the directory of one.
        person: int or None. The number of the class of people. None is COCO's, for detectors of COCO's classes.
        score_threshold: float. Boxes with a lower confidence are left out.

    Returns:
        Callable from an (H, W, 3) uint8 RGB array to (N, 5) float32: x1, y1, x2, y2 in pixels and the confidence.

    Raises:
        ImportError: If KerasHub is not installed.
        ValueError: If there is no such preset, or its classes are not COCO's and `person` is None.

    Example:

    >>> people = model.estimate("street.jpg", boxes="keras_hub:dfine_small_coco")  # doctest: +SKIP
    """
    detector = import_optional("keras_hub", f"The detector {name}", "keras-hub").models.ObjectDetector.from_preset(name)
    person = _PERSON_OF.get(detector.num_classes) if person is None else person
    if person is None:
        raise ValueError(
            f"{name} has {detector.num_classes} classes, which are not COCO's: say which is a person, "
            "boxes=rp.inference.detectors.keras_hub_detector(name, person=...)"
        )
    return keras_cv_detector(detector, person, detector.preprocessor.image_size, score_threshold)


def boxes_from_detections(detections: Any, person: int | None = None) -> np.ndarray:
    """Returns the boxes of people among what a detector found, as its package gives it, for one image.

    `estimate(image, boxes=detections)` does this by itself. Where the classes have names, those called "person" are
    taken, or all if no class is called so; else those of class 0 of Ultralytics and of rows, and of class 1 of
    torchvision, their numbers for people in COCO; all of `supervision.Detections`.

    Args:
        detections: Ultralytics `Results` or `Boxes`, (N, 6) rows of x1, y1, x2, y2 in pixels, confidence and class,
            `supervision.Detections`, or torchvision's dict of boxes, scores and labels; or a list of one of them.
            Anything else is returned as an array.
        person: int or None. The number of the class of people, if it is another.

    Returns:
        (N, 5) float32 array: x1, y1, x2, y2 in pixels and the confidence, 1 where there is none.

    Raises:
        ValueError: If they hold no boxes, or people are asked for and they have no classes.

    Example:

    >>> boxes_from_detections([[10, 20, 50, 90, 0.75, 0], [60, 20, 90, 40, 0.5, 16]])
    array([[10.  , 20.  , 50.  , 90.  ,  0.75]], dtype=float32)
    """
    one = isinstance(detections, (list, tuple)) and len(detections) == 1 and are_detections(detections[0])
    given: Any = detections[0] if one else detections
    names = getattr(given, "names", None)  # of classes, by number
    if isinstance(given, Mapping):
        boxes, scores, classes = (given.get(key) for key in ("boxes", "scores", "labels"))
        usual = 1
    elif hasattr(given, "class_id"):  # supervision's
        boxes, scores, classes = given.xyxy, given.confidence, given.class_id
        usual, named = None, given.data.get("class_name")
        if person is None and named is not None and "person" in named:
            person, classes = 1, np.asarray(named) == "person"
    elif are_detections(given):
        found = given.boxes if hasattr(given, "boxes") else given
        boxes, scores, classes = (getattr(found, name, None) for name in ("xyxy", "conf", "cls"))
        usual = 0 if names is None else next((number for number, name in names.items() if name == "person"), None)
    else:
        rows = as_array(given)
        if rows.ndim != 2 or rows.shape[1] != 6:
            return rows
        boxes, scores, classes, usual = rows[:, :4], rows[:, 4], rows[:, 5], 0
    if boxes is None:
        raise ValueError(f"The detections have no boxes. Received: {type(given).__name__}")
    boxes = as_array(boxes).reshape(-1, 4)
    scores = np.ones(len(boxes)) if scores is None else as_array(scores)
    rows = np.concatenate([boxes, scores.reshape(-1, 1)], axis=1, dtype=np.float32)
    if person is not None and classes is None:
        raise ValueError("The detections have no classes, so that people cannot be told from other things")
    person = usual if person is None else person
    if person is None or classes is None:
        return rows
    chosen = as_array(classes).ravel() == person
    _log.info("Boxes of class %d, people: %d of %d", person, np.count_nonzero(chosen), len(rows))
    return rows[chosen]


def are_detections(value: Any) -> bool:
    """Whether a value is what a detector found in one image, as Ultralytics, supervision or torchvision give it."""
    return isinstance(value, Mapping) or hasattr(value, "xyxy") or hasattr(value, "boxes")


def as_array(values: Any) -> np.ndarray:
    """Returns numbers of any package as a float32 array, tensors from wherever they are computed."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, np.float32)
