"""`keras-regpose train`."""

from keras_regpose.commands.shared import add_data_options, open_samples, positive, size


def add(command):
    """Adds the command to the parser."""
    sub = command(
        "train",
        run,
        "Train a model, or fine-tune a preset.",
        "keras-regpose train --dataset coco --data ~/coco --backbone resnet50 --output runs/coco",
    )
    add_data_options(sub)
    start = sub.add_mutually_exclusive_group()
    start.add_argument("--backbone", help="start from random weights: resnet50, mobilenetv2, mobilenetv2_0.5 …")
    start.add_argument("--preset", help="start from a preset's weights (name or directory)")
    sub.add_argument("--method", choices=("rle", "deeppose"), default="rle", help="loss, with --backbone")
    sub.add_argument("--input-size", type=size, default=(256, 192), help="HEIGHTxWIDTH, with --backbone")
    sub.add_argument("--epochs", type=positive, default=210, help="passes over the training people")
    sub.add_argument("--batch-size", type=positive, default=64, help="people per step, over all devices")
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
    sub.add_argument("--validate-every", type=positive, default=10, help="epochs between validations")
    sub.add_argument("--cache-gb", type=float, default=1.0, help="memory for decoded photographs")
    sub.add_argument("--output", required=True, help="folder for best/, last.keras and history.csv")


def run(options):
    import keras

    from keras_regpose.data.augment import Augmentation
    from keras_regpose.hub.loader import from_preset
    from keras_regpose.models.regressor import PoseRegressor
    from keras_regpose.training import device_scope, train

    samples, validation = open_samples(options, "train"), open_samples(options, "val")
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
