"""The rules by which a COCO keypoint file is read: one set for readers and metrics, for files as tools write them."""

import collections
import contextlib
import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np

from keras_regpose.data.records import BROKEN, LARGEST, estimated_area, extent_box, to_floats
from keras_regpose.files import read_json
from keras_regpose.images import ImageError, image_size
from keras_regpose.skeleton import (
    COCO17,
    Skeleton,
    chosen_categories,
    keypoint_categories,
    listed_entries,
    matched_keypoints,
)

_log = logging.getLogger(__name__)


class CocoFile:
    """The contents of a COCO keypoint file, whatever tool wrote it.

    - The file's categories say what the keypoints are. Annotations of other categories are left out.
    - Where it describes no keypoints, those are read that have annotations with as many as the skeleton.
    - Coordinates that are null or NaN where nothing is labelled (v = 0) are zero, and so are keypoints left out.
    - A missing box is the extent of the labelled keypoints, a missing or zero area is 0.53 · width · height of the
      box, a missing size of an image is that of its file.
    - Annotations without unique whole numbers as ids are numbered by their place in the file, from 1.

    Args:
        source: str, path or mapping. The file, or its contents.
        skeleton: `Skeleton` or None for the one that the file describes, or COCO's where it describes none. Another
            order of the file's keypoints is put right, by `skeleton.matched_keypoints`.
        category: int or str. Number or name of the category to read. None reads all whose keypoints fit.
        images: str, path or None. Folder of the images.

    Attributes:
        name: str. What messages call the file.
        skeleton: `Skeleton`.
        described: bool. Whether the file names its keypoints.
        images: dict. The images by id.
        records: list. The annotations as they stand in the file, or None if it has none.
        left_out: dict. How many annotations of other categories were met, by category.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not of this format, lists an image id twice, or has other keypoints than the skeleton.
    """

    def __init__(
        self,
        source: str | os.PathLike | Mapping,
        skeleton: Skeleton | None = None,
        category: int | str | None = None,
        images: str | os.PathLike | None = None,
    ):
        contents: Any = source if isinstance(source, Mapping) else read_json(source)
        self.name = os.fspath(source.get("file", "the annotations") if isinstance(source, Mapping) else source)
        self.images = _images_by_id(contents, self.name)
        self.records = contents.get("annotations")
        if self.records is not None and not isinstance(self.records, list):
            raise ValueError(f"{self.name} is not in COCO's format: its 'annotations' are no list")
        self.left_out = collections.Counter()
        self._folder = None if images is None else ImageFolder(images)
        self._paths: dict[Any, str] = {}
        self._sizes: dict[Any, tuple[int, int] | None] = {}
        self.skeleton, self._orders, self.described = _keypoints(dict(contents), skeleton, category, self.name)
        if self._orders is None:
            self._orders = self._fitting()
        listed = listed_entries(contents, "categories", self.name)
        self.category_names = {entry["id"]: str(entry.get("name", entry["id"])) for entry in listed}
        self.categories = list(self.category_names if self._orders is None else self._orders)

    def _fitting(self):
        """Returns the categories that have annotations with as many keypoints as the skeleton; None where that is all
        of them or none."""
        records = [record for record in self.records or () if isinstance(record, dict)]
        records = [record for record in records if isinstance(record.get("category_id"), Hashable)]
        every = dict.fromkeys(record.get("category_id", 1) for record in records)
        needed = 3 * len(self.skeleton)
        fitting = {one.get("category_id", 1) for one in records if np.size(one.get("keypoints") or ()) == needed}
        return None if len(fitting) in (0, len(every)) else {number: None for number in every if number in fitting}

    @cached_property
    def _numbered(self):
        ids = [record.get("id") for record in self.records or () if isinstance(record, dict)]
        if len({number for number in ids if isinstance(number, int)}) == len(ids):
            return False
        _log.info("Annotation ids of %s are repeated or missing: its annotations are numbered from 1", self.name)
        return True

    def person(self, position: int, record: Any, labelled_only: bool = False) -> dict | None:
        """Returns an annotation by the rules, or None for one that is of another category, or has no keypoints at all.

        Args:
            position: int. Its place in the file, from 0.
            record: dict, as it stands there.
            labelled_only: bool. Whether crowds, and people of whom no keypoint is labelled, are None as well.

        Returns:
            dict with `id`, `image_id`, `category_id`, `bbox` (x, y, width, height), `area`, `iscrowd`, `keypoints`
            ((K, 3) array in the skeleton's order) and `num_keypoints`.

        Raises:
            ValueError, KeyError, TypeError: If the record is broken.
        """
        category = record.get("category_id", next(iter(self._orders or (1,))))
        if not isinstance(category, Hashable):
            raise ValueError(f"its category_id {category!r:.80} is neither a number nor a name")
        if self._orders is not None and category not in self._orders:
            self.left_out[category] += 1
            return None
        crowd, count = int(record.get("iscrowd") or 0), len(self.skeleton)
        if labelled_only and (crowd or record.get("num_keypoints") == 0):
            return None
        points = record.get("keypoints") if crowd or self.described else record["keypoints"]
        if points is None or len(points) == 0:  # only a box was drawn
            points = [0] * 3 * count
        points = _points(points, self.skeleton)
        if self._orders is not None and self._orders[category] is not None:
            points = points[self._orders[category]]
        labelled = 0 if record.get("num_keypoints") == 0 or points[:, :2].max() <= 0 else int((points[:, 2] > 0).sum())
        if labelled_only and not labelled:
            return None
        number = position + 1 if self._numbered else record["id"]
        box = record.get("bbox")
        if box is None and (crowd or not labelled):
            return None
        if box is None:
            left, top, right, bottom = extent_box(points[:, :2], points[:, 2]).tolist()
            box = [left, top, right - left, bottom - top]
        x, y, width, height = box = to_floats(box, (4,), "box").tolist()
        area = float(record.get("area") or 0) or estimated_area(np.array([x, y, x + width, y + height]))
        if not 0 < area < LARGEST**2:
            raise ValueError(f"its area {area} is not a number of square pixels")
        ids = {"id": number, "image_id": record["image_id"], "category_id": category}
        return ids | {"bbox": box, "area": area, "iscrowd": crowd, "keypoints": points, "num_keypoints": labelled}

    def box_of(self, person: dict) -> np.ndarray:
        """Returns the (4,) float32 xyxy box of a person, clipped to the image (x from 0 to width − 1).

        Raises:
            ValueError: If the image is not listed, its size is not known, or the box has no size inside of it.
        """
        size = self.size_of(person["image_id"]) if person["image_id"] in self.images else None
        if size is None:
            name = self.images.get(person["image_id"], {}).get("file_name", person["image_id"])
            raise ValueError(f"its image {name} is not listed with width and height, nor can it be opened")
        x, y, width, height = person["bbox"]
        box = np.clip([x, y, x + width, y + height], 0, [size[0] - 1, size[1] - 1] * 2).astype(np.float32)
        if not (box[2:] > box[:2]).all():
            raise ValueError(f"its box {person['bbox']} has no size inside the image")
        return box

    def size_of(self, image_id) -> tuple[int, int] | None:
        """Returns the (width, height) of an image in pixels as it is listed, or as its file says, or None."""
        if image_id not in self._sizes:
            width, height = self.images[image_id].get("width"), self.images[image_id].get("height")
            if not (width and height) and self._folder is not None:
                with contextlib.suppress(ImageError):
                    width, height = image_size(self.path_of(image_id))
            size = None
            with contextlib.suppress(OverflowError, TypeError, ValueError):  # it is listed, but not in numbers
                size = (int(width), int(height)) if width and height else None
            self._sizes[image_id] = self._sizes.setdefault(size, size)  # one object for all images of this size
        return self._sizes[image_id]

    def path_of(self, image_id) -> str:
        """Returns the path of an image's file."""
        assert self._folder is not None
        if image_id not in self._paths:
            if "file_name" not in self.images[image_id]:
                raise ValueError(f"its image {image_id} is listed without a file_name")
            self._paths[image_id] = self._folder.path(str(self.images[image_id]["file_name"]))
        return self._paths[image_id]

    def tell(self) -> None:
        """Says in the log what was left out, and which images of those asked for are missing."""
        if self.left_out:
            names = ", ".join(f"{n} of {self.category_names.get(key, key)}" for key, n in self.left_out.items())
            _log.info("Annotations of other categories were left out of %s: %s", self.name, names)
        missing = [] if self._folder is None else self._folder.missing
        if missing:
            _log.warning(
                "%d of %d images of %s are not there, such as %s", len(missing), len(self._paths), self.name, missing[0]
            )

    def truth(self, strict: bool = False) -> dict:
        """Returns the file's contents by the rules, to score predictions against.

        Annotations that are broken are left out, as are those that the reader leaves out. With `strict` the broken ones
        are refused by a ValueError, and the others stay.
        """
        annotations = []
        for position, record in enumerate(self.records or ()):
            try:
                person = self.person(position, record)
                if not strict and person is not None and person["num_keypoints"] and not person["iscrowd"]:
                    self.box_of(person)  # whom the reader leaves out, nobody can find
            except BROKEN as error:
                if not strict:
                    continue
                reason = f"lacks {error.args[0]}" if isinstance(error, KeyError) else f"cannot be used: {error}"
                advice = "pass a COCO keypoint file, such as person_keypoints_val2017.json"
                named = f"Annotation {record.get('id', position + 1)} of {self.name}"
                raise ValueError(f"{named} {reason}: {advice}") from None
            if person is not None:
                annotations.append(person | {"keypoints": person["keypoints"].ravel().tolist()})
        sizes = {number: zip(("width", "height"), self.size_of(number) or (), strict=False) for number in self.images}
        images = [{"id": number, **dict(size)} for number, size in sizes.items()]
        names = {"keypoints": list(self.skeleton.keypoints)} if self.described else {}
        known = self.category_names
        categories = [{"id": number, "name": known.get(number, str(number)), **names} for number in self.categories]
        return {"images": images, "annotations": annotations, "categories": categories}


