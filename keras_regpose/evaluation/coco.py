"""COCO keypoint evaluation: average precision and recall over object keypoint similarity.

The evaluation itself is `pycocotools`. Around it stand the instance scores and the OKS-NMS with which the published
results were made, and one rule of their evaluation library: a detection without any positive keypoint score is left
out. Source: `CocoMetric` of MMPose 1.3.2 and `xtcocotools` 1.14.
"""

import contextlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_regpose.evaluation.oks import check_sigmas, oks_nms, soft_oks_nms
from keras_regpose.inference.scores import SCORE_MODES, floats, instance_score
from keras_regpose.skeleton import SKELETONS

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
            `id`: int, optional, in all predictions or in none. Of predictions with equal id in an image the first
            counts. Without it, all count;
            `category_id`: int, 1 by default.
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
    return _score_and_suppress(
        _check_predictions(predictions), score_mode, nms, nms_threshold, keypoint_threshold, sigmas
    )


def coco_keypoints(
    predictions: Sequence[Mapping],
    annotations: str | os.PathLike | Mapping,
    score_mode: str = "bbox_rle",
    nms: str | None = "oks",
    nms_threshold: float = 0.9,
    keypoint_threshold: float = 0.2,
    sigmas: Sequence[float] | None = None,
    verbose: bool = False,
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
        nms_threshold: float. See `oks_nms` and `soft_oks_nms`.
        keypoint_threshold: float. Used by `"bbox_keypoint"` alone.
        sigmas: sequence of K floats, such as `Skeleton.sigmas`. None takes those of the skeleton whose keypoint names
            the annotations list, and COCO's where they list no names and there are 17 keypoints.
        verbose: bool. Whether to let `pycocotools` print its table.

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
    truth, keypoint_names = _load_truth(annotations)
    keypoint_count = len(truth["annotations"][0]["keypoints"]) // 3
    if sigmas is None and keypoint_names is not None:
        known = {skeleton.keypoints: skeleton.sigmas for skeleton in SKELETONS.values()}
        if keypoint_names not in known:
            raise ValueError(
                f"OKS needs one sigma per keypoint: pass sigmas=skeleton.sigmas, because no built-in skeleton has the "
                f"{keypoint_count} keypoints that the annotations name"
            )
        sigmas = known[keypoint_names]
    sigmas = check_sigmas(sigmas, keypoint_count)

    persons = _check_predictions(predictions)
    for field, known in (("image_id", truth["images"]), ("category_id", truth["categories"])):
        unknown = {person[field] for person in persons} - {entry["id"] for entry in known}
        if unknown:
            examples = ", ".join(repr(value) for value in list(unknown)[:3])
            raise ValueError(f"Predictions must be for the annotated images. Received {field} {examples} unknown there")
    if persons and len(persons[0]["keypoints"]) != keypoint_count:
        raise ValueError(
            f"Predictions need as many keypoints as the annotations, {keypoint_count}. "
            f"Received: {len(persons[0]['keypoints'])}"
        )
    results = _score_and_suppress(persons, score_mode, nms, nms_threshold, keypoint_threshold, sigmas)
    with contextlib.nullcontext() if verbose else contextlib.redirect_stdout(io.StringIO()):
        stats = _evaluate(truth, results, sigmas)
    return dict(zip(RESULT_NAMES, stats.tolist(), strict=True))


def _check_predictions(predictions):
    """Returns the predictions with arrays of checked shape and all optional keys but the box filled in."""
    if isinstance(predictions, Mapping) or not all(isinstance(entry, Mapping) for entry in predictions):
        raise ValueError(f"Predictions must be a list of dicts, one per person. Received: {type(predictions).__name__}")
    for key in ("id", "box"):
        having = sum(key in entry for entry in predictions)
        if 0 < having < len(predictions):
            raise ValueError(f"All predictions or none must have {key!r}. Received: {having} of {len(predictions)}")

    persons = []
    for number, entry in enumerate(predictions):
        missing = {"image_id", "keypoints", "scores", "box_score"} - set(entry)
        if missing:
            raise ValueError(f"Prediction {number} lacks {', '.join(sorted(missing))}. It has: {', '.join(entry)}")
        count = len(persons[0]["keypoints"]) if persons else np.size(entry["scores"])
        person = {
            "image_id": _plain(entry["image_id"]),
            "id": _plain(entry.get("id", number)),
            "category_id": _plain(entry.get("category_id", 1)),
            "keypoints": _finite(entry, "keypoints", (count, 2), number),
            "scores": _finite(entry, "scores", (count,), number),
            "box_score": _finite(entry, "box_score", (), number),
        }
        if entry.get("area") is None:
            person["area"] = np.ptp(person["keypoints"], axis=0).prod()
        else:
            person["area"] = _finite(entry, "area", (), number)
        if "box" in entry:
            person["box"] = _finite(entry, "box", (4,), number)
        persons.append(person)
    return persons


def _finite(entry, key, shape, number):
    """Returns one value of a prediction as an array, or raises a ValueError that says where it is wrong."""
    where = f"Prediction {number} (image {entry['image_id']})"
    try:
        array = floats(entry[key])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} must have numbers in {key!r}. Received: {entry[key]!r}") from error
    if array.shape != shape or not array.size:
        raise ValueError(f"{where} must have {key!r} of shape {shape}. Received shape: {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{where} must have finite {key!r}. Received: NaN or infinity")
    return array


