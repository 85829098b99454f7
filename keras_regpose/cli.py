"""The `keras-regpose` command."""

import argparse
import json
import logging
import os
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns its exit status (2 for bad input, with one sentence on standard error)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return options.run(options) or 0
    except (ValueError, OSError) as error:
        if options.debug:
            raise
        print(f"keras-regpose {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-regpose", description="Top-down regression-based pose estimation in plain Keras."
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, run, help_text, example):
        sub = commands.add_parser(
            name,
            help=help_text,
            description=help_text,
            epilog=f"example: {example}",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    sub = command("demo", _demo, "Fine-tune a small model on drawn people, offline.", "keras-regpose demo")
    sub.add_argument("--output", default="demo_output", help="folder for the pictures and the model")
    sub.add_argument("--people", type=_positive, default=1600, help="drawn people to learn from")
    sub.add_argument("--epochs", type=_positive, default=12, help="passes over them")

    sub = command("list", _list, "Show the zoo as a table.", "keras-regpose list --markdown")
    sub.add_argument("--markdown", action="store_true", help="as a Markdown table")

    sub = command(
        "predict",
        _predict,
        "Estimate poses in images; write pictures and JSON.",
        "keras-regpose predict my_preset photo.jpg --box 40,30,210,480 --output poses",
    )
    sub.add_argument("preset", help="name or directory of a preset")
    sub.add_argument("images", nargs="+", help="image files")
    sub.add_argument(
        "--box", action="append", type=_box, help="x1,y1,x2,y2 of a person in pixels; repeatable; default: whole image"
    )
    sub.add_argument("--flip-test", action="store_true", help="average with the mirrored image")
    sub.add_argument("--output", default="poses", help="folder for NAME.png and NAME.json")

    sub = command(
        "train",
        _train,
        "Train a model, or fine-tune a preset.",
        "keras-regpose train --dataset coco --data ~/coco --backbone resnet50 --output runs/coco",
    )
    _add_data_options(sub)
    start = sub.add_mutually_exclusive_group()
    start.add_argument("--backbone", help="start from random weights: resnet50, mobilenetv2, mobilenetv2_0.5 …")
    start.add_argument("--preset", help="start from a preset's weights (name or directory)")
    sub.add_argument("--method", choices=("rle", "deeppose"), default="rle", help="loss, with --backbone")
    sub.add_argument("--input-size", type=_size, default=(256, 192), help="HEIGHTxWIDTH, with --backbone")
    sub.add_argument("--epochs", type=_positive, default=210, help="passes over the training people")
    sub.add_argument("--batch-size", type=_positive, default=64, help="people per step, over all devices")
    sub.add_argument("--learning-rate", type=float, default=1e-3, help="Adam's, after the warm-up")
    sub.add_argument("--schedule", choices=("steps", "cosine"), default="steps", help="of the learning rate")
    sub.add_argument("--warmup", type=int, default=500, help="steps of linear warm-up")
    sub.add_argument(
        "--delay-flow", type=int, default=0, help="epochs before RLE's flow takes part; for random starting weights"
    )
    sub.add_argument("--rotation", type=float, default=80.0, help="largest random rotation in degrees")
    sub.add_argument("--scale-range", type=float, nargs=2, default=(0.5, 1.5), help="of the random scaling")
    sub.add_argument("--half-body", type=float, default=0.3, help="probability of a half-body crop")
    sub.add_argument("--no-augmentation", action="store_true", help="learn from plain crops")
    sub.add_argument("--precision", choices=("float32", "mixed_bfloat16", "mixed_float16"), default="float32")
    sub.add_argument("--validate-every", type=_positive, default=10, help="epochs between validations")
    sub.add_argument("--cache-gb", type=float, default=1.0, help="memory for decoded photographs")
    sub.add_argument("--output", required=True, help="folder for best/, last.keras and history.csv")

    sub = command(
        "evaluate",
        _evaluate,
        "Print a preset's accuracy on a data set.",
        "keras-regpose evaluate runs/coco/best --dataset coco --data ~/coco --flip-test",
    )
    sub.add_argument("preset", help="name or directory of a preset")
    _add_data_options(sub)
    sub.add_argument("--split", choices=("train", "val", "test"), default="val")
    sub.add_argument("--boxes", help="COCO detections file to take boxes from (default: annotated boxes)")
    sub.add_argument("--flip-test", action="store_true", help="average with the mirrored crop, as published figures do")
    sub.add_argument(
        "--score-mode", choices=("bbox", "keypoint", "bbox_keypoint", "bbox_rle"), help="COCO instance score"
    )
    sub.add_argument("--nms", choices=("oks", "soft_oks", "none"), default="oks", help="suppression of doubled poses")
    sub.add_argument("--batch-size", type=_positive, default=32)
    sub.add_argument("--json", help="also write the figures to this file")
    sub.add_argument("--pictures", help="also write a contact sheet of predictions to this PNG file")

    sub = command(
        "convert",
        _convert,
        "Convert an official MMPose checkpoint (.pth) to a preset; PyTorch is not needed.",
        "keras-regpose convert mmpose checkpoint.pth --preset resnet50_rle_coco --out resnet50_rle_coco",
    )
    sub.add_argument("source", choices=("mmpose",))
    sub.add_argument("checkpoint", help=".pth file")
    sub.add_argument("--preset", required=True, help="name of the published row")
    sub.add_argument("--out", required=True, help="preset directory to write")
    return parser


def _add_data_options(sub):
    from keras_regpose.data.folders import DATASETS

    sub.add_argument("--dataset", choices=DATASETS, required=True, help="layout of the data")
    sub.add_argument("--data", help="folder of the data")
    sub.add_argument("--count", type=_positive, default=1000, help="drawn images (synthetic)")
    sub.add_argument("--limit", type=_positive, help="use the first so many people only")
    sub.add_argument("--seed", type=int, default=0)


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {text}")
    return value


def _size(text):
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH, such as 256x192, received {text!r}") from None
    return height, width


def _box(text):
    try:
        x1, y1, x2, y2 = (float(value) for value in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be x1,y1,x2,y2 in pixels, received {text!r}") from None
    return [x1, y1, x2, y2]


def _demo(options):
    from keras_regpose.demo import run_demo

    run_demo(Path(options.output), people=options.people, epochs=options.epochs)


def _list(options):
    from keras_regpose.hub.presets import preset_table

    print(preset_table(markdown=options.markdown))


def _open(options, split, boxes=None):
    from keras_regpose.data.folders import open_dataset
    from keras_regpose.data.subset import Subset

    if boxes and options.limit:
        raise ValueError("--limit counts annotated people and cannot be combined with --boxes")
    samples = open_dataset(options.dataset, options.data, split, boxes=boxes, count=options.count, seed=options.seed)
    return Subset(samples, range(min(options.limit, len(samples)))) if options.limit else samples


def _train(options):
    import keras

    from keras_regpose.data.augment import Augmentation
    from keras_regpose.hub.loader import from_preset
    from keras_regpose.models.regressor import PoseRegressor
    from keras_regpose.training import device_scope, train

    samples, validation = _open(options, "train"), _open(options, "val")
    keras.utils.set_random_seed(options.seed)
    keras.mixed_precision.set_global_policy(options.precision)
    augmentation = Augmentation.none()
    if not options.no_augmentation:
        augmentation = Augmentation(
            rotation=options.rotation, scale_range=tuple(options.scale_range), half_body_probability=options.half_body
        )
    print(f"{len(samples)} people to learn from, {len(validation)} to validate on", flush=True)
    with device_scope():
        if options.preset:
            model = from_preset(options.preset, skeleton=samples.skeleton)
        else:
            model = PoseRegressor(
                options.backbone or "resnet50", samples.skeleton, options.input_size, method=options.method
            )
        train(
            model,
            samples,
            validation,
            output=options.output,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            schedule=options.schedule,
            warmup=options.warmup,
            delay_flow=options.delay_flow,
            augmentation=augmentation,
            validate_every=options.validate_every,
            seed=options.seed,
            cache_bytes=int(options.cache_gb * 2**30),
        )
    print(f"The best model is in {options.output}/best, the curves are in {options.output}/history.csv")


def _evaluate(options):
    from keras_regpose.hub.loader import from_preset
    from keras_regpose.inference.evaluation import predict_samples, score_predictions

    model = from_preset(options.preset)
    samples = _open(options, options.split, boxes=options.boxes)
    with _progress_bar(len(samples), "people") as bar:
        predictions = predict_samples(model, samples, options.flip_test, options.batch_size, progress=bar.update)
    figures = score_predictions(
        predictions,
        samples,
        model.skeleton,
        annotations=samples.annotations,
        score_mode=options.score_mode,
        nms=None if options.nms == "none" else options.nms,
    )
    for name, value in figures.items():
        print(f"{name:>12} {value:.4f}" if isinstance(value, float) else f"{name:>12} {value}")
    skipped = len(samples) - len(predictions)
    if skipped:
        print(f"{skipped} of {len(samples)} people were skipped, because their images cannot be read")
    if options.json:
        _write_text(options.json, json.dumps(figures, indent=1) + "\n")
    if options.pictures:
        from keras_regpose.inference.draw import prediction_sheet, save_picture

        save_picture(options.pictures, prediction_sheet(predictions, samples, model.skeleton))


def _predict(options):
    from keras_regpose.data.images import ImageError
    from keras_regpose.hub.loader import from_preset

    model = from_preset(options.preset)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    failed = 0
    with _progress_bar(len(options.images), "images") as bar:
        for path in options.images:
            try:
                poses = model.estimate(path, boxes=options.box, flip_test=options.flip_test)
            except (ImageError, FileNotFoundError) as error:
                print(f"Skipped: {error}", file=sys.stderr)
                failed += 1
            else:
                poses.save(output / f"{Path(path).stem}.json")
                poses.save(output / f"{Path(path).stem}.png", image=path)
            bar.update(1)
    print(f"{len(options.images) - failed} of {len(options.images)} images are in {output}")
    if failed == len(options.images):
        raise ValueError("none of the images could be read")


def _convert(options):
    from keras_regpose.convert import from_mmpose

    from_mmpose(options.checkpoint, options.preset).save_to_preset(options.out)
    print(f"{options.preset} is in {options.out}")


def _progress_bar(total, unit):
    from tqdm import tqdm

    return tqdm(total=total, unit=f" {unit}", delay=2)


def _write_text(path, text):
    path = Path(path)
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
