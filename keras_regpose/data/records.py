"""What the readers share: a list of samples that knows its skeleton, and how bad records are counted."""

import json
import math
import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields

import numpy as np

from keras_regpose.data.sample import Sample
from keras_regpose.skeleton import Skeleton

# Mean of area / (width · height) over COCO's annotated people, as the reference fills in missing areas.
AREA_OF_BOX = 0.53


class SampleList(Sequence):
    """Samples in memory, photographs on disk.

    Args:
        samples: list of `Sample`.
        skeleton: `Skeleton` of their keypoints.
        annotations: str or None. Path of the COCO file against which predictions are scored.
        skipped: list of (str, str). The records that could not be used, and why.
    """

    def __init__(
        self,
        samples: list[Sample],
        skeleton: Skeleton,
        annotations: str | None = None,
        skipped: Sequence[tuple[str, str]] = (),
    ):
        self.skeleton = skeleton
        self.annotations = annotations
        self.skipped = list(skipped)
        self._count = len(samples)
        self._columns = {field.name: _column([getattr(s, field.name) for s in samples]) for field in fields(Sample)}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        return Sample(**{name: column[index] for name, column in self._columns.items()})

    @property
    def photographs(self) -> Sequence:
        """What tells the photograph of each sample: the loader reads those that share one close together."""
        paths = self._columns["image"]
        return paths if all(isinstance(path, str) for path in paths) else range(len(self))


def _column(values):
    """Packs one field of all samples: as Python objects, COCO's people would take more than a gigabyte."""
    kinds = {type(value) for value in values}
    if kinds == {np.ndarray} and len({(value.dtype, value.shape) for value in values}) == 1:
        return np.stack(values)
    if kinds == {str}:
        known: dict[str, str] = {}
        return [known.setdefault(value, value) for value in values]
    if kinds == {float} or (kinds == {int} and max(map(abs, values)) < 1 << 63):
        return array("d" if kinds == {float} else "q", values)  # which gives Python numbers back
    return values


def collect(
    records: Iterable, make_sample: Callable, kind: str, source: str, max_skipped_share: float, empty: str
) -> tuple[list[Sample], list[tuple[str, str]]]:
    """Makes the samples of all records, setting aside those that are broken.

    Args:
        records: iterable of records as they stand in the file.
        make_sample: callable. Turns a position and a record into a `Sample`, or None where the record is to be left
            out by rule; raises KeyError, TypeError or ValueError for a broken one.
        kind: str. What a record is, such as "annotation". For messages.
        source: str. The file. For messages.
        max_skipped_share: float. A larger share of broken records than this is an error.
        empty: str. The message if no sample is left.

    Returns:
        list of `Sample` and list of (record, why) of the broken ones.

    Raises:
        ValueError: If too many records are broken, or no sample is left.
    """
    samples, skipped, count = [], [], 0
    for position, record in enumerate(records):
        count += 1
        try:
            sample = make_sample(position, record)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            skipped.append((_name(kind, position, record), _reason(error)))
        else:
            if sample is not None:
                samples.append(sample)
    if len(skipped) > max_skipped_share * count:
        what, why = skipped[0]
        raise ValueError(
            f"{len(skipped)} of {count} records in {source} cannot be used, more than the {max_skipped_share:.0%} "
            f"allowed; the first is {what}: {why}"
        )
    if not samples:
        raise ValueError(empty)
    return samples, skipped


def _name(kind, position, record):
    if isinstance(record, dict) and "id" in record:
        return f"{kind} {record['id']}"
    return f"{kind} at position {position}"


def _reason(error):
    if isinstance(error, KeyError):
        return f"it has no field {error}"
    if isinstance(error, ValueError):
        return str(error)
    return f"it is not made as expected ({error})"


def read_json(path: str | os.PathLike):
    """Returns the contents of a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON.
    """
    require_file(path)
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON, perhaps because its download was cut off: {error}") from None


def read_mat(path: str | os.PathLike, variable: str) -> np.ndarray:
    """Returns a variable of a MATLAB file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a MATLAB file, or lacks the variable.
    """
    import scipy.io

    require_file(path)
    try:
        variables = scipy.io.loadmat(path, variable_names=[variable])
    except Exception as error:  # scipy raises whatever the broken bytes lead to
        raise ValueError(f"{path} is not a MATLAB file that can be read: {error}") from None
    if variable not in variables:
        raise ValueError(f"{path} has no variable {variable!r}")
    return variables[variable]


def require_file(path: str | os.PathLike) -> None:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file {path}: check the path")


def require_folder(path: str | os.PathLike) -> None:
    if not os.path.isdir(path):
        raise FileNotFoundError(f"There is no folder {path}: pass the folder that holds the images")


def to_floats(values, shape: tuple[int, ...], what: str) -> np.ndarray:
    """Returns values as a float64 array.

    Raises:
        ValueError: If they have another shape, or are not finite numbers.
    """
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"its {what} is not made of numbers") from None
    if array.size != math.prod(shape):
        raise ValueError(f"its {what} has {array.size} numbers, expected {math.prod(shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"its {what} has values that are not finite")
    return array.reshape(shape)


def extent_box(keypoints: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Returns the (4,) xyxy box around the labelled keypoints.

    Raises:
        ValueError: If it would have no size.
    """
    points = keypoints[visible > 0.5]
    if len(points) < 2:
        raise ValueError(f"{len(points)} of its keypoints are labelled, too few for a box")
    box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    if not (box[2:] > box[:2]).all():
        raise ValueError(f"the box around its keypoints has no size: {box.tolist()}")
    return box


def estimated_area(box: np.ndarray) -> float:
    """Returns the usual area of a person in a tight box, in square pixels."""
    width, height = (box[2:] - box[:2]).tolist()
    return max(AREA_OF_BOX * width * height, 1.0)
