"""People of the MPII Human Pose data set."""

import os
from functools import partial

import numpy as np

from keras_regpose.data.people import People
from keras_regpose.data.records import collect, read_mat, require_folder, scaled_box, to_floats
from keras_regpose.data.sample import Sample
from keras_regpose.files import read_json
from keras_regpose.skeleton import MPII16

# Pixels at scale 1: the annotated centre lies too high for a box.
_CENTER_OFFSET = 15
# PCKh's head size is this share of the head box's diagonal.
_HEAD_SHARE = 0.6


class Mpii(People):
    """The people of `mpii_train.json` or `mpii_val.json`.

    The files count pixels from 1; here they are counted from 0, centre and joints alike. Boxes are squares as high as
    the person, centred 15 · scale pixels below the annotated centre. Unlabelled keypoints are at (0, 0).
    Source: Andriluka et al., "2D human pose estimation: new benchmark and state of the art analysis", CVPR 2014; file
    format and boxes as in `MpiiDataset` of MMPose 1.3.2, which however leaves the joints at their count from 1.

    Args:
        annotations: str or path. JSON list with the fields image, center, scale, joints and joints_vis.
        images: str or path. Folder of the images.
        head_boxes: str, path or None. `mpii_gt_val.mat`, whose `headboxes_src` are in the order of the annotations.
            Needed for PCKh.
        max_skipped_share: float. Broken records are skipped up to this share, above it reading fails.

    Attributes:
        skeleton: `MPII16`.
        annotations: None, since MPII is not scored by COCO's evaluation.
        skipped: list of (what, why). The broken records.

    Raises:
        FileNotFoundError: If a file or the folder is missing.
        ValueError: If a file is not of this format, too many records are broken, or nobody is left.

    Example:

    >>> people = Mpii("mpii_val.json", "images", head_boxes="mpii_gt_val.mat")  # doctest: +SKIP
    >>> len(people), people[0].keypoints.shape  # doctest: +SKIP
    (2958, (16, 2))
    """

    def __init__(
        self,
        annotations: str | os.PathLike,
        images: str | os.PathLike,
        head_boxes: str | os.PathLike | None = None,
        max_skipped_share: float = 0.1,
    ):
        path = os.fspath(annotations)
        records = read_json(path)
        if not isinstance(records, list):
            raise ValueError(f"{path} is not an MPII file: it holds {type(records).__name__}, expected a list")
        require_folder(images)
        head_sizes = [None] * len(records) if head_boxes is None else _head_sizes(head_boxes, len(records))
        make_sample = partial(_sample, os.fspath(images), head_sizes, {})
        empty = f"{path} has no people with labelled joints"
        samples, skipped = collect(records, make_sample, "person", path, max_skipped_share, empty)
        super().__init__(samples, MPII16, skipped=skipped)


def _sample(images, head_sizes, image_ids, position, record):
    image_id, count = image_ids.setdefault(record["image"], len(image_ids)), len(MPII16)
    keypoints = (to_floats(record["joints"], (count, 2), "list of joints") - 1).astype(np.float32)
    visible = to_floats(record["joints_vis"], (count,), "list joints_vis").clip(0, 1).astype(np.float32)
    center = to_floats(record["center"], (2,), "center")
    scale = float(to_floats(record["scale"], (), "scale"))
    if center[0] == -1:
        raise ValueError("its center is not labelled")
    if not visible.any():
        return None
    keypoints[visible == 0] = 0
    center = center + np.array([-1, _CENTER_OFFSET * scale - 1])
    box = scaled_box(center, scale)
    image = os.path.join(images, record["image"])
    return Sample(image, box, keypoints, visible, image_id, position, head_size=head_sizes[position])


def _head_sizes(path, count):
    boxes = np.asarray(read_mat(path, "headboxes_src"), np.float64)
    if boxes.shape != (2, 2, count):
        raise ValueError(f"Head boxes in {path} must be (2, 2, {count}), one per person. Received: {boxes.shape}")
    return (_HEAD_SHARE * np.linalg.norm(boxes[1] - boxes[0], axis=0)).tolist()
