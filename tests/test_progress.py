"""Progress bars: shown or silenced, in Python and from the shell, and cleared for messages."""

import ast
import io
import logging
from pathlib import Path

import pytest

import keras_regpose as rp
from keras_regpose import cli
from keras_regpose.progress import clear_bars, progress_bar, progress_shown

PACKAGE = Path(rp.__file__).parent
MODULES = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]


@pytest.fixture(autouse=True)
def as_before():
    yield
    rp.set_progress(True)


def test_one_switch_silences_all_bars():
    file = io.StringIO()
    with progress_bar(total=3, file=file, disable=False) as bar:
        bar.update(3)
    assert "3/3" in file.getvalue()
    rp.set_progress(False)
    silent = io.StringIO()
    with progress_bar(total=3, file=silent, disable=False) as bar:
        bar.update(3)
    assert silent.getvalue() == "" and not progress_shown()


def test_bars_are_cleared_for_a_line():
    file = io.StringIO()
    with progress_bar(total=3, file=file):
        before = len(file.getvalue())
        clear_bars()
        assert file.getvalue()[before:].strip() == "" and len(file.getvalue()) > before


@pytest.mark.parametrize(
    ("arguments", "quiet"),
    [(["list"], False), (["--quiet", "list"], True), (["list", "--quiet"], True), (["--debug", "list"], False)],
)
def test_quiet_stands_before_or_behind_the_command(arguments, quiet, monkeypatch, capsys):
    seen = []

    def run(options):
        log = logging.getLogger("keras_regpose.inference.sources")
        log.info("told")
        log.warning("warned")
        seen.append((progress_shown(), options.quiet, options.debug))

    monkeypatch.setattr(cli.list_command, "run", run)
    assert cli.main(arguments) == 0
    assert seen == [(not quiet, quiet, "--debug" in arguments)]
    assert capsys.readouterr().err.splitlines() == (["warned"] if quiet else ["told", "warned"])
    logger = logging.getLogger("keras_regpose")
    assert progress_shown() and logger.level == logging.NOTSET and logger.handlers == []


def test_the_library_logs_nothing_to_the_terminal_unless_it_is_asked_to(capsys):
    logging.getLogger("keras_regpose.inference.sources").info("told")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("module", MODULES)
def test_only_the_command_line_prints_and_bars_come_from_one_place(module):
    text = (PACKAGE / module).read_text(encoding="utf-8")
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)}
    assert module == "cli.py" or module.startswith("commands/") or not calls & {"print", "warnings.warn"}
    assert module == "progress.py" or "import tqdm" not in text
