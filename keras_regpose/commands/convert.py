"""Convert an official MMPose checkpoint (.pth) to a preset; PyTorch is not needed."""

EXAMPLE = "keras-regpose convert mmpose checkpoint.pth --preset resnet50_rle_coco --out resnet50_rle_coco"


def add_options(sub):
    sub.add_argument("source", choices=("mmpose",))
    sub.add_argument("checkpoint", help=".pth file")
    sub.add_argument("--preset", required=True, help="name of the published row")
    sub.add_argument("--out", required=True, help="preset directory to write")


def run(options):
    from keras_regpose.convert import from_mmpose
    from keras_regpose.files import sha256
    from keras_regpose.hub.preset_files import save_preset, spare_folder
    from keras_regpose.zoo import preset_info

    spare_folder(options.out)
    model = from_mmpose(options.checkpoint, options.preset)
    info, facts = preset_info(options.preset), {}
    # Only the official file makes the published row, with its card; any other has its architecture alone.
    if info["checkpoint"] and sha256(options.checkpoint).startswith(info["checkpoint"]["sha256_prefix"]):
        facts = {"preset": options.preset, "license": info["license"], "origin": info["checkpoint"]}
    save_preset(model, options.out, **facts)
    print(f"{options.preset} is in {options.out}")
