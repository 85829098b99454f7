"""COCO keypoint evaluation: average precision and recall over object keypoint similarity.

The evaluation itself is `pycocotools`. Around it stand the instance scores and the OKS-NMS with which the published
results were made, and one rule of their evaluation library: a detection without any positive keypoint score is left
out. Source: `CocoMetric` of MMPose 1.3.2 and `xtcocotools` 1.14.
"""

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_regpose.arrays import check_arrays
from keras_regpose.data.coco_file import CocoFile
from keras_regpose.evaluation.oks import check_sigmas, oks_nms, soft_oks_nms
from keras_regpose.files import read_json
from keras_regpose.inference.scores import coco_result, expected_oks, instance_score
from keras_regpose.skeleton import SKELETONS, Skeleton, keypoint_categories

NMS_MODES = ("oks", "soft_oks", None)
RESULT_NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def coco_results(
    predictions: Sequence[Mapping],
    score_mode: str = "bbox_rle",
    nms: str | None = "oks",
    nms_threshold: float = 0.9,
    keypoint_threshold: float = 0.2,
    sigmas: Sequence[float] | None = None,
) -> list[dict]:
    """Scores predictions, removes duplicates, and puts them in COCO's result format.

    The list can be written with `json.dump` and submitted to an evaluation server.

    Args:
        predictions: sequence of dicts, one per person, with the keys
            `image_id`: int or str;
            `keypoints`: (K, 2) array in image pixels;
            `scores`: (K,) array of keypoint scores;
            `box_score`: float, the detector's confidence, 1 for annotated boxes;
            `area`: float, square pixels of the padded and aspect-fixed box from which the pose was estimated. NMS alone
            uses it. Optional; without it, the area of the keypoints' extent;
            `box`: (4,) xyxy, optional, in all predictions or in none. Handed on as COCO's `bbox`; its area then decides
            to which size range an unmatched detection belongs, otherwise the keypoints' extent does;
            `sigmas`: (K, 2) array of σx and σy in pixels, which the score mode "expected_oks" needs, with `box`;
            `id`: int, optional, in all predictions or in none. Of predictions with equal id in an image the first
            counts. Without it, all count;
            `category_id`: int, 1 by default; `coco_keypoints` takes the only one of the annotations, if they have one.
        score_mode: str. See `instance_score`.
        nms: str or None. `"oks"`, `"soft_oks"` (at most 20 persons per image) or None.
        nms_threshold: float. See `oks_nms` and `soft_oks_nms`.
        keypoint_threshold: float. See `instance_score`.
        sigmas: sequence of K floats, such as `Skeleton.sigmas`, or None for COCO's 17 keypoints.

    Returns:
        List of dicts with `image_id`, `category_id`, `keypoints` (3K floats: x, y, score), `score`, and `bbox` (xywh)
        where `box` was given.

    Raises:
        ValueError: If a prediction lacks a key, has a wrong shape or a value that is not finite, or an option is
            unknown.

    Example:

    >>> person = {"image_id": 7, "keypoints": np.full((17, 2), 5.0), "scores": np.full(17, 0.5), "box_score": 1.0}
    >>> results = coco_results([person, person])
    >>> len(results), results[0]["image_id"], results[0]["score"], results[0]["keypoints"][:3]
    (1, 7, 2.0, [5.0, 5.0, 0.5])
    """
    return _score_and_suppress(_columns(predictions), score_mode, nms, nms_threshold, keypoint_threshold, sigmas)


