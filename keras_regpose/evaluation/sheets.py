"""Sheets of many pictures: contact sheets, and predictions cut out around their people."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageOps

from keras_regpose import geometry
from keras_regpose.data.sample import Sample
from keras_regpose.evaluation.evaluate import labels
from keras_regpose.evaluation.pck import box_diagonal, normalized_distances
from keras_regpose.images import read_image
from keras_regpose.inference.draw import FONT, draw_poses, to_rgb
from keras_regpose.inference.poses import Poses

_PAPER, _INK = (244, 244, 244), (32, 32, 32)
_HEADING = (36, 800)  # height and least width
_TRUTH, _PREDICTION, _JOIN = (0, 158, 115), (230, 100, 0), (255, 255, 255)


def contact_sheet(
    images: Sequence[np.ndarray],
    columns: int = 4,
    tile_size: tuple[int, int] = (256, 256),
    captions: Sequence[str] | None = None,
) -> np.ndarray:
    """Lays pictures out in a grid.

    Args:
        images: sequence of (H, W, 3) RGB arrays of any sizes. They are not modified.
        columns: int. Pictures per row.
        tile_size: (height, width) in pixels into which each picture is fitted.
        captions: sequence of str, one per picture, or None. What does not fit is cut off.

    Returns:
        (height, width, 3) uint8 array, RGB.

    Raises:
        ValueError: If there is no picture, or the number of captions is another.

    Example:

    >>> contact_sheet([np.zeros((50, 80, 3), np.uint8)] * 5, columns=3, tile_size=(100, 100)).shape
    (224, 332, 3)
    """
    if len(images) == 0:
        raise ValueError("A contact sheet needs at least one image. Received: none")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"Each image needs a caption. Received: {len(images)} images and {len(captions)} captions")
    height, width = tile_size
    gap, text_height = 8, 0 if captions is None else 24
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + text_height + gap) + gap, columns * (width + gap) + gap, 3), _PAPER, np.uint8)
    for i, image in enumerate(images):
        top = gap + (i // columns) * (height + text_height + gap)
        left = gap + (i % columns) * (width + gap)
        tile = ImageOps.pad(Image.fromarray(to_rgb(image)), (width, height), color=_PAPER)
        sheet[top : top + height, left : left + width] = np.asarray(tile)
        if captions is not None:
            place = sheet[top + height : top + height + text_height, left : left + width]
            cv2.putText(place, captions[i], (2, 17), FONT, 0.45, _INK, 1, cv2.LINE_AA)
    return sheet


def prediction_sheet(
    poses: Poses, positions: np.ndarray, samples: Sequence[Sample], count: int = 24, tile: int = 224
) -> np.ndarray:
    """Shows the first predictions, each cut out around its person.

    Args:
        poses, positions, samples: What `evaluation.evaluate.predict_samples` returned, and what it was given.
        count: int. Number of people to show.
        tile: int. Side of each picture in pixels.

    Returns:
        (height, width, 3) uint8 array, RGB: skeletons with 1 σ ellipses, captioned with the mean keypoint score.
    """
    pictures, captions = [], []
    for person, position in zip(poses[:count], positions, strict=False):
        cut = geometry.cut(read_image(samples[position].image), person.boxes[0], (tile, tile), padding=1.5)
        points = geometry.transform_points(person.keypoints, cut.matrix)
        sigmas = None if person.sigmas is None else person.sigmas * cut.matrix[0, 0]
        pictures.append(draw_poses(cut.crop, points, person.scores, sigmas, skeleton=poses.skeleton))
        captions.append(f"score {person.scores.mean():.2f}")
    return contact_sheet(pictures, columns=6, tile_size=(tile, tile), captions=captions)


def error_sheet(
    poses: Poses, positions: np.ndarray, samples: Sequence[Sample], count: int = 12, tile: int = 256
) -> np.ndarray:
    """Shows the worst, the median and the best predictions of labelled keypoints, drawn over the truth.

    People are ordered by the mean distance of their labelled keypoints, as a share of the diagonal of the box.

    Args:
        poses, positions, samples: What `evaluation.evaluate.predict_samples` returned, and what it was given.
        count: int. Number of people to show of each kind, where there are as many.
        tile: int. Side of each picture in pixels.

    Returns:
        (height, width, 3) uint8 array, RGB. Truth is green, the prediction orange, and white lines join the two;
        captions give the mean distance in pixels, and as a share of the diagonal.

    Raises:
        ValueError: If no keypoint of these people is labelled.
    """
    truth, visible = labels(poses, positions, samples)
    distances = normalized_distances(poses.keypoints, truth, visible, 1.0)
    known = np.flatnonzero(~np.isnan(distances).all(1))
    errors = np.full(len(poses), np.nan)
    errors[known] = np.nanmean(distances[known], 1)
    shares = errors / box_diagonal(poses.boxes)
    order = known[np.argsort(-shares[known], kind="stable")]
    middle = max(0, (len(order) - count) // 2)
    parts = {"worst": order[:count], "median": order[middle : middle + count], "best": order[::-1][:count]}
    if len(order) <= 3 * count:
        parts = {"from the worst to the best": order}
    sheets = []
    for title, chosen in parts.items():
        pictures, captions = [], []
        for row in chosen:
            image = read_image(samples[int(positions[row])].image)
            cut = geometry.cut(image, poses.boxes[row], (tile, tile), padding=1.5)
            ends = np.stack([truth[row], poses.keypoints[row]])
            ends = np.where(visible[row, :, None] > 0, geometry.transform_points(ends, cut.matrix), np.nan)
            picture = draw_poses(cut.crop, ends[:1], skeleton=poses.skeleton, color=_TRUTH)
            for first, second in ends.transpose(1, 0, 2)[visible[row] > 0].clip(-1e4, 1e4).round().astype(int).tolist():
                cv2.line(picture, first, second, _JOIN, 1, cv2.LINE_AA)
            pictures.append(draw_poses(picture, ends[1:], skeleton=poses.skeleton, color=_PREDICTION))
            captions.append(f"{errors[row]:.1f} px, {shares[row]:.1%} of diagonal")
        sheet = contact_sheet(pictures, 6, (tile, tile), captions)
        right = max(0, _HEADING[1] - sheet.shape[1])
        sheet = cv2.copyMakeBorder(sheet, _HEADING[0], 0, 0, right, cv2.BORDER_CONSTANT, value=_PAPER)
        left = 8
        for text, color in ((f"{title} of {len(order)} people:", _INK), ("truth", _TRUTH), ("prediction", _PREDICTION)):
            cv2.putText(sheet, text, (left, 26), FONT, 0.7, color, 2, cv2.LINE_AA)
            left += cv2.getTextSize(text, FONT, 0.7, 2)[0][0] + 12
        sheets.append(sheet)
    return np.concatenate(sheets)
