"""Pictures of poses: skeletons with their uncertainty on a photograph.

Sides have the colours of Okabe and Ito's palette that people with any colour vision tell apart: left is blue, right is
orange, the middle of the body is white; each line has a dark rim, so that it stands out from any background.
"""

import cv2
import numpy as np

from keras_regpose.arrays import check_people
from keras_regpose.skeleton import COCO17, Skeleton

LEFT, RIGHT, MIDDLE = (86, 180, 233), (255, 140, 0), (255, 255, 255)
_SIDES = {"left": LEFT, "right": RIGHT}
_RIM, _BOX = (20, 20, 20), (0, 158, 115)
_SHIFT = 4  # OpenCV takes coordinates in fixed point: this many bits after the point
FONT = cv2.FONT_HERSHEY_SIMPLEX
_ELLIPSE_OPACITY, _FADED_OPACITY = 0.4, 0.35
_FINE_ENOUGH = 900  # pixels: pictures of this size can be drawn on as they are


def draw_poses(
    image: np.ndarray,
    keypoints: np.ndarray,
    scores: np.ndarray | None = None,
    sigmas: np.ndarray | None = None,
    boxes: np.ndarray | None = None,
    skeleton: Skeleton = COCO17,
    score_threshold: float = 0.3,
    ellipses: bool = True,
    labels: bool = False,
    scale: float = 1.0,
    color: tuple[int, int, int] | None = None,
    ids: np.ndarray | None = None,
) -> np.ndarray:
    """Draws people's skeletons: left side blue, right side orange, middle white.

    Joints with a score under the threshold are hollow rings, and the limbs that end there are faded. Lines are as
    thick as suits each person's size.

    Args:
        image: (H, W, 3) array, RGB 0–255, or (H, W) grey. It is not modified.
        keypoints: (N, K, 2) array in image pixels. Joints whose coordinates are not finite are left out.
        scores: (N, K) array of keypoint scores, or None for joints that are all certain.
        sigmas: (N, K, 2) array, σ of x and y in image pixels, or None.
        boxes: (N, 4) array of xyxy boxes to draw, or None.
        skeleton: `Skeleton` with K keypoints.
        score_threshold: float.
        ellipses: bool. Whether to draw the 1 σ ellipse (half axes σx and σy) of each joint that has a σ. Of ellipses
            that are larger than a limb, only the outline is drawn.
        labels: bool. Whether to write each person's id, or number, and mean keypoint score; the first alone in tiny
            images.
        scale: float. The picture is enlarged by this first; 3 or so makes tiny images readable.
        color: (R, G, B) of all joints and limbs, or None for the colours of the sides.
        ids: (N,) array of whole numbers, or None. They are written beside people.

    Returns:
        (H · scale, W · scale, 3) uint8 array, RGB.

    Raises:
        ValueError: If a shape does not fit.

    Example:

    >>> picture = draw_poses(np.zeros((120, 90, 3), np.uint8), np.random.default_rng(0).uniform(10, 80, (1, 17, 2)))
    >>> picture.shape, bool(picture.any())
    ((120, 90, 3), True)
    """
    picture = to_rgb(image)
    scores = np.ones((len(keypoints), len(skeleton))) if scores is None else scores
    # A joint whose σ is not a number has no ellipse.
    sigmas = np.full((len(keypoints), len(skeleton), 2), np.nan) if sigmas is None else sigmas
    given = {"keypoints": keypoints, "scores": scores, "sigmas": sigmas}
    given = given if boxes is None else {**given, "boxes": boxes}
    given = check_people(f"Skeleton {skeleton.name!r}", len(skeleton), **given)
    keypoints, scores, sigmas = given["keypoints"], given["scores"], given["sigmas"]
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive number. Received: {scale}")
    if scale != 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    corners = keypoints if boxes is None else given["boxes"].reshape(-1, 2, 2)
    # The centre of the first pixel is (0, 0), and stays in the middle of what that pixel becomes.
    keypoints, corners = (keypoints + 0.5) * scale - 0.5, (corners + 0.5) * scale - 0.5
    sigmas = sigmas * scale if ellipses else np.full_like(sigmas, np.nan)

    picture = _draw_skeletons(picture, keypoints, scores >= score_threshold, sigmas, skeleton, color)
    plates = []
    for n, points in enumerate(corners):
        points = points[np.isfinite(points).all(-1)].clip(-1e6, 1e6)
        if boxes is not None and len(points) == 2:
            first, second = points.round().astype(int).tolist()
            cv2.rectangle(picture, first, second, _BOX, max(1, _thickness(keypoints[n], picture.shape) // 3))
        if (labels or ids is not None) and len(points):
            name = str(n + 1 if ids is None else ids[n])
            texts = (f"{name}: {scores[n].mean():.2f}", name) if labels else (name,)
            _draw_label(picture, texts, points.min(0), plates)
    return picture


def to_rgb(image):
    image = np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=-1)
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"The image must be an (H, W, 3) RGB array with values 0–255. Received: shape {image.shape}")
    if image.dtype != np.uint8:
        image = np.nan_to_num(image).round().clip(0, 255)
    return np.array(image, np.uint8, order="C")


