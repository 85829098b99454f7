"""Validation sets of a few made-up people, in the files and folders in which the real ones are distributed."""

import json
from pathlib import Path

import numpy as np
import scipy.io
from golden_weights import golden_image, golden_people

from keras_regpose.data import Synthetic, write_coco
from keras_regpose.datasets import DETECTIONS
from keras_regpose.images import save_picture
from keras_regpose.zoo import preset_info

FAMILY = json.loads((Path(__file__).parent / "golden" / "family.json").read_text())
FILES = {
    "coco": "annotations/person_keypoints_val2017.json",
    "mpii": "annotations/mpii_val.json",
    "wflw": "annotations/face_landmarks_wflw_test.json",
    "onehand10k": "annotations/onehand10k_test.json",
    "rhd2d": "annotations/rhd_test.json",
}


def write_validation_set(row, folder, people=12):
    """Writes the validation set of a published row; those of faces and hands have the three people recorded of it.

    COCO's has drawn people, and a detector's boxes that lie 3 pixels to the right of theirs.
    """
    dataset = preset_info(row)["dataset"]
    file = folder / FILES[dataset]
    if dataset == "coco":
        write_coco(Synthetic(people, seed=5), file, images=folder / "val2017")
        contents = json.loads(file.read_text())
        for image in contents["images"]:
            image["file_name"] = image["file_name"].rsplit("/", 1)[-1]
        (folder / DETECTIONS).parent.mkdir(exist_ok=True)
        (folder / DETECTIONS).write_text(json.dumps([_detected(one) for one in contents["annotations"]]))
    elif dataset == "mpii":
        contents = _mpii(folder, people)
    else:
        contents = FAMILY[row]["annotations"]
        for number, image in enumerate(contents["images"]):
            path = folder / ("images" if dataset == "wflw" else "") / image["file_name"]
            save_picture(path, golden_image(number, image["height"], image["width"]))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(contents))
    return file


def _detected(annotation):
    left, *others = annotation["bbox"]
    return {"image_id": annotation["image_id"], "category_id": 1, "bbox": [left + 3, *others], "score": 0.9}


def _mpii(folder, people):
    """MPII's records, after writing their pictures and the boxes of their heads, which are 40 by 30 pixels."""
    drawn, records = golden_people(people, 16), []
    for number, (box, truth, visible) in enumerate(zip(drawn["boxes"], drawn["truth"], drawn["visible"], strict=True)):
        save_picture(folder / "images" / f"{number}.png", golden_image(number, 512, 512))
        center, scale = (box[:2] + box[2:]) / 2 + 1, (box[3] - box[1]) / 200
        records.append(
            {
                "image": f"{number}.png",
                "center": [float(center[0]), float(center[1] - 15 * scale)],
                "scale": float(scale),
                "joints": (truth + 1).tolist(),  # MPII counts from 1
                "joints_vis": visible.astype(int).tolist(),
            }
        )
    heads = np.array([[10.0, 10.0], [50.0, 40.0]])[..., None].repeat(people, -1)
    (folder / "annotations").mkdir(exist_ok=True)
    scipy.io.savemat(folder / "annotations" / "mpii_gt_val.mat", {"headboxes_src": heads})
    return records
