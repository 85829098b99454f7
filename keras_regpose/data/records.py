"""What the readers share: how files are read, how broken records are counted, and how numbers are checked."""

import logging
import math
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from keras_regpose.files import require_file

_log = logging.getLogger(__name__)

# Mean of area / (width · height) over COCO's annotated people, as the reference fills in missing areas.
AREA_OF_BOX = 0.53
LARGEST = 10_000_000  # pixels: crops are cut by numbers of 32 bits
BROKEN = (AttributeError, KeyError, OverflowError, TypeError, ValueError)  # what broken records lead to
_TOLD = 5  # broken records that the log names

Made = TypeVar("Made")


def collect(
    records: Sequence,
    make: Callable[[int, object], Made | None],
    kind: str,
    source: str,
    max_skipped_share: float,
    empty: str | None = None,
) -> tuple[list[Made], list[tuple[str, str]]]:
    """Makes something of each record, such as a `Sample`, setting aside the records that are broken.

    The log names the first of these.

    Args:
        records: sequence of records as they stand in the file.
        make: callable. Turns a position and a record into what is wanted, or None where the record is to be left out
            by rule; raises one of `BROKEN` for a broken one.
        kind: str. What a record is, such as "annotation". For messages.
        source: str. The file. For messages.
        max_skipped_share: float. A larger share of broken records than this is an error.
        empty: str or None. The message if nothing is left; None accepts that.

    Returns:
        list of what was made, and list of (record, why) of the broken ones.

    Raises:
        ValueError: If too many records are broken, or nothing is left.
    """
    made, skipped = [], []
    for position, record in enumerate(records):
        try:
            one = make(position, record)
        except BROKEN as error:
            named = isinstance(record, dict) and "id" in record
            skipped.append((f"{kind} {record['id'] if named else f'at position {position}'}", reason(error)))
        else:
            if one is not None:
                made.append(one)
    if len(skipped) > max_skipped_share * len(records):
        what, why = skipped[0]
        share = f"{len(skipped)} of {len(records)} records in {source} cannot be used"
        raise ValueError(f"{share}, more than the {max_skipped_share:.0%} allowed; the first is {what}: {why}")
    if not made and empty is not None:
        raise ValueError(empty)
    for what, why in skipped[:_TOLD]:
        _log.warning("Left out: %s: %s", what, why)
    if len(skipped) > _TOLD:
        _log.warning("Left out: %d records of %s in all, those among them", len(skipped), source)
    return made, skipped


def reason(error: Exception) -> str:
    """Returns why a record or a file is broken."""
    if isinstance(error, KeyError):
        return f"it has no field {error}"
    if isinstance(error, ValueError):
        return str(error)
    return f"it is not made as expected ({error})"


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


def require_folder(path: str | os.PathLike, what: str = "the folder that holds the images") -> None:
    if not os.path.isdir(path):
        raise FileNotFoundError(f"There is no folder {path}: pass {what}")


def to_floats(values, shape: tuple[int, ...] | None, what: str) -> np.ndarray:
    """Returns values as a float64 array of a shape; None leaves shape and finiteness to the caller.

    Raises:
        ValueError: If they have another shape, or are not finite numbers.
    """
    try:
        array = np.asarray(values, np.float64)
    except (OverflowError, TypeError, ValueError):
        raise ValueError(f"its {what} is not made of numbers") from None
    if shape is None:
        return array
    if array.size != math.prod(shape):
        raise ValueError(f"its {what} has {array.size} numbers, expected {math.prod(shape)}")
    if not np.isfinite(array).all():
        raise ValueError(f"its {what} has values that are not finite")
    if np.abs(array).max(initial=0) > LARGEST:
        raise ValueError(f"its {what} has values beyond {LARGEST:,}")
    return array.reshape(shape)


def scaled_box(center: np.ndarray, scale: float) -> np.ndarray:
    """Returns the (4,) xyxy box of a person who is annotated by a centre and by the height in units of 200 pixels.

    Raises:
        ValueError: If the scale is not above 0.
    """
    if scale <= 0:
        raise ValueError(f"its scale must be above 0, received {scale}")
    return np.concatenate([center - 100 * scale, center + 100 * scale]).astype(np.float32)


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
