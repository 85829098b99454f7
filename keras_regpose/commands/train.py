"""Train a model by a recipe, or fine-tune a preset."""

import argparse
import dataclasses
import inspect
import logging
import re
import time
import types
import typing
from pathlib import Path

from keras_regpose.commands.shared import add_data_options, annotated, open_model, open_samples, size
from keras_regpose.data.augment import Augmentation
from keras_regpose.data.coco_writer import write_coco
from keras_regpose.datasets import DETECTIONS
from keras_regpose.progress import progress_bar
from keras_regpose.recipe import CHOICES, Recipe

_log = logging.getLogger(__name__)

# Settings of a recipe that have options of their own: where the data and the starting weights are.
_OTHER_OPTIONS = ("dataset", "seed", "start", "augmentation")

EXAMPLE = (
    "keras-regpose train --annotations mine.json --images pictures --val-share 0.2 --preset mobilenetv2_rle_people "
    "--epochs 40 --patience 5 --output runs/mine"
)


def add_options(sub):
    sub.add_argument("--recipe", help="a row of the zoo, or a TOML file; see zoo/*/recipe.toml")
    add_data_options(sub)
    sub.add_argument("--val-annotations", metavar="FILE", help="people to validate on, beside those of --annotations")
    sub.add_argument("--val-images", metavar="DIR", help="folder of their pictures; default: --images")
    sub.add_argument("--val-share", type=float, help="or on this share of the pictures of --annotations; 0: none")
    sub.add_argument("--preset", help="fine-tune a preset (name or directory)")
    start = sub.add_mutually_exclusive_group()
    start.add_argument("--start", help="a .pth file of torchvision or an MMPose heatmap model, a preset, or imagenet")
    start.add_argument("--from-random", action="store_true", help="start from random weights, whatever the recipe says")
    for kind in (Recipe, Augmentation):
        described = _described(kind)
        for field in dataclasses.fields(kind):
            if field.name not in _OTHER_OPTIONS:
                flag = f"--{field.name.replace('_', '-')}"
                sub.add_argument(flag, help=described[field.name], **_argument(field))
    sub.add_argument("--teacher", help="preset or export: what it sees is learned where nothing is labelled")
    sub.add_argument("--unlabelled", metavar="DIR", help="pictures without annotations, whose people --teacher finds")
    sub.add_argument("--no-augmentation", action="store_true", help="learn from plain crops")
    sub.add_argument("--cache-gb", type=float, default=1.0, help="memory for decoded photographs")
    sub.add_argument("--checkpoint-minutes", type=float, default=10.0, help="longest time without a checkpoint")
    sub.add_argument("--hosts", help="addresses of all hosts, the first with its port (JAX backend): a:4321,b,c")
    sub.add_argument("--host-index", type=int, help="which of --hosts this is, from 0")
    sub.add_argument("--resume", action="store_true", help="go on with the run in --output")
    sub.add_argument("--output", required=True, help="folder for best/, checkpoints/, history.csv and validation/")


def _described(kind):
    """Returns what the docstring of a class says of each of its arguments."""
    arguments = (inspect.getdoc(kind) or "").split("Args:\n")[1].split("\n\n")[0]
    entries = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", arguments, re.M | re.S)
    return {name: " ".join(text.split()).replace("%", "%%") for name, text in entries}


def _argument(field):
    """Returns how an option is read that has the name of a setting; None says that it was not given."""
    kind = field.type
    if isinstance(kind, types.UnionType):
        kind = typing.get_args(kind)[0]  # the other is None
    if field.name == "input_size":
        return {"type": size, "metavar": "HEIGHTxWIDTH"}
    if typing.get_origin(kind) is tuple:
        items = typing.get_args(kind)
        return {"type": items[0], "nargs": "+" if items[-1] is Ellipsis else len(items)}
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction, "default": None}
    return {"choices": CHOICES[field.name]} if field.name in CHOICES else {"type": kind}


