"""Poses as files in a folder: annotated pictures and videos, JSON, CSV, COCO results and SLEAP's files."""

import contextlib
import dataclasses
import functools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from keras_regpose.data.people import People
from keras_regpose.files import MARK, draft, spare, write_whole
from keras_regpose.images import save_picture
from keras_regpose.inference.boxes import image_ids
from keras_regpose.inference.poses import Poses
from keras_regpose.inference.sleap import to_sleap
from keras_regpose.inference.sources import Files, Video
from keras_regpose.optional import import_optional

FORMATS = ("picture", "json", "csv", "coco", "slp")
_OF_PICTURES = {"picture": "{}.png", "json": "{}.json", "csv": "{}.csv", "coco": "coco.json", "slp": "pictures.slp"}
_OF_VIDEOS = {"picture": "{}.mp4", "json": "{}.json", "csv": "{}.csv", "coco": "{}.coco.json", "slp": "{}.slp"}
_USUAL_RATE = 25.0  # frames per second of a video that does not tell its own
_TICKS = 90_000  # per second: times of written frames are whole numbers of these
_BT709 = 1  # how numbers mean colours, by ITU-T H.273
_SOUNDS = ("aac", "flac", "mp3", "opus")  # that browsers play in MP4; other sound becomes AAC, at one of these rates
_SAMPLE_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


class ResultsWriter(contextlib.AbstractContextManager):
    """Writes poses into a folder, as pictures, videos, JSON and COCO results, one image or frame after the other.

    What is written is named after the source, `photo.jpg` or `dance.avi`; a second source of the same name becomes
    `photo_2`:

    - "picture": `photo.png`, or `dance.mp4` of the video's size and rate.
    - "json": `photo.json`, which `Poses.from_json` reads; `dance.json` is a list with an entry for each frame.
    - "csv": `photo.csv`, one row per joint; in `dance.csv` each row begins with the frame's number and time.
    - "coco": COCO's results of all images in `coco.json`, those of a video in `dance.coco.json`. An image_id is the
      number that the file's name is, otherwise its name; in a video it is the frame's number, from 0. With `people`
      it is that of their annotation file, so that `pycocotools.coco.COCO(file).loadRes` takes the results.
    - "slp": predictions for SLEAP and what reads its files, those of all images in `pictures.slp`, see `to_sleap`.

    Videos are H.264, with the times and the sound of their source.

    Each file appears when it is complete: those of a video when the next one begins or the writer is closed, and
    `coco.json` when it is closed. If the block of `with` ends by an error or an interruption, they hold what came
    before it.

    Results bear a mark: the field "made_by" of JSON, a text in PNG, the stream's name in MP4, a few bytes behind the
    end of .slp files, which other programs drop when they save them. CSV and COCO results, which have no place for one,
    are known by how they begin. Files without a mark are not replaced unless `overwrite` says so. The picture or video
    that a result was made of is never replaced.

    Args:
        folder: str or path. Made where there is none.
        formats: str, or sequence of some of "picture", "json", "csv", "coco" and "slp".
        overwrite: bool. Whether files may be replaced that this package did not write.
        people: `People` or None. The annotated people of the pictures, as `rp.data.Coco` reads them. COCO results take
            their image_id and category_id from these, by the picture's path, and the id of the annotation where the
            boxes are the annotated ones.
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

    def __init__(
        self,
        folder: str | os.PathLike,
        formats: str | Iterable[str] = ("picture", "json"),
        people: People | None = None,
        overwrite: bool = False,
        **options: Any,
    ):
        self.folder = Path(folder)
        self.formats = (formats,) if isinstance(formats, str) else tuple(formats)
        self.options = options
        if not self.formats or not set(self.formats) <= set(FORMATS):
            raise ValueError(f"formats must be some of {', '.join(FORMATS)}. Received: {formats!r}")
        self.people = people
        self.overwrite = overwrite
        self._names = {"coco", "pictures"} if "slp" in self.formats else {"coco"}
        self._files = contextlib.ExitStack()
        self._video = self._files.enter_context(contextlib.ExitStack())
        self._append = {}  # what appends to the files of the current video, by format
        self._current = None  # its source
        self._last_frames = {}  # of each video, by source

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Completes all files."""
        self._files.close()

    def write(self, poses: Poses) -> None:
        """Writes the poses in one image, or in the next frame of a video.

        Args:
            poses: `Poses`, as `estimate` returns and yields them. For "picture", those of a frame must come before the
                next one is asked for, while their image is still in memory.

        Raises:
            FileExistsError: If a file that this package did not write would be replaced.
            ValueError: If a picture or video would replace its own source, if there is no image to draw on, if a
                COCO result's image has no name, or if a frame's video was completed already.
            OSError: If a file cannot be written.
        """
        # All is made before anything is written, so that an error leaves no file ahead of the others.
        values = {form: _VALUES[form](poses, self.options, self.people) for form in self.formats}
        append = self._image_files(poses) if poses.frame is None else self._video_files(poses)
        for form, those in values.items():
            append[form](*those)

    def _image_files(self, poses):
        """Returns what writes the results of an image, by format."""
        paths = self._targets(poses.source, False, self._names)
        return {
            "picture": lambda picture, _: save_picture(paths["picture"], picture),
            "json": lambda text: write_whole(paths["json"], f"{text}\n"),
            "csv": lambda text: write_whole(paths["csv"], text),
            "coco": lambda *results: self._append_to_coco(*results),
            "slp": lambda poses: self._append_to_slp(poses),
        }

    @functools.cached_property
    def _append_to_coco(self):
        return self._files.enter_context(_json_list(self.folder / "coco.json"))

    @functools.cached_property
    def _append_to_slp(self):
        return self._files.enter_context(_sleap(self.folder / "pictures.slp"))

    def _video_files(self, poses):
        """Returns what appends to the results of a video, by format."""
        last = self._last_frames.get(poses.source)
        if last is None or poses.frame <= last:
            self._video.close()
            self._current, paths = poses.source, self._targets(poses.source, True, self._names)
            rate = poses.frame_rate or _USUAL_RATE
            kinds = {"json": _json_list, "csv": _table, "coco": _json_list, "slp": _sleap}
            kinds["picture"] = lambda path: _video(path, rate, poses.source)
            self._append = {form: self._video.enter_context(kinds[form](path)) for form, path in paths.items()}
        elif poses.source != self._current:
            raise ValueError(
                f"Frame {poses.frame} of {poses.source} comes after another video began: write one video after the "
                "other, or each with a writer of its own"
            )
        self._last_frames[poses.source] = poses.frame
        return self._append

    def check(self, sources: Iterable[Files | Video]) -> None:
        """Raises at once the errors of `write` for the files that results of these sources would replace."""
        names = set(self._names)
        for source in sources:
            is_video = isinstance(source, Video)
            for name in [source.name] if is_video else source.paths:
                self._targets(name, is_video, names)

    def _targets(self, source, is_video, names):
        """Returns the paths of a source's results by format, under a name that is not among those taken yet."""
        source = source or ("camera" if is_video else "image")
        stem = Path(source.rstrip("/").split("?")[0]).stem.replace(" ", "_") if "://" in source else Path(source).stem
        while len(os.fsencode(stem)) > 230:  # file systems take 255 bytes, with number and suffix
            stem = stem[:-1]
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}_{number}", number + 1
        names.add(name)
        files = _OF_VIDEOS if is_video else _OF_PICTURES
        paths = {form: self.folder / files[form].format(name) for form in self.formats}
        for path in paths.values():
            if path.exists() and os.path.exists(source) and path.samefile(source):
                raise ValueError(f"The result would replace the image {source} itself: choose another folder")
        spare(*paths.values(), overwrite=self.overwrite)
        return paths


