"""Finds the people in a picture: the finder that travels with the package, MoveNet MultiPose without its limit of six.

The network gives maps of a quarter of its input's size; what makes boxes and scores of them is NumPy alone.
"""

import functools
import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32

from keras_regpose.images import read_image

FOLDER = Path(__file__).parents[1] / "bundled_finder"
# What the network gives for each cell: whether a person's centre is there (0–1), the person's height and width and the
# centre's offset in cells (y, x), where joints of anybody are (17 channels, 0–1), and how far the person's own 17
# joints are from the centre in cells (y, x).
MAPS = ("center", "box_scale", "box_offset", "keypoints", "displacements")
THRESHOLD = 0.15
_CELL = 4  # pixels
_STRIDE = 32  # pixels: the sides of the network's input are multiples of it
# Four people who may be there are a sign of small ones beside them: then the picture is looked at in parts as well.
_MAY_BE, _MANY, _PART, _OVERLAP = 0.03, 4, 0.625, 0.5
# The decoding's constants, as the original's file has them.
_PEAK, _SAME, _SPREAD, _JOINT_SEEN, _FIRST = 5, 1e-6, 0.300048828125, 0.126953125, 6


class PeopleFinder:
    """Finds the people in a picture: a callable from a picture to boxes, as `estimate(..., boxes=...)` takes it.

    It is what `estimate` uses for presets of the human body when no boxes are given. Threads may share one. The network
    is MoveNet MultiPose Lightning (Google, Apache-2.0), rebuilt; see `bundled_finder/NOTICE`.

    The default threshold of 0.15, on the 44 pictures of coco_mini val: 66 % of the 44 people larger than 96² pixels are
    found, with 0.07 false boxes a picture; at 0.1 it is 73 % and 0.14, at 0.05 84 % and 0.32. One of ten pictures
    without people gives somebody. `benchmarks/people_finder.py` measures it.

    Args:
        threshold: float. People with a lower score (0–1) are left out.
        long_side: int. To how many pixels the longer side of a picture is brought. Where the picture has more, and the
            first look shows many people, four overlapping parts of it are looked at in the same size.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> import keras_regpose as rp
    >>> finder = rp.PeopleFinder()
    >>> finder(np.zeros((480, 640, 3), np.uint8)).shape
    (0, 5)
    """

    def __init__(self, threshold: float = THRESHOLD, long_side: int = 256):
        if not 0 < threshold <= 1 or long_side < _STRIDE:
            raise ValueError(
                f"threshold must be above 0 and at most 1, and long_side at least {_STRIDE} pixels. "
                f"Received: {threshold} and {long_side}"
            )
        self.threshold, self.long_side = threshold, int(long_side)

    def __call__(self, image: Any) -> Float32[np.ndarray, "people 5"]:
        """Finds the people.

        Args:
            image: str, path, PIL image or (H, W, 3) uint8 RGB array.

        Returns:
            (N, 5) float32 array: x1, y1, x2, y2 in image pixels, and the score. Best first, and behind them those who
            were found in parts alone.

        Raises:
            ImageError: If the picture cannot be read.
        """
        image = read_image(image)
        candidates = self._look(image, min(self.threshold, _MAY_BE))
        found = candidates[candidates[:, 4] >= self.threshold]
        if np.count_nonzero(candidates[:, 4] >= _MAY_BE) >= _MANY and max(image.shape) > self.long_side:
            for person in self._look_at_parts(image):
                if not (_shares(person, found) > _OVERLAP).any():
                    found = np.concatenate([found, person[None]])
        return found

    def _look(self, image, threshold):
        height, width = image.shape[:2]
        share = self.long_side / max(height, width)
        size = max(1, round(width * share)), max(1, round(height * share))
        padded = np.zeros((1, *(-(-side // _STRIDE) * _STRIDE for side in size[::-1]), 3), np.uint8)
        method = cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR
        padded[0, : size[1], : size[0]] = cv2.resize(image, size, interpolation=method)
        maps = zip(MAPS, _network(os.getpid())(padded), strict=True)
        found = decode_people({name: values[0] for name, values in maps}, threshold)
        found[:, :4] *= np.array([width / size[0], height / size[1]] * 2, np.float32)
        found[:, :4] = found[:, :4].clip(0, [width, height] * 2)
        return found[(found[:, 2:4] > found[:, :2]).all(1)]

    def _look_at_parts(self, image):
        """Returns the people in four overlapping parts, best first, without those whom a border inside cuts."""
        size = np.array(image.shape[1::-1])
        part = np.ceil(size * _PART).astype(int)
        people = []
        for start in itertools.product(*((0, rest) for rest in size - part)):
            stop = start + part
            found = self._look(np.ascontiguousarray(image[start[1] : stop[1], start[0] : stop[0]]), self.threshold)
            found[:, :4] += np.tile(start, 2)
            cut = (found[:, :2] < np.add(start, 2)) & (np.array(start) > 0) | (found[:, 2:4] > stop - 2) & (stop < size)
            people.append(found[~cut.any(1)])
        people = np.concatenate(people)
        return people[np.argsort(-people[:, 4], kind="stable")]


def _shares(person, others):
    """Returns how much of the smaller box of two a person has in common with each of the others."""
    low, high = np.maximum(person[:2], others[:, :2]), np.minimum(person[2:4], others[:, 2:4])
    areas = (others[:, 2:4] - others[:, :2]).prod(1)
    return (high - low).clip(0).prod(1) / np.minimum(areas, (person[2:4] - person[:2]).prod())


def decode_people(maps: Mapping[str, np.ndarray], threshold: float = THRESHOLD) -> Float32[np.ndarray, "people 5"]:
    """Makes boxes and scores of the network's maps, as the original graph does.

    A person's score is that of the centre times the mean of the scores of the joints that are seen: of each joint's map
    the highest value inside of the box, times a Gaussian around where the centre says that the joint is.

    Args:
        maps: dict of (H, W, ·) float32 arrays, the `MAPS`.
        threshold: float. People with a lower score are left out.

    Returns:
        (N, 5) float32 array, best first: x1, y1, x2, y2 in pixels of the network's input, and the score.
    """
    center = maps["center"][..., 0]
    shape = np.array(center.shape)
    around = np.pad(center, _PEAK // 2)
    peaks = center >= np.lib.stride_tricks.sliding_window_view(around, (_PEAK, _PEAK)).max((2, 3)) - _SAME
    cells = np.argwhere(peaks)
    cells = cells[np.argsort(-center[peaks], kind="stable")]
    # No score is higher than that of its centre.
    cells = cells[: max(_FIRST, np.count_nonzero(center[peaks] >= threshold))]
    at = {name: maps[name][tuple(cells.T)] for name in MAPS}
    middles, halves = cells + at["box_offset"], np.maximum(at["box_scale"], 0) / 2
    low, high = (middles - halves).clip(0, shape), (middles + halves).clip(0, shape)
    expected = cells[:, None] + at["displacements"].reshape(len(cells), -1, 2)
    spread = _SPREAD * shape.min()
    start, stop = np.ceil(low).astype(int), np.ceil(high).astype(int)
    joints = np.zeros(expected.shape, int)
    for n in np.flatnonzero((stop > start).all(1)):
        rows, columns = (np.arange(*ends)[:, None] for ends in zip(start[n], stop[n], strict=True))
        inside = maps["keypoints"][start[n, 0] : stop[n, 0], start[n, 1] : stop[n, 1]]
        inside = inside * np.exp(-np.square(rows - expected[n, :, 0]) / spread)[:, None]
        inside = inside * np.exp(-np.square(columns - expected[n, :, 1]) / spread)
        highest = inside.reshape(-1, inside.shape[2]).argmax(0)
        joints[n] = start[n] + np.stack(np.unravel_index(highest, inside.shape[:2]), axis=1)
    seen = maps["keypoints"][joints[..., 0], joints[..., 1], np.arange(maps["keypoints"].shape[2])]
    # A joint counts as much as its place does for the person, or for one of the first six: the original has no more.
    beside, counts = joints[:, None], np.eye(len(cells), dtype=bool) | (np.arange(len(cells)) < _FIRST)
    within = ((beside >= low[:, None]) & (beside < high[:, None])).all(-1) & counts[..., None]
    seen = seen * (np.exp(-np.square(beside - expected).sum(-1) / spread) * within).max(1)
    seen[seen <= _JOINT_SEEN] = 0
    scores = at["center"][:, 0] * seen.sum(1) / np.maximum(1, np.count_nonzero(seen, axis=1))
    people = np.column_stack([low[:, ::-1] * _CELL, high[:, ::-1] * _CELL, scores]).astype(np.float32)
    people = people[(scores >= threshold) & (stop > start).all(1)]
    return people[np.argsort(-people[:, 4], kind="stable")]


@functools.cache
def _network(process: int) -> Callable:
    """Returns the function from (1, H, W, 3) uint8 to the maps; after a fork threads have to be made anew."""
    try:
        import onnxruntime
    except ImportError:
        import keras

        model: Any = keras.saving.load_model(FOLDER, compile=False)
        return lambda image: [keras.ops.convert_to_numpy(values) for values in model(image, training=False)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    session = onnxruntime.InferenceSession(FOLDER / "finder.onnx", options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(list(MAPS), {"image": image})
