"""Box → centre and scale → affine → crop, and back. The only place that knows these formulas.

Source: the top-down pipeline of MMPose 1.3.2 (box padding 1.25, no UDP).
Boxes are xyxy in image pixels, sizes are (height, width) unless a name says otherwise.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Real, UInt8

from keras_regpose.arrays import Image, Matrix, Vector, Vectors

BOX_PADDING = 1.25
_LARGEST_SIDE = 32_000  # pixels: `remap` takes positions of 16 bits


class Cut(NamedTuple):
    """A crop, and where in the image it was cut out.

    Args:
        crop: (height, width, 3) uint8 array.
        matrix: (2, 3) float64 array. The map from image pixels to crop pixels; of a mirrored cut, from the pixels of
            the mirrored image.
        center: (2,) array. The middle of the region in image pixels, for `crop_to_image`.
        scale: (2,) float32 array. The region's width and height in image pixels.
    """

    crop: Image
    matrix: Matrix
    center: Vector
    scale: Vector


def cut(image: Image, box: Real[np.ndarray, "4"], input_size: tuple[int, int], padding: float = BOX_PADDING) -> Cut:
    """Cuts the region around a person's box out of an image, as the network sees it.

    Args:
        image: (H, W, 3) uint8 array.
        box: (4,) array. The person's box, x1, y1, x2, y2 in image pixels.
        input_size: (height, width) of the crop.
        padding: float. The box's width and height are multiplied by this.

    Returns:
        `Cut`.

    Example:

    >>> person = cut(np.full((480, 640, 3), 200, np.uint8), np.array([100, 50, 300, 400]), (256, 192))
    >>> person.crop.shape, person.center.tolist(), person.scale.tolist()
    ((256, 192, 3), [200.0, 225.0], [328.125, 437.5])
    >>> transform_points(np.array([[200.0, 225.0]]), person.matrix).round(3).tolist()
    [[96.0, 128.0]]
    """
    return cut_region(image, *box_to_center_scale(box, padding), input_size)


def cut_region(
    image: Image,
    center: Vector,
    scale: Vector,
    input_size: tuple[int, int],
    rotation: float = 0.0,
    mirrored: bool = False,
) -> Cut:
    """Cuts a region out of an image, which training may have shifted, scaled, rotated and mirrored.

    Args:
        image: (H, W, 3) uint8 array.
        center: (2,) array. The region's middle in image pixels; in those of the mirrored image if `mirrored`.
        scale: (2,) array. Its width and height with padding. The shorter side grows to the crop's aspect ratio.
        input_size: (height, width) of the crop.
        rotation: float. Degrees, see `crop_matrix`.
        mirrored: bool. Whether the image is mirrored left-right before the region is cut out.

    Returns:
        `Cut`.
    """
    scale = fix_aspect_ratio(scale, input_size)
    matrix = crop_matrix(center, scale, rotation, input_size)
    # Mirroring the image first, as the reference does, is this one matrix.
    shown = mirror_matrix(matrix, image.shape[1]) if mirrored else matrix
    return Cut(crop_image(image, shown, input_size), matrix, center, scale)


def box_to_center_scale(boxes: Real[np.ndarray, "*batch 4"], padding: float = BOX_PADDING) -> tuple[Vectors, Vectors]:
    """Returns centres and padded sizes of boxes.

    Args:
        boxes: (..., 4) array. Boxes as x1, y1, x2, y2 in image pixels.
        padding: float. The box's width and height are multiplied by this.

    Returns:
        Two (..., 2) float32 arrays: centre (x, y) and scale (width, height), in image pixels.

    Example:

    >>> center, scale = box_to_center_scale(np.array([100, 50, 300, 400]))
    >>> center.tolist(), scale.tolist()
    ([200.0, 225.0], [250.0, 437.5])
    """
    boxes = np.asarray(boxes, np.float32)
    center = (boxes[..., 2:] + boxes[..., :2]) * np.float32(0.5)
    scale = (boxes[..., 2:] - boxes[..., :2]) * np.float32(padding)
    return center, scale


def fix_aspect_ratio(scale: Vectors, input_size: tuple[int, int]) -> Vectors:
    """Grows the shorter side so that width / height is that of the model's input.

    Args:
        scale: (..., 2) float32 array. Width and height in image pixels.
        input_size: (height, width) of the model's input.

    Returns:
        (..., 2) float32 array.

    Example:

    >>> fix_aspect_ratio(np.array([250.0, 437.5], np.float32), (256, 192)).tolist()
    [328.125, 437.5]
    """
    height, width = input_size
    ratio = width / height
    scale = np.asarray(scale, np.float32)
    box_width, box_height = scale[..., :1], scale[..., 1:]
    grown_height = np.where(box_width > box_height * ratio, box_width / ratio, box_height)
    return np.concatenate([np.maximum(box_width, box_height * ratio), grown_height], axis=-1).astype(np.float32)


def crop_matrix(center: Vector, scale: Vector, rotation: float, input_size: tuple[int, int]) -> Matrix:
    """Returns the affine map from image pixels to crop pixels.

    With s = W / scale_width and the rotation θ:
    x' = s·( cosθ·(x−cx) + sinθ·(y−cy)) + W/2,  y' = s·(−sinθ·(x−cx) + cosθ·(y−cy)) + H/2.

    The reference rounds three points to single precision and solves for the map that takes them to the crop. Doing the
    same gives its matrix to the last bit, so that the very same pixels are read.

    Args:
        center: (2,) array. The point of the image that goes to the middle of the crop.
        scale: (2,) array. Width and height of the image region, of the input's aspect ratio.
        rotation: float. Degrees.
        input_size: (height, width) of the crop.

    Returns:
        (2, 3) float64 array.

    Example:

    >>> crop_matrix(np.array([100, 100]), np.array([50, 50]), 0, (200, 200)).round(6).tolist()
    [[4.0, 0.0, -300.0], [0.0, 4.0, -300.0]]
    """
    height, width = input_size
    angle = math.radians(rotation)
    half_width = float(scale[0]) / 2
    middle = np.asarray(center, np.float32)
    left = (middle - np.array([half_width * math.cos(angle), half_width * math.sin(angle)])).astype(np.float32)
    crop_middle, crop_left = np.array([[width / 2, height / 2], [0, height / 2]], np.float32)
    shown = np.stack([middle, left, _right_angle(middle, left)])
    crop = np.stack([crop_middle, crop_left, _right_angle(crop_middle, crop_left)])
    return cv2.getAffineTransform(shown, crop)


def _right_angle(first, second):
    """Returns the point as far from the second as the first is, at a right angle."""
    x, y = first - second
    return second + np.array([-y, x])


def mirror_matrix(matrix: Matrix, image_width: int) -> Matrix:
    """Returns the (2, 3) map that mirrors the image left-right (x ↦ width − 1 − x) before applying `matrix`."""
    linear = matrix[:, :2] * np.array([-1, 1])
    offset = matrix[:, 2] + matrix[:, 0] * (image_width - 1)
    return np.concatenate([linear, offset[:, None]], axis=1)


def crop_image(
    image: Image, matrix: Matrix, input_size: tuple[int, int]
) -> UInt8[np.ndarray, "{input_size[0]} {input_size[1]} 3"]:
    """Cuts the model's input out of an image: bilinear, black outside the image.

    The published weights were trained and evaluated with `warpAffine` of OpenCV 4, which rounds positions to 1/32
    pixel. That of OpenCV 5 does not, and its pixels differ by up to 5 grey levels. `remap` at the rounded positions
    gives the pixels of OpenCV 4, bit for bit, under both and on every processor.

    Args:
        image: (H, W, 3) uint8 array.
        matrix: (2, 3) array from `crop_matrix`.
        input_size: (height, width) of the crop.

    Returns:
        (height, width, 3) uint8 array, channels as in `image`.
    """
    height, width = input_size
    if max(image.shape[:2]) > _LARGEST_SIDE:
        image, matrix = _part_shown(image, matrix, input_size)
    whole_pixels, fractions = _rounded_positions(matrix, height, width)
    return cv2.remap(image, whole_pixels, fractions, cv2.INTER_LINEAR)


def _part_shown(image, matrix, input_size):
    """Returns the part of a huge image that a crop shows, thinned out where even that is too large, and its matrix."""
    height, width = input_size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]])
    corners = transform_points(corners, cv2.invertAffineTransform(matrix))
    sides = np.array(image.shape[1::-1])
    first = np.clip(np.floor(corners.min(0)) - 2, 0, sides - 1).astype(int)
    last = np.clip(np.ceil(corners.max(0)) + 3, first + 1, sides).astype(int)
    step = -(-(last - first) // _LARGEST_SIDE)
    part = image[first[1] : last[1] : step[1], first[0] : last[0] : step[0]]
    offset = matrix[:, 2] + matrix[:, :2] @ first
    return np.ascontiguousarray(part), np.concatenate([matrix[:, :2] * step, offset[:, None]], axis=1)


def _rounded_positions(matrix, height, width):
    """Returns the position in the image for each pixel of a crop, as `remap` takes them: whole pixels, and 32nds.

    The order of the sums and roundings is that of `warpAffine` of OpenCV 4.
    """
    (xx, xy, x), (yx, yy, y) = np.asarray(matrix, np.float64).tolist()
    determinant = xx * yy - xy * yx
    scale = 1 / determinant if determinant else 0.0
    xx, xy, yx, yy = yy * scale, -xy * scale, -yx * scale, xx * scale
    x, y = -xx * x - xy * y, -yx * x - yy * y
    columns, rows = np.arange(width), np.arange(height)
    across = _thirty_seconds(_fixed_point(xy * rows + x), _fixed_point(xx * columns))
    down = _thirty_seconds(_fixed_point(yy * rows + y), _fixed_point(yx * columns))
    return cv2.convertMaps(across, down, cv2.CV_16SC2)


def _fixed_point(values):
    """Returns 1024ths, limited so that the sum of two fits in 32 bits."""
    return np.rint((values * 1024).clip(-(1 << 29), 1 << 29)).astype(np.int32)


def _thirty_seconds(rows, columns):
    return (np.add.outer(rows + 16, columns) >> 5).astype(np.float32) / np.float32(32)


def transform_points(points: Vectors, matrix: Matrix) -> Vectors:
    """Maps (..., 2) points through a (2, 3) affine matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def crop_to_image(
    points: Real[np.ndarray, "*batch keypoints 2"], center: Vectors, scale: Vectors
) -> Real[np.ndarray, "*batch keypoints 2"]:
    """Maps points from crop units back to image pixels (upright crops).

    Args:
        points: (..., K, 2) array in units of crop width and height: (0, 0) is the crop's top left corner.
        center: (..., 2) array. Centre of the image region, in pixels.
        scale: (..., 2) array. Its width and height after `fix_aspect_ratio`, in pixels.

    Returns:
        (..., K, 2) array in image pixels.

    Example:

    >>> crop_to_image(np.array([[0.5, 0.75]]), np.array([200, 225]), np.array([300, 400])).tolist()
    [[200.0, 325.0]]
    """
    return (points - 0.5) * scale[..., None, :] + center[..., None, :]
