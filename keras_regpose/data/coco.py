"""People of COCO and of every data set in COCO's keypoint format."""

import functools
import os
from collections.abc import Callable, Mapping

import numpy as np

from keras_regpose.data.coco_file import CocoFile
from keras_regpose.data.detections import read_detections
from keras_regpose.data.people import People
from keras_regpose.data.records import collect, estimated_area, require_folder
from keras_regpose.data.sample import Sample
from keras_regpose.skeleton import Skeleton


class Coco(People):
    """The people of a COCO keypoint file.

    With annotated boxes: crowds and people without labelled keypoints are left out, and boxes are clipped to the image
    (x from 0 to width − 1). Occluded keypoints (v = 1) count as labelled, like visible ones (v = 2).
    With detected boxes: every detection of a person in an image of the annotation file, unclipped, whether annotated
    or not; keypoints are zeros and unlabelled.
    Source: `CocoDataset` of MMPose 1.3.2. What other tools leave out or write in their own way: see `CocoFile`.

    Args:
        annotations: str, path or mapping. `person_keypoints_val2017.json` or another file in this format, or its
            contents. With `boxes` only its images are read, so that `image_info_test-dev2017.json` does as well.
        images: str or path. Folder of the images.
        boxes: str, path or None. JSON file of detections in COCO's result format (image_id, category_id, bbox as x, y,
            width, height, score), or None for annotated boxes.
        box_score_threshold: float. Detections with a lower score are left out.
        skeleton: `Skeleton` or None for the one that the file describes (see `Skeleton.from_category`), or COCO's where
            it describes none. Keypoints that the file has in another order are put right.
        max_skipped_share: float. Broken records are skipped up to this share, above it reading fails.
        category: int or str. Number or name of the category to read. None reads all whose keypoints fit, so that boxes
            of other things in the file are left out.

    Attributes:
        skeleton: `Skeleton`.
        annotations: str, path or mapping. As above.
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
        annotations: str | os.PathLike | Mapping,
        images: str | os.PathLike,
        boxes: str | os.PathLike | None = None,
        box_score_threshold: float = 0.0,
        skeleton: Skeleton | None = None,
        max_skipped_share: float = 0.1,
        category: int | str | None = None,
    ):
        source = annotations if isinstance(annotations, Mapping) else os.fspath(annotations)
        file = CocoFile(source, skeleton, category, images)
        path = file.name
        require_folder(images)
        if not any("file_name" in image for image in file.images.values()):
            raise ValueError(f"{path} has no images with 'id' and 'file_name' ({len(file.images)} entries)")
        self._reread = (source, file.skeleton, category, os.fspath(images))
        if boxes is not None:
            # COCO's lists of test images have all 80 categories, and its people are number 1.
            known = file.described or category is not None or len(file.categories) == 1
            detections, skipped = read_detections(boxes, max_skipped_share, file.categories if known else (1,))
            found = (one for one in detections if one.image_id in file.images and one.score >= box_score_threshold)
            samples = [_detected(one, file) for one in found]
            if not samples:
                what = f"is a person in an image of {path} with a score of at least {box_score_threshold}"
                raise ValueError(f"None of the {len(detections)} detections in {os.fspath(boxes)} {what}")
        else:
            records = file.records
            if records is None:
                raise ValueError(f"{path} has no list of 'annotations': pass a person_keypoints file, or boxes as well")
            empty = f"None of the {len(records)} annotations in {path} is a person with labelled keypoints"
            make = functools.partial(annotated, file)
            samples, skipped = collect(records, make, "annotation", path, max_skipped_share, empty)
            _refuse_normalized(samples, path)
            place = {image_id: number for number, image_id in enumerate(file.images)}
            samples.sort(key=lambda sample: place[sample.image_id])
        file.tell()
        super().__init__(samples, file.skeleton, source, skipped, detected=boxes is not None)

    def truth(self) -> dict:
        return CocoFile(*self._reread).truth()


def annotated(file: CocoFile, position: int, record, box_of: Callable[..., np.ndarray | None] | None = None):
    """Returns the `Sample` of an annotation, or None where it labels nobody.

    Args:
        file: `CocoFile` that has the annotation.
        position: int. Its place in the file.
        record: The annotation as it stands there.
        box_of: function or None. From the annotation to the person's (4,) xyxy box, or to None where the file's own
            box is the one to take.
    """
    person = file.person(position, record, labelled_only=True)
    if person is None:
        return None
    box = box_of(record) if box_of is not None else None
    fields = {name: person[name] for name in ("id", "area", "category_id")}
    fields["box"] = file.box_of(person) if box is None else box
    return _sample(file, person["image_id"], person["keypoints"], **fields)


def _detected(detection, file):
    unlabelled, area = np.zeros((len(file.skeleton), 3)), estimated_area(detection.box)
    fields = {"id": detection.position, "box_score": detection.score, "category_id": detection.category_id}
    return _sample(file, detection.image_id, unlabelled, box=detection.box, area=area, **fields)


def _sample(file, image_id, points, **fields):
    return Sample(
        image=file.path_of(image_id),
        keypoints=points[:, :2].astype(np.float32),
        visible=points[:, 2].clip(0, 1).astype(np.float32),
        image_id=image_id,
        image_size=file.size_of(image_id),
        **fields,
    )


def _refuse_normalized(samples, path):
    """Labels as shares of the image would all lie in its first pixel."""
    if all(sample.keypoints[sample.visible > 0].max() <= 1 for sample in samples):
        raise ValueError(f"Keypoints of {path} are shares of the image, 0 to 1: multiply them by its width and height")
