"""Counts the lines of code of the package and of the zoo's scripts, without docstrings, comments and blank lines.

python benchmarks/count_lines.py                 # per folder and in all
python benchmarks/count_lines.py --limit 8000    # ends with 1 if there are more
"""

import argparse
import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(text: str) -> int:
    """Returns the number of lines of a Python source that hold code.

    Example:

    >>> code_lines('"What it is."' + chr(10) * 2 + "x = 1  # a number")
    1
    """
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in WITHOUT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def count(root: Path = ROOT, folders=("keras_regpose", "zoo")) -> Counter:
    """Returns the lines of code of each folder that holds Python files, by its path below the root."""
    lines = Counter()
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            lines[path.parent.relative_to(root).as_posix()] += code_lines(path.read_text(encoding="utf-8"))
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="the number of lines above which this ends with 1")
    limit = parser.parse_args().limit
    lines = count()
    for folder, number in sorted(lines.items()):
        print(f"{number:6,} {folder}")
    print(f"{lines.total():6,} in all")
    if limit is not None and lines.total() > limit:
        raise SystemExit(f"{lines.total():,} lines of code, {lines.total() - limit:,} above the limit of {limit:,}")


if __name__ == "__main__":
    main()
