"""What several commands share: kinds of arguments, and the choice of data."""

import argparse

from keras_regpose.datasets import DATASETS, open_dataset


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
