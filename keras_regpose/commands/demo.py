"""Find and draw the people of a photograph, then fine-tune the bundled preset on drawn people; offline."""

import time
from pathlib import Path

from keras_regpose.commands.shared import box
from keras_regpose.files import spare

EXAMPLE = "keras-regpose demo --image photo.jpg"


def add_options(sub):
    sub.add_argument("--image", help="a photograph of yours instead of ours; nothing is trained then")
    sub.add_argument("--box", type=box, action="append", help="x1,y1,x2,y2 of a person in the photograph; repeatable")
    sub.add_argument("--output", default="demo_output", help="folder for the pictures and the model")
    sub.add_argument("--long", action="store_true", help="learn for minutes: from 1,000 drawn people, six times each")


def run(options):
    from keras_regpose.presets import BUNDLED_PRESET, from_preset

    if options.box and not options.image:
        raise ValueError("--box says where a person is in a photograph: pass it with --image")
    start, output = time.monotonic(), Path(options.output)
    names = ("photograph.png", "photograph.json", "predictions.png")
    spare(*(output / name for name in names), overwrite=options.overwrite)
    image = options.image or Path(__file__).parents[1] / "bundled_photograph" / "table.jpg"
    people = from_preset(BUNDLED_PRESET, runtime="onnx").estimate(image, boxes=options.box)
    people.save(output / "photograph.png")
    people.save(output / "photograph.json")
    seconds = time.monotonic() - start
    print(f"{len(people)} people found: {output / 'photograph.png'} and photograph.json ({seconds:.1f} s)", flush=True)
    if options.image:
        return
    from keras_regpose.demo import run_demo

    count, epochs = (1000, 6) if options.long else (128, 4)
    figures = run_demo(output, count, epochs)
    print(f"Learned from {count} drawn people, {epochs} times each:")
    print(f"{'':24}{'before':>10}{'after':>10}")
    for name, before in figures["before"].items():
        print(f"{name:24}{before:10.3f}{figures['after'][name]:10.3f}")
    seconds = time.monotonic() - start
    print(f"Pictures: {output / 'predictions.png'}; the model: {output / 'preset'} ({seconds:.0f} s in all)")
