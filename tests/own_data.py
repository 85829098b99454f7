"""People of one's own: pictures in subfolders and one annotation file, as labelling tools write them."""

import json
from pathlib import Path

import numpy as np

from keras_regpose.data import Synthetic
from keras_regpose.images import save_picture

NAMES = ("head", "l_shoulder", "r_shoulder", "l_elbow", "r_elbow", "l_wrist", "r_wrist")
_DRAWN = ("nose", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist")
CLIMBER, HOLD = 3, 7  # numbers of the categories


def write_own_data(folder, people=24, seed=0):
    """Writes `labels.json` and `pictures/` into a folder, and returns their paths as texts.

    The climbers have 7 keypoints and the category 3 of 2; those whose number is a multiple of 5 lack the coordinates of
    their head (null, v = 0). Every picture also has a box of the other category, without keypoints.
    """
    folder, drawn = Path(folder), Synthetic(people, seed=seed)
    images, annotations = {}, []
    for sample in drawn:
        if sample.image_id not in images:
            name = f"day{sample.image_id % 2 + 1}/{sample.image_id:04d}.png"
            save_picture(folder / "pictures" / name, sample.image)
            height, width = sample.image.shape[:2]
            images[sample.image_id] = {"id": 100 + sample.image_id, "file_name": name, "height": height, "width": width}
            hold = {"id": 1000 + sample.image_id, "image_id": 100 + sample.image_id, "category_id": HOLD}
            annotations.append({**hold, "bbox": [4, 4, 20, 30], "area": 600, "iscrowd": 0})
        places = [drawn.skeleton.index(name) for name in _DRAWN]
        flags = 2 * sample.visible[places]
        points = np.column_stack([sample.keypoints[places] * (flags > 0)[:, None], flags]).tolist()
        if sample.id % 5 == 0:
            points[0] = [None, None, 0]
        left, top, right, bottom = sample.box.tolist()
        annotations.append(
            {
                "id": sample.id,
                "image_id": 100 + sample.image_id,
                "category_id": CLIMBER,
                "keypoints": [number for point in points for number in point],
                "num_keypoints": sum(point[2] > 0 for point in points),
                "bbox": [left, top, right - left, bottom - top],
                "area": sample.area,
                "iscrowd": 0,
            }
        )
    edges = [[2, 4], [4, 6], [3, 5], [5, 7], [2, 3]]  # from 1
    categories = [
        {"id": HOLD, "name": "hold"},
        {"id": CLIMBER, "name": "climber", "keypoints": list(NAMES), "skeleton": edges},
    ]
    content = {"images": list(images.values()), "annotations": annotations, "categories": categories}
    (folder / "labels.json").write_text(json.dumps(content))
    return str(folder / "labels.json"), str(folder / "pictures")
