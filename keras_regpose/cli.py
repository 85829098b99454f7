"""The `keras-regpose` command."""

import argparse
import functools
import logging
import os
import sys

from keras_regpose.commands import convert, demo, evaluate, export, predict, publish, train
from keras_regpose.commands import list as list_command
from keras_regpose.commands.shared import add_command

COMMANDS = (demo, list_command, predict, train, evaluate, convert, export, publish)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns its exit status (2 for bad input, with one sentence on standard error)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        return options.run(options) or 0
    except (ValueError, OSError, ImportError) as error:
        if options.debug:
            raise
        print(f"keras-regpose {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-regpose", description="Top-down regression-based pose estimation in plain Keras."
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    for module in COMMANDS:
        module.add(functools.partial(add_command, subparsers))
    return parser


if __name__ == "__main__":
    sys.exit(main())
