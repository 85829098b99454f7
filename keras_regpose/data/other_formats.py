"""Annotations of other tools → the content of a COCO file, which `Coco` reads by its own rules.

sleap-io reads SLEAP's files and what else it knows. Three formats are translated here, because sleap-io 0.9.5 reads
what the tools themselves write wrongly: of YOLO-pose it finds nobody in `labels/train`, and drops classes, boxes, names
and `flip_idx`; DeepLabCut's labels move to other pictures where one is missing, and paths of Windows are lost; an
export of Label Studio is refused unless sleap-io wrote it.
"""

import csv
import logging
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import yaml

from keras_regpose.data.coco import Coco
from keras_regpose.data.coco_file import ImageFolder
from keras_regpose.data.coco_writer import coco_category
from keras_regpose.data.records import reason, to_floats
from keras_regpose.files import read_json, require_file
from keras_regpose.images import image_size, read_image, save_picture
from keras_regpose.optional import import_optional
from keras_regpose.progress import progress_bar
from keras_regpose.skeleton import COCO17, Skeleton

_log = logging.getLogger(__name__)
_PICTURE = re.compile(r"\.(bmp|jpe?g|png|tiff?|webp)$", re.IGNORECASE)


def read(
    path: str | os.PathLike,
    images: str | os.PathLike | None = None,
    skeleton: Skeleton | None = None,
    category: int | str | None = None,
) -> Coco:
    """Reads what a labelling tool wrote.

    - COCO: a JSON file; see `Coco`.
    - YOLO-pose: `data.yaml` or its folder. All splits are read, or the one whose folder of pictures is `images`.
      Classes are categories, in the same order. Unlabelled keypoints have v = 0, or lie at 0, 0 where there is no v.
    - DeepLabCut: `config.yaml` or its folder for a whole project, or one `CollectedData_*.csv`. The individual "single"
      is left out, which holds the points of the scene.
    - Label Studio: the JSON export, of each task the first annotation. A keypoint belongs to the rectangle that it is
      nested in or related to, else to the one around it, whose label is the category; without rectangles a picture
      shows one person. Keypoints are sorted by name, as the file does not say their order.
    - SLEAP (`.slp`) and what else sleap-io reads (`pip install "keras-regpose[formats]"`): labelled people, not
      predicted ones. Frames of videos are written into `images` as PNG.

    Coordinates are taken as they are; fractions and percentages are multiplied by the picture's width and height. Boxes
    are the file's (YOLO-pose, Label Studio) or the extent of the keypoints; one keypoint without a box is left out.

    Args:
        path: str or path. The file or the folder.
        images: str, path or None. Folder of the images. None looks where the file says, and beside it.
        skeleton: `Skeleton` or None for the file's own. See `Coco`. It also names the keypoints of a YOLO-pose file
            that does not.
        category: int, str or None. Number or name of the category to read; see `Coco`.

    Returns:
        `Coco`. `write_coco` writes it as a COCO file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of none of these formats, is not made as its format wants it, or labels nobody.
        ImportError: If sleap-io is needed and not installed.

    Example:

    >>> import keras_regpose as rp
    >>> rp.data.write_coco(rp.data.Synthetic(1), "yolo/people.json", images="yolo")
    >>> _ = Path("yolo/data.yaml").write_text("train: .\\nkpt_shape: [2, 2]\\nkpt_names: {0: [head, foot]}")
    >>> _ = Path("yolo/000000000001.txt").write_text("0 .5 .5 .25 .5 .5 .25 .5 .75")
    >>> people = read("yolo/data.yaml")
    >>> people.skeleton.keypoints, people[0].keypoints.tolist()
    (('head', 'foot'), [[160.0, 64.0], [160.0, 192.0]])
    """
    path = Path(path).absolute()
    images = None if images is None else Path(images).absolute()
    if path.is_dir():
        found = (path / name for name in ("data.yaml", "config.yaml") if (path / name).is_file())
        path = next(found, path / "data.yaml or config.yaml")
    require_file(path)
    folder = images or path.parent
    try:
        translated = _translate(path, images, skeleton)
        content = path if translated is None else {"file": path, **_as_coco(*translated, ImageFolder(folder))}
    except (AttributeError, LookupError, TypeError, ValueError, csv.Error, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {reason(error)}") from error
    return Coco(content, folder, skeleton=skeleton, category=category)


class _Person(NamedTuple):
    """A person as annotations describe it; unlabelled keypoints are not among the points."""

    picture: str
    points: dict[str, np.ndarray]
    category: int | str = 0
    box: list[float] | None = None  # x, y, width, height
    size: tuple[int, int] | None = None  # width, height of the picture


def _translate(path, images, skeleton):
    """Returns {category: its `Skeleton`} and a list of `_Person`, or None for a file in COCO's format."""
    if path.suffix in (".yaml", ".yml"):
        config = yaml.safe_load(path.read_bytes())
        if "kpt_shape" in config:
            return _yolo(path, config, images, skeleton)
        if "scorer" not in config:
            raise ValueError("it has neither the kpt_shape of YOLO-pose nor the scorer of DeepLabCut")
        return _deeplabcut(path.parent.glob(f"labeled-data/*/CollectedData_{config['scorer']}.csv"), path)
    with open(path, "rb") as file:
        start = file.read(100).lstrip(b"\xef\xbb\xbf\xff\xfe\0 \r\n\t")
    # DeepLabCut writes CSV and HDF5 with the same labels.
    if start.startswith(b"scorer") or path.name.startswith("CollectedData_"):
        return _deeplabcut([path.with_suffix(".csv")], path.parent.parent.parent / "config.yaml")
    if path.suffix == ".json" and start.startswith(b"{"):
        return None
    tasks = read_json(path) if path.suffix == ".json" else ()
    if tasks and all("annotations" in task for task in tasks):
        return _label_studio(tasks, ImageFolder(images or path.parent))
    return _by_sleap_io(path, images)


def _as_coco(skeletons, people, finder):
    images, annotations, numbers = {}, [], {key: number for number, key in enumerate(skeletons, start=1)}
    used = [one for one in people if len(one.points) > 1 or (one.points and one.box is not None)]
    if len(used) < len(people):
        _log.info("Left out: %d of %d people, with too few labels for a box", len(people) - len(used), len(people))
    for person in used:
        path = finder.path(person.picture)
        image = images.setdefault(path, {"id": len(images) + 1, "file_name": path, "named": person.picture})
        if image["named"] != person.picture:
            raise ValueError(f"{image['named']} and {person.picture} would both be the picture {path}")
        if person.size is not None:
            image["width"], image["height"] = person.size
        names = skeletons[person.category].keypoints
        points = [(*person.points[name], 2) if name in person.points else (0, 0, 0) for name in names]
        ids = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": numbers[person.category]}
        annotations.append({**ids, "keypoints": np.ravel(points).tolist(), "bbox": person.box})
    if not annotations:
        raise ValueError("it labels nobody, or its labels are not where it says that they are")
    categories = [coco_category(skeleton, numbers[key]) for key, skeleton in skeletons.items()]
    return {"images": list(images.values()), "annotations": annotations, "categories": categories}


def _yolo(path, config, images, skeleton):
    """Source: Ultralytics' description of pose datasets, and its `img2label_paths`, which finds labels of pictures."""
    count, numbers = config["kpt_shape"]
    flip = list(config.get("flip_idx") or ())
    # sleap-io writes `node_names`.
    named = config.get("kpt_names") or config.get("node_names") or (skeleton and skeleton.keypoints)
    if not named:
        is_coco = flip == COCO17.flip_permutation.tolist()
        named = COCO17.keypoints if is_coco else [f"keypoint_{number}" for number in range(count)]
        _log.warning("%s names no keypoints, so skeleton= is to; until then they are %s", path, ", ".join(named))
    classes, skeletons, people = config.get("names") or ["person"], {}, []
    for number, name in classes.items() if isinstance(classes, dict) else enumerate(classes):
        names = named.get(number) or next(iter(named.values())) if isinstance(named, dict) else named
        if len(names) != count:
            raise ValueError(f"kpt_shape says {count} keypoints, and there are {len(names)} names")
        edges = [(names[one], names[other]) for one, other in config.get("skeleton") or ()]
        pairs = [(names[one], names[other]) for one, other in enumerate(flip) if one < other]
        skeletons[number] = Skeleton(str(name), tuple(names), tuple(edges), tuple(pairs))
    for picture in _yolo_pictures(path, config, images):
        head, _, tail = picture.as_posix().rpartition("/images/")
        labels = Path(f"{head}/labels/{tail}" if head else picture).with_suffix(".txt")
        lines = labels.read_text("utf-8-sig").splitlines() if labels.is_file() else ()
        for cells in map(str.split, lines):
            if len(cells) in (0, 5):  # a box without keypoints
                continue
            values = to_floats(cells, (5 + count * numbers,), f"line {' '.join(cells)!r} in {labels}")
            points, size = values[5:].reshape(count, numbers), image_size(picture)
            labelled = points[:, 2] > 0 if numbers == 3 else (points >= 0).all(axis=1) & points.any(axis=1)
            names = skeletons[int(values[0])].keypoints
            known = {names[place]: points[place, :2] * size for place in np.flatnonzero(labelled)}
            box = np.append(values[1:3] - values[3:5] / 2, values[3:5]) * (size * 2)
            people.append(_Person(str(picture), known, int(values[0]), box.tolist(), size))
    return skeletons, people


def _yolo_pictures(path, config, images):
    """Returns the pictures of a folder, or of all splits, which are folders or files that list pictures."""
    splits = [config.get(split) or [] for split in ("train", "val", "test")] if images is None else [str(images)]
    finder, found = ImageFolder(path.parent), {}
    for name in [name for split in splits for name in ([split] if isinstance(split, str) else split)]:
        place = Path(finder.path(os.path.normpath(os.path.join(config.get("path") or "", name))))
        if place.is_dir():
            found |= dict.fromkeys(sorted(one for one in place.rglob("*") if _PICTURE.search(one.name)))
        elif place.is_file():
            listed = place.read_text("utf-8-sig").splitlines()
            found |= dict.fromkeys(place.parent / line.strip() for line in listed if line.strip())
        else:
            _log.warning("%s names %s for its pictures, which is not there", path, name)
    return found


def _deeplabcut(tables, config):
    """Source: DeepLabCut's "Standard DeepLabCut 2.0 data" format, a table with three or four rows above its labels."""
    people, names = [], {}
    for table in sorted(tables):
        require_file(table)
        with open(table, newline="", encoding="utf-8-sig") as lines:
            rows = [row for row in csv.reader(lines) if row]
        header = {row[0]: row for row in rows[:4] if row[0] in ("scorer", "individuals", "bodyparts", "coords")}
        whose = header.get("individuals", [""] * len(header["coords"]))
        columns = [k for k, axis in enumerate(header["coords"]) if axis == "x" and whose[k] != "single"]
        names |= {header["bodyparts"][column]: None for column in columns}
        for row in rows[len(header) :]:
            animals = defaultdict(dict)
            for column in columns:
                if row[column]:
                    point = to_floats(row[column : column + 2], (2,), f"row {','.join(row)} in {table}")
                    animals[whose[column]][header["bodyparts"][column]] = point
            people += [_Person("/".join(row[: header["coords"].index("x")]), points) for points in animals.values()]
    if not names:
        raise ValueError("it has no labels in labeled-data/*/CollectedData_SCORER.csv, which stands beside the .h5")
    known = yaml.safe_load(config.read_bytes()) if config.is_file() else {}
    edges = tuple(tuple(edge) for edge in known.get("skeleton") or () if names.keys() >= set(edge))
    return {0: Skeleton(str(known.get("Task") or "individual"), tuple(names), edges)}, people


def _label_studio(tasks, finder):
    """Source: Label Studio's "Label Studio JSON format of annotated tasks"; coordinates are percentages."""
    people, names = [], defaultdict(set)
    for task in tasks:
        results = next((one["result"] for one in task["annotations"] if not one.get("was_cancelled")), ())
        boxes = {one["id"]: one["value"] for one in results if one["type"] == "rectanglelabels"}
        ends = [(one["from_id"], one["to_id"]) for one in results if one["type"] == "relation"]
        owners = {one: other for pair in ends for one, other in (pair, pair[::-1]) if other in boxes}
        persons = defaultdict(dict)
        for one in [one for one in results if one["type"] == "keypointlabels"]:
            name, point = one["value"]["keypointlabels"][0], (one["value"]["x"], one["value"]["y"])
            around = [number for number, box in boxes.items() if _lies_in(point, box)] or list(boxes)
            owner = one.get("parentID") or owners.get(one["id"]) or (around[0] if len(around) == 1 else None)
            if name in persons[owner] or (owner is None and boxes) or one.get("image_rotation"):
                what = f"whose the keypoint {name!r} of task {task.get('id')} is, or where, cannot be told"
                advice = "draw a rectangle around each person, and relate keypoints to it where they overlap"
                raise ValueError(f"{what}: rotate no pictures, {advice}")
            size = one["original_width"], one["original_height"]
            persons[owner][name] = np.multiply(point, size) / 100
        for owner, points in persons.items():
            label, box = boxes.get(owner, {}).get("rectanglelabels", ["person"])[0], None
            if owner in boxes and label != "instance_class":  # of sleap-io, around the whole picture
                box = [boxes[owner][side] / 100 for side in ("x", "y", "width", "height")]
                box = np.multiply(box, size * 2).tolist()
            names[label] |= points.keys()
            people.append(_Person(_label_studio_picture(task, finder), points, label, box, size))
    return {label: Skeleton(label, tuple(sorted(names[label]))) for label in sorted(names)}, people


def _lies_in(point, box):
    return 0 <= point[0] - box["x"] <= box["width"] and 0 <= point[1] - box["y"] <= box["height"]


def _label_studio_picture(task, finder):
    """Returns the picture of a task: a local file, a URL, an upload with 8 digits before its name, or sleap-io's."""
    names = [unquote(str(value)).split("?d=")[-1].split("?")[0] for value in task["data"].values()]
    if video := task.get("meta", {}).get("video"):
        names.append(str(np.atleast_1d(video["filename"])[video["frame_idx"]]))
    name = next((name for name in names if _PICTURE.search(name)), None)
    if name is None:
        raise ValueError(f"task {task.get('id')} names no picture, only {', '.join(names)}: videos are not read")
    return name if os.path.isfile(finder.path(name)) else re.sub(r"(^|/)[0-9a-f]{8}-(?=[^/]*$)", r"\1", name)


def _by_sleap_io(path, images):
    sleap_io = import_optional("sleap_io", f"Reading {path}", "keras-regpose[formats]")
    try:
        labels = sleap_io.load_file(str(path))
    except Exception as error:  # whatever the bytes lead to
        raise ValueError(f"it is in no format that is known here or to sleap-io, or damaged: {error}") from error
    if not isinstance(labels, sleap_io.Labels):
        raise ValueError(f"it holds no annotations: sleap-io reads it as {type(labels).__name__}")
    skeletons, people = {}, []
    for number, one in enumerate(labels.skeletons):
        pairs = tuple(tuple(sorted(pair)) for pair in one.symmetry_names)
        edges = tuple(map(tuple, one.edge_names))
        skeletons[number] = Skeleton(one.name or "person", tuple(one.node_names), edges, pairs)
    frames = [frame for frame in labels if frame.user_instances]
    for frame in progress_bar(iterable=frames, desc=f"Reading {path.name}", unit="frame"):
        picture = _frame_file(labels.videos.index(frame.video), frame, path, images)
        for person in frame.user_instances:
            points = dict(zip(person.skeleton.node_names, person.numpy(), strict=True))
            points = {name: point for name, point in points.items() if np.isfinite(point).all()}
            people.append(_Person(picture, points, labels.skeletons.index(person.skeleton)))
    return skeletons, people


def _frame_file(number, frame, path, images):
    """Returns the picture file of a frame, which is written first where it is part of a video or of `path` itself."""
    name = str(np.atleast_1d(frame.video.filename)[frame.frame_idx if isinstance(frame.video.filename, list) else 0])
    if _PICTURE.search(name):
        return name
    if images is None:
        raise ValueError(f"it labels frames of {name}: pass images=, a folder into which they are written as PNG")
    picture = images / f"{path.stem}_{number}_{frame.frame_idx:06d}.png"
    if frame.video.backend is None:  # it is not where it was when it was labelled
        frame.video.open(str(path.parent / Path(name.replace("\\", "/")).name))
    frame.video.grayscale = False  # else a first frame that is black makes all of them grey
    save_picture(picture, read_image(np.asarray(frame.image)), marked=False)
    return str(picture)
