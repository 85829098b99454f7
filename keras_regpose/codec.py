"""Keypoints ↔ what the network learns and answers: encode, decode, flip-merge, score.

The network works in crop units: x and y are fractions of the crop's width and height, and so are the sigmas.
Source: `RegressionLabel` and `flip_coordinates` of MMPose 1.3.2.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int, Real, Shaped

from keras_regpose.arrays import Output

METHODS = ("rle", "deeppose")
HEADS = ("pooled", "integral")
_SIDES = range(32, 4097)  # pixels


def checked_size(size: Sequence[int]) -> tuple[int, int]:
    """Returns a crop's (height, width) in pixels; ValueError unless both are whole numbers from 32 to 4096."""
    if len(size) != 2 or not all(side in _SIDES for side in size):
        raise ValueError(f"input_size must be (height, width), each from 32 to 4096 pixels. Received: {size!r:.80}")
    return int(size[0]), int(size[1])


def encode(
    keypoints: Real[np.ndarray, "*batch keypoints 2"],
    visible: Shaped[np.ndarray, "*batch keypoints"],
    input_size: tuple[int, int],
) -> Float32[np.ndarray, "*batch keypoints 3"]:
    """Turns keypoints in crop pixels into the regression target.

    Args:
        keypoints: (..., K, 2) array in crop pixels.
        visible: (..., K) array, 1 for labelled keypoints and 0 for others; less than 1 where a label is doubtful.
        input_size: (height, width) of the crop.

    Returns:
        (..., K, 3) float32 array: x / width, y / height, weight. The weight is that of `visible` inside the crop
        (0 ≤ x ≤ width − 1, 0 ≤ y ≤ height − 1), else 0.

    Example:

    >>> encode(np.array([[96, 64], [-48, 32]]), np.array([1, 1]), (256, 192)).tolist()
    [[0.5, 0.25, 1.0], [-0.25, 0.125, 0.0]]
    """
    height, width = input_size
    keypoints = np.asarray(keypoints, np.float32)
    inside = (keypoints >= 0).all(-1) & (keypoints[..., 0] <= width - 1) & (keypoints[..., 1] <= height - 1)
    weight = np.where(inside, np.asarray(visible, np.float32), np.float32(0))
    return np.concatenate([keypoints / np.array([width, height], np.float32), weight[..., None]], -1, dtype=np.float32)


def keypoint_scores(output: Output) -> Float[np.ndarray, "*batch keypoints"]:
    """Returns (..., K) scores of (..., K, 4) or (..., K, 2) outputs: 1 − mean(σx, σy), or 1 where there is no σ."""
    if output.shape[-1] == 2:
        return np.ones(output.shape[:-1], output.dtype)
    return (1 - output[..., 2:]).mean(-1)


def merge_flipped(
    output: Output,
    mirrored: Output,
    flip_permutation: Int[np.ndarray, " keypoints"],
    input_width: int,
    shift: bool = True,
) -> Output:
    """Averages the output for a crop with that for its mirror image (flip test).

    Args:
        output: (..., K, 2 or 4) array in crop units.
        mirrored: Array like `output`, predicted on the left-right mirrored crop.
        flip_permutation: (K,) int array, `Skeleton.flip_permutation`.
        input_width: int. Width of the crop in pixels.
        shift: bool. Whether to move x by one pixel as well (`shift_coords`), as all published rows do.

    Returns:
        Array like `output`.

    Example:

    >>> x = np.array([[0.25, 0], [0.75, 0], [0.6, 0]])
    >>> merge_flipped(x, x, np.array([0, 2, 1]), 192)[:, 0].round(6).tolist()
    [0.497396, 0.572396, 0.422396]
    """
    mirrored = mirrored[..., flip_permutation, :].copy()
    mirrored[..., 0] = 1 - mirrored[..., 0] - (1 / input_width if shift else 0)
    return (output + mirrored) / 2
