"""Choose the pictures to label next: those with large expected errors that are unlike each other."""

import csv
import io

from keras_regpose.commands.shared import positive
from keras_regpose.files import write_whole

EXAMPLE = "keras-regpose suggest pictures/ --preset runs/mine/best --count 200 --output next.csv"


def add_options(sub):
    sub.add_argument("sources", nargs="+", metavar="SOURCE", help="image files, folders or 'patterns*.jpg'")
    sub.add_argument("--preset", required=True, help="name or directory of a preset with σ")
    sub.add_argument("--boxes", help="COCO detections file; image_id is the file's name; default: whole pictures")
    sub.add_argument("--count", type=positive, default=200, help="number of people to choose")
    sub.add_argument("--output", default="next.csv", help="CSV file: picture, box, expected error; most wanted first")


def run(options):
    import numpy as np

    from keras_regpose.data.sample import Sample
    from keras_regpose.inference.boxes import box_finder
    from keras_regpose.inference.sources import Files, open_pictures, read_picture
    from keras_regpose.inspection.active_learning import suggest
    from keras_regpose.presets import from_preset

    model = from_preset(options.preset)
    opened = [open_pictures(name) or Files([name]) for name in options.sources]
    files = [one for one in opened if isinstance(one, Files)]
    if len(files) < len(opened):
        raise ValueError("suggest chooses among pictures. Received: a video or a camera")
    paths = [path for one in files for path in one.paths]
    find_boxes = box_finder(options.boxes, "stream")
    nowhere, unlabelled = np.zeros((len(model.skeleton), 2), np.float32), np.zeros(len(model.skeleton), np.float32)
    samples = []
    for number, path in enumerate(paths):
        boxes, scores = find_boxes(read_picture(path), number)
        for box, score in zip(boxes, scores, strict=True):
            samples.append(
                Sample(
                    str(path), np.asarray(box, np.float32), nowhere, unlabelled, number, len(samples), 0.0, float(score)
                )
            )
    if not samples:
        raise ValueError("There is nobody to choose from: the pictures have no boxes")
    positions, expected = suggest(samples, model, options.count)
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["picture", "x1", "y1", "x2", "y2", "expected_error"])
    for position, error in zip(positions.tolist(), expected.tolist(), strict=True):
        corners = [round(corner, 1) for corner in samples[position].box.tolist()]
        writer.writerow([samples[position].image, *corners, round(error, 4)])
    write_whole(options.output, lines.getvalue())
    print(f"{len(positions)} of {len(samples)} people in {len(paths)} pictures are in {options.output}")
