"""Estimate poses in images and videos; write annotated pictures and videos, JSON, CSV, COCO results."""

import logging
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from keras_regpose.commands.shared import add_annotation_options, annotated, box, import_keras_silently, positive
from keras_regpose.data.coco import Coco
from keras_regpose.hub.preset_files import is_preset
from keras_regpose.inference.boxes import box_finder
from keras_regpose.inference.estimator import estimate_frames, thresholds
from keras_regpose.inference.sources import Files, open_pictures
from keras_regpose.inference.writers import FORMATS, ResultsWriter
from keras_regpose.interrupt import noted_signals
from keras_regpose.presets import BUNDLED_PRESET, from_preset
from keras_regpose.progress import progress_bar
from keras_regpose.runtimes import RUNTIMES
from keras_regpose.zoo import list_presets

_log = logging.getLogger(__name__)
_WINDOW = "keras-regpose"


EXAMPLE = "keras-regpose predict photo.jpg holiday/ dance.mp4 --preset my_preset --output poses"


def add_options(sub):
    sub.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="file, folder, 'pattern*.jpg', URL, camera; default: --annotations"
    ).required = False  # with nargs="*", no source could stand behind an option
    sub.add_argument("--preset", default=BUNDLED_PRESET, help="name or directory of a preset")
    runtimes = ("auto", *RUNTIMES, "keras")
    sub.add_argument("--runtime", choices=runtimes, default="auto", help="auto: the fastest that is installed")
    add_annotation_options(sub)
    boxes = sub.add_mutually_exclusive_group()
    boxes.add_argument(
        "--box", action="append", type=box, help="x1,y1,x2,y2 in pixels; repeatable; default: annotated, or found"
    )
    boxes.add_argument(
        "--boxes",
        help="COCO detections file (image_id: of --annotations, or file's name, or frame), 'image' for each whole "
        "image, or keras_hub:NAME of a detector",
    )
    sub.add_argument(
        "--score-threshold",
        type=float,
        help="leave out boxes with a lower score (default: of boxes that are given none)",
    )
    sub.add_argument("--pose-threshold", type=float, help="leave out people with a lower mean score of keypoints")
    sub.add_argument("--flip-test", action="store_true", help="average with the mirrored image")
    sub.add_argument("--batch-size", type=positive, default=32, help="people per run of the network")
    sub.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["picture", "json"],
        help="picture: NAME.png or NAME.mp4; json: NAME.json, for videos a list with one entry per frame; "
        "csv: NAME.csv, a row per joint; "
        "coco: COCO results in coco.json, with the ids of --annotations, for videos in NAME.coco.json; "
        "slp: predictions for SLEAP in pictures.slp, for videos in NAME.slp",
    )
    sub.add_argument("--show", action="store_true", help="show the poses in a window, too; q or Escape ends")
    sub.add_argument("--output", default="poses", help="folder for the results")


def run(options):
    for name in options.sources or ():
        if is_preset(name) or name in list_presets():
            raise ValueError(f"{name} is a preset, not a picture: write --preset {name}")
    people = None
    if annotated(options):
        people = Coco(options.annotations, options.images, options.boxes, category=options.category)
    elif not options.sources:
        raise ValueError("Say what to look at: a SOURCE, or --annotations FILE --images DIR")
    if options.show:
        _open_window()
    boxes = options.box or (options.boxes if people is None else people)
    if options.runtime == "keras" and not options.debug:
        import_keras_silently()
    model = from_preset(options.preset, runtime=None if options.runtime == "keras" else options.runtime)
    score_threshold, least = thresholds(model, boxes, options.score_threshold)
    find_boxes = box_finder(boxes, model.skeleton, "stream", score_threshold=score_threshold)
    failed = []

    def skip(error):
        failed.append(error)
        _log.warning("Skipped: %s", " ".join(str(error).split()))

    sources = (
        _open(options.sources, options.output, skip)
        if options.sources or not people
        else [Files(list(people.by_picture))]
    )
    totals = [source.total for source in sources]
    settings = {name: getattr(options, name) for name in ("flip_test", "batch_size", "pose_threshold")}
    settings |= {"on_error": skip, "least": least}
    results = (poses for source in sources for poses in estimate_frames(model, source, find_boxes, **settings))
    done = without = 0
    with (
        noted_signals() as interrupted,
        progress_bar(total=None if None in totals else sum(totals), unit=" images", delay=2) as bar,
        ResultsWriter(options.output, options.format, people) as writer,
    ):
        for poses in results:
            writer.write(poses)
            done, without = done + 1, without + (len(poses) == 0)
            bar.update(1)
            if interrupted or (options.show and _show(poses)):
                break
    if interrupted:
        print(f"The {done} images done before the interruption are in {options.output}", file=sys.stderr)
        return 128 + interrupted[0]
    print(f"{done} of {done + len(failed)} images are in {options.output}")
    if without:
        found = f"No box is given for {without} of them, so that nobody was looked for there"
        print(found if boxes else f"Nobody was found in {without} of them")
    if not done:
        raise ValueError("none of the images could be read")


def _open_window():
    # Qt ends the whole process where it finds no screen.
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        raise ValueError("--show needs a screen, and DISPLAY names none: leave it out, and look at the files")
    try:
        cv2.namedWindow(_WINDOW, cv2.WINDOW_NORMAL)
    except cv2.error as error:
        raise ValueError(
            "--show needs an OpenCV that has windows: pip uninstall opencv-python-headless, then pip install "
            "--force-reinstall opencv-python"
        ) from error


def _show(poses):
    """Shows a picture until a key is pressed, or a frame; returns whether q, Escape or the window's close ends all."""
    cv2.imshow(_WINDOW, np.asarray(poses.plot())[..., ::-1])
    key = cv2.waitKey(1)
    while key < 0 and poses.frame is None and cv2.getWindowProperty(_WINDOW, cv2.WND_PROP_VISIBLE) >= 1:
        key = cv2.waitKey(50)
    return key in (27, ord("q")) or cv2.getWindowProperty(_WINDOW, cv2.WND_PROP_VISIBLE) < 1


def _open(names, output, on_error):
    """Returns what the names stand for, all image files as one source."""
    paths, videos = [], []
    for name in names:
        try:
            camera = name.isdecimal() and not os.path.exists(name)
            source = open_pictures(int(name) if camera else name) or Files([name])
        except ValueError as error:
            on_error(error)
            continue
        if isinstance(source, Files):
            # Pictures of an earlier run may lie in a folder that is looked through.
            own = Path(output).resolve()
            is_around = os.path.isdir(name) and Path(name).resolve() in own.parents
            paths += [path for path in source.paths if not (is_around and own in Path(path).resolve().parents)]
        else:
            videos.append(source)
    return ([Files(paths)] if paths else []) + videos
