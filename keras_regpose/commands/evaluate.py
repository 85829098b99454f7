"""Print a preset's accuracy on a data set."""

import json

from keras_regpose.commands.shared import add_data_options, open_model, open_samples, positive
from keras_regpose.files import MADE_BY, spare, write_whole
from keras_regpose.hub.preset_files import spare_folder
from keras_regpose.inference.scores import SCORE_MODES
from keras_regpose.progress import progress_bar

EXAMPLE = "keras-regpose evaluate runs/coco/best --dataset coco --data ~/coco --flip-test"


def add_options(sub):
    sub.add_argument("preset", help="name or directory of a preset, or an exported .onnx, .xml or .tflite file")
    add_data_options(sub)
    sub.add_argument("--split", choices=("train", "val", "test"), default="val")
    sub.add_argument("--boxes", help="COCO detections file to take boxes from (default: annotated boxes)")
    sub.add_argument("--flip-test", action="store_true", help="average with the mirrored crop, as published figures do")
    sub.add_argument("--score-mode", choices=SCORE_MODES, help="COCO instance score")
    sub.add_argument("--nms", choices=("oks", "soft_oks", "none"), default="oks", help="suppression of doubled poses")
    sub.add_argument("--batch-size", type=positive, default=32)
    sub.add_argument("--against", metavar="PRESET", help="also compare with this preset, on the same people")
    sub.add_argument("--json", help="also write the figures to this file")
    sub.add_argument("--pictures", help="PNG for the worst, median and best predictions; prints each keypoint's errors")
    sub.add_argument("--calibration", help="also compare predicted σ with actual errors, and plot it to this PNG file")
    sub.add_argument("--recalibrated", help="folder for a preset whose σ agrees with the errors on this data")


def run(options):
    from keras_regpose.evaluation import calibration
    from keras_regpose.evaluation.errors import KINDS, error_kinds, error_shares
    from keras_regpose.evaluation.evaluate import check_same_keypoints, predict_samples, score_predictions
    from keras_regpose.evaluation.sheets import error_sheet, prediction_sheet
    from keras_regpose.export.runtime import ExportedPoseRegressor
    from keras_regpose.images import save_picture

    spare(*filter(None, (options.json, options.pictures, options.calibration)), overwrite=options.overwrite)
    if options.recalibrated:
        spare_folder(options.recalibrated)
    if options.calibration:
        calibration.import_matplotlib()
    model = open_model(options.preset)
    for option in ("calibration", "recalibrated"):
        if getattr(options, option) and model.method != "rle":
            raise ValueError(f"--{option} needs a model with σ, which those trained without RLE do not predict")
    if options.recalibrated and isinstance(model, ExportedPoseRegressor):
        raise ValueError("--recalibrated needs a preset. Received an export: recalibrate its preset, then export again")
    other = open_model(options.against) if options.against else None
    if other is not None:
        check_same_keypoints(model, other)
    samples = open_samples(options, options.split, options.boxes, model.skeleton)

    def predict(model):
        with progress_bar(total=len(samples), unit=" people", delay=2) as bar:
            poses = predict_samples(model, samples, options.flip_test, options.batch_size, progress=bar.update)
        nms = None if options.nms == "none" else options.nms
        return *poses, score_predictions(*poses, samples, model.input_size, options.score_mode, nms)

    poses, positions, scores = predict(model)
    intervals = scores.intervals
    for name, value in scores.items():
        printed = f"{value:.4f}" if isinstance(value, float) else value
        print(f"{name:>12} {printed}{_span(intervals.get(name))}")
    if scores.measure:
        print(f"{scores.measure}; error: mean distance in pixels")
    if skipped := len(samples) - len(poses):
        print(f"{skipped} of {len(samples)} people were skipped, because their images cannot be read")
    report = {"made_by": MADE_BY} | scores | {"measure": scores.measure, "intervals": intervals}
    if other is not None:
        other_scores = predict(other)[2]
        differences = scores.minus(other_scores)
        print(f"{options.preset} minus {options.against}, on the same draws of people and pictures:")
        for name, difference in differences.items():
            print(f"{name:>12} {difference.value:+.4f}{_span(difference, '+')}: {_verdict(name, *difference)}")
        report["against"] = {"preset": options.against, "figures": other_scores, "difference": differences}
    if scores.measure and (options.json or options.pictures):
        errors = report["errors"] = error_shares(error_kinds(poses, positions, samples), model.skeleton)
        if options.pictures:
            print(" ".join(f"{title:>14}" for title in ("keypoint", "labelled", *KINDS)))
            for name, row in errors.items():
                count, *shares = row.values()
                print(f"{name:>14} {count:14} " + " ".join(f"{share:14.1%}" for share in shares))
    if options.json:
        write_whole(options.json, json.dumps(report, indent=1) + "\n")
    if options.calibration:
        measured = calibration.calibrate_predictions(poses, positions, samples)
        print(measured)
        print(f"  expected OKS against OKS        {calibration.score_error(poses, positions, samples):.3f}  (ideal 0)")
        calibration.plot_calibration(measured, options.calibration)
        if poses.quantiles:
            found = calibration.coverages(poses, positions, samples, getattr(model, "flow", None))
            print("\n".join(f"  truth within {name:18} {one.value:.3f}{_span(one)}" for name, one in found.items()))
    if options.pictures:
        sheet = error_sheet if scores.measure else prediction_sheet
        save_picture(options.pictures, sheet(poses, positions, samples))
    if options.recalibrated and not isinstance(model, ExportedPoseRegressor):
        from keras_regpose.training.recalibrate import recalibrate

        recalibrate(model, poses, positions, samples)
        model.save_to_preset(options.recalibrated)
        print(f"With σ recalibrated on these {len(poses)} people: {options.recalibrated}")


def _span(interval, sign=""):
    return f" (95 % interval {interval.low:{sign}.4f} … {interval.high:{sign}.4f})" if interval else ""


def _verdict(name, value, low, high):
    if low <= 0 <= high:
        return "it includes 0, so these people do not tell which of the two is ahead"
    return f"it excludes 0, so {'better' if (value > 0) != (name in ('error', 'EPE', 'NME')) else 'worse'}"
