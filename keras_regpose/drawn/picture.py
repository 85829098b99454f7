"""Everything of a drawn picture but its people: background, things in front, camera. Used by `drawn.people`."""

from functools import lru_cache

import cv2
import numpy as np


def draw_background(generator: np.random.Generator, image_size: tuple[int, int]) -> np.ndarray:
    """Draws a place without people: smooth colours, a horizon, texture, lines and things.

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
    if generator.random() < 0.35:
        _draw_grid(generator, image)
    _draw_things(generator, image, generator.poisson(5))
    if generator.random() < 0.7:
        _add_texture(generator, image)
    if generator.random() < 0.35:
        side = 2 * int(generator.integers(1, 1 + max(1, height // 60))) + 1
        image = cv2.blur(image, (side, side))
    return image


def draw_occluders(generator: np.random.Generator, boxes: list[np.ndarray]) -> list[tuple[np.ndarray, tuple]]:
    """Chooses things that stand in front of people: plates, posts and round things.

    Args:
        generator: `np.random.Generator`.
        boxes: list of (4,) arrays. The people's boxes, xyxy in pixels.

    Returns:
        list of (polygon, color): (P, 2) float array in pixels, RGB tuple. About one person in three has one.
    """
    occluders = []
    for left, top, right, bottom in boxes:
        if generator.random() > 0.35:
            continue
        size = np.array([right - left, bottom - top])
        middle = np.array([left, top]) + size * generator.uniform(0.1, 0.95, 2)
        kind = generator.integers(3)
        if kind == 0:
            half = generator.uniform(0.05, 0.15, 2) * size.max()
        elif kind == 1:
            half = np.array([generator.uniform(0.015, 0.05), generator.uniform(0.3, 0.7)]) * size.max()
        else:
            half = np.full(2, generator.uniform(0.06, 0.14) * size.max())
        corners = 20 if kind == 2 else 4
        angles = np.pi / 4 + np.arange(corners) * (2 * np.pi / corners)
        shape = np.stack([np.cos(angles), np.sin(angles)], -1) * half * (1 if kind == 2 else np.sqrt(2))
        turn = generator.normal(0, 0.35)
        spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        occluders.append((middle + shape @ spin.T, _color(generator)))
    return occluders


def photograph(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Makes a picture look taken: exposure, colour cast, contrast, blur, low resolution, noise.

    Args:
        generator: `np.random.Generator`.
        image: (H, W, 3) uint8 array.

    Returns:
        (H, W, 3) uint8 array.
    """
    height, width = image.shape[:2]
    if generator.random() < 0.2:
        share = generator.uniform(0.4, 0.7)
        small = cv2.resize(image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    elif generator.random() < 0.5:
        image = cv2.GaussianBlur(image, (3, 3), generator.uniform(0.4, 1.0))
    gain = generator.uniform(0.65, 1.1) * generator.uniform(0.92, 1.08, 3)
    gamma, lift = generator.uniform(0.8, 1.25), generator.uniform(0, 24)
    levels = np.linspace(0, 1, 256)[:, None] ** gamma * gain * (255 - lift) + lift
    image = cv2.LUT(image, levels.clip(0, 255).astype(np.uint8)[None])
    amount = generator.uniform(0, 0.14)
    return cv2.addWeighted(image, 1, _crop_of_noise(generator, height, width), amount, -128 * amount)


def _color(generator) -> tuple[float, float, float]:
    return tuple(_muted(generator).tolist())


def _muted(generator):
    """Most things in photographs are nearly grey."""
    return (generator.uniform(25, 230) + generator.normal(0, generator.uniform(4, 60), 3)).clip(5, 250).round()


def _color_field(generator, width, height):
    rows, columns = generator.integers(2, 5, 2)
    light = generator.normal(0, generator.uniform(5, 45), (rows, columns, 1))
    field = _muted(generator) + light + generator.normal(0, generator.uniform(2, 16), (rows, columns, 3))
    return cv2.resize(field.clip(0, 255).astype(np.uint8), (width, max(height, 1)), interpolation=cv2.INTER_CUBIC)


def _draw_grid(generator, image):
    """Planks, tiles or bars across the picture."""
    height, width = image.shape[:2]
    color, thickness = _color(generator), int(generator.integers(1, 2 + height // 100))
    slant = int(generator.normal(0, 0.1) * height)
    step = generator.integers(max(8, height // 24), height // 4)
    kind = generator.integers(3)
    if kind != 0:
        for x in range(int(generator.integers(step)), width, step):
            cv2.line(image, (x, 0), (x + slant, height), color, thickness, cv2.LINE_AA)
    if kind != 1:
        for y in range(int(generator.integers(step)), height, step):
            cv2.line(image, (0, y), (width, y + slant), color, thickness, cv2.LINE_AA)


def _draw_things(generator, image, count):
    """Boxes, balls, wires, and rods that are no limbs."""
    height, width = image.shape[:2]
    for _ in range(count):
        color = _color(generator)
        x, y = generator.uniform((0, 0), (width, height))
        length, breadth, angle = generator.uniform((0.05, 0.03, 0), (0.4, 0.16, 180))
        length, breadth = length * height, breadth * height
        kind = generator.integers(4)
        if kind == 0:
            corners = cv2.boxPoints(((x, y), (length, breadth * 2), angle if generator.random() < 0.3 else 0))
            cv2.fillConvexPoly(image, corners.astype(np.int32), color, cv2.LINE_AA)
        elif kind == 1:
            cv2.ellipse(image, ((x, y), (length * 0.6, breadth * 1.5), angle), color, -1, cv2.LINE_AA)
        else:
            end = np.array([x, y]) + length * np.array([np.cos(angle), np.sin(angle)])
            thickness = max(1, int(breadth / (1.5 if kind == 2 else 8)))
            cv2.line(image, (int(x), int(y)), tuple(end.astype(int).tolist()), color, thickness, cv2.LINE_AA)


def _add_texture(generator, image):
    """Grain of a random size, as of grass, plaster or foliage."""
    height, width = image.shape[:2]
    coarse = int(generator.integers(2, 9))
    grain = _crop_of_noise(generator, -(-height // coarse), -(-width // coarse))
    grain = cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)
    amount = generator.uniform(0.05, 0.5)
    cv2.addWeighted(image, 1, grain, amount, -128 * amount, dst=image)


def _crop_of_noise(generator, height, width):
    y, x = generator.integers(0, 64, 2)
    return _noise(height + 64, width + 64)[y : y + height, x : x + width]


@lru_cache(maxsize=16)
def _noise(height, width):
    """Noise around 128, the same at every call: drawing fresh noise would take longer than drawing the picture."""
    generator = np.random.default_rng(0)
    grey, color = generator.normal(0, 24, (height, width, 1)), generator.normal(0, 16, (height, width, 3))
    return (128 + grey + color).clip(0, 255).astype(np.uint8)
