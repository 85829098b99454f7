"""Data sets as people have them on disk: a name and a folder → samples of a split."""

import os
from pathlib import Path

from keras_regpose.data.coco import Coco
from keras_regpose.data.landmarks import Landmarks
from keras_regpose.data.lsp import Lsp
from keras_regpose.data.mpii import Mpii
from keras_regpose.data.people import People
from keras_regpose.data.records import require_folder
from keras_regpose.drawn.people import Synthetic
from keras_regpose.skeleton import HAND21, RHD21, WFLW98

# Of faces and hands: the annotation file, {} being train or test, the folder of images, and the keypoints.
_LANDMARKS = {
    "wflw": ("face_landmarks_wflw_{}.json", "images", WFLW98),
    "onehand10k": ("onehand10k_{}.json", "", HAND21),
    "rhd2d": ("rhd_{}.json", "", RHD21),
}
DATASETS = ("coco", "mpii", "lsp", *_LANDMARKS, "synthetic")
DETECTIONS = "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"


def open_dataset(
    kind: str,
    directory: str | os.PathLike | None,
    split: str,
    boxes: str | os.PathLike | None = None,
    count: int = 1000,
    seed: int = 0,
) -> People:
    """Opens one split of a data set.

    - coco: `annotations/person_keypoints_{split}2017.json` and `{split}2017/`
    - mpii: `annotations/mpii_{split}.json`, `images/` and, for `val`, `annotations/mpii_gt_val.mat`
    - lsp: `joints.mat` and `images/`; `train`, `val` and `test` are this package's split
    - wflw: `annotations/face_landmarks_wflw_{split}.json` and `images/`; onehand10k and rhd2d:
      `annotations/onehand10k_{split}.json` and `annotations/rhd_{split}.json`, whose images lie in the folder itself:
      the files that MMPose distributes. Their `val` is `test`, as in the reference
    - synthetic: drawn people; no folder is needed

    Args:
        kind: str. One of `DATASETS`.
        directory: str or path. The folder, None for drawn people.
        split: str. "train", "val" or "test".
        boxes: str, path or None. A COCO detections file, to take boxes from instead of the annotations.
        count: int. Number of drawn images.
        seed: int. Seed of the drawn images; each split draws others.

    Returns:
        `People`.

    Raises:
        ValueError: If there is no such data set, or it cannot be read.
        FileNotFoundError: If a file of it is missing.
    """
    if kind not in DATASETS:
        raise ValueError(f"Unknown data set {kind!r}. Known: {', '.join(DATASETS)}")
    if kind == "synthetic":
        return Synthetic(count, seed=3 * seed + ("train", "val", "test").index(split))
    if directory is None:
        raise ValueError(f"The data set {kind!r} needs its folder: pass --data DIR")
    root = Path(directory)
    require_folder(root, f"the folder of the {kind} data set")
    if boxes is not None and kind != "coco":
        raise ValueError(f"Boxes from a detections file are for COCO data. Received: data set {kind!r}")
    if kind == "coco":
        annotations = root / "annotations" / f"person_keypoints_{split}2017.json"
        return Coco(annotations, root / f"{split}2017", boxes=boxes)
    if kind == "mpii":
        head_boxes = root / "annotations" / "mpii_gt_val.mat" if split == "val" else None
        return Mpii(root / "annotations" / f"mpii_{split}.json", root / "images", head_boxes)
    if kind in _LANDMARKS:
        file, images, skeleton = _LANDMARKS[kind]
        file = file.format("train" if split == "train" else "test")
        return Landmarks(root / "annotations" / file, root / images, skeleton)
    return Lsp(root, split=split)