def write_results(
    results: Poses | Iterable[Poses],
    folder: str | os.PathLike,
    formats: str | Iterable[str] = ("picture", "json"),
    **options: Any,
) -> None:
    """Writes all that `estimate` returns into a folder: pictures, videos, JSON and COCO results.

    Args:
        results: `Poses`, a list of them, or the iterator that `estimate` returns for folders and videos.
        folder, formats, **options: See `ResultsWriter`, which takes the results one by one. `people` and `overwrite`
            are among the options.

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


def _coco_results(poses, people):
    names = image_ids(poses)
    if not names:
        raise ValueError(
            "COCO results need the image's name, which these poses do not have: estimate from a file, or set "
            "poses.source"
        )
    results = poses.to_coco(names[0])
    if people is not None and results:
        if people.skeleton.keypoints != poses.skeleton.keypoints:
            raise ValueError(
                f"The annotations are of the keypoints {', '.join(people.skeleton.keypoints)}, the model is of "
                f"{', '.join(poses.skeleton.keypoints)}, so that its COCO results do not fit them"
            )
        samples = [people[place] for place in people.by_picture.get(os.path.abspath(poses.source or ""), ())]
        if not samples:
            raise ValueError(f"The annotations have nobody in {poses.source}, so that its image_id is not known")
        same = np.array_equal([one.box for one in samples], poses.boxes)
        for place, result in enumerate(results):
            one = samples[place if same else 0]
            result |= {"image_id": one.image_id, "category_id": one.category_id} | ({"id": one.id} if same else {})
    return [json.dumps(result, ensure_ascii=False) for result in results]


# What of an image or a frame is appended to the files of a format.
_VALUES = {
    "picture": lambda poses, options, people: [np.asarray(poses.plot(**options)), poses.time],
    "json": lambda poses, options, people: [poses.to_json()],
    "csv": lambda poses, options, people: [poses.to_csv()],
    "coco": lambda poses, options, people: _coco_results(poses, people),
    "slp": lambda poses, options, people: [dataclasses.replace(poses, image=None)],
}


@contextlib.contextmanager
def _json_list(path: Path) -> Iterator[Callable]:
    """Yields a function that appends entries, given as JSON, to the list in a file."""
    with draft(path) as written, open(written, "w", encoding="utf-8", errors="backslashreplace") as file:
        start = "["

        def append(*entries):
            nonlocal start
            for entry in entries:
                file.write(f"{start}\n{entry}")
                start = ","

        yield append
        file.write("[]\n" if start == "[" else "\n]\n")


@contextlib.contextmanager
def _sleap(path: Path) -> Iterator[Callable]:
    """Yields a function that adds poses to a file of SLEAP, which is written at the end."""
    import_optional("sleap_io", "SLEAP's format", "keras-regpose[formats]")
    kept = []
    with draft(path) as written:
        yield kept.append
        to_sleap(kept).save(str(written), verbose=False)
        with open(written, "ab") as file:
            file.write(MARK)


@contextlib.contextmanager
def _table(path: Path) -> Iterator[Callable]:
    """Yields a function that appends rows, given as CSV with the names of the columns, to a file."""
    with draft(path) as written, open(written, "w", encoding="utf-8") as file:
        yield lambda text: file.write(text.split("\n", 1)[1] if file.tell() else text)


@contextlib.contextmanager
def _video(path: Path, rate: float, source: str | None) -> Iterator[Callable]:
    """Yields a function that appends (H, W, 3) uint8 RGB pictures to a video, each with its time in seconds.

    It is H.264 in 4:2:0, which all browsers play, with the sound of its source, if that is a file.
    """
    av = import_optional("av", "Writing videos", "keras-regpose[video]")
    with draft(path) as written:
        count, last, index = 0, -1, {"movflags": "faststart"}  # in front of the pictures
        with av.open(str(written), "w", options=index) as file, contextlib.closing(_sound(av, source, file)) as sound:
            # Annotated pictures hold thin lines, and are made to be looked at: a little better than x264's default.
            # B-frames would make MP4 tell a wrong length where frames come at a variable rate.
            options = {"preset": "veryfast", "crf": "18", "bf": "0"}
            stream = file.add_stream("libx264", Fraction(rate).limit_denominator(1001), options, pix_fmt="yuv420p")
            stream.metadata["handler_name"] = MARK.decode()
            stream.codec_context.time_base = Fraction(1, _TICKS)
            stream.codec_context.colorspace = _BT709
            next(sound)

            def append(picture, time):
                nonlocal count, last
                # 4:2:0 has a colour for each two by two pixels.
                picture = np.pad(picture, [*((0, side % 2) for side in picture.shape[:2]), (0, 0)], "edge")
                if not count:
                    stream.height, stream.width = picture.shape[:2]
                size, colours = (stream.width, stream.height), {"format": "yuv420p", "dst_colorspace": "ITU709"}
                frame = av.VideoFrame.from_ndarray(picture).reformat(*size, **colours, interpolation="AREA")
                # Times must grow, as those of a damaged file do not always.
                last = max(last + 1, round((count / rate if time is None else time) * _TICKS))
                frame.pts, frame.time_base, frame.duration = last, Fraction(1, _TICKS), round(_TICKS / rate)
                file.mux(stream.encode(frame))
                count += 1
                sound.send(last / _TICKS)

            yield append
            file.mux(stream.encode())
            sound.send(last / _TICKS + 1 / rate)
        with av.open(str(written)) as file:
            frames = sum(packet.size > 0 for packet in file.demux(video=0))
        if frames != count:
            raise OSError(f"Of the video {path} only {frames} of {count} frames could be written. Is the disk full?")


def _sound(av, source, target):
    """Copies the sound of a file up to each time in seconds that is sent to it, as AAC where MP4 cannot hold it."""
    with contextlib.ExitStack() as files:
        given = files.enter_context(av.open(source)) if os.path.isfile(source or "") else None
        track = given.streams.best("audio") if given else None
        while given is None or track is None or track.codec_context is None:
            yield
        if copied := track.codec_context.codec.canonical_name in _SOUNDS:
            stream = target.add_stream_from_template(track)
        else:
            rate = track.codec_context.sample_rate
            stream = target.add_stream("aac", rate if rate in _SAMPLE_RATES else 48000)
            files.callback(lambda: target.mux(stream.encode()))
        start, last, until = Fraction(given.start_time or 0, 1_000_000), -math.inf, (yield)
        for packet in _until_error(given.demux(track), av.error.FFmpegError):
            if packet.dts is None or packet.pts is None or packet.dts <= last:
                continue  # it is damaged
            last = packet.dts
            packet.pts, packet.dts = (one - round(start / packet.time_base) for one in (packet.pts, last))
            while packet.pts * packet.time_base >= until:
                until = yield
            if copied:
                packet.stream = stream
                target.mux(packet)
            else:
                frames = []
                with contextlib.suppress(av.error.FFmpegError):
                    frames = packet.decode()
                for frame in frames:
                    target.mux(stream.encode(frame))
        while True:
            yield


def _until_error(items, error):
    """Yields items until an error, as there is where a file is cut off."""
    with contextlib.suppress(error):
        yield from items
