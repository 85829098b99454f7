"""People of COCO and of every data set in COCO's keypoint format."""

import os

import numpy as np

from keras_regpose.data.detections import read_detections
from keras_regpose.data.people import People
from keras_regpose.data.records import collect, estimated_area, read_json, require_folder, to_floats
from keras_regpose.data.sample import Sample
from keras_regpose.skeleton import COCO17, Skeleton


class Coco(People):
    """The people of a COCO keypoint file.

    With annotated boxes: crowds and people without labelled keypoints are left out, and boxes are clipped to the image
    (x from 0 to width − 1). Occluded keypoints (v = 1) count as labelled, like visible ones (v = 2).
    With detected boxes: every detection of a person in an image of the annotation file, unclipped, whether annotated
    or not; keypoints are zeros and unlabelled.
    Source: `CocoDataset` of MMPose 1.3.2.

    Args:
        annotations: str or path. `person_keypoints_val2017.json` or another file in this format. With `boxes` only its
            images are read, so that `image_info_test-dev2017.json` does as well.
        images: str or path. Folder of the images.
        boxes: str, path or None. JSON file of detections in COCO's result format (image_id, category_id, bbox as x, y,
            width, height, score), or None for annotated boxes.
        box_score_threshold: float. Detections with a lower score are left out.
        skeleton: `Skeleton`. Each annotation must have three numbers for each of its keypoints.
        max_skipped_share: float. Broken records are skipped up to this share, above it reading fails.

    Attributes:
        skeleton: `Skeleton`.
        annotations: str. Path of the annotation file.
        skipped: list of (what, why). The broken records.

    Raises:
        FileNotFoundError: If a file or the folder is missing.
        ValueError: If a file is not of this format, too many records are broken, or nobody is left.

    Example:

    >>> people = Coco("annotations/person_keypoints_val2017.json", "val2017")  # doctest: +SKIP
    >>> len(people), people[0].keypoints.shape  # doctest: +SKIP
    (6352, (17, 2))
    """

    def __init__(
        self,
        annotations: str | os.PathLike,
        images: str | os.PathLike,
        boxes: str | os.PathLike | None = None,
        box_score_threshold: float = 0.0,
        skeleton: Skeleton = COCO17,
        max_skipped_share: float = 0.1,
    ):
        path, folder = os.fspath(annotations), os.fspath(images)
        contents = read_json(path)
        require_folder(images)
        known = _images_by_id(contents, path)
        if boxes is not None:
            detections, skipped = read_detections(boxes, max_skipped_share)
            samples = [
                _detected(one, known[one.image_id], folder, skeleton)
                for one in detections
                if one.image_id in known and one.score >= box_score_threshold
            ]
            if not samples:
                raise ValueError(
                    f"None of the {len(detections)} detections in {os.fspath(boxes)} is a person in an image of {path} "
                    f"with a score of at least {box_score_threshold}"
                )
        else:
            records = contents.get("annotations")
            if not isinstance(records, list):
                raise ValueError(f"{path} has no list of 'annotations': pass a person_keypoints file, or boxes as well")
            samples, skipped = collect(
                records,
                lambda _, record: _annotated(record, known, folder, skeleton),
                "annotation",
                path,
                max_skipped_share,
                f"None of the {len(records)} annotations in {path} is a person with labelled keypoints",
            )
            place = {image_id: number for number, image_id in enumerate(known)}
            samples.sort(key=lambda sample: place[sample.image_id])
        super().__init__(samples, skeleton, path, skipped, detected=boxes is not None)


def _annotated(record, known, folder, skeleton):
    """Returns the `Sample` of an annotation, or None for crowds and people without labelled keypoints."""
    if record.get("iscrowd", 0) or record.get("num_keypoints", 1) == 0:
        return None
    count = len(skeleton)
    if len(record["keypoints"]) != 3 * count:
        raise ValueError(
            f"it has {len(record['keypoints'])} keypoint numbers, the skeleton {skeleton.name!r} with its "
            f"{count} keypoints needs {3 * count}"
        )
    keypoints = to_floats(record["keypoints"], (count, 3), "list of keypoints").astype(np.float32)
    points, visible = keypoints[:, :2].copy(), keypoints[:, 2].clip(0, 1)
    if not visible.any() or points.max() <= 0:
        return None
    x, y, width, height = to_floats(record["bbox"], (4,), "box")
    image = known.get(record["image_id"])
    if image is None or "width" not in image or "height" not in image:
        raise ValueError(f"its image {record['image_id']} is not listed with width and height")
    right, bottom = image["width"] - 1, image["height"] - 1
    box = np.clip([x, y, x + width, y + height], 0, [right, bottom, right, bottom]).astype(np.float32)
    if not (box[2:] > box[:2]).all():
        raise ValueError(f"its box {record['bbox']} has no size inside the image")
    area = record.get("area")
    return Sample(
        image=os.path.join(folder, image["file_name"]),
        box=box,
        keypoints=points,
        visible=visible,
        image_id=record["image_id"],
        id=record["id"],
        area=estimated_area(box) if area is None else float(area),
    )


def _detected(detection, image, folder, skeleton):
    return Sample(
        image=os.path.join(folder, image["file_name"]),
        box=detection.box,
        keypoints=np.zeros((len(skeleton), 2), np.float32),
        visible=np.zeros(len(skeleton), np.float32),
        image_id=detection.image_id,
        id=detection.position,
        area=estimated_area(detection.box),
        box_score=detection.score,
    )


def _images_by_id(contents, path):
    if not isinstance(contents, dict) or not isinstance(contents.get("images"), list):
        raise ValueError(f"{path} is not in COCO's format: it has no list of 'images'")
    images = [image for image in contents["images"] if isinstance(image, dict) and {"id", "file_name"} <= set(image)]
    if not images:
        raise ValueError(f"{path} has no images with 'id' and 'file_name' ({len(contents['images'])} entries)")
    return {image["id"]: image for image in images}