def run(options):
    import keras

    from keras_regpose.models.rewrite import unfreeze
    from keras_regpose.presets import from_preset
    from keras_regpose.training import device_scope, join_hosts, starting_model, taught, this_host, train

    recipe = _recipe(options)
    if options.preset:
        _refuse_settings_of_the_model(options)
    if options.unlabelled and not options.teacher:
        raise ValueError("--unlabelled takes a --teacher that looks at the pictures: a preset or an exported model")
    join_hosts(options.hosts, options.host_index)
    samples, validation = _people(options, recipe)
    if options.teacher:
        with progress_bar(total=len(samples), unit=" people", delay=2) as bar:
            samples = taught(samples, open_model(options.teacher), options.unlabelled, progress=bar.update)
    keras.utils.set_random_seed(recipe.seed)
    keras.mixed_precision.set_global_policy(recipe.precision)
    first = this_host()[0] == 0
    if first:
        print(f"{len(samples)} people to learn from, {len(validation or ())} to validate on", flush=True)
    with device_scope():
        if options.preset:
            model = from_preset(options.preset, skeleton=samples.skeleton, dtype=recipe.precision)
            unfreeze(model)  # whatever was frozen when the preset was made
        else:
            model = starting_model(recipe, samples.skeleton, options.start)
        began = time.monotonic()
        names = ("output", "resume", "checkpoint_minutes")
        settings = {name: getattr(options, name) for name in names}
        cache_bytes = int(options.cache_gb * 2**30)
        history = train(model, samples, validation, recipe=recipe, cache_bytes=cache_bytes, **settings)
    if first:
        if options.val_share and validation:
            # The held-out people as a file, since a fair evaluation is of these alone.
            write_coco(validation, f"{options.output}/validation.json")
            print(f"The people to validate on: {options.output}/validation.json")
        _summarize(history, options.output, time.monotonic() - began)


def _people(options, recipe):
    """Returns the people to learn from, and those to validate on or None."""
    if not annotated(options):
        options.dataset = recipe.dataset
        return open_samples(options, "train"), open_samples(options, "val", _detections(options, recipe))
    given = [name for name in ("val_annotations", "val_images", "val_share") if getattr(options, name) is not None]
    if given not in (["val_annotations"], ["val_annotations", "val_images"], ["val_share"]):
        raise ValueError("Say whom to validate on: --val-annotations FILE, perhaps with --val-images, or --val-share")
    samples = open_samples(options, "train")
    if options.val_share is not None:
        return samples.split(options.val_share, recipe.seed) if options.val_share else (samples, None)
    named = {"annotations": options.val_annotations, "images": options.val_images or options.images}
    validation = open_samples(argparse.Namespace(**vars(options) | named), "val", skeleton=samples.skeleton)
    if both := len(set(samples.field("image")) & set(validation.field("image"))):
        _log.warning("%d pictures are both learned from and validated on, which flatters the model", both)
    return samples, validation


def _detections(options, recipe):
    """Returns the file of the boxes to validate on; None for the annotated ones."""
    if not recipe.detected_boxes or recipe.dataset != "coco":
        return None
    file = Path(options.data or "", DETECTIONS)
    if file.is_file() and not options.limit:
        return str(file)
    why = "--limit counts annotated people" if options.limit else f"{file} is not there"
    _log.warning("Validation has annotated boxes, and figures above those of the published protocol: %s", why)
    return None


def _recipe(options):
    if options.recipe is None and options.dataset is None and options.annotations is None:
        raise ValueError("Say what to learn from: --annotations FILE, --dataset LAYOUT, or --recipe NAME")
    fields = (*dataclasses.fields(Recipe), *dataclasses.fields(Augmentation))
    names = [field.name for field in fields if field.name not in ("start", "augmentation")]
    changes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.from_random:
        changes["start"] = "random"
    if options.no_augmentation:
        changes["augmentation"] = Augmentation.none()
    if options.recipe is None:
        return Recipe.with_settings(**changes)
    recipe = Recipe.read(options.recipe) if options.recipe.endswith(".toml") else Recipe.of(options.recipe)
    return recipe.changed(**changes)


def _refuse_settings_of_the_model(options):
    """A preset brings its network and weights along; what would choose others must not be passed over in silence."""
    for name in ("start", "from_random", "backbone", "input_size", "method", "head"):
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')} does not go with --preset, whose model stays. Leave one out")


def _summarize(history, output, seconds):
    from keras_regpose.training.callbacks import best_epoch

    minutes, seconds = divmod(round(seconds), 60)
    print(f"{len(history['loss'])} epochs; this sitting took {minutes} min {seconds} s")
    print(f"Loss: {history['loss'][0]:.4g} in the first epoch, {history['loss'][-1]:.4g} in the last")
    best = best_epoch(history)
    if best is None:
        print(f"The last model: {output}/best")
    else:
        metric, value, epoch = best
        print(f"Best {metric.removeprefix('val_')}: {value:.4f} after epoch {epoch}; that model: {output}/best")
        print(f"Predictions at each validation: {output}/validation")
    print(f"Curves: {output}/history.csv, or tensorboard --logdir {output}")
