"""Poses as files in a folder: annotated pictures and videos, JSON, and COCO results."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from keras_regpose.files import draft, write_whole
from keras_regpose.inference.boxes import image_ids
from keras_regpose.inference.draw import save_picture
from keras_regpose.inference.poses import Poses

FORMATS = ("picture", "json", "coco")
_USUAL_RATE = 25.0  # frames per second of a video that does not tell its own


class ResultsWriter:
    """Writes poses into a folder, as pictures, videos, JSON and COCO results, one image or frame after the other.

    What is written is named after the source, `photo.jpg` or `dance.avi`; a second source of the same name becomes
    `photo_2`:

    - "picture": `photo.png`, or `dance.mp4` of the video's size and rate.
    - "json": `photo.json`, which `Poses.from_json` reads; `dance.json` is a list with an entry for each frame.
    - "coco": COCO's results of all images in `coco.json`, those of a video in `dance.coco.json`. An image_id is the
      number that the file's name is, otherwise its name; in a video it is the frame's number, from 0.

    Each file appears when it is complete: those of a video when the next one begins or the writer is closed, and
    `coco.json` when it is closed. If the block of `with` ends by an error or an interruption, they hold what came
    before it. No result replaces the picture or video that it was made of.

    Args:
        folder: str or path. Made where there is none.
        formats: str, or sequence of some of "picture", "json" and "coco".
        **options: How pictures are drawn: boxes, labels, score_threshold and others, see `Poses.plot`.

    Raises:
        ValueError: If a format is another one.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> save_picture("holiday/beach.jpg", rp.data.Synthetic(1, seed=0)[0].image)
    >>> with rp.ResultsWriter("poses", formats=("picture", "json", "coco")) as writer:
    ...     for poses in model.estimate("holiday"):  # or a video, a pattern, a camera's number
    ...         writer.write(poses)
    >>> sorted(os.listdir("poses"))
    ['beach.json', 'beach.png', 'coco.json']
    """

    def __init__(self, folder: str | os.PathLike, formats: str | Iterable[str] = ("picture", "json"), **options: Any):
        self.folder = Path(folder)
        self.formats = (formats,) if isinstance(formats, str) else tuple(formats)
        self.options = options
        if not self.formats or not set(self.formats) <= set(FORMATS):
            raise ValueError(f"formats must be some of {', '.join(FORMATS)}. Received: {formats!r}")
        self._names = {"coco"}
        self._coco = contextlib.ExitStack()
        self._append_to_coco = None
        self._video = contextlib.ExitStack()
        self._append = {}  # what appends to the files of the current video, by format
        self._current = None  # its source
        self._last_frames = {}  # of each video, by source

    def __enter__(self) -> "ResultsWriter":
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Completes all files."""
        try:
            self._video.close()
        finally:
            self._coco.close()

    def write(self, poses: Poses) -> None:
        """Writes the poses in one image, or in the next frame of a video.

        Args:
            poses: `Poses`, as `estimate` returns and yields them. For "picture", those of a frame must come before the
                next one is asked for, while their image is still in memory.

        Raises:
            ValueError: If a picture or video would replace its own source, if there is no image to draw on, if a
                COCO result's image has no name, or if a frame's video was completed already.
            OSError: If a file cannot be written.
        """
        # All is made before anything is written, so that an error leaves no file ahead of the others.
        values = {}
        if "picture" in self.formats:
            values["picture"] = [np.asarray(poses.plot(**self.options))]
        if "json" in self.formats:
            values["json"] = [poses.to_json()]
        if "coco" in self.formats:
            values["coco"] = [json.dumps(result, ensure_ascii=False) for result in _coco_results(poses)]
        if poses.frame is None:
            self._write_image(poses, **values)
        else:
            self._write_frame(poses, values)

    def _write_image(self, poses, picture=None, json=None, coco=None):
        name = self._free_name(poses.source or "image")
        if picture is not None:
            save_picture(self._target(f"{name}.png", poses), *picture)
        if json is not None:
            write_whole(self.folder / f"{name}.json", f"{json[0]}\n")
        if coco is not None:
            if self._append_to_coco is None:
                self._append_to_coco = self._coco.enter_context(_json_list(self.folder / "coco.json"))
            self._append_to_coco(*coco)

    def _write_frame(self, poses, values):
        last = self._last_frames.get(poses.source)
        if last is None or poses.frame <= last:
            self._begin_video(poses)
        elif poses.source != self._current:
            raise ValueError(
                f"Frame {poses.frame} of {poses.source} comes after another video began: write one video after the "
                "other, or each with a writer of its own"
            )
        self._last_frames[poses.source] = poses.frame
        for form, those in values.items():
            self._append[form](*those)

    def _begin_video(self, poses):
        self._video.close()
        self._current, name = poses.source, self._free_name(poses.source or "camera")
        files = {}
        if "picture" in self.formats:
            files["picture"] = _video(self._target(f"{name}.mp4", poses), poses.frame_rate or _USUAL_RATE)
        if "json" in self.formats:
            files["json"] = _json_list(self.folder / f"{name}.json")
        if "coco" in self.formats:
            files["coco"] = _json_list(self.folder / f"{name}.coco.json")
        self._append = {form: self._video.enter_context(file) for form, file in files.items()}

    def _free_name(self, source):
        """Returns the name of a source's results, which no other source has."""
        stem = Path(source.rstrip("/").split("?")[0]).stem.replace(" ", "_") if "://" in source else Path(source).stem
        name, number = stem, 2
        while name in self._names:
            name, number = f"{stem}_{number}", number + 1
        self._names.add(name)
        return name

    def _target(self, name, poses):
        """Returns the path of a picture or video, unless that is the source itself."""
        path = self.folder / name
        if poses.source and path.exists() and os.path.exists(poses.source) and path.samefile(poses.source):
            raise ValueError(f"The result would replace the image {poses.source} itself: choose another folder")
        return path