def coco_keypoints(
    predictions: Sequence[Mapping],
    annotations: str | os.PathLike | Mapping,
    score_mode: str = "bbox_rle",
    nms: str | None = "oks",
    **options: Any,
) -> dict[str, float]:
    """Average precision and recall of predictions, as COCO's keypoint challenge defines them.

    All images of `annotations` count, whether there are predictions for them or not.

    Args:
        predictions: sequence of dicts, one per person. See `coco_results`.
        annotations: path of a COCO keypoint file, or its content: a dict with `images` and `annotations`. Any number of
            keypoints.
        score_mode: str. See `instance_score`. The published RLE models use `"bbox_rle"`, the plain regression models
            `"bbox_keypoint"`.
        nms: str or None. `"oks"`, `"soft_oks"` or None.
        **options: nms_threshold (float; see `oks_nms` and `soft_oks_nms`), keypoint_threshold (float, used by
            `"bbox_keypoint"` alone), sigmas (sequence of K floats, such as `Skeleton.sigmas`; without it, those of the
            skeleton whose keypoint names the annotations list, and COCO's where they list no names and there are 17
            keypoints), verbose (bool; whether to let `pycocotools` print its table).

    Returns:
        Dict of fractions in [0, 1]: AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL. APM and ARM are for persons
        of 32² to 96² square pixels, APL and ARL for larger ones; −1 (COCO's convention) where the ground truth has no
        such person.

    Raises:
        FileNotFoundError: If there is no file at `annotations`.
        ValueError: If there is no ground truth, a prediction does not fit it, or an option is unknown.

    Example:

    >>> pose = np.stack([np.arange(17) * 9.0, np.arange(17) * 12.0], -1)
    >>> truth = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 144, 192], "area": 20000,
    ...          "keypoints": np.insert(pose, 2, 2, axis=1).ravel().tolist()}
    >>> found = {"image_id": 7, "keypoints": pose, "scores": np.ones(17), "box_score": 0.9, "area": 43200}
    >>> round(coco_keypoints([found], {"images": [{"id": 7}], "annotations": [truth]})["AP"], 6)
    1.0
    """
    return coco_figures(coco_evaluation(predictions, annotations, score_mode, nms, **options))


def coco_evaluation(
    predictions, annotations, score_mode, nms, nms_threshold=0.9, keypoint_threshold=0.2, sigmas=None, verbose=False
):
    """Returns the `pycocotools.cocoeval.COCOeval` of predictions, which knows every match; see `coco_keypoints`."""
    truth, keypoint_names = _load_truth(annotations)
    only = truth["categories"][0]["id"] if len(truth["categories"]) == 1 else 1
    columns = _columns(predictions, only)
    keypoint_count = len(truth["annotations"][0]["keypoints"]) // 3
    if sigmas is None and keypoint_names is not None:
        known = {skeleton.keypoints: skeleton.sigmas for skeleton in SKELETONS.values()}
        if keypoint_names not in known:
            why = f"no built-in skeleton has the {keypoint_count} keypoints that the annotations name"
            raise ValueError(f"OKS needs one sigma per keypoint: pass sigmas=skeleton.sigmas, because {why}")
        sigmas = known[keypoint_names]
    checked_sigmas = check_sigmas(sigmas, keypoint_count)
    for field, known in (("image_id", "images"), ("category_id", "categories")):
        unknown = set(columns[field]) - {entry["id"] for entry in truth[known]}
        if unknown:
            examples = ", ".join(repr(value) for value in list(unknown)[:3])
            raise ValueError(f"Predictions must be for the annotated images. Received {field} {examples} unknown there")
    received = columns["keypoints"].shape[1]
    if predictions and received != keypoint_count:
        raise ValueError(f"Predictions need the annotations' {keypoint_count} keypoints. Received: {received}")
    results = _score_and_suppress(columns, score_mode, nms, nms_threshold, keypoint_threshold, checked_sigmas)
    with contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO()):
        return _evaluate(truth, results, checked_sigmas)


def coco_figures(evaluation) -> dict[str, float]:
    """Returns the ten figures of a `COCOeval` by name."""
    return dict(zip(RESULT_NAMES, evaluation.stats.tolist(), strict=True))


def _columns(predictions, category=1):
    """Checks the dicts that `coco_results` describes, and returns the values of each key, numbers as one array."""
    if isinstance(predictions, Mapping) or not all(isinstance(entry, Mapping) for entry in predictions):
        raise ValueError(f"Predictions must be a list of dicts, one per person. Received: {type(predictions).__name__}")
    for key in ("id", "box", "sigmas"):
        having = sum(key in entry for entry in predictions)
        if 0 < having < len(predictions):
            raise ValueError(f"All predictions or none must have {key!r}. Received: {having} of {len(predictions)}")
    for number, entry in enumerate(predictions):
        missing = {"image_id", "keypoints", "scores", "box_score"} - set(entry)
        if missing:
            raise ValueError(f"Prediction {number} lacks {', '.join(sorted(missing))}. It has: {', '.join(entry)}")

    def numbers(key, shape, values):
        try:
            return check_arrays("Predictions", None, finite=True, **{key: (values, f"N {shape}")})[0]
        except ValueError:
            for number, value in enumerate(values):
                where = f"Prediction {number} (image {predictions[number]['image_id']})"
                check_arrays(where, None, finite=True, **{key: (value, shape)})
            raise

    columns = {
        "image_id": [_plain(entry["image_id"]) for entry in predictions],
        "id": [_plain(entry.get("id", number)) for number, entry in enumerate(predictions)],
        "category_id": [_plain(entry.get("category_id", category)) for entry in predictions],
    }
    count = max(1, np.size(predictions[0]["scores"])) if predictions else 1
    shapes = {"keypoints": f"{count} 2", "scores": str(count), "box_score": "", "box": "4", "sigmas": f"{count} 2"}
    for key, shape in shapes.items():
        if not predictions or key in predictions[0]:
            columns[key] = numbers(key, shape, [entry[key] for entry in predictions])
    areas = [entry.get("area") for entry in predictions]
    extents = np.ptp(columns["keypoints"], axis=1).prod(-1)
    areas = [extent if area is None else area for area, extent in zip(areas, extents, strict=True)]
    return {**columns, "area": numbers("area", "", areas)}


