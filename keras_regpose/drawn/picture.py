"""Everything of a drawn picture but its people: background, things in front, camera. Used by `drawn.people`."""

from functools import lru_cache

import cv2
import numpy as np


def draw_background(generator: np.random.Generator, image_size: tuple[int, int]) -> np.ndarray:
    """Draws a place without people: smooth colours, a horizon, things, texture.

    Args:
        generator: `np.random.Generator`.
        image_size: (height, width) in pixels.

    Returns:
        (height, width, 3) uint8 array.

    Example:

    >>> draw_background(np.random.default_rng(0), (120, 160)).shape
    (120, 160, 3)
    """
    height, width = image_size
    image = _color_field(generator, width, height)
    if generator.random() < 0.45:
        level = int(height * generator.uniform(0.35, 0.85))
        image[level:] = _color_field(generator, width, height - level)
    for _ in range(generator.poisson(6)):
        _draw_thing(generator, image)
    amount = generator.uniform(0, 0.4)
    return cv2.addWeighted(image, 1, _crop_of_noise(generator, height, width), amount, -128 * amount)


def draw_occluders(generator: np.random.Generator, boxes: list[np.ndarray]) -> list[tuple[np.ndarray, tuple]]:
    """Returns things that hide parts of some people.

    Args:
        generator: `np.random.Generator`.
        boxes: list of (4,) arrays, the people's boxes, xyxy in pixels.

    Returns:
        For each thing the corners of its convex outline, a (4, 2) array in pixels, and its colour.

    Example:

    >>> len(draw_occluders(np.random.default_rng(1), [np.array([0, 0, 50, 100])] * 20))
    6
    """
    occluders = []
    for left, top, right, bottom in boxes:
        if generator.random() < 0.35:
            size = np.array([right - left, bottom - top])
            middle = np.array([left, top]) + size * generator.uniform(0.1, 0.95, 2)
            half = generator.uniform((0.03, 0.1), (0.12, 0.4)) * size.max()
            shape = cv2.boxPoints((middle.tolist(), (2 * half).tolist(), generator.normal(0, 20)))
            occluders.append((shape, _color(generator)))
    return occluders


def photograph(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Takes a picture of a drawing: blur, exposure, white balance, contrast and the sensor's noise.

    Args:
        generator: `np.random.Generator`.
        image: (H, W, 3) uint8 array.

    Returns:
        (H, W, 3) uint8 array.

    Example:

    >>> photograph(np.random.default_rng(0), np.zeros((20, 30, 3), np.uint8)).shape
    (20, 30, 3)
    """
    image = cv2.GaussianBlur(image, (5, 5), generator.uniform(0.3, 1.4))
    gain = generator.uniform(0.65, 1.1) * generator.uniform(0.92, 1.08, 3)
    gamma, lift = generator.uniform(0.8, 1.25), generator.uniform(0, 24)
    levels = np.linspace(0, 1, 256)[:, None] ** gamma * gain * (255 - lift) + lift
    image = cv2.LUT(image, levels.clip(0, 255).astype(np.uint8)[None])
    amount = generator.uniform(0, 0.14)
    return cv2.addWeighted(image, 1, _crop_of_noise(generator, *image.shape[:2]), amount, -128 * amount)


def _color(generator):
    """A random colour, more often greyish than bright."""
    color = generator.uniform(25, 230) + generator.normal(0, generator.uniform(4, 60), 3)
    return tuple(color.clip(5, 250).round().tolist())


def _color_field(generator, width, height):
    """A smooth field of colour, as a wall in changing light."""
    rows, columns = generator.integers(2, 5, 2)
    light = generator.normal(0, generator.uniform(5, 45), (rows, columns, 1))
    field = _color(generator) + light + generator.normal(0, generator.uniform(2, 16), (rows, columns, 3))
    return cv2.resize(field.clip(0, 255).astype(np.uint8), (width, max(height, 1)), interpolation=cv2.INTER_CUBIC)


def _draw_thing(generator, image):
    """Draws an upright or leaning box, a disc or a pole."""
    height, width = image.shape[:2]
    middle = generator.uniform((0, 0), (width, height)).tolist()
    shape = middle, (generator.uniform((0.02, 0.05), (0.2, 0.5)) * height).tolist(), generator.normal(0, 40)
    if generator.random() < 0.3:
        cv2.ellipse(image, shape, _color(generator), -1, cv2.LINE_AA)
    else:
        cv2.fillConvexPoly(image, cv2.boxPoints(shape).astype(np.int32), _color(generator), cv2.LINE_AA)


def _crop_of_noise(generator, height, width):
    y, x = generator.integers(0, 64, 2)
    return _noise(height + 64, width + 64)[y : y + height, x : x + width]


@lru_cache(maxsize=16)
def _noise(height, width):
    generator = np.random.default_rng(0)
    grey, color = generator.normal(0, 24, (height, width, 1)), generator.normal(0, 16, (height, width, 3))
    return (128 + grey + color).clip(0, 255).astype(np.uint8)
