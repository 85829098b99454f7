"""`keras-regpose demo`."""

from pathlib import Path

from keras_regpose.commands.shared import positive


def add(command):
    """Adds the command to the parser."""
    sub = command("demo", run, "Fine-tune a small model on drawn people, offline.", "keras-regpose demo")
    sub.add_argument("--output", default="demo_output", help="folder for the pictures and the model")
    sub.add_argument("--people", type=positive, default=1600, help="drawn people to learn from")
    sub.add_argument("--epochs", type=positive, default=12, help="passes over them")


def run(options):
    from keras_regpose.demo import run_demo

    run_demo(Path(options.output), people=options.people, epochs=options.epochs)
