"""`keras-regpose convert`."""


def add(command):
    """Adds the command to the parser."""
    sub = command(
        "convert",
        run,
        "Convert an official MMPose checkpoint (.pth) to a preset; PyTorch is not needed.",
        "keras-regpose convert mmpose checkpoint.pth --preset resnet50_rle_coco --out resnet50_rle_coco",
    )
    sub.add_argument("source", choices=("mmpose",))
    sub.add_argument("checkpoint", help=".pth file")
    sub.add_argument("--preset", required=True, help="name of the published row")
    sub.add_argument("--out", required=True, help="preset directory to write")


def run(options):
    from keras_regpose.convert import from_mmpose

    from_mmpose(options.checkpoint, options.preset).save_to_preset(options.out)
    print(f"{options.preset} is in {options.out}")
