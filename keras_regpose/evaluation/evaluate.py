"""Samples → predictions → the data set's own metric."""

import logging
from collections.abc import Sequence

import numpy as np

from keras_regpose import geometry
from keras_regpose.data.sample import Sample
from keras_regpose.evaluation.pck import torso_size
from keras_regpose.images import ImageError, read_image
from keras_regpose.inference.estimator import decode_poses, predict_crops
from keras_regpose.metrics import coco_keypoints, pck, pckh

_log = logging.getLogger(__name__)


def predict_samples(
    model,
    samples: Sequence[Sample],
    flip_test: bool = False,
    batch_size: int = 32,
    progress=None,
    max_unreadable_share: float = 0.1,
) -> list[dict]:
    """Predicts the keypoints of every sample from its box. Images that cannot be read are named in the log.

    Args:
        model: `PoseRegressor`.
        samples: sequence of `Sample`.
        flip_test: bool. Whether to average with the prediction for the mirrored crop.
        batch_size: int.
        progress: callable or None. Called with the number of samples just done.
        max_unreadable_share: float. If the images of a larger share of the samples cannot be read, that is an error.

    Returns:
        list of dicts, one per sample whose image could be read: image_id, id, keypoints (K, 2) in pixels, scores (K,),
        sigmas (K, 2) or None, box (xyxy), box_score, area (of the padded box), index (the sample's position).

    Raises:
        ValueError: If the samples have other keypoints than the model, or too many images cannot be read.
    """
    if len(samples) and samples[0].keypoints.shape != (len(model.skeleton), 2):
        raise ValueError(
            f"The model has the {len(model.skeleton)} keypoints of {model.skeleton.name!r}, the data has "
            f"{len(samples[0].keypoints)}"
        )
    predictions, unreadable, lost = [], set(), 0
    for start in range(0, len(samples), batch_size):
        crops, chosen, centers, scales = [], [], [], []
        for index in range(start, min(start + batch_size, len(samples))):
            sample = samples[index]
            try:
                picture = read_image(sample.image)
            except ImageError as error:
                lost += 1
                if str(error) not in unreadable:
                    unreadable.add(str(error))
                    _log.warning("Skipped: %s", error)
                if lost > max_unreadable_share * len(samples):
                    raise ImageError(
                        f"The images of more than {max_unreadable_share:.0%} of the {len(samples)} people cannot be "
                        f"read. The last: {error}"
                    ) from None
                continue
            center, scale = geometry.box_to_center_scale(sample.box)
            scale = geometry.fix_aspect_ratio(scale, model.input_size)
            matrix = geometry.crop_matrix(center, scale, 0, model.input_size)
            crops.append(geometry.crop_image(picture, matrix, model.input_size))
            chosen.append(index)
            centers.append(center)
            scales.append(scale)
        if crops:
            output = predict_crops(model, np.stack(crops), flip_test, batch_size=batch_size)
            keypoints, scores, sigmas = decode_poses(output, np.stack(centers), np.stack(scales))
            for row, index in enumerate(chosen):
                sample = samples[index]
                predictions.append(
                    {
                        "image_id": sample.image_id,
                        "id": sample.id,
                        "index": index,
                        "keypoints": keypoints[row],
                        "scores": scores[row],
                        "sigmas": None if sigmas is None else sigmas[row],
                        "box": sample.box,
                        "box_score": sample.box_score,
                        "area": float(np.prod(scales[row])),
                    }
                )
        if progress:
            progress(min(batch_size, len(samples) - start))
    return predictions


def score_predictions(
    predictions: list[dict],
    samples: Sequence[Sample],
    skeleton,
    annotations=None,
    score_mode: str | None = None,
    nms: str | None = "oks",
    threshold: float = 0.2,
) -> dict[str, float]:
    """Scores the predictions for samples with the metric of their data set.

    Args:
        predictions: list of dicts from `predict_samples`.
        samples: the samples they were made for.
        skeleton: `Skeleton` of the keypoints.
        annotations: COCO-format file or dict for COCO's AP and AR; None for data without one.
        score_mode: str or None. How COCO instance scores are made; None is "bbox_rle" for outputs with σ and
            "bbox_keypoint" for others, as the published rows do.
        nms: "oks", "soft_oks" or None. Suppression of doubled poses before COCO's evaluation.
        threshold: float. PCK's, in torso lengths.

    Returns:
        dict: AP, AR … in [0, 1] with `annotations`; PCKh in percent for samples with head sizes; else PCK in [0, 1].
    """
    if not predictions:
        raise ValueError("There is nothing to score: no image could be read")
    if annotations is not None:
        if score_mode is None:
            score_mode = "bbox_keypoint" if predictions[0]["sigmas"] is None else "bbox_rle"
        return coco_keypoints(predictions, annotations, score_mode=score_mode, nms=nms, sigmas=skeleton.sigmas)
    pred, truth, visible = gather(predictions, samples)
    head_sizes = [samples[entry["index"]].head_size for entry in predictions]
    if None not in head_sizes:
        return pckh(pred, truth, visible, np.array(head_sizes))
    return pck(pred, truth, visible, torso_size(truth, visible, skeleton), skeleton, threshold=threshold)


def gather(predictions: list[dict], samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns predicted keypoints (N, K, 2), true keypoints (N, K, 2) and visibilities (N, K), in pixels."""
    chosen = [samples[entry["index"]] for entry in predictions]
    return (
        np.stack([entry["keypoints"] for entry in predictions]),
        np.stack([sample.keypoints for sample in chosen]),
        np.stack([sample.visible for sample in chosen]),
    )


def evaluate(model, samples: Sequence[Sample], flip_test: bool = False, batch_size: int = 32, progress=None, **scoring):
    """Predicts every sample and returns its data set's metric; see `predict_samples` and `score_predictions`.

    Example:

    >>> import keras_regpose as rp
    >>> from keras_regpose.evaluation.evaluate import evaluate
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> sorted(evaluate(model, rp.data.Synthetic(4, seed=1)))[:3]
    ['AP', 'AP50', 'AP75']
    """
    predictions = predict_samples(model, samples, flip_test, batch_size, progress)
    scoring.setdefault("annotations", samples.annotations)
    return score_predictions(predictions, samples, model.skeleton, **scoring)
