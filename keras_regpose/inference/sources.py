"""Where pictures come from: paths, URLs, bytes, arrays, PIL images, folders, globs, videos and cameras.

A source of one picture is read at once. All others yield their pictures in order, one at a time; what cannot be read
is yielded as the `ImageError` that says why, so that the rest still comes.
"""

import collections
import concurrent.futures
import contextlib
import errno
import glob
import http.client
import os
import queue
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from keras_regpose.images import ImageError, decode_image, read_image
from keras_regpose.optional import import_optional

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".pgm")
VIDEO_SUFFIXES = tuple(".mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .wmv .flv .ts .3gp .gif".split())
_STREAMS = ("rtsp:", "rtsps:", "rtmp:", "udp:", "tcp:", "srt:")
_MAX_DOWNLOAD = 1 << 28  # bytes
_TIMEOUT, _LONGEST = 20, 120  # seconds without a byte, and of a whole download
_SETTLE = 0.3  # seconds in which a live source reads what came while it was opened


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
    """The frames of a video, of a stream or of a camera, decoded by PyAV, upright and with the time of each.

    Args:
        source: str or int. Path or URL of a video, or a camera's number.

    Attributes:
        total: int or None. Number of frames that the file's header tells.
        rate: float or None. Frames per second, on average.
        live: bool. Whether it is a camera or a stream: frames that are not taken in time are dropped, so that the
            next one is always the newest.

    Raises:
        ImageError: If there is no such video or camera, or it has no picture.
        ImportError: If PyAV is not installed.
    """

    def __init__(self, source: str | int):
        self._av = av = import_optional("av", "Reading videos and cameras", "keras-regpose[video]")
        camera = isinstance(source, int)
        self.name = f"camera {source}" if camera else source
        if not camera and not _is_url(source):
            if not os.path.isfile(source):
                raise ImageError(f"There is no video file at {source}")
            if os.path.getsize(source) == 0:
                raise ImageError(f"The video file {source} is empty")
        try:
            self._container = _open_camera(av, source) if camera else _open_video(av, source)
            self._stream = self._container.streams.best("video")
            why = "" if self._stream and self._stream.codec_context else ": it holds none"
        except (av.error.FFmpegError, IndexError) as error:
            if camera:
                raise ImageError(f"There is no camera {source}, or another program uses it") from error
            why = f": {getattr(error, 'strerror', error)}"
        if why:
            raise ImageError(f"The video {source} is damaged or is not a video in a format that PyAV reads{why}")
        # What has no length is not a file. Threads that decode a frame each would hold frames back.
        self.live = camera or (_is_url(source) and (source.lower().startswith(_STREAMS) or self._container.size <= 0))
        self._stream.thread_type = "SLICE" if self.live else "AUTO"
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        self.rate = rate if 0 < rate < 1000 else None
        self.total = self._stream.frames or None if self.rate and not self.live else None

    def __iter__(self) -> Iterator[Frame | ImageError]:
        frames = newest(self._frames()) if self.live else self._frames()
        with contextlib.closing(frames):
            for item in frames:
                if not isinstance(item, ImageError):
                    frame, number, moment = item
                    item = Frame(_upright(frame), self.name, number, self.rate, moment)
                yield item

    def _frames(self):
        """Yields each frame of PyAV with its number and time, and, at the end, the error that says what is missing."""
        start, spare = self._container.start_time, 0.75 / (self.rate or 10)
        beginning = None if self.live or start is None else start / 1e6
        self._packets, self._end, self._reason, number, broken = 0, 0.0, "", 0, 0
        # AVI files do not tell when a frame is shown, only when it is decoded, which may be in another order.
        counted = self._container.format.name == "avi" and self._stream.codec_context.has_b_frames
        if self._stream.duration is not None:
            duration = float(((self._stream.start_time or 0) + self._stream.duration) * self._stream.time_base)
        else:  # as long as the longest of all streams, of which the last packet may not say how long it is
            duration, spare = (self._container.duration or 0) / 1e6, 0.1 + 2 / (self.rate or 10)
        with self._container:
            for frame in self._decoded():
                if frame is None or frame.is_corrupt:
                    broken += 1
                else:
                    beginning = (frame.time or 0.0) if beginning is None else beginning
                    moment = number / (self.rate or 25) if frame.time is None or counted else frame.time - beginning
                    yield frame, number, moment
                number += 1
            # The index of an MP4 file has all frames but those that its edit list leaves out.
            indexed = len(self._stream.index_entries) if "mp4" in self._container.format.name else 0
        missing = f"{broken} frames" if broken else ""
        if not self.live and (self._end < duration - spare or self._packets < indexed or _ends_early(self.name)):
            missing = f"What comes after {self._end:.2f} seconds"
        if missing and (left := (self.total or 0) - number + broken) > 0:
            missing = f"{left} of the {self.total} frames"
        if self.live and self._reason:
            yield ImageError(f"{self.name} broke off after {number} frames: {self._reason}")
        elif missing or number == 0:
            yield ImageError(f"{missing or 'All'} of {self.name} cannot be read")

    def _decoded(self):
        """Yields the frames in the order in which they are shown, and None for each that is broken."""
        try:
            one = self.live or self._stream.duration is not None
            for packet in self._container.demux(*([self._stream] if one else self._container.streams)):
                self._packets += packet.stream is self._stream and packet.size > 0
                if packet.is_corrupt and not self.live:  # only a part of it is there, at the end of what is cut off
                    if packet.stream is self._stream:
                        yield None
                    continue
                if packet.pts is not None:
                    self._end = max(self._end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is self._stream:
                    try:
                        yield from packet.decode()
                    except self._av.error.FFmpegError:
                        yield None
        except self._av.error.FFmpegError as error:  # of `demux`, where a file is cut off or a stream breaks
            # FFmpeg also says EIO at the end of an answer by HTTP that has no length.
            self._reason = "" if isinstance(error, EOFError) or error.errno == errno.EIO else str(error.strerror)
            with contextlib.suppress(self._av.error.FFmpegError):
                yield from self._stream.codec_context.decode(None)


def _ends_early(path):
    """Returns whether a file is a GIF without the byte that ends it, as those that are cut off are."""
    return path.lower().endswith(".gif") and os.path.isfile(path) and Path(path).read_bytes()[-1:] != b";"


def _open_video(av, source):
    # Options of other formats are ignored. UDP loses packets, which spoils pictures; by default, five seconds of a
    # stream are analysed before its first picture.
    options = {"rtsp_transport": "tcp", "analyzeduration": "1000000"}
    return av.open(source, timeout=_TIMEOUT, options=options) if _is_url(source) else av.open(source)


def _open_camera(av, number):
    if sys.platform == "win32":
        devices = [one.name for one in av.device.enumerate_input_devices("dshow") if "video" in one.media_types]
        return av.open(f"video={devices[number]}", format="dshow")
    if sys.platform == "darwin":
        return av.open(str(number), format="avfoundation", options={"framerate": "30"})
    return av.open(f"/dev/video{number}", format="v4l2")


def _upright(frame):
    """Returns the (H, W, 3) RGB picture of a frame of PyAV, turned and mirrored as its display matrix says."""
    image = frame.to_ndarray(format="rgb24")
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        x_of_x, y_of_x, _, x_of_y, y_of_y = np.frombuffer(matrix, np.int32)[:5]
        if abs(y_of_x) > abs(x_of_x):
            image, x_of_x, y_of_y = image.transpose(1, 0, 2), x_of_y, y_of_x
        image = np.ascontiguousarray(image[:: -1 if y_of_y < 0 else 1, :: -1 if x_of_x < 0 else 1])
    return image


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


def newest(items: Generator) -> Generator:
    """Yields what a generator, which runs in a thread of its own, gave last; what came before that is dropped."""
    latest, end, stop = queue.SimpleQueue(), object(), threading.Event()

    def read():
        try:
            for item in items:
                with contextlib.suppress(queue.Empty):
                    latest.get_nowait()
                latest.put(item)
                if stop.is_set():
                    break
        finally:
            items.close()
            latest.put(end)

    with concurrent.futures.ThreadPoolExecutor(1, "newest") as thread:
        reading = thread.submit(read)
        try:
            stop.wait(_SETTLE)
            while (item := latest.get()) is not end:
                yield item
            reading.result()
        finally:
            stop.set()


def _is_url(text):
    return text.lower().startswith(("http://", "https://", *_STREAMS))


def _is_video(path):
    """Returns whether a path looks like a video. A GIF is one unless it has a single picture."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".gif" and os.path.isfile(path):
        with contextlib.suppress(Exception), PIL.Image.open(path) as image:  # of all kinds
            return getattr(image, "n_frames", 1) > 1
    return suffix in VIDEO_SUFFIXES


def _download(url):
    request = urllib.request.Request(url, headers={"User-Agent": "keras_regpose"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            data, end = bytearray(), time.monotonic() + _LONGEST
            while (chunk := response.read1(1 << 18)) and len(data) <= _MAX_DOWNLOAD:
                data += chunk
                if time.monotonic() > end:
                    raise TimeoutError(f"it takes longer than {_LONGEST} seconds")
    except urllib.error.HTTPError as error:
        raise ImageError(f"The server answers {error.code} ({error.reason}) to {url}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ImageError(f"{url} cannot be reached: {getattr(error, 'reason', error)}") from error
    if len(data) > _MAX_DOWNLOAD:
        raise ImageError(f"{url} has more than the {_MAX_DOWNLOAD >> 20} megabytes that are downloaded")
    return decode_image(bytes(data), f"The download from {url}")
