"""Files and folders that are written whole or not at all, and those that are not ours to replace."""

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from keras_regpose import __version__

MADE_BY = f"keras_regpose {__version__}"  # JSON says so as "made_by"
MARK = f"made by {MADE_BY}".encode()  # in pictures, videos and SLEAP's files
# Some files have no place for a mark, and are known by how they begin: our tables, COCO results and descriptions of
# exports. Nothing is lost with an empty file.
_OURS = re.compile(
    rb"made.by\W+keras_regpose|\A\Z|\A\[\]\n\Z|"
    rb"\A(?:(?:frame,)?(?:time,)?(?:id,)?person,keypoint,x,y,score|picture,annotation_id,|picture,x1,y1,x2,y2,expected_)|"
    rb'\A\[\n\{"image_id": [^\n]{1,999}?, "category_id": \d+, "keypoints": \[|\A\{\n "version": \d+,\n "format": "'
)


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
            raise disk_full(path, advice) from error
        raise


def write_whole(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file, complete or not at all; text is written as UTF-8. See `draft`.

    Bytes of a path that are no UTF-8 become escapes, such as \\udce9, which JSON reads as what they were.

    Example:

    >>> write_whole("greeting.txt", "hello")
    >>> Path("greeting.txt").read_text()
    'hello'
    """
    with draft(path) as file:
        file.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)


def spare(*paths: str | os.PathLike, overwrite: bool = False) -> None:
    """Refuses to replace what this package did not write.

    Args:
        *paths: str or path. Files to be written.
        overwrite: bool. Whether they may all be replaced.

    Raises:
        FileExistsError: If something is at one of them that is not ours.

    Example:

    >>> write_whole("mine.json", "[1]")
    >>> spare("mine.json", overwrite=True)
    >>> spare("mine.json")
    Traceback (most recent call last):
    FileExistsError: mine.json is there, and keras_regpose did not write it. Choose another place, or overwrite it
    (--overwrite, overwrite=True)
    """
    for path in () if overwrite else paths:
        if os.path.lexists(path) and not is_ours(path):
            advice = "Choose another place, or overwrite it (--overwrite, overwrite=True)"
            raise FileExistsError(f"{path} is there, and keras_regpose did not write it. {advice}")


def is_ours(path: str | os.PathLike) -> bool:
    """Returns whether this package wrote a file, or it is empty; only its beginning and its end are read."""
    if os.path.isfile(path):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            start = file.read(4096)
            file.seek(max(len(start), os.path.getsize(path) - 1024))
            return bool(_OURS.search(start + file.read(1024)))
    return False


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


def disk_full(path: Path, advice: str) -> OSError:
    """Returns the error to raise when the disk of a file or a folder is full."""
    error = OSError(f"The disk of {path} is full. Free some space, or {advice}")
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
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON, perhaps because its download was cut off: {error}") from None


def require_file(path: str | os.PathLike) -> None:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file {path}: check the path")
