"""The `keras-regpose` command: results go to standard output, messages and progress bars to standard error."""

import argparse
import contextlib
import importlib.metadata
import io
import logging
import re
import sys

from keras_regpose.commands import convert, demo, evaluate, export, inspect, predict, publish, suggest, train
from keras_regpose.commands import list as list_command
from keras_regpose.commands.shared import import_keras_silently
from keras_regpose.progress import clear_bars, progress_shown, set_progress

COMMANDS = (demo, list_command, predict, train, evaluate, inspect, suggest, convert, export, publish)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns its exit status (2 for bad input, with one sentence on standard error)."""
    # argparse takes -5,10,90,200 for an option, unless it is joined to its own.
    given = "\0".join(sys.argv[1:] if arguments is None else arguments)
    given = re.sub(r"(?<![^\0])--box\0(?=-[\d.])", "--box=", given)
    options = _parser().parse_args(given.split("\0") if given else [], argparse.Namespace(debug=False, quiet=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal has σ and ×
    with _messages(options.quiet):
        try:
            if options.needs_keras and not options.debug:
                import_keras_silently()
            return options.run(options) or 0
        except Exception as error:
            # Libraries have errors of their own where memory runs out.
            low = isinstance(error, MemoryError) or re.search("bad_alloc|Insufficient memory|OOM when", str(error))
            if options.debug or not (low or isinstance(error, (ValueError, OSError, ImportError))):
                raise
            said = "there is not enough memory for that" if low else " ".join(str(error).split())
            print(f"keras-regpose {options.command}: {said}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("Interrupted", file=sys.stderr)
            return 130


def _parser():
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    common.add_argument("--quiet", action="store_true", help="show no progress bars, and of messages warnings only")
    what = "Top-down regression-based pose estimation in plain Keras."
    parser = argparse.ArgumentParser(prog="keras-regpose", description=what, parents=[common])
    parser.add_argument("--version", action="version", version=importlib.metadata.version("keras-regpose"))
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        sub = subparsers.add_parser(
            module.__name__.rpartition(".")[2],
            help=module.__doc__,
            description=module.__doc__,
            epilog=f"example: {module.EXAMPLE}",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            parents=[common],
        )
        sub.set_defaults(run=module.run, needs_keras=module not in (inspect, list_command, predict, publish))
        module.add_options(sub)
    return parser


@contextlib.contextmanager
def _messages(quiet):
    """Shows what the package logs; with `quiet` only warnings, and no progress bars."""
    logger, handler = logging.getLogger("keras_regpose"), _AboveBars()
    before = logger.level, progress_shown()
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    set_progress(not quiet)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        set_progress(before[1])


class _AboveBars(logging.Handler):
    """Writes messages to standard error, each on a line of its own above the progress bars."""

    def emit(self, record):
        clear_bars()
        print(self.format(record), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
