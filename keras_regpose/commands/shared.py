"""What several commands share: kinds of arguments, and the choice of data."""

import argparse
import logging
import os
from pathlib import Path

from keras_regpose.data.coco import Coco
from keras_regpose.data.people import People
from keras_regpose.datasets import DATASETS, open_dataset
from keras_regpose.skeleton import Skeleton


def import_keras_silently():
    """Imports Keras and its backend without what these say about graphics cards that are not there."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with open(os.devnull, "w") as nowhere:
        shown = os.dup(2)  # TensorFlow's libraries write there themselves
        os.dup2(nowhere.fileno(), 2)
        try:
            import keras  # noqa: F401
        finally:
            os.dup2(shown, 2)
            os.close(shown)


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {text}")
    return value


def size(text):
    return tuple(_numbers(text.lower(), int, 2, "x", "HEIGHTxWIDTH, such as 256x192"))


def box(text):
    return _numbers(text, float, 4, ",", "x1,y1,x2,y2 in pixels")


def _numbers(text, kind, count, separator, form):
    try:
        numbers = [kind(number) for number in text.split(separator)]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise argparse.ArgumentTypeError(f"must be {form}, received {text!r}")
    return numbers


def add_annotation_options(sub):
    sub.add_argument("--annotations", metavar="FILE", help="people of your own: a COCO keypoint file, with --images")
    sub.add_argument("--images", metavar="DIR", help="folder of the pictures of --annotations")
    sub.add_argument("--category", help="number or name, if --annotations has several with keypoints")


def add_data_options(sub):
    """Adds both ways to name people: an annotation file with its pictures, or a data set in its usual layout."""
    add_annotation_options(sub)
    sub.add_argument("--dataset", choices=DATASETS, help="a data set in its usual layout, with --data")
    sub.add_argument("--data", help="folder of --dataset")
    sub.add_argument("--count", type=positive, default=1000, help="drawn images (synthetic)")
    sub.add_argument("--limit", type=positive, help="use the first so many people only")
    sub.add_argument("--seed", type=int, help="of weights, order, augmentation and drawn people; default: 0")


def annotated(options) -> bool:
    """Returns whether --annotations and --images name people, after a check that both are there, and their likes."""
    for name in ("annotations", "images", "category", "val_annotations", "val_images", "val_share"):
        needed = "images" if name == "annotations" else "annotations"
        if getattr(options, name, None) is not None and getattr(options, needed) is None:
            raise ValueError(f"--{name.replace('_', '-')} goes with --{needed}, which is missing")
    return options.annotations is not None


def open_model(name: str):
    """Opens a preset, or an exported model by the name of its file."""
    from keras_regpose.export.formats import FORMATS
    from keras_regpose.export.runtime import load_exported
    from keras_regpose.presets import from_preset

    exported = Path(name).suffix in {kind.SUFFIX for kind in FORMATS.values() if kind.SUFFIX}
    return (load_exported if exported else from_preset)(name)


def open_samples(options, split: str, boxes: str | None = None, skeleton: Skeleton | None = None) -> People:
    """Opens the people that the options name.

    Args:
        options: Those of `add_data_options`.
        split: str. "train", "val" or "test", of a data set in its usual layout.
        boxes: str or None. A COCO detections file.
        skeleton: `Skeleton` or None. Whose keypoints an annotation file must have; None takes them from the file.
    """
    if boxes and options.limit:
        raise ValueError("--limit counts annotated people and cannot be combined with --boxes")
    if annotated(options):
        if options.dataset or options.data:
            raise ValueError("--annotations and --dataset both name people: leave one of them out")
        samples = Coco(options.annotations, options.images, boxes, skeleton=skeleton, category=options.category)
    elif options.dataset is None:
        raise ValueError("Say whose people: --annotations FILE --images DIR, or --dataset LAYOUT")
    else:
        samples = open_dataset(options.dataset, options.data, split, boxes, count=options.count, seed=options.seed or 0)
    return samples[: options.limit] if options.limit else samples
