"""People → a COCO keypoint file."""

import json
import os
from pathlib import Path

import numpy as np

from keras_regpose.data.people import People
from keras_regpose.data.sample import Sample
from keras_regpose.files import write_whole
from keras_regpose.images import image_size, read_image, save_picture
from keras_regpose.skeleton import SKELETONS, Skeleton


def write_coco(people: People, path: str | os.PathLike, images: str | os.PathLike | None = None) -> None:
    """Writes people as a COCO keypoint file, which `Coco` and nearly every other tool reads.

    Pictures below the file's own folder are named relative to it, others by their whole path. Read back by
    `Coco(path, folder)`, with that folder, people have the same numbers, but for the rules of that reader: boxes end at
    the picture's border, and people without labelled keypoints are left out. Unlabelled keypoints are 0, 0, as in COCO.

    Args:
        people: `People`; a list of samples is made some by `People(samples, skeleton)`.
        path: str or path. The file.
        images: str, path or None. Folder for pictures that are no files, such as drawn ones, which are written into it
            as PNG, named by their `image_id`.

    Raises:
        ValueError: If a picture is no file and `images` is None, or two files have the same `image_id`.
        OSError: If a file cannot be written.

    Example:

    >>> import keras_regpose as rp
    >>> drawn = rp.data.Synthetic(3, seed=0)
    >>> write_coco(drawn, "drawn/people.json", images="drawn")
    >>> people = rp.data.Coco("drawn/people.json", "drawn")
    >>> len(people), bool((people[0].keypoints[0] == drawn[0].keypoints[0]).all())
    (3, True)
    """
    folder, listed, annotations = Path(path).absolute().parent, {}, []
    for person in people:
        annotations.append(coco_annotation(person))
        place = person.image
        if not isinstance(place, str):
            if images is None:
                raise ValueError(f"The picture of sample {person.id} is no file: pass images=, a folder for it")
            place = os.path.join(images, f"{person.image_id:012d}.png")
            if person.image_id not in listed:
                save_picture(place, read_image(person.image), marked=False)
        place = Path(place).absolute()
        name = (place.relative_to(folder) if place.is_relative_to(folder) else place).as_posix()
        if person.image_id not in listed:
            width, height = person.image_size or image_size(place)
            listed[person.image_id] = {"id": person.image_id, "file_name": name, "height": height, "width": width}
        elif (other := listed[person.image_id]["file_name"]) != name:
            raise ValueError(f"{other} and {name} have the same image_id {person.image_id}: number pictures anew")
    numbers = sorted({one["category_id"] for one in annotations})
    categories = [coco_category(people.skeleton, number) for number in numbers]
    content = {"images": list(listed.values()), "annotations": annotations, "categories": categories}
    write_whole(path, json.dumps(content))


def coco_annotation(person: Sample, flags: np.ndarray | None = None) -> dict:
    """Returns a person as an annotation of a COCO file.

    Args:
        person: `Sample`.
        flags: (K,) array or None. 0 for unlabelled, 1 for covered, 2 for visible keypoints; None makes all
            labelled ones visible.
    """
    flags = 2 * person.visible if flags is None else flags
    points = np.column_stack([np.where(person.visible[:, None] > 0, person.keypoints, 0), flags])
    left, top, right, bottom = person.box.tolist()
    ids = {"id": person.id, "image_id": person.image_id, "category_id": person.category_id}
    labels = {"keypoints": points.ravel().tolist(), "num_keypoints": int(np.count_nonzero(person.visible))}
    return ids | labels | {"bbox": [left, top, right - left, bottom - top], "area": person.area, "iscrowd": 0}


def coco_category(skeleton: Skeleton, number: int = 1) -> dict:
    """Returns a skeleton as a category of a COCO file, whose edges count keypoints from 1.

    The field `flip_pairs` is ours; it is left out where there are none.
    """
    pairs = [[skeleton.index(one) + 1, skeleton.index(other) + 1] for one, other in skeleton.flip_pairs]
    name = "person" if skeleton.name in SKELETONS else skeleton.name
    category = {"id": number, "name": name, "supercategory": name, "keypoints": list(skeleton.keypoints)}
    category["skeleton"] = [[first + 1, second + 1] for first, second in skeleton.edge_indices]
    return category | ({"flip_pairs": pairs} if pairs else {})