def _score_and_suppress(persons, score_mode, nms, nms_threshold, keypoint_threshold, sigmas):
    """Returns COCO's result list of checked persons."""
    if score_mode not in SCORE_MODES:
        raise ValueError(f"The score mode must be one of {', '.join(SCORE_MODES)}. Received: {score_mode!r}")
    if nms not in NMS_MODES:
        raise ValueError(f'nms must be "oks", "soft_oks" or None. Received: {nms!r}')
    images = {}
    for person in persons:
        images.setdefault(person["image_id"], {}).setdefault(person["id"], person)

    results = []
    for by_id in images.values():
        people = [by_id[key] for key in sorted(by_id)]
        scores = instance_score(
            np.array([person["box_score"] for person in people]),
            np.stack([person["scores"] for person in people]),
            score_mode,
            keypoint_threshold,
        )
        kept = range(len(people))
        if nms is not None:
            suppress = oks_nms if nms == "oks" else soft_oks_nms
            keypoints = np.stack([person["keypoints"] for person in people])
            areas = np.array([person["area"] for person in people])
            kept = suppress(keypoints, scores, areas, nms_threshold, sigmas)
        results.extend(_result(people[i], float(scores[i])) for i in kept)
    return results


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _result(person, score):
    result = {
        "image_id": person["image_id"],
        "category_id": person["category_id"],
        "keypoints": np.column_stack([person["keypoints"], person["scores"]]).ravel().tolist(),
        "score": score,
    }
    if "box" in person:
        left, top, right, bottom = person["box"].tolist()
        result["bbox"] = [left, top, right - left, bottom - top]
    return result


def _load_truth(annotations):
    """Returns what the evaluation needs of a COCO file, and the keypoint names if the file lists them."""
    where = "the annotations"
    if not isinstance(annotations, Mapping):
        path = Path(annotations)
        where = str(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no annotation file at {path}: pass the path of a COCO keypoint file")
        try:
            annotations = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}): pass the path of a COCO keypoint file") from error
    if not isinstance(annotations, Mapping) or not annotations.get("annotations") or not annotations.get("images"):
        raise ValueError(
            f"Evaluation needs ground truth: {where} must have 'images' and 'annotations' that are not empty"
        )

    persons = []
    # The ids are numbered anew, because pycocotools takes a match with id 0 for none.
    for number, entry in enumerate(annotations["annotations"], start=1):
        missing = {"image_id", "category_id", "bbox", "area", "keypoints"} - set(entry)
        if missing:
            raise ValueError(
                f"Annotation {entry.get('id', number)} of {where} lacks {', '.join(sorted(missing))}: "
                "pass a COCO keypoint file, such as person_keypoints_val2017.json"
            )
        person = {key: entry[key] for key in ("image_id", "category_id", "bbox", "area", "keypoints")}
        labelled = sum(visible > 0 for visible in entry["keypoints"][2::3])
        persons.append({**person, "id": number, "num_keypoints": labelled, "iscrowd": int(entry.get("iscrowd", 0))})
    lengths = {len(person["keypoints"]) for person in persons}
    if len(lengths) > 1 or lengths.pop() % 3:
        raise ValueError(f"Each annotation of {where} must list the same keypoints, as x, y, visibility in turn")
    if not any(person["num_keypoints"] for person in persons):
        raise ValueError(f"Evaluation needs ground truth, but no keypoint is labelled in {where}")

    used = {person["category_id"] for person in persons}
    listed = annotations.get("categories", [])
    names = {tuple(entry["keypoints"]) for entry in listed if entry["id"] in used and "keypoints" in entry}
    truth = {
        "images": [{"id": entry["id"]} for entry in annotations["images"]],
        "annotations": persons,
        "categories": [{"id": category} for category in sorted(used | {entry["id"] for entry in listed})],
    }
    return truth, names.pop() if len(names) == 1 else None


def _evaluate(truth, results, sigmas):
    """Returns the ten figures of pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    detections = []
    for result in results:
        points = np.reshape(result["keypoints"], (-1, 3))
        if not (points[:, 2] > 0).any():
            continue
        if "bbox" in result:
            area = result["bbox"][2] * result["bbox"][3]
        else:
            area = float(np.ptp(points[:, :2], axis=0).prod())
        detections.append({**result, "id": len(detections) + 1, "area": area, "iscrowd": 0})

    # Not loadRes: it fails where there are no detections.
    sides = []
    for persons in (truth["annotations"], detections):
        side = COCO()
        side.dataset = {**truth, "annotations": persons}
        side.createIndex()
        sides.append(side)
    evaluation = COCOeval(*sides, iouType="keypoints")
    evaluation.params.kpt_oks_sigmas = sigmas
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats
