"""Files and folders that are written whole or not at all, their SHA-256, and a full disk in one sentence."""

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def draft(path: str | os.PathLike, advice: str = "choose a folder of another disk") -> Iterator[Path]:
    """Context in which a file or a folder is written beside its place; it takes its name when the block ends well.

    The draft lies in a hidden folder of its own, so that several processes never write to the same one. If the block
    raises, the draft is removed, and what had the name before is still there. A folder that has the name is replaced.

    Args:
        path: str or path. The name that it will have. Missing folders above it are made.
        advice: str. What a person can do besides freeing space when the disk is full.

    Yields:
        Path to write to. It has the same name as `path`, and is not there yet.

    Raises:
        OSError: If it cannot be written; `errno` is ENOSPC if the disk is full, and the message is one sentence then.

    Example:

    >>> with draft("notes/today.txt") as file:
    ...     _ = file.write_text("all of it")
    >>> Path("notes/today.txt").read_text(), os.listdir("notes")
    ('all of it', ['today.txt'])
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = {"prefix": f".{path.name[:60]}-", "dir": path.parent, "ignore_cleanup_errors": True}
        with tempfile.TemporaryDirectory(**beside) as folder:
            written = Path(folder) / path.name
            yield written
            if written.is_dir() and path.is_dir():
                os.replace(path, Path(folder) / "replaced")
            os.replace(written, path)
    except (OSError, RuntimeError) as error:  # HDF5 raises RuntimeErrors
        if is_disk_full(error):
            raise disk_full(path.parent, advice) from error
        raise


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file, complete or not at all; text is written as UTF-8. See `draft`.

    Example:

    >>> write_whole("greeting.txt", "hello")
    >>> Path("greeting.txt").read_text()
    'hello'
    """
    with draft(path) as file:
        file.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def csv_text(rows: Iterable[Iterable]) -> str:
    """Returns rows as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def is_disk_full(error: BaseException | None) -> bool:
    """Returns whether an error is that of a full disk. HDF5 hides it in others, which may have no `errno`."""
    while error is not None:
        if getattr(error, "errno", None) == errno.ENOSPC or f"errno = {errno.ENOSPC}," in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def disk_full(folder: Path, advice: str) -> OSError:
    """Returns the error to raise when a disk is full."""
    error = OSError(f"The disk of {folder} is full. Free some space, or {advice}")
    error.errno = errno.ENOSPC
    return error


def sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: str | os.PathLike):
    """Returns the contents of a JSON file in UTF-8, UTF-16 or UTF-32, also with a mark at its beginning.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON.
    """
    require_file(path)
    try:
        return json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON, perhaps because its download was cut off: {error}") from None


@contextlib.contextmanager
def damage_explained(path: str | os.PathLike, advice: str, kind: type[ValueError] = ValueError) -> Iterator[None]:
    """Context in which a file of a stranger is read: whatever is raised becomes one sentence that names the file.

    Args:
        path: str or path. What is read.
        advice: str. What a person can do.
        kind: type of the error that is raised. Errors of this kind, if it is not ValueError, pass as they are, as do
            those of files that may not be read, of packages that are missing, and of full disks.
    """
    try:
        yield
    except Exception as error:  # libraries raise whatever the broken bytes lead to
        passing = (PermissionError, ImportError) if kind is ValueError else (PermissionError, ImportError, kind)
        if isinstance(error, passing) or is_disk_full(error):
            raise
        reason = next(filter(None, str(error).splitlines()), type(error).__name__)
        raise kind(f"{path} is damaged ({reason:.200}). {advice}") from error


def require_file(path: str | os.PathLike) -> None:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file {path}: check the path")