class ImageFolder:
    """Finds the files of images in a folder by the names that annotation files give them.

    Names may have backslashes, be absolute, begin with folders that `folder` has at its end already, or lack the
    subfolder in which the file lies.

    Args:
        folder: str or path.

    Attributes:
        missing: list of str. Paths that were asked for and are not there.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = os.fspath(folder)
        self.missing: list[str] = []
        self._names_in = cache(_names_in)

    def path(self, name: str) -> str:
        """Returns the path of a file, whether it is there or not.

        Raises:
            ValueError: If several files in subfolders have its name.
        """
        plain = os.path.join(self.folder, name)
        parts = name.replace("\\", "/").split("/")
        tried = [plain, *(os.path.join(self.folder, *parts[drop:]) for drop in range(len(parts)))]
        for path in tried:
            if os.path.basename(path) in self._names_in(os.path.dirname(path)):
                return path
        below = self._below.get(parts[-1], [])
        if len(below) > 1:
            raise ValueError(f"its image {name} may be {below[0]} or {below[1]}: put the subfolder into file_name")
        if not below:
            self.missing.append(plain)
        return below[0] if below else plain

    @cached_property
    def _below(self):
        found = collections.defaultdict(list)
        for folder, _, names in os.walk(self.folder):
            for name in names:
                if not name.startswith("._"):  # which macOS writes beside pictures
                    found[name].append(os.path.join(folder, name))
        return found


def _names_in(folder):
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _keypoints(contents, skeleton, category, where):
    """Returns the skeleton, for each category read the order that makes its keypoints the skeleton's, or None for all
    categories, and whether the file names keypoints."""
    if not (described := keypoint_categories(contents, category, where, skeleton)):
        chosen = chosen_categories(contents, category, where)
        return skeleton or COCO17, None if category is None else {entry["id"]: None for entry in chosen}, False
    skeleton = skeleton or Skeleton.from_category(described[0])
    orders = {}
    for entry in described:
        names = [str(name) for name in entry["keypoints"]]
        matched = matched_keypoints(skeleton.keypoints, names)
        if not len(matched) == len(names) == len(skeleton):
            ours = [name for place, name in enumerate(skeleton.keypoints) if place not in matched]
            theirs = [name for place, name in enumerate(names) if place not in matched.values()]
            what = f"it lacks {', '.join(ours) or 'none'} and has {', '.join(theirs) or 'none'}"
            named = f"The category {entry.get('name', entry['id'])!r} of {where}"
            advice = "Leave the skeleton out to read the file's own, or choose another category"
            raise ValueError(f"{named} has other keypoints than the skeleton {skeleton.name!r}: {what}. {advice}")
        order = [matched[place] for place in range(len(names))]
        orders[entry["id"]] = None if order == sorted(order) else order
    return skeleton, orders, True


def _points(values: Sequence, skeleton: Skeleton) -> np.ndarray:
    """Returns (K, 3) keypoints; coordinates that are not finite are zero where nothing is labelled."""
    points = to_floats(values, None, "list of keypoints").copy()  # null is NaN
    if points.size != 3 * len(skeleton):
        raise ValueError(f"it has {points.size} keypoint numbers, {skeleton.name!r} needs {3 * len(skeleton)}")
    points = points.reshape(-1, 3)
    if not (points[:, 2].min() >= 0 and np.isfinite(points).all()):
        points[:, 2] = np.where(points[:, 2] > 0, points[:, 2], 0)
        points[(points[:, 2] == 0) & ~np.isfinite(points).all(-1), :2] = 0
        if not np.isfinite(points).all():
            raise ValueError("its list of keypoints has values that are not finite where v says that they are labelled")
    return to_floats(points, points.shape, "list of keypoints")


def _images_by_id(contents, name):
    known = {}
    for image in listed_entries(contents, "images", name):
        before = known.setdefault(image["id"], image)
        if before.get("file_name") != image.get("file_name"):
            names = f"{before.get('file_name')} and {image.get('file_name')}"
            advice = "give the images of one of the merged files other ids"
            raise ValueError(f"{name} lists the image id {image['id']} twice, for {names}: {advice}")
    return known
