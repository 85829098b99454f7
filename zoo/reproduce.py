"""Scores a published row on its validation set, and says how far it is from the published figures.

Run it in a clone, with the data in the layout that `keras_regpose.datasets.open_dataset` describes:

    python zoo/reproduce.py resnet50_rle_coco --data ~/coco --json result.json
    python zoo/reproduce.py resnet50_mpii --data ~/mpii

It takes the way of every user: `from_preset`, the reader of the data, `estimate` of each photograph with flip test, and
the measure of the data set. COCO needs the detector's boxes in the folder of the data, in
person_detection_results/COCO_val2017_detections_AP_H_56_person.json, as the published figures do.
"""

import argparse
import json
import sys
from pathlib import Path

from keras_regpose.datasets import DETECTIONS, open_dataset
from keras_regpose.evaluation.evaluate import evaluate
from keras_regpose.files import write_whole
from keras_regpose.presets import from_preset
from keras_regpose.progress import progress_bar
from keras_regpose.zoo import preset_info

_NAMES = {"PCKh@0.5": "Mean", "PCKh@0.1": "Mean@0.1"}  # of the figures of `evaluate`, which are in percent


def reproduce(name: str, data: str | Path, preset: str | Path | None = None, annotated: bool = False) -> dict:
    """Returns how a published row does on its validation set, beside what was published.

    Args:
        name: str. A row of the zoo with an official checkpoint.
        data: str or path. Folder of its data set; see `open_dataset`.
        preset: str, path or None. The preset to score instead of the row's own, such as one that was trained.
        annotated: bool. Whether COCO's people are where they are annotated, instead of where the detector saw them.

    Returns:
        dict with `preset`, `data`, `people` (their number), `left_out` (the broken records of the files, and why each
        is one), `boxes` (whose), `flip_test` and `figures`: for each published figure its `value`, the ends `low` and
        `high` of its 95 % interval (None where there is none), the `published` value, the `difference` to it, and
        `overview` where MMPose's overview table prints another one.

    Raises:
        ValueError: If the row was not published, some of the people's images cannot be read, or data do not fit.
        FileNotFoundError: If files of the data set are missing.
    """
    info = preset_info(name)
    if info["checkpoint"] is None:
        raise ValueError(f"{name} was made here, and is not a published row; its card says how it was measured")
    boxes = None
    if info["dataset"] == "coco" and not annotated:
        boxes = Path(data, DETECTIONS)
        if not boxes.is_file():
            raise FileNotFoundError(
                f"The published figures are with the detector's boxes, but there is no {boxes}. Get it from MMPose's "
                "page on preparing COCO, or pass --annotated-boxes, whose figures are higher"
            )
    samples = open_dataset(info["dataset"], data, "val", boxes=boxes)
    model = from_preset(str(preset or name))
    if model.skeleton.keypoints != samples.skeleton.keypoints:
        raise ValueError(f"{preset} finds keypoints of {model.skeleton.name!r}, {name} those of {info['skeleton']!r}")
    flip_test = info["evaluation"]["flip_test"]
    with progress_bar(total=len(samples), unit=" people", delay=2) as bar:
        scores = evaluate(model, samples, flip_test=flip_test, progress=bar.update, max_unreadable_share=0.0)
    intervals, figures = scores.intervals, {}
    for metric, published in info["metrics"].items():
        key = _NAMES[metric] if metric in _NAMES else metric
        part = 0.01 if metric in _NAMES else 1.0
        ends = [part * end for end in intervals[key][1:]] if key in intervals else [None, None]
        value = part * scores[key]
        figures[metric] = {"value": value, "low": ends[0], "high": ends[1], "published": published}
        figures[metric]["difference"] = value - published
        if metric in info["overview"]:
            figures[metric]["overview"] = info["overview"][metric]
    whose = "annotated" if boxes is None else f"detections of {Path(boxes).name}"
    left_out = [f"{what}: {why}" for what, why in samples.skipped]
    counted = {"people": len(samples), "left_out": left_out, "boxes": whose, "flip_test": flip_test}
    return {"preset": str(preset or name), "data": str(data)} | counted | {"figures": figures}


def told(result: dict) -> str:
    """Returns a result of `reproduce` as a person reads it."""
    flip = "with" if result["flip_test"] else "without"
    lines = [f"{result['preset']}: {result['people']:,} people, boxes {result['boxes']}, {flip} flip test"]
    if left_out := result["left_out"]:
        lines.append(
            f"Broken records that were left out, and are no part of it: {len(left_out)}; the first: {left_out[0]}"
        )
    for metric, one in result["figures"].items():
        text = f"{metric:>9} {one['value']:.4f}"
        if one["low"] is not None:
            text += f" (95 % interval {one['low']:.4f} … {one['high']:.4f})"
        text += f"; published {one['published']:g}, {one['difference']:+.4f} from it"
        if one["low"] is not None:
            # Figures are printed to three digits or two decimals: half of the last one is no difference.
            digit = 0.005 if one["published"] > 2 else 0.0005
            inside = one["low"] - digit <= one["published"] <= one["high"] + digit
            text += f", which is {'inside' if inside else 'OUTSIDE'} the interval"
        if "overview" in one:
            text += f" (MMPose's overview table: {one['overview']:g}, {one['value'] - one['overview']:+.4f} from it)"
        lines.append(text)
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs the script; returns its exit status, 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", help="name of the preset")
    parser.add_argument("--data", required=True, help="folder of its data set")
    parser.add_argument("--preset", help="score this preset instead: a folder")
    parser.add_argument(
        "--annotated-boxes", action="store_true", help="on COCO, take annotated boxes, not detected ones"
    )
    parser.add_argument("--json", help="also write the result to this file")
    options = parser.parse_args(arguments)
    try:
        result = reproduce(options.row, options.data, options.preset, options.annotated_boxes)
    except (ValueError, OSError) as error:
        print(f"zoo/reproduce.py: {error}", file=sys.stderr)
        return 2
    print(told(result))
    if options.json:
        write_whole(options.json, json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