def write_results(
    results: Poses | Iterable[Poses],
    folder: str | os.PathLike,
    formats: str | Iterable[str] = ("picture", "json"),
    **options: Any,
) -> None:
    """Writes all that `estimate` returns into a folder: pictures, videos, JSON and COCO results.

    Args:
        results: `Poses`, a list of them, or the iterator that `estimate` returns for folders and videos.
        folder, formats, **options: See `ResultsWriter`, which takes the results one by one.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> rp.write_results(model.estimate(rp.data.Synthetic(1, seed=0)[0].image), "drawn", ("picture", "json"))
    >>> sorted(os.listdir("drawn"))
    ['image.json', 'image.png']
    """
    with ResultsWriter(folder, formats, **options) as writer:
        for poses in [results] if isinstance(results, Poses) else results:
            writer.write(poses)


def _coco_results(poses):
    names = image_ids(poses)
    if not names:
        raise ValueError(
            "COCO results need the image's name, which these poses do not have: estimate from a file, or set "
            "poses.source"
        )
    return poses.to_coco(names[0])


@contextlib.contextmanager
def _json_list(path: Path) -> Iterator[Callable]:
    """Yields a function that appends entries, given as JSON, to the list in a file."""
    with draft(path) as written, open(written, "w", encoding="utf-8") as file:
        start = "["

        def append(*entries):
            nonlocal start
            for entry in entries:
                file.write(f"{start}\n{entry}")
                start = ","

        yield append
        file.write("[]\n" if start == "[" else "\n]\n")


@contextlib.contextmanager
def _video(path: Path, rate: float) -> Iterator[Callable]:
    """Yields a function that appends (H, W, 3) uint8 RGB pictures to a video."""
    with draft(path) as written:
        writer = cv2.VideoWriter()

        def append(picture):
            if not writer.isOpened():
                code = cv2.VideoWriter.fourcc(*"mp4v")
                if not writer.open(str(written), code, rate, picture.shape[1::-1]):
                    raise OSError(f"OpenCV cannot write the video {path}")
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

        yield append
        writer.release()
        # OpenCV does not tell when the disk is full: it leaves a video that no program opens.
        if not cv2.VideoCapture(str(written)).isOpened():
            raise OSError(f"The video {path} could not be written whole. Is the disk full?")
