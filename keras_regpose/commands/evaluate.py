"""Print a preset's accuracy on a data set."""

import json

from keras_regpose.commands.shared import add_data_options, open_samples, positive
from keras_regpose.files import write_whole
from keras_regpose.inference.scores import SCORE_MODES
from keras_regpose.progress import progress_bar

EXAMPLE = "keras-regpose evaluate runs/coco/best --dataset coco --data ~/coco --flip-test"


def add_options(sub):
    sub.add_argument("preset", help="name or directory of a preset")
    add_data_options(sub)
    sub.add_argument("--split", choices=("train", "val", "test"), default="val")
    sub.add_argument("--boxes", help="COCO detections file to take boxes from (default: annotated boxes)")
    sub.add_argument("--flip-test", action="store_true", help="average with the mirrored crop, as published figures do")
    sub.add_argument("--score-mode", choices=SCORE_MODES, help="COCO instance score")
    sub.add_argument("--nms", choices=("oks", "soft_oks", "none"), default="oks", help="suppression of doubled poses")
    sub.add_argument("--batch-size", type=positive, default=32)
    sub.add_argument("--json", help="also write the figures to this file")
    sub.add_argument("--pictures", help="also write a contact sheet of predictions to this PNG file")
    sub.add_argument("--calibration", help="also compare predicted σ with actual errors, and plot it to this PNG file")
    sub.add_argument("--recalibrated", help="folder for a preset whose σ agrees with the errors on this data")


def run(options):
    from keras_regpose.evaluation.calibration import calibrate_predictions, import_matplotlib, plot_calibration
    from keras_regpose.evaluation.evaluate import predict_samples, score_predictions
    from keras_regpose.presets import from_preset

    if options.calibration:
        import_matplotlib()
    model = from_preset(options.preset)
    for option in ("calibration", "recalibrated"):
        if getattr(options, option) and model.method != "rle":
            raise ValueError(f"--{option} needs a model with σ, which those trained without RLE do not predict")
    samples = open_samples(options, options.split, boxes=options.boxes)
    with progress_bar(total=len(samples), unit=" people", delay=2) as bar:
        poses, positions = predict_samples(model, samples, options.flip_test, options.batch_size, progress=bar.update)
    nms = None if options.nms == "none" else options.nms
    figures = score_predictions(poses, positions, samples, model.input_size, options.score_mode, nms)
    for name, value in figures.items():
        print(f"{name:>12} {value:.4f}" if isinstance(value, float) else f"{name:>12} {value}")
    skipped = len(samples) - len(poses)
    if skipped:
        print(f"{skipped} of {len(samples)} people were skipped, because their images cannot be read")
    if options.json:
        write_whole(options.json, json.dumps(figures, indent=1) + "\n")
    ellipse_scale = 1.0
    if options.calibration:
        calibration = calibrate_predictions(poses, positions, samples)
        print(calibration)
        plot_calibration(calibration, options.calibration)
        ellipse_scale = calibration.factor  # so that the ellipses show how far off the keypoints are
    if options.pictures:
        from keras_regpose.evaluation.sheets import prediction_sheet
        from keras_regpose.inference.draw import save_picture

        sheet = prediction_sheet(poses, positions, samples, ellipse_scale=ellipse_scale)
        save_picture(options.pictures, sheet)
    if options.recalibrated:
        from keras_regpose.training.recalibrate import recalibrate

        recalibrate(model, poses, positions, samples)
        model.save_to_preset(options.recalibrated)
        print(f"With σ recalibrated on these {len(poses)} people: {options.recalibrated}")