def _score_and_suppress(columns, score_mode, nms, nms_threshold, keypoint_threshold, sigmas):
    """Returns COCO's result list of the people whose values `_columns` returns."""
    if nms not in NMS_MODES:
        raise ValueError(f'nms must be "oks", "soft_oks" or None. Received: {nms!r}')
    points, point_scores = columns["keypoints"], columns["scores"]
    ranked = point_scores
    if score_mode == "expected_oks" and len(points):
        if not {"box", "sigmas"} <= set(columns):
            raise ValueError("The score mode 'expected_oks' needs predictions with 'box' and 'sigmas'")
        areas = (columns["box"][:, 2:] - columns["box"][:, :2]).prod(-1)
        ranked = expected_oks(columns["sigmas"], areas, check_sigmas(sigmas, points.shape[1]))
    scores = instance_score(columns["box_score"], ranked, score_mode, keypoint_threshold)
    images = {}
    for row, (image_id, identity) in enumerate(zip(columns["image_id"], columns["id"], strict=True)):
        images.setdefault(image_id, {}).setdefault(identity, row)

    results = []
    for by_id in images.values():
        rows = np.array([by_id[identity] for identity in sorted(by_id)])
        if nms is not None:
            suppress = oks_nms if nms == "oks" else soft_oks_nms
            rows = rows[suppress(points[rows], scores[rows], columns["area"][rows], nms_threshold, sigmas)]
        for row in rows.tolist():
            identity = columns["image_id"][row], columns["category_id"][row]
            box = columns["box"][row] if "box" in columns else None
            results.append(coco_result(*identity, points[row], point_scores[row], scores[row], box))
    return results


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _load_truth(annotations):
    """Returns what the evaluation needs of a COCO file, and the keypoint names if the file lists them."""
    where = "the annotations"
    if not isinstance(annotations, Mapping):
        where, annotations = os.fspath(annotations), read_json(annotations)
    if not isinstance(annotations, Mapping) or not annotations.get("annotations") or not annotations.get("images"):
        raise ValueError(f"Evaluation needs ground truth: {where} needs 'images' and 'annotations' that are not empty")

    names = keypoint_categories(dict(annotations), None, where)
    names = tuple(names[0]["keypoints"]) if names else None
    lengths = {np.size(entry["keypoints"]) for entry in annotations["annotations"] if entry.get("keypoints")}
    if names is None and (len(lengths) > 1 or sum(lengths) % 3):
        raise ValueError(f"Each annotation of {where} must list the same keypoints, as x, y, visibility in turn")
    numbered = tuple(f"keypoint {place}" for place in range(sum(lengths) // 3 or 1))
    file = CocoFile({"file": where, **annotations}, Skeleton("keypoints", names or numbered))
    truth = file.truth(strict=True)
    # Numbered anew, because pycocotools takes a match with id 0 for none.
    for number, person in enumerate(truth["annotations"], start=1):
        person["id"] = number
    if not any(person["num_keypoints"] for person in truth["annotations"]):
        raise ValueError(f"Evaluation needs ground truth, but no keypoint is labelled in {where}")
    used = {person["category_id"] for person in truth["annotations"]}
    truth["categories"] = [{"id": category} for category in sorted(used | set(file.categories))]
    return truth, names


def _evaluate(truth, results, sigmas):
    """Returns pycocotools' evaluation of results."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotated, found = COCO(), COCO()
    annotated.dataset = truth  # pyright: ignore[reportAttributeAccessIssue]
    annotated.createIndex()
    # An empty list is no result to `loadRes`.
    if results := [result for result in results if max(result["keypoints"][2::3]) > 0]:
        found = annotated.loadRes(results)  # pyright: ignore[reportArgumentType]
    evaluation = COCOeval(annotated, found, iouType="keypoints")
    evaluation.params.kpt_oks_sigmas = sigmas
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation
