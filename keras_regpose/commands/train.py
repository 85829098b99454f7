"""`keras-regpose train`."""

import contextlib
import sys
import time

from keras_regpose.commands.shared import add_data_options, open_samples, positive, size

# Options that change a setting of the recipe of the same name, with their types.
SETTINGS = {
    "epochs": (positive, "passes over the training people"),
    "batch_size": (positive, "people per step, over all devices and hosts; the learning rate follows it"),
    "learning_rate": (float, "Adam's, after the warm-up"),
    "warmup": (int, "steps of linear warm-up"),
    "clip_norm": (float, "largest norm of all gradients together"),
    "accumulate": (positive, "steps whose gradients are averaged before the weights move"),
    "average_decay": (float, "decay of the moving average of the weights, such as 0.999"),
    "frozen_stages": (int, "stages of the backbone that stay as they are"),
    "backbone_rate": (float, "the backbone's learning rate as a multiple of the head's"),
    "delay_flow": (int, "epochs before RLE's flow takes part; for random starting weights"),
    "validate_every": (positive, "epochs between validations"),
}
AUGMENTATION = {
    "rotation": "largest random rotation in degrees",
    "half_body_probability": "probability of a half-body crop",
    "shift_probability": "probability of a random shift",
}


def add(command):
    """Adds the command to the parser."""
    sub = command(
        "train",
        run,
        "Train a model by a recipe, or fine-tune a preset.",
        "keras-regpose train --recipe resnet50_rle_coco --data ~/coco --start resnet50-0676ba61.pth --output runs/coco",
    )
    sub.add_argument("--recipe", help="a row of the zoo, a pretraining recipe, or a TOML file; see zoo/*/recipe.toml")
    add_data_options(sub, dataset_required=False)
    start = sub.add_mutually_exclusive_group()
    start.add_argument("--backbone", help="resnet50, mobilenetv2, mobilenetv2_0.5 … (default: the recipe's)")
    start.add_argument("--preset", help="fine-tune a preset (name or directory)")
    start = sub.add_mutually_exclusive_group()
    start.add_argument("--start", help="weights for the backbone: torchvision's .pth file, or a preset directory")
    start.add_argument("--from-random", action="store_true", help="start from random weights, whatever the recipe says")
    sub.add_argument("--method", choices=("rle", "deeppose", "heatmap"), help="loss (default: the recipe's, or rle)")
    sub.add_argument("--input-size", type=size, help="HEIGHTxWIDTH (default: the recipe's, or 256x192)")
    sub.add_argument("--schedule", choices=("steps", "cosine"), help="of the learning rate")
    sub.add_argument("--precision", choices=("float32", "mixed_bfloat16", "mixed_float16"))
    for name, (kind, text) in SETTINGS.items():
        sub.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)
    for name, text in AUGMENTATION.items():
        sub.add_argument(f"--{name.replace('_', '-')}", type=float, help=text)
    sub.add_argument("--scale-range", type=float, nargs=2, help="limits of the random scaling")
    sub.add_argument("--no-augmentation", action="store_true", help="learn from plain crops")
    sub.add_argument("--cache-gb", type=float, default=1.0, help="memory for decoded photographs")
    sub.add_argument("--cache-folder", help="folder for decoded photographs, which later epochs and runs find again")
    sub.add_argument("--checkpoint-minutes", type=float, default=10.0, help="longest time without a checkpoint")
    sub.add_argument("--hosts", help="addresses of all hosts, the first with its port (JAX backend): a:4321,b,c")
    sub.add_argument("--host-index", type=int, help="which of --hosts this is, from 0")
    sub.add_argument("--resume", action="store_true", help="go on with the run in --output")
    sub.add_argument("--output", required=True, help="folder for best/, checkpoints/, history.csv and validation/")


def run(options):
    import keras

    from keras_regpose.models.rewrite import unfreeze
    from keras_regpose.presets import from_preset
    from keras_regpose.training import device_scope, join_hosts, starting_model, this_host, train

    recipe = _recipe(options)
    if options.preset:
        _refuse_settings_of_the_model(options)
    options.dataset = recipe.dataset
    join_hosts(options.hosts, options.host_index)
    samples, validation = open_samples(options, "train"), open_samples(options, "val")
    keras.utils.set_random_seed(recipe.seed)
    keras.mixed_precision.set_global_policy(recipe.precision)
    first = this_host()[0] == 0
    if first:
        print(f"{len(samples)} people to learn from, {len(validation)} to validate on", flush=True)
    with device_scope(), _told_how_to_go_on(first):
        if options.preset:
            model = from_preset(options.preset, skeleton=samples.skeleton, dtype=recipe.precision)
            unfreeze(model)  # whatever was frozen when the preset was made
        else:
            model = starting_model(recipe, samples.skeleton, options.start)
        began = time.monotonic()
        history = train(
            model,
            samples,
            validation,
            options.output,
            recipe,
            resume=options.resume,
            cache_bytes=int(options.cache_gb * 2**30),
            cache_folder=options.cache_folder,
            checkpoint_minutes=options.checkpoint_minutes,
        )
    if first:
        _summarize(history, options.output, time.monotonic() - began)


@contextlib.contextmanager
def _told_how_to_go_on(first):
    from keras_regpose.training.checkpoint import Stopped

    try:
        yield
    except Stopped:
        if first:
            print("Stopped; all is saved. The same command with --resume goes on", file=sys.stderr)
        raise


def _recipe(options):
    import dataclasses
    from pathlib import Path

    from keras_regpose.data.augment import Augmentation
    from keras_regpose.training.recipe import Recipe

    if options.recipe is None:
        if options.dataset is None:
            raise ValueError("Say what to learn from: --recipe NAME, or --dataset LAYOUT")
        recipe = Recipe()
    elif Path(options.recipe).suffix == ".toml":
        recipe = Recipe.read(options.recipe)
    else:
        recipe = Recipe.of(options.recipe)
    names = [*SETTINGS, "dataset", "backbone", "method", "input_size", "schedule", "precision", "seed"]
    changes = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.recipe is None:
        changes.setdefault("learning_rate", recipe.learning_rate)  # there is no published pair to keep in proportion
    if options.from_random:
        changes["start"] = "random"
    augmentation = Augmentation.none() if options.no_augmentation else recipe.augmentation
    changed = {name: getattr(options, name) for name in AUGMENTATION if getattr(options, name) is not None}
    if options.scale_range is not None:
        changed["scale_range"] = tuple(options.scale_range)
    return recipe.changed(**changes, augmentation=dataclasses.replace(augmentation, **changed))


def _refuse_settings_of_the_model(options):
    """A preset brings its network and weights along; what would choose others must not be passed over in silence."""
    given = {
        "--start": options.start,
        "--from-random": options.from_random,
        "--input-size": options.input_size,
        "--method": options.method if options.method != "heatmap" else None,
    }
    if names := [name for name, value in given.items() if value]:
        raise ValueError(f"{names[0]} does not go with --preset, whose model is as it is. Leave one of them out")


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