def _draw_skeletons(picture, keypoints, certain, sigmas, skeleton, color):
    # Small pictures are drawn on enlarged: every pixel is repeated, and averaging the repeated pixels afterwards gives
    # back the picture unchanged, with lines finer than a pixel.
    factor = min(4, -(-_FINE_ENOUGH // max(picture.shape[:2])))
    height, width = picture.shape[:2]
    if factor > 1:
        picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    keypoints = (keypoints + 0.5) * factor - 0.5
    people = [
        _marks(*person, picture.shape, skeleton, color)
        for person in zip(keypoints, certain, sigmas * factor, strict=True)
    ]
    for n, opacity in enumerate((_ELLIPSE_OPACITY, _FADED_OPACITY, 1, 1)):
        picture = _draw(picture, [mark for person in people for mark in person[n]], opacity)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) if factor > 1 else picture


def _draw(picture, marks, opacity):
    """Draws marks, each a function of OpenCV with its arguments, and returns the picture."""
    layer = picture.copy() if marks and opacity < 1 else picture
    for draw, *arguments in marks:
        draw(layer, *arguments, cv2.LINE_AA, _SHIFT)
    return cv2.addWeighted(layer, opacity, picture, 1 - opacity, 0) if layer is not picture else picture


def _thickness(points, shape):
    """Thickness of a person's limbs in pixels: a share of the person's extent."""
    points = points[np.isfinite(points).all(-1)]
    extent = np.ptp(points, axis=0).max() if len(points) else 0
    return max(1, round(0.014 * min(extent, 1.5 * max(shape[:2]))))


def _fixed(values):
    """Returns a number or a point in OpenCV's fixed point."""
    return np.round(np.clip(values, -1e5, 1e5) * (1 << _SHIFT)).astype(int).tolist()


def _marks(points, certain, sigmas, shape, skeleton, color):
    """Returns the marks of one person's ellipses, faded limbs, limbs and joints."""
    width = _thickness(points, shape)
    rim, radius = _rim(width), max(1.5, width)
    colors = [color or _SIDES.get(name.split("_")[0], MIDDLE) for name in skeleton.keypoints]
    finite = np.isfinite(points).all(-1)
    ellipses, rims, limbs, joints = [], ([], []), ([], []), []
    for i, j in skeleton.edge_indices:
        if finite[i] and finite[j]:
            ends, sure = (_fixed(points[i]), _fixed(points[j])), int(certain[i] and certain[j])
            rims[sure].append((cv2.line, *ends, _RIM, width + 2 * rim))
            sides = {colors[i], colors[j]} - {MIDDLE}
            limbs[sure].append((cv2.line, *ends, sides.pop() if len(sides) == 1 else MIDDLE, width))
    for n in np.flatnonzero(finite):
        center, spread = _fixed(points[n]), sigmas[n]
        if np.isfinite(spread).all() and (spread > 0).all():
            # Filled, they would hide the photograph: limbs are about fifteen times as long as thick.
            line = max(1, width // 3) if spread.max() > 15 * width else -1
            ellipses.append((cv2.ellipse, center, _fixed(spread), 0, 0, 360, colors[n], line))
        if certain[n]:
            joints.append((cv2.circle, center, _fixed(radius + rim), _RIM, -1))
            joints.append((cv2.circle, center, _fixed(radius), colors[n], -1))
        else:
            line = max(1, width // 2)
            joints.append((cv2.circle, center, _fixed(radius * 1.3), _RIM, line + 2 * _rim(line)))
            joints.append((cv2.circle, center, _fixed(radius * 1.3), colors[n], line))
    return ellipses, rims[0] + limbs[0], rims[1] + limbs[1], joints


def _rim(width):
    return max(1, round(width / 4))


def _draw_label(picture, texts, corner, plates):
    """Writes the first text that is not too wide on a dark plate above a point, where no other plate is."""
    size = max(0.4, max(picture.shape[:2]) / 1600)
    line = max(1, round(size * 1.6))
    text, width, height, below = "", 0, 0, 0
    for text in texts:
        (width, height), below = cv2.getTextSize(text, FONT, size, line)
        if width <= 0.25 * picture.shape[1]:
            break
    x = int(np.clip(corner[0], 0, max(picture.shape[1] - width, 0)))
    y = int(np.clip(corner[1] - below - 2 * line, height + line, max(picture.shape[0] - below, height + line)))
    step = height + below + 2 * line
    for lower in range(y, min(y + 6 * step, picture.shape[0] - below), step):
        if not any(abs(lower - other_y) < step and x < right and left < x + width for left, right, other_y in plates):
            y = lower
            break
    plates.append((x, x + width, y))
    cv2.rectangle(picture, (x, y - height - line), (x + width, y + below), _RIM, -1)
    cv2.putText(picture, text, (x, y), FONT, size, MIDDLE, line, cv2.LINE_AA)
