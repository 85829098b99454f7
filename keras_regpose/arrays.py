"""Arrays of people: the names of their types, and one check for what callers pass."""

from typing import Any

import numpy as np
from jaxtyping import Float, Real, Shaped, UInt8

Points = Real[np.ndarray, "people keypoints 2"]
PerKeypoint = Shaped[np.ndarray, "people keypoints"]
PerPerson = Real[np.ndarray, " people"]
Image = UInt8[np.ndarray, "height width 3"]
Vector = Real[np.ndarray, "2"]
Vectors = Real[np.ndarray, "*batch 2"]
Matrix = Real[np.ndarray, "2 3"]
Output = Float[np.ndarray, "*batch keypoints numbers"]


def check_arrays(subject: str, dtype: Any = np.float64, finite: bool = False, **arrays) -> list:
    """Returns values as arrays, after a check that their shapes fit together.

    Args:
        subject: str. What needs the arrays, with which messages begin.
        dtype: NumPy dtype of the arrays. None is float32 for values that are so already, float64 for others.
        finite: bool. Whether all values must be finite.
        **arrays: For each name, the values and their shape, such as `keypoints=(values, "N K 2")`. A letter stands for
            the same number in all arrays. An empty list is an array of nobody.

    Returns:
        list of arrays, in the order in which they were passed.

    Raises:
        ValueError: If values are not numbers, have another shape, or are not finite.

    Example:

    >>> keypoints, scores = check_arrays("Drawing", keypoints=([[[3, 4], [5, 6]]], "N K 2"), scores=([[1, 0]], "N K"))
    >>> keypoints.shape, scores.tolist()
    ((1, 2, 2), [[1.0, 0.0]])
    """
    sizes, checked = {}, []
    for name, (values, dimensions) in arrays.items():
        try:
            array = np.asarray(values, dtype) if dtype else floats(values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{subject} needs numbers in {name!r}. Received: {str(values):.200}") from error
        shape = [int(one) if one.isdecimal() else sizes.get(one, one) for one in dimensions.split()]
        if array.shape == (0,):
            array = array.reshape(0, *(0 if isinstance(size, str) else size for size in shape[1:]))
        if array.ndim == len(shape):
            sizes.update({letter: size for letter, size in zip(shape, array.shape, strict=True) if letter != size})
            shape = [sizes.get(size, size) if isinstance(size, str) else size for size in shape]
        if list(array.shape) != shape:
            expected = str(tuple(shape)).replace("'", "")
            raise ValueError(f"{subject} needs {name!r} of shape {expected}. Received shape: {array.shape}")
        if finite and not np.isfinite(array).all():
            raise ValueError(f"{subject} needs finite {name!r}. Received: NaN or infinity")
        checked.append(array)
    return checked


def check_people(subject: str, count: Any, dtype: Any = np.float64, **arrays) -> dict[str, np.ndarray]:
    """Checks arrays of N people's keypoints, whose shapes follow from their names; see `check_arrays`.

    Args:
        subject: str. As in `check_arrays`.
        count: int, the number of keypoints, or a letter for any number.
        dtype: NumPy dtype of what is returned.
        **arrays: Values by name: `keypoints`, `sigmas`, `pred` and `truth` (N, K, 2), `scores` and `visible` (N, K),
            `boxes` (N, 4), and others (N,).

    Returns:
        dict of the checked arrays.

    Example:

    >>> check_people("A comparison", "K", keypoints=[[[1, 2], [3, 4]]])["keypoints"].shape
    (1, 2, 2)
    """
    shapes = dict.fromkeys(("keypoints", "sigmas", "pred", "truth"), f"N {count} 2") | {"boxes": "N 4"}
    shapes |= dict.fromkeys(("scores", "visible"), f"N {count}")
    given = {name: (values, shapes.get(name, "N")) for name, values in arrays.items()}
    return dict(zip(arrays, check_arrays(subject, dtype, False, **given), strict=True))


def floats(values) -> np.ndarray:
    """Returns values as an array of float64, or of float32 where they are that already."""
    # float32 stays: the reference averages scores in the network's precision, and its ties must be ties here.
    values = np.asarray(values)
    return values if values.dtype == np.float32 else values.astype(np.float64)
