"""`keras-regpose demo`."""

from pathlib import Path

from keras_regpose.commands.shared import box, positive


def add(command):
    """Adds the command to the parser."""
    sub = command(
        "demo",
        run,
        "Fine-tune the bundled preset on drawn people, or show it on your photograph; offline.",
        "keras-regpose demo --image photo.jpg",
    )
    sub.add_argument("--image", help="a photograph to estimate instead; without --box it is taken as one person")
    sub.add_argument("--box", type=box, action="append", help="x1,y1,x2,y2 of a person in the photograph; repeatable")
    sub.add_argument("--output", default="demo_output", help="folder for the pictures and the model")
    sub.add_argument("--people", type=positive, default=1600, help="drawn people to learn from")
    sub.add_argument("--epochs", type=positive, default=9, help="passes over them")


def run(options):
    from keras_regpose.demo import run_demo, show_photograph

    if options.box and not options.image:
        raise ValueError("--box says where a person is in a photograph: pass it with --image")
    if options.image:
        show_photograph(options.image, Path(options.output), options.box)
        return
    run_demo(Path(options.output), people=options.people, epochs=options.epochs)
