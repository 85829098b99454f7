"""Decoded photographs, kept in memory and, if wanted, in a folder, so that few are decoded twice.

Whole photographs are kept, as they were decoded: cutting a crop gives the same pixels whether its photograph was kept
or not, so no cache can change a run. (The regions that augmentation can reach would not be smaller: rotation and zoom
reach out so far that the people of a COCO photograph need 1.3 times its pixels.)
"""

import contextlib
import hashlib
import logging
import os
import shutil
import threading
import time
from collections import OrderedDict

import numpy as np

from keras_regpose.files import draft
from keras_regpose.images import read_image

_log = logging.getLogger(__name__)

_ABANDONED_AFTER = 3600  # seconds; a photograph is written in milliseconds


class PhotographCache:
    """Reads photographs, keeping what was decoded up to a number of bytes in memory and in a folder.

    A file that was replaced (other size or time of change) is read anew.
    Half of the memory holds the first photographs read for good, so that every epoch finds them again; the other half
    holds those read last, for the other people in them. All methods may be called by several threads.

    Args:
        memory_bytes: int. Decoded photographs are kept in memory up to this size.
        folder: str, path or None. Folder in which decoded photographs are kept as well, beyond the end of the process.
            Runs may share it, also at the same time. It may be deleted at any time.
        folder_bytes: int. Photographs are kept in the folder up to this size.

    Raises:
        OSError: If the folder cannot be made.

    Example:

    >>> import cv2, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> _ = cv2.imwrite(f"{folder}/a.png", np.zeros((20, 30, 3), np.uint8))
    >>> cache = PhotographCache(memory_bytes=1 << 20)
    >>> cache.read(f"{folder}/a.png").shape, cache.read(f"{folder}/a.png") is cache.read(f"{folder}/a.png")
    ((20, 30, 3), True)
    """

    def __init__(self, memory_bytes: int, folder: str | os.PathLike | None = None, folder_bytes: int = 64 << 30):
        self._first = _Memory(memory_bytes // 2)
        self._latest = _Memory(memory_bytes - memory_bytes // 2)
        self._lock = threading.Lock()
        self._folder = None if folder is None else _Folder(folder, folder_bytes)

    def read(self, path: str) -> np.ndarray:
        """Returns the (H, W, 3) uint8 RGB photograph. It is shared: do not change it.

        Raises:
            ImageError: If it cannot be read.
        """
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return read_image(path)  # which says what is wrong
        version = (path, status.st_size, status.st_mtime_ns)
        with self._lock:
            for memory in (self._first, self._latest):
                if version in memory.entries:
                    memory.entries.move_to_end(version)
                    return memory.entries[version]
        image = read_image(path) if self._folder is None else self._folder.read(version)
        with self._lock:
            if not self._first.put(version, image):
                self._latest.put(version, image, make_room=True)
        return image


class _Memory:
    """Photographs by their version, those used last at the end."""

    def __init__(self, limit):
        self.bytes_left = limit
        self.entries = OrderedDict()

    def put(self, version, image, make_room=False):
        if version in self.entries:  # another thread was faster
            return True
        while make_room and self.entries and image.nbytes > self.bytes_left:
            self.bytes_left += self.entries.popitem(last=False)[1].nbytes
        if image.nbytes > self.bytes_left:
            return False
        self.entries[version] = image
        self.bytes_left -= image.nbytes
        return True


class _Folder:
    """Photographs in NumPy files. No reader sees half of one."""

    def __init__(self, folder, limit):
        self.folder = os.path.abspath(folder)
        self.limit = limit
        os.makedirs(self.folder, exist_ok=True)
        self.lock = threading.Lock()
        self.measure()

    def measure(self):
        """Adds up what lies in the folder, and clears away what a killed run left half written."""
        total = 0
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):  # another run clears away as well
                status = entry.stat()
                if entry.name[0] == "." and ".npy-" in entry.name and time.time() - status.st_mtime > _ABANDONED_AFTER:
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    total += status.st_size
        self.bytes_left = self.limit - total
        self.written = 0

    def read(self, version):
        """Returns a photograph from its place in the folder, or else decodes it and writes it there."""
        path, *change = version
        name = hashlib.sha256(f"{os.path.abspath(path)}\0{tuple(change)}".encode(errors="surrogateescape")).hexdigest()
        place = os.path.join(self.folder, name[:40] + ".npy")
        # A file that is not there, or is damaged, will be written anew.
        with contextlib.suppress(OSError, ValueError, EOFError):
            image = np.load(place, allow_pickle=False)
            if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
                return image
        image = read_image(path)
        try:
            if self._reserve(image.nbytes):
                with draft(place) as file:
                    np.save(file, image)
        except OSError as error:
            with self.lock:
                if self.limit:
                    _log.warning("No more photographs are kept in %s: %s", self.folder, error)
                self.limit = self.bytes_left = self.written = 0
        return image

    def _reserve(self, count):
        with self.lock:
            if self.written > self.limit // 100:
                self.measure()  # other runs may be writing too
            if count > self.bytes_left:
                return False
            self.bytes_left -= count
            self.written += count
            return True
