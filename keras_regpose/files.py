"""Files that are written whole or not at all, their SHA-256, and a full disk in one sentence."""

import errno
import hashlib
import os
from pathlib import Path


def write_whole(path: str | os.PathLike, text: str) -> None:
    """Writes a text file, complete or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error is that of a full disk. HDF5 hides it in others, which may have no `errno`."""
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
