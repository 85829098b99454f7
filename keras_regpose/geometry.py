"""Box → centre and scale → affine → crop, and back. The only place that knows these formulas.

Source: the top-down pipeline of MMPose 1.3.2 (box padding 1.25, no UDP).
Boxes are xyxy in image pixels, sizes are (height, width) unless a name says otherwise.
"""

import cv2
import numpy as np

BOX_PADDING = 1.25


def box_to_center_scale(boxes: np.ndarray, padding: float = BOX_PADDING) -> tuple[np.ndarray, np.ndarray]:
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


def center_scale_to_box(center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Returns the (..., 4) xyxy box that has this centre and width and height."""
    return np.concatenate([center - scale / 2, center + scale / 2], axis=-1)


def fix_aspect_ratio(scale: np.ndarray, input_size: tuple[int, int]) -> np.ndarray:
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
    return np.where(
        box_width > box_height * ratio,
        np.concatenate([box_width, box_width / ratio], axis=-1),
        np.concatenate([box_height * ratio, box_height], axis=-1),
    ).astype(np.float32)


def crop_matrix(center: np.ndarray, scale: np.ndarray, rotation: float, input_size: tuple[int, int]) -> np.ndarray:
    """Returns the affine map from image pixels to crop pixels.

    With s = W / scale_width and the rotation θ:
    x' = s·( cosθ·(x−cx) + sinθ·(y−cy)) + W/2,  y' = s·(−sinθ·(x−cx) + cosθ·(y−cy)) + H/2.

    Args:
        center: (2,) array. The point of the image that goes to the middle of the crop.
        scale: (2,) array. Width and height of the image region, of the input's aspect ratio.
        rotation: float. Degrees.
        input_size: (height, width) of the crop.

    Returns:
        (2, 3) float64 array.

    Example:

    >>> crop_matrix(np.array([100, 100]), np.array([50, 50]), 0, (200, 200)).astype(int).tolist()
    [[4, 0, -300], [0, 4, -300]]
    """
    height, width = input_size
    zoom = width / float(scale[0])
    cosine, sine = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
    linear = zoom * np.array([[cosine, sine], [-sine, cosine]])
    offset = np.array([width / 2, height / 2]) - linear @ np.asarray(center, np.float64)
    return np.concatenate([linear, offset[:, None]], axis=1)


def mirror_matrix(matrix: np.ndarray, image_width: int) -> np.ndarray:
    """Returns the (2, 3) map that mirrors the image left-right (x ↦ width − 1 − x) before applying `matrix`."""
    linear = matrix[:, :2] * np.array([-1, 1])
    offset = matrix[:, 2] + matrix[:, 0] * (image_width - 1)
    return np.concatenate([linear, offset[:, None]], axis=1)


def crop_image(image: np.ndarray, matrix: np.ndarray, input_size: tuple[int, int]) -> np.ndarray:
    """Cuts the model's input out of an image: bilinear, black outside the image.

    Args:
        image: (H, W, 3) uint8 array.
        matrix: (2, 3) array from `crop_matrix`.
        input_size: (height, width) of the crop.

    Returns:
        (height, width, 3) uint8 array, channels as in `image`.
    """
    height, width = input_size
    upright = abs(matrix[0, 1]) < 1e-9 and abs(matrix[1, 0]) < 1e-9
    if not upright or max(image.shape[:2]) >= 1 << 15:
        return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return cv2.remap(image, *_fixed_point_maps(matrix, height, width), cv2.INTER_LINEAR)


def _fixed_point_maps(matrix, height, width):
    """The image's position for each pixel of an upright crop, rounded to 1/32 pixel as `warpAffine` of OpenCV 4 does.

    OpenCV 5 interpolates at exact positions, which changes pixels by up to 5 grey levels. The published weights were
    trained and evaluated with OpenCV 4, and `remap` with these maps gives its pixels, bit for bit, under both.
    """
    (x_scale, _, x_shift), (_, y_scale, y_shift) = cv2.invertAffineTransform(np.asarray(matrix, np.float64))
    positions = np.empty((height, width, 2), np.int16)
    positions[..., 0], x_fraction = _fixed_point(x_scale, x_shift, width)
    rows, y_fraction = _fixed_point(y_scale, y_shift, height)
    positions[..., 1] = rows[:, None]
    return positions, (y_fraction[:, None] << 5 | x_fraction).astype(np.uint16)


def _fixed_point(scale, shift, count):
    """Returns whole pixels and 32nds of them, for `count` positions along one side."""
    steps = [np.rint(np.clip(value * 1024, -(1 << 30), 1 << 30)) for value in (scale * np.arange(count), shift)]
    position = (steps[0] + steps[1] + 16).astype(np.int64) >> 5
    return np.clip(position >> 5, -(1 << 15), (1 << 15) - 1), position & 31


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Maps (..., 2) points through a (2, 3) affine matrix."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def crop_to_image(points: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
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
