"""Decoded photographs, kept in memory, so that few are decoded twice.

Whole photographs are kept, as they were decoded: cutting a crop gives the same pixels whether its photograph was kept
or not, so no cache can change a run. (The regions that augmentation can reach would not be smaller: rotation and zoom
reach out so far that the people of a COCO photograph need 1.3 times its pixels.)
"""

import os
import threading
from collections import OrderedDict

import numpy as np

from keras_regpose.images import read_image


class PhotographCache:
    """Reads photographs, keeping what was decoded up to a number of bytes.

    A file that was replaced (other size or time of change) is read anew.
    Half of the memory holds the first photographs read for good, so that every epoch finds them again; the other half
    holds those read last, for the other people in them. All methods may be called by several threads.

    Args:
        memory_bytes: int. Decoded photographs are kept in memory up to this size.

    Example:

    >>> import cv2, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> _ = cv2.imwrite(f"{folder}/a.png", np.zeros((20, 30, 3), np.uint8))
    >>> cache = PhotographCache(memory_bytes=1 << 20)
    >>> cache.read(f"{folder}/a.png").shape, cache.read(f"{folder}/a.png") is cache.read(f"{folder}/a.png")
    ((20, 30, 3), True)
    """

    def __init__(self, memory_bytes: int):
        self._first = _Memory(memory_bytes // 2)
        self._latest = _Memory(memory_bytes - memory_bytes // 2)
        self._lock = threading.Lock()

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
        image = read_image(path)
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
