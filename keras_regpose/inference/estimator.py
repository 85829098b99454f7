"""Image → boxes → crops → model → keypoints in image pixels."""

from collections.abc import Sequence

import numpy as np

from keras_regpose import codec, geometry
from keras_regpose.data.images import read_image
from keras_regpose.inference.result import Poses


def predict_crops(model, crops: np.ndarray, flip_test: bool = False, shift: bool = True) -> np.ndarray:
    """Runs the model on crops of any number, in one compiled shape.

    Args:
        model: `PoseRegressor`.
        crops: (B, H, W, 3) array, RGB 0–255.
        flip_test: bool. Whether to average with the prediction for the mirrored crop.
        shift: bool. Whether the mirrored prediction is also moved by one pixel, as all published rows do.

    Returns:
        (B, K, 4 or 2) float32 array in crop units.
    """
    output = model.predict_on_batch(crops)
    if not flip_test:
        return output
    mirrored = model.predict_on_batch(np.ascontiguousarray(crops[:, :, ::-1]))
    width = model.input_size[1]
    return codec.merge_flipped(output, mirrored, model.skeleton.flip_permutation, width, shift)


def decode_poses(output: np.ndarray, center: np.ndarray, scale: np.ndarray):
    """Turns outputs in crop units into image pixels.

    Args:
        output: (N, K, 4 or 2) array, as `predict_crops` returns it.
        center: (N, 2) array. Centres of the image regions, in pixels.
        scale: (N, 2) array. Their widths and heights, in pixels.

    Returns:
        keypoints (N, K, 2) float32 in pixels, scores (N, K) float32, and sigmas (N, K, 2) float32 in pixels or None.
    """
    keypoints = geometry.crop_to_image(output[..., :2].astype(np.float64), center, scale)
    sigmas = (output[..., 2:] * scale[:, None]).astype(np.float32) if output.shape[-1] == 4 else None
    return keypoints.astype(np.float32), codec.keypoint_scores(output).astype(np.float32), sigmas


def estimate(
    model,
    image: str | np.ndarray,
    boxes: Sequence | np.ndarray | None = None,
    flip_test: bool = False,
    batch_size: int = 32,
) -> Poses:
    """Estimates the poses of the people in one image; see `PoseRegressor.estimate`."""
    picture = read_image(image)
    height, width = picture.shape[:2]
    boxes = check_boxes([[0, 0, width, height]] if boxes is None else boxes)
    center, scale = geometry.box_to_center_scale(boxes)
    scale = geometry.fix_aspect_ratio(scale, model.input_size)
    outputs = np.zeros((len(boxes), *model.output_shape[1:]), np.float32)
    for start in range(0, len(boxes), batch_size):
        chosen = range(start, min(start + batch_size, len(boxes)))
        crops = [
            geometry.crop_image(
                picture, geometry.crop_matrix(center[i], scale[i], 0, model.input_size), model.input_size
            )
            for i in chosen
        ]
        outputs[start : start + len(crops)] = predict_crops(model, pad_batch(crops, batch_size), flip_test)[
            : len(crops)
        ]
    keypoints, scores, sigmas = decode_poses(outputs, center, scale)
    return Poses(
        keypoints=keypoints,
        sigmas=sigmas,
        scores=scores,
        boxes=boxes,
        box_scores=np.ones(len(boxes), np.float32),
        skeleton=model.skeleton,
        image_size=(height, width),
        source=image if isinstance(image, str) else None,
    )


def check_boxes(boxes) -> np.ndarray:
    """Returns boxes as an (N, 4) float32 array.

    Raises:
        ValueError: If they are not xyxy boxes of a positive, finite size.
    """
    try:
        array = np.asarray(boxes, np.float32)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.size == 0 and len(boxes) == 0:
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes must be (N, 4): x1, y1, x2, y2 in pixels. Received: {boxes!r:.200}")
    bad = ~np.isfinite(array).all(1) | (array[:, 2] <= array[:, 0]) | (array[:, 3] <= array[:, 1])
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"Box {first} is not x1, y1, x2, y2 with x2 > x1 and y2 > y1. Received: {array[first].tolist()}"
        )
    return array


def pad_batch(crops: list, batch_size: int) -> np.ndarray:
    """Stacks crops to a batch whose size is a power of two up to `batch_size`, so that few shapes are compiled."""
    size = min(batch_size, 1 << (len(crops) - 1).bit_length())
    batch = np.zeros((size, *crops[0].shape), np.uint8)
    batch[: len(crops)] = crops
    return batch
