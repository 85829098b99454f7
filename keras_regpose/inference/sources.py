"""Where pictures come from: paths, URLs, bytes, arrays, PIL images, folders, globs, videos and cameras.

A source of one picture is read at once. All others yield their pictures in order, one at a time; what cannot be read
is yielded as the `ImageError` that says why, so that the rest still comes.
"""

import collections
import concurrent.futures
import glob
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from keras_regpose.images import ImageError, decode_image, read_image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".pgm")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp")
_STREAMS = ("rtsp:", "rtmp:", "udp:")
_MAX_DOWNLOAD = 1 << 28  # bytes
_TIMEOUT = 20  # seconds
_MAX_BROKEN = 50  # frames in a row, after which a video is taken to be over


@dataclass(eq=False)
class Frame:
    """One picture.

    Args:
        image: (H, W, 3) uint8 array, RGB.
        source: str or None. The path or URL that it comes from, or such as "camera 0".
        frame: int or None. Its number in a video or of a camera, from 0.
        frame_rate: float or None. The video's frames per second, where they are known.
        time: float or None. When a video's frame is shown, in seconds from the beginning.
    """

    image: Any
    source: str | None = None
    frame: int | None = None
    frame_rate: float | None = None
    time: float | None = None


class Files:
    """Image files, read one at a time when they are asked for.

    Args:
        paths: list of str. Paths or URLs.
    """

    live = False

    def __init__(self, paths: list[str]):
        self.paths = paths
        self.total = len(paths)

    def __iter__(self) -> Iterator[Frame | ImageError]:
        for path in self.paths:
            try:
                yield read_picture(path)
            except ImageError as error:
                yield error


class Video:
    """The frames of a video file or of a camera, decoded by OpenCV.

    Args:
        source: str or int. Path or URL of a video, or a camera's number.

    Attributes:
        total: int or None. Number of frames that the file's header tells.
        rate: float or None. Frames per second.
        live: bool. Whether frames are lost unless they are taken in time.

    Raises:
        ImageError: If there is no such video or camera, or it has no picture.
    """

    def __init__(self, source: str | int):
        self.source = source
        camera = isinstance(source, int)
        self.name = f"camera {source}" if camera else source
        self.live = camera or source.lower().startswith(_STREAMS)
        if not camera and not _is_url(source):
            if not os.path.isfile(source):
                raise ImageError(f"There is no video file at {source}")
            if os.path.getsize(source) == 0:
                raise ImageError(f"The video file {source} is empty")
        self._capture = cv2.VideoCapture(source)
        opened, self._first = self._capture.read()
        if not opened:
            if camera:
                raise ImageError(f"There is no camera {source}, or another program uses it")
            raise ImageError(f"The video {source} is damaged or is not a video in a format that OpenCV reads")
        count, rate = self._capture.get(cv2.CAP_PROP_FRAME_COUNT), self._capture.get(cv2.CAP_PROP_FPS)
        self.total = int(count) if not self.live and 0 < count < 1e9 else None
        self.rate = float(rate) if np.isfinite(rate) and 0 < rate < 1000 else None

    def __iter__(self) -> Iterator[Frame | ImageError]:
        picture, number, broken, in_a_row = self._first, 0, 0, 0
        self._first = None
        try:
            while picture is not None or (number < (self.total or 0) and in_a_row < _MAX_BROKEN):
                if picture is None:
                    broken, in_a_row = broken + 1, in_a_row + 1
                else:
                    in_a_row = 0
                    yield Frame(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), self.name, number, self.rate)
                number += 1
                picture = self._capture.read()[1]
            missing = broken + max(0, (self.total or 0) - number)
            if missing:
                yield ImageError(f"{missing} of the {self.total} frames of {self.name} cannot be read")
        finally:
            self._capture.release()


def open_source(source: Any) -> "Frame | Files | Video | list":
    """Finds out what a source is, and opens it.

    Args:
        source: See `PoseRegressor.estimate`.

    Returns:
        `Frame` for a source of one picture, a list of sources of one picture for a list, otherwise `Files` or `Video`.

    Raises:
        ImageError: If there is no such thing, or it cannot be read.
        ValueError: If a folder or a pattern has no image.
    """
    if isinstance(source, (list, tuple)):
        return list(source)
    opened = open_pictures(source)
    return read_picture(source) if opened is None else opened


def open_pictures(source: Any) -> "Files | Video | None":
    """Opens a folder, a pattern, a video or a camera; returns None for anything else, which should be one picture.

    Raises:
        ImageError: If the video or the camera cannot be read.
        ValueError: If the folder or the pattern has no image.
    """
    if isinstance(source, (int, np.integer)) and not isinstance(source, bool):
        return Video(int(source))
    if not isinstance(source, (str, os.PathLike)):
        return None
    path = os.fspath(source)
    if _is_url(path):
        is_stream = path.lower().startswith(_STREAMS)
        return Video(path) if is_stream or _is_video(urllib.parse.urlsplit(path).path) else None
    if os.path.isdir(path):
        files = (file for file in Path(path).rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
        # Hidden are thumbnails, and what macOS keeps beside pictures (._photo.jpg).
        files = [str(file) for file in files if not any(part[0] == "." for part in file.relative_to(path).parts)]
        none = f"The folder {path} has no images ({', '.join(IMAGE_SUFFIXES)})"
    elif any(sign in path for sign in "*?[") and not os.path.exists(path):
        files = filter(os.path.isfile, glob.iglob(path, recursive=True))
        none = f"No file fits the pattern {path}"
    else:
        return Video(path) if _is_video(path) else None
    if not (files := sorted(files)):
        raise ValueError(none)
    return Files(files)


def read_picture(source: Any) -> Frame:
    """Reads a source of one picture: a URL, or anything that `read_image` reads.

    Raises:
        ImageError: If it cannot be read.
    """
    if not isinstance(source, (str, os.PathLike)):
        return Frame(read_image(source))
    path = os.fspath(source)
    return Frame(_download(path) if _is_url(path) else read_image(path), path)


def read_ahead(items: Iterable, count: int = 4) -> Iterator:
    """Yields the items of an iterable that runs in a thread of its own, at most `count` items ahead."""
    iterator, end = iter(items), object()
    with concurrent.futures.ThreadPoolExecutor(1, "read_ahead") as thread:
        ready = collections.deque(thread.submit(next, iterator, end) for _ in range(count))
        try:
            while (item := ready.popleft().result()) is not end:
                ready.append(thread.submit(next, iterator, end))
                yield item
        finally:
            thread.shutdown(cancel_futures=True)
            if close := getattr(iterator, "close", None):
                close()


def _is_url(text):
    return text.lower().startswith(("http://", "https://", *_STREAMS))


def _is_video(path):
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


def _download(url):
    request = urllib.request.Request(url, headers={"User-Agent": "keras_regpose"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            data = response.read(_MAX_DOWNLOAD + 1)
    except urllib.error.HTTPError as error:
        raise ImageError(f"The server answers {error.code} ({error.reason}) to {url}") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"{url} cannot be reached: {getattr(error, 'reason', error)}") from error
    if len(data) > _MAX_DOWNLOAD:
        raise ImageError(f"{url} has more than the {_MAX_DOWNLOAD >> 20} megabytes that are downloaded")
    return decode_image(data, f"The download from {url}")
