"""What several commands share: kinds of arguments, and the choice of data."""

import argparse

from keras_regpose.datasets import DATASETS, open_dataset


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, received {text}")
    return value


def size(text):
    try:
        height, width = (int(side) for side in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH, such as 256x192, received {text!r}") from None
    return height, width


def box(text):
    try:
        x1, y1, x2, y2 = (float(value) for value in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be x1,y1,x2,y2 in pixels, received {text!r}") from None
    return [x1, y1, x2, y2]


def add_data_options(sub, dataset_required=True):
    sub.add_argument("--dataset", choices=DATASETS, required=dataset_required, help="layout of the data")
    sub.add_argument("--data", help="folder of the data")
    sub.add_argument("--count", type=positive, default=1000, help="drawn images (synthetic)")
    sub.add_argument("--limit", type=positive, help="use the first so many people only")
    sub.add_argument("--seed", type=int, help="of weights, order, augmentation and drawn people; default: 0")


def open_samples(options, split, boxes=None):
    if boxes and options.limit:
        raise ValueError("--limit counts annotated people and cannot be combined with --boxes")
    samples = open_dataset(
        options.dataset, options.data, split, boxes=boxes, count=options.count, seed=options.seed or 0
    )
    return samples[: options.limit] if options.limit else samples
