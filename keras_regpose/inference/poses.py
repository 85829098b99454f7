"""What an estimate returns: the poses of the people in one image, and the ways to show, keep and hand them on."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer, Real, UInt8

from keras_regpose.arrays import check_people
from keras_regpose.files import csv_text, write_whole
from keras_regpose.images import PICTURE_SUFFIXES, read_image, save_picture
from keras_regpose.inference.draw import draw_poses
from keras_regpose.inference.regions import reach
from keras_regpose.inference.scores import coco_result, expected_oks, instance_score
from keras_regpose.optional import import_optional
from keras_regpose.skeleton import Skeleton

if TYPE_CHECKING:
    import pandas
    import PIL.Image
    import supervision

_ARRAYS = ("keypoints", "sigmas", "scores", "boxes", "box_scores", "ids")
_IN_JSON = (*_ARRAYS, "skeleton", "image_size", "source", "frame", "time")


@dataclasses.dataclass(eq=False)
class Poses:
    """The poses of N people in one image.

    `len(poses)` is N; iterating yields one-person `Poses`; an index, a slice, a mask or an array of numbers selects
    people: `poses[poses.box_scores > 0.5]`. A keypoint's name gives its (N, 2) positions: `poses["left_wrist"]`.

    Args:
        keypoints: (N, K, 2) float32 array, x and y in image pixels; the first pixel's centre is (0, 0).
        scores: (N, K) float32 array of keypoint scores.
        boxes: (N, 4) float32 array. The boxes from which the poses were estimated, xyxy in image pixels.
        box_scores: (N,) float32 array. The detector's confidences; 1 for given boxes.
        skeleton: `Skeleton` with K keypoints.
        sigmas: (N, K, 2) float32 array or None. The scale σ of each coordinate's error in image pixels, as the model
            predicts it; None for plain regression models, which predict none. See below.
        image_size: (height, width) of the image in pixels, or None if it is not known.
        source: str or None. Path of the image, from which `plot` and `save` read it when they are not given it; for
            frames the path of their video, or such as "camera 0".
        frame: int or None. The frame's number, from 0, if the source is a video or a camera.
        image: (H, W, 3) uint8 RGB array or None. The image, where there is no file to read it from. A video's frame is
            kept until the next one is asked for.
        frame_rate: float or None. The video's frames per second, where they are known.
        quantiles: mapping or None. How many σ the model's errors reach, which `intervals` and `regions` need; see
            `inference/regions.py`. JSON keeps neither these nor the frame rate or the image.
        time: float or None. When the frame is shown, in seconds from the beginning of the video; of cameras and streams
            from the first frame on. None for pictures.
        ids: (N,) int64 array or None. Numbers that tell who is the same person in all frames of a video.

    What σ is: RLE trains with a Laplace density exp(−|e| / σ) / 2σ of the error e of each coordinate, times one that
    its flow has learned of e / σ. σ therefore tells how uncertain one joint is compared with another, while the factor
    between σ and the mean of |e|, which is the same for all joints of a model, is the flow's. Most models end up with
    errors smaller than σ. `PoseRegressor.density(poses).expected_error()` is σ times that factor, in pixels;
    `keras-regpose evaluate --calibration` measures the factor on photographs, and how well it holds. In crop units
    (before the multiplication by the region's width and height) σ is between 0 and 1, and a keypoint's score is
    1 − mean(σx, σy).

    Raises:
        ValueError: If a shape does not fit.

    Example:

    >>> from keras_regpose.skeleton import COCO17
    >>> poses = Poses(np.zeros((2, 17, 2)), np.ones((2, 17)), np.zeros((2, 4)), np.array([0.9, 0.4]), COCO17)
    >>> poses
    Poses(2 people, skeleton 'coco17')
    >>> len(poses[poses.box_scores > 0.5]), [person.keypoints.shape for person in poses]
    (1, [(1, 17, 2), (1, 17, 2)])
    """

    keypoints: Real[np.ndarray, "people keypoints 2"]
    scores: Real[np.ndarray, "people keypoints"]
    boxes: Real[np.ndarray, "people 4"]
    box_scores: Real[np.ndarray, " people"]
    skeleton: Skeleton
    sigmas: Real[np.ndarray, "people keypoints 2"] | None = None
    image_size: tuple[int, int] | None = None
    source: str | None = None
    frame: int | None = None
    image: UInt8[np.ndarray, "height width 3"] | None = dataclasses.field(default=None, repr=False)
    frame_rate: float | None = None
    quantiles: Mapping | None = dataclasses.field(default=None, repr=False)
    time: float | None = None
    ids: Integer[np.ndarray, " people"] | None = None

    def __post_init__(self):
        if not isinstance(self.skeleton, Skeleton):
            raise ValueError(f"skeleton must be a keras_regpose.Skeleton. Received: {self.skeleton!r}")
        subject, count = f"Skeleton {self.skeleton.name!r}", len(self.skeleton)
        ids = self.ids
        vars(self).update(check_people(subject, count, np.float32, **self._arrays()))
        if ids is not None:
            self.ids = np.asarray(ids).astype(np.int64)
            if (self.ids != ids).any():
                raise ValueError(f"ids must be whole numbers. Received: {ids}")
        if self.image_size is not None:
            size = tuple(int(side) for side in self.image_size)
            if len(size) != 2 or min(size) < 1:
                raise ValueError(f"image_size must be (height, width) in pixels. Received: {self.image_size}")
            self.image_size = size
        if self.source is not None:
            self.source = os.fspath(self.source)

    @property
    def xy(self) -> Real[np.ndarray, "people keypoints 2"]:
        """The keypoints, by the name that other packages give them."""
        return self.keypoints

    def __len__(self) -> int:
        return len(self.keypoints)

    def __repr__(self) -> str:
        people = "1 person" if len(self) == 1 else f"{len(self)} people"
        image = "" if self.image_size is None else f", image {self.image_size[1]}×{self.image_size[0]}"
        return f"Poses({people}, skeleton {self.skeleton.name!r}{image})"

    def __iter__(self) -> Iterator["Poses"]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index) -> Any:
        if isinstance(index, str):
            return self.keypoints[:, self.skeleton.index(index)]
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f"There are {len(self)} people. Received: {index}")
            index = [int(index)]
        elif not isinstance(index, slice):
            index = np.asarray(index)
            index = index.astype(int) if index.size == 0 and index.dtype != bool else index
        return dataclasses.replace(self, **{name: array[index] for name, array in self._arrays().items()})

    def _arrays(self) -> dict[str, Any]:
        """Returns the arrays that there are, by name; only σ and ids may be missing."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        return {name: array for name, array in arrays.items() if array is not None or name not in ("sigmas", "ids")}

    def angle(self, first: str, vertex: str, last: str) -> np.ndarray:
        """Returns the angle at a joint.

        Args:
            first, vertex, last: str. Names of keypoints, such as "left_shoulder", "left_elbow" and "left_wrist" for the
                angle at the elbow.

        Returns:
            (N,) float32 array in degrees, 0 to 180; NaN where two of the keypoints are at the same place.

        Example:

        >>> from keras_regpose.skeleton import Skeleton
        >>> arm = Skeleton("arm", ("shoulder", "elbow", "wrist"))
        >>> bent = Poses([[[0, 0], [9, 0], [9, 9]]], [[1, 1, 1]], [[0, 0, 9, 9]], [1], arm)
        >>> bent.angle("shoulder", "elbow", "wrist").tolist()
        [90.0]
        """
        (x1, y1), (x2, y2) = (self[first] - self[vertex]).T, (self[last] - self[vertex]).T
        degrees = np.degrees(np.arctan2(np.abs(x1 * y2 - y1 * x2), x1 * x2 + y1 * y2))
        return np.where((np.hypot(x1, y1) > 0) & (np.hypot(x2, y2) > 0), degrees, np.float32(np.nan))

    def intervals(self, share: float) -> np.ndarray:
        """Returns how far to both sides of x and of y the true coordinate lies in a share of all cases.

        The share is that of the people on whom the preset was recalibrated, on average over their joints and axes.

        Args:
            share: float. Between 0.01 and 0.99.

        Returns:
            (N, K, 2) float32 array in pixels.

        Raises:
            ValueError: If the model predicts no σ, or was not recalibrated since it was trained.

        Example:

        >>> import keras_regpose as rp
        >>> model = rp.from_preset("mobilenetv2_rle_people")
        >>> person = rp.data.Synthetic(1, seed=0)[0]
        >>> people = model.estimate(person.image, boxes=[person.box])
        >>> bool((people.intervals(0.9) > people.intervals(0.5)).all()), people.regions(0.9).shape
        (True, (1, 17, 2))
        """
        return self._reach("intervals", share)

    def regions(self, share: float) -> np.ndarray:
        """Returns the half axes, along x and y, of the ellipse that holds the true joint in a share of all cases.

        Args, Returns and Raises are those of `intervals`.
        """
        return self._reach("regions", share)

    def _reach(self, kind, share):
        if self.sigmas is None:
            raise ValueError("Intervals and regions are made of σ, which models trained without RLE do not predict")
        return self.sigmas * np.float32(reach(self.quantiles, kind, share))

    def expected_oks(self) -> np.ndarray:
        """Returns the object keypoint similarity to be expected of each joint, by σ and the box's area.

        It is what `scores` cannot tell: whether an error of that size matters for this joint of a person of this size.

        Returns:
            (N, K) float64 array between 0 and 1; a person's is the mean.

        Raises:
            ValueError: If the model predicts no σ.
        """
        if self.sigmas is None:
            raise ValueError("The expected OKS is made of σ, which models trained without RLE do not predict")
        areas = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(-1)
        return expected_oks(self.sigmas, areas, self.skeleton.sigmas)

    def _repr_png_(self) -> bytes | None:
        """What notebooks show: the picture, at most 1,600 pixels wide, or nothing if there is nothing to draw on."""
        try:
            picture = self.plot()
        except (ValueError, OSError):
            return None
        picture.thumbnail((1600, 1600))
        return picture._repr_png_()

    def plot(self, image: Any = None, boxes: bool = False, **options) -> "PIL.Image.Image":
        """Draws the poses on the image, and ids where there are some; notebooks show it, `.show()` opens a window.

        Args:
            image: (H, W, 3) RGB array with values 0–255, a PIL image, a path, or None for the image of the estimate.
                If that is not known, the poses are drawn on grey.
            boxes: bool. Whether to draw the boxes as well.
            **options: score_threshold, ellipses, labels, scale: see `draw_poses`.

        Returns:
            `PIL.Image.Image`.

        Raises:
            FileNotFoundError: If the path is not that of an image.
            ValueError: If there is nothing to draw on: no image, no source, no image size.
        """
        import PIL.Image

        given = {"boxes": self.boxes if boxes else None, "skeleton": self.skeleton, "ids": self.ids, **options}
        picture = draw_poses(self._image(image), self.keypoints, self.scores, self.sigmas, **given)
        return PIL.Image.fromarray(picture)

    def save(self, path: str | os.PathLike, image: Any = None, **options) -> None:
        """Writes the poses to a file: numbers as `.json` or `.csv`, a picture as `.png`, `.jpg`, `.jpeg` or `.webp`.

        The file appears complete or not at all. `Poses.from_json(Path(path).read_text())` reads the numbers back.

        Args:
            path: str or path. Its suffix chooses the format.
            image: as in `plot`; not used for numbers.
            **options: as in `plot`.

        Raises:
            ValueError: If the suffix is another one.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".json":
            write_whole(path, self.to_json() + "\n")
        elif suffix == ".csv":
            write_whole(path, self.to_csv())
        elif suffix in PICTURE_SUFFIXES:
            save_picture(path, np.asarray(self.plot(image, **options)))
        else:
            raise ValueError(
                "Poses are saved as .json or .csv (numbers), or "
                f"{', '.join(PICTURE_SUFFIXES)} (picture). Received: {path}"
            )

    def to_json(self) -> str:
        """Returns all fields as JSON; `from_json` gives back exactly the same numbers. NaN and ±∞ become null.

        Example:

        >>> from keras_regpose.skeleton import COCO17
        >>> json.loads(Poses([], [], [], [], COCO17, image_size=(480, 640)).to_json())["image_size"]
        [480, 640]
        """
        # Every float32 is a Python float, and Python writes floats with as many digits as they need.
        values = {name: getattr(self, name) for name in _IN_JSON}
        return json.dumps(values, allow_nan=False, ensure_ascii=False, default=_to_json)

    @classmethod
    def from_json(cls, text: str) -> "Poses":
        """Reads what `to_json` wrote.

        Args:
            text: str. The JSON text itself, not a path.

        Raises:
            ValueError: If the text is not JSON, or not that of poses.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ValueError(f"The text is not JSON ({error}): pass the text that Poses.to_json returned") from error
        if not isinstance(values, dict) or set(values) != set(_IN_JSON):
            got = ", ".join(sorted(values)) if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"The JSON of poses has the keys {', '.join(sorted(_IN_JSON))}. Received: {got}")
        return cls(**{**values, "skeleton": Skeleton.from_dict(values["skeleton"])})

    def to_coco(self, image_id: int | str, score_mode: str | None = None) -> list[dict]:
        """Returns the people in COCO's result format, ready for `json.dump` and for `pycocotools`.

        Args:
            image_id: int or str. The image's id in the annotation file.
            score_mode: str or None. How a person's score is made of box score and keypoint scores: "bbox",
                "keypoint", "bbox_keypoint", "bbox_rle" or "expected_oks", see
                `keras_regpose.metrics.instance_score`. None is what the published results use: "bbox_rle" where there
                are sigmas, "bbox_keypoint" elsewhere.

        Returns:
            list of dicts, one per person: image_id, category_id 1, keypoints (x, y, score in turn), score, and bbox
            (x, y, width, height).

        Example:

        >>> from keras_regpose.skeleton import COCO17
        >>> poses = Poses(np.full((1, 17, 2), 7), np.ones((1, 17)), [[5, 6, 9, 9]], [0.5], COCO17)
        >>> result, = poses.to_coco(image_id=42)
        >>> result["image_id"], result["keypoints"][:3], result["score"], result["bbox"]
        (42, [7.0, 7.0, 1.0], 0.5, [5.0, 6.0, 4.0, 3.0])
        """
        if score_mode is None:
            score_mode = "bbox_keypoint" if self.sigmas is None else "bbox_rle"
        ranked = self.expected_oks() if score_mode == "expected_oks" else self.scores
        scores = instance_score(self.box_scores, ranked, score_mode)
        people = zip(self.keypoints, self.scores, scores, self.boxes, strict=True)
        return [coco_result(image_id, 1, *person) for person in people]

    def to_dataframe(self) -> "pandas.DataFrame":
        """Returns one row per joint: person, keypoint (its name), x, y, score, and sigma_x, sigma_y where known.

        Those of a video have frame, time and, where people are followed, id in front.

        Raises:
            ImportError: If pandas is not installed.
        """
        return import_optional("pandas", "to_dataframe", "pandas").DataFrame(self._columns())

    def to_csv(self) -> str:
        """Returns the rows of `to_dataframe` as CSV.

        Example:

        >>> from keras_regpose.skeleton import Skeleton
        >>> print(Poses([[[3, 4]]], [[0.5]], [[0, 0, 9, 9]], [1], Skeleton("point", ("tip",))).to_csv(), end="")
        person,keypoint,x,y,score
        0,tip,3.0,4.0,0.5
        """
        columns = self._columns()
        return csv_text([columns, *zip(*columns.values(), strict=True)])

    def _columns(self):
        """Returns the columns of a table with one row per joint."""
        count = len(self.skeleton)
        of_video = {"frame": self.frame, "time": self.time}
        columns = {name: [value] * (len(self) * count) for name, value in of_video.items() if value is not None}
        columns |= {} if self.ids is None else {"id": np.repeat(self.ids, count)}
        columns |= {
            "person": np.repeat(np.arange(len(self)), count),
            "keypoint": list(self.skeleton.keypoints) * len(self),
            "x": self.keypoints[..., 0].ravel(),
            "y": self.keypoints[..., 1].ravel(),
            "score": self.scores.ravel(),
        }
        if self.sigmas is not None:
            columns.update(sigma_x=self.sigmas[..., 0].ravel(), sigma_y=self.sigmas[..., 1].ravel())
        return columns

    def to_supervision(self) -> "supervision.KeyPoints":
        """Returns the poses as `supervision.KeyPoints` (supervision 0.29 or newer), for its annotators and trackers.

        Where there are sigmas, `data["covariance"]` has what its ellipse annotators draw: the variance of a Laplace
        density is 2σ², and x and y are independent.

        Raises:
            ImportError: If supervision is not installed.
        """
        supervision = import_optional("supervision", "to_supervision", "supervision>=0.29")
        return supervision.KeyPoints(
            xy=self.keypoints.copy(),
            class_id=np.zeros(len(self), int),
            keypoint_confidence=self.scores.copy(),
            detection_confidence=self.box_scores.copy(),
            data={} if self.sigmas is None else {"covariance": 2 * self.sigmas[..., None] ** 2 * np.eye(2, dtype="f4")},
        )

    def _image(self, image):
        """Returns the array to draw on."""
        given = (image, self.image, self.source if self.frame is None else None)
        image = next((one for one in given if one is not None), None)
        if image is None and self.frame is not None:
            raise ValueError(
                f"Frame {self.frame} is no longer in memory: plot it before you ask for the next one, or pass the image"
            )
        if image is None:
            if self.image_size is None:
                raise ValueError("There is nothing to draw on: pass the image, as in poses.plot(image)")
            return np.full((*self.image_size, 3), 96, np.uint8)
        if isinstance(image, (str, os.PathLike)) or hasattr(image, "getbands"):
            return read_image(image)
        return np.asarray(image)


def _to_json(value):
    """Returns a skeleton as a dict, or an array as nested lists of JSON numbers."""
    if isinstance(value, Skeleton):
        return value.to_dict()
    return np.where(np.isfinite(value), value.astype(object), np.array(None)).tolist()
