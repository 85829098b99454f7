"""Faces and hands of WFLW, OneHand10K and RHD, in the annotation files that MMPose distributes."""

import os
from functools import partial

from keras_regpose.data.coco import annotated
from keras_regpose.data.coco_file import CocoFile
from keras_regpose.data.people import People
from keras_regpose.data.records import collect, require_folder, scaled_box, to_floats
from keras_regpose.files import read_json
from keras_regpose.skeleton import Skeleton


class Landmarks(People):
    """The faces or hands of an annotation file, one `Sample` each. They are scored by the measures of their field.

    Keypoints are taken in the skeleton's order, whatever the file calls them: RHD's lists the points of each finger
    from its tip, and names them from the palm. Boxes are the annotated ones, clipped to the image, or squares of
    200 · `scale` pixels around `center` where annotations have these, as WFLW's do.
    Source: `WFLWDataset`, `OneHand10KDataset` and `Rhd2DDataset` of MMPose 1.3.2.

    Args:
        annotations: str or path. `face_landmarks_wflw_test.json`, `onehand10k_test.json`, `rhd_test.json` or another
            file in their format.
        images: str or path. Folder of the images.
        skeleton: `WFLW98`, `HAND21` for OneHand10K, `RHD21` for RHD, or another `Skeleton`.
        max_skipped_share: float. Broken records are skipped up to this share, above it reading fails.

    Attributes:
        skeleton: `Skeleton`.
        annotations: None, since they are not scored by COCO's evaluation.
        skipped: list of (what, why). The broken records.

    Raises:
        FileNotFoundError: If the file or the folder is missing.
        ValueError: If the file is not of this format, too many records are broken, or nobody is left.

    Example:

    >>> from keras_regpose import WFLW98
    >>> faces = Landmarks("annotations/face_landmarks_wflw_test.json", "images", WFLW98)  # doctest: +SKIP
    >>> len(faces), faces[0].keypoints.shape  # doctest: +SKIP
    (2500, (98, 2))
    """

    def __init__(
        self,
        annotations: str | os.PathLike,
        images: str | os.PathLike,
        skeleton: Skeleton,
        max_skipped_share: float = 0.1,
    ):
        path = os.fspath(annotations)
        require_folder(images)
        contents = read_json(path)
        if not isinstance(contents, dict):
            raise ValueError(f"{path} is not in COCO's format: it holds {type(contents).__name__}, expected a dict")
        file = CocoFile({**contents, "file": path, "categories": []}, skeleton, images=images)
        empty = f"{path} has nobody with labelled keypoints"
        make = partial(annotated, file, box_of=_square)
        samples, skipped = collect(file.records or (), make, "annotation", path, max_skipped_share, empty)
        file.tell()
        super().__init__(samples, skeleton, skipped=skipped)


def _square(record):
    if "center" not in record or "scale" not in record:
        return None
    return scaled_box(to_floats(record["center"], (2,), "center"), float(to_floats(record["scale"], (), "scale")))
