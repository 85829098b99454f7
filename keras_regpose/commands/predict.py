"""`keras-regpose predict`."""

import sys
from pathlib import Path

from keras_regpose.commands.shared import box, progress_bar


def add(command):
    """Adds the command to the parser."""
    sub = command(
        "predict",
        run,
        "Estimate poses in images; write pictures and JSON.",
        "keras-regpose predict my_preset photo.jpg --box 40,30,210,480 --output poses",
    )
    sub.add_argument("preset", help="name or directory of a preset")
    sub.add_argument("images", nargs="+", help="image files")
    sub.add_argument(
        "--box", action="append", type=box, help="x1,y1,x2,y2 of a person in pixels; repeatable; default: whole image"
    )
    sub.add_argument("--flip-test", action="store_true", help="average with the mirrored image")
    sub.add_argument("--output", default="poses", help="folder for NAME.png and NAME.json")


def run(options):
    from keras_regpose.data.images import ImageError
    from keras_regpose.hub.loader import from_preset

    model = from_preset(options.preset)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    failed = 0
    with progress_bar(len(options.images), "images") as bar:
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
