"""`keras-regpose predict`."""

import contextlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

from keras_regpose.commands.shared import box, positive, progress_bar

FORMATS = ("picture", "json", "coco")


def add(command):
    """Adds the command to the parser."""
    sub = command(
        "predict",
        run,
        "Estimate poses in images and videos; write annotated pictures and videos, JSON, COCO results.",
        "keras-regpose predict my_preset photo.jpg holiday/ dance.mp4 --boxes detections.json --output poses",
    )
    sub.add_argument("preset", help="name or directory of a preset")
    sub.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="image or video file, folder, 'pattern*.jpg', URL, camera number"
    )
    boxes = sub.add_mutually_exclusive_group()
    boxes.add_argument(
        "--box", action="append", type=box, help="x1,y1,x2,y2 of a person in pixels; repeatable; default: whole image"
    )
    boxes.add_argument("--boxes", help="COCO detections file; image_id is the file's name or the frame's number")
    sub.add_argument("--score-threshold", type=float, help="leave out boxes with a lower score in --boxes")
    sub.add_argument("--flip-test", action="store_true", help="average with the mirrored image")
    sub.add_argument("--batch-size", type=positive, default=32, help="people per run of the network")
    sub.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["picture", "json"],
        help="picture: NAME.png or NAME.mp4; json: NAME.json, for videos a list with one entry per frame; "
        "coco: COCO results in coco.json, for videos in NAME.coco.json",
    )
    sub.add_argument("--output", default="poses", help="folder for the results")


def run(options):
    from keras_regpose.inference.boxes import box_finder
    from keras_regpose.inference.estimator import estimate_frames
    from keras_regpose.inference.sources import Video
    from keras_regpose.presets import from_preset

    find_boxes = box_finder(options.boxes or options.box, "stream", score_threshold=options.score_threshold)
    model = from_preset(options.preset)
    sources, errors = _open(options.sources)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    totals = [source.total for source in sources]
    done, failed = 0, 0
    taken = {"coco"}
    with (
        _stop_between_frames() as stop,
        progress_bar(None if None in totals else sum(totals), "images") as bar,
    ):

        def report(error):
            nonlocal failed
            failed += 1
            bar.clear()
            print(f"Skipped: {' '.join(str(error).split())}", file=sys.stderr)

        for error in errors:
            report(error)
        for source in sources:
            writer = _VideoResults if isinstance(source, Video) else _PictureResults
            with writer(source, output, options.format, taken) as results:
                for frame, poses in estimate_frames(
                    model,
                    source,
                    find_boxes,
                    flip_test=options.flip_test,
                    batch_size=options.batch_size,
                    on_error=report,
                ):
                    results.write(frame, poses)
                    done += 1
                    bar.update(1)
                    if stop.is_set():
                        break
            if stop.is_set():
                break
    if stop.is_set():
        print(f"The {done} images done before the interruption are in {output}", file=sys.stderr)
        raise KeyboardInterrupt
    print(f"{done} of {done + failed} images are in {output}")
    if not done:
        raise ValueError("none of the images could be read")


def _open(names):
    """Returns what the names stand for, all files as one source, and the errors of what cannot be opened."""
    from keras_regpose.inference.sources import Files, Video, open_path

    paths, videos, errors = [], [], []
    for name in names:
        try:
            camera = name.isdecimal() and not os.path.exists(name)
            source = Video(int(name)) if camera else open_path(name) or Files([name])
        except ValueError as error:
            errors.append(error)
            continue
        if isinstance(source, Files):
            paths += source.paths
        else:
            videos.append(source)
    return ([Files(paths)] if paths else []) + videos, errors


@contextlib.contextmanager
def _stop_between_frames():
    """Sets an event at the first interruption, so that no file is left half written; the second one stops at once."""
    stop = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in signals}

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number, frame):
        stop.set()
        restore()

    for number in signals:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()


class _PictureResults:
    """NAME.png and NAME.json beside each other, and one coco.json for all."""

    def __init__(self, source, output, formats, taken):
        self.output, self.formats, self.taken = output, formats, taken
        self.coco = _JsonList(output / "coco.json") if "coco" in formats else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.coco:
            self.coco.close()

    def write(self, frame, poses):
        from keras_regpose.inference.boxes import image_ids

        name = _free_name(frame.source, self.taken)
        if "picture" in self.formats:
            poses.save(_target(self.output / f"{name}.png", frame.source))
        if "json" in self.formats:
            poses.save(self.output / f"{name}.json")
        if self.coco:
            for result in poses.to_coco(image_ids(frame)[0]):
                self.coco.append(result)


class _VideoResults:
    """NAME.mp4 of the video's rate and size, NAME.json with the poses of each frame, and NAME.coco.json."""

    def __init__(self, source, output, formats, taken):
        name = _free_name(source.name, taken)
        self.rate, self.formats, self.writer = source.rate or 25.0, formats, None
        self.path = _target(output / f"{name}.mp4", source.name)
        self.temporary = self.path.with_name(f".{name}.writing.mp4")
        self.json = _JsonList(output / f"{name}.json") if "json" in formats else None
        self.coco = _JsonList(output / f"{name}.coco.json") if "coco" in formats else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.writer is not None:
            self.writer.release()
            os.replace(self.temporary, self.path)
        for results in (self.json, self.coco):
            if results:
                results.close()

    def write(self, frame, poses):
        if "picture" in self.formats:
            self._write_picture(poses)
        if self.json:
            self.json.append(json.loads(poses.to_json()))
        if self.coco:
            for result in poses.to_coco(frame.frame):
                self.coco.append(result)

    def _write_picture(self, poses):
        import cv2
        import numpy as np

        picture = np.asarray(poses.plot())
        if self.writer is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(str(self.temporary), code, self.rate, picture.shape[1::-1])
            if not writer.isOpened():
                raise OSError(f"OpenCV cannot write the video {self.path}")
            self.writer = writer
        self.writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


class _JsonList:
    """A JSON file with a list that grows; it is complete when closed, and only then has its name."""

    def __init__(self, path):
        self.path, self.temporary = path, path.with_name(f".{path.name}.writing")
        self.file = open(self.temporary, "w", encoding="utf-8")
        self.start = "["

    def append(self, value):
        self.file.write(f"{self.start}\n{json.dumps(value, ensure_ascii=False)}")
        self.start = ","

    def close(self):
        self.file.write("[]\n" if self.start == "[" else "\n]\n")
        self.file.close()
        os.replace(self.temporary, self.path)


def _free_name(source, taken):
    """Returns the name of a source's results, which no other source has."""
    stem = Path(source.rstrip("/").split("?")[0]).stem.replace(" ", "_") if "://" in source else Path(source).stem
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add(name)
    return name


def _target(path, source):
    """Returns the path of a result, unless that is the source itself."""
    if path.exists() and os.path.exists(source) and path.samefile(source):
        raise ValueError(f"The result would replace the image {source} itself: choose another folder with --output")
    return path
