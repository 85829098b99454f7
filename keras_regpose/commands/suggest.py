"""Choose the people to label next: those with large expected errors, who stand for many others."""

from keras_regpose.commands.shared import positive
from keras_regpose.files import csv_text, spare, write_whole

EXAMPLE = "keras-regpose suggest pictures/ --preset runs/mine/best --count 200 --output next.csv"


def add_options(sub):
    sub.add_argument("sources", nargs="+", metavar="SOURCE", help="image files, folders or 'patterns*.jpg'")
    sub.add_argument("--preset", required=True, help="name or directory of a preset with σ")
    sub.add_argument("--boxes", help="COCO detections file, or 'image' for whole pictures (default: find people)")
    sub.add_argument("--count", type=positive, default=200, help="number of people to choose")
    sub.add_argument("--output", default="next.csv", help="CSV file: picture, box, expected error; most wanted first")


def run(options):
    from keras_regpose.data.sample import Sample
    from keras_regpose.inference.estimator import only_pictures
    from keras_regpose.inspection.suggestion import suggest
    from keras_regpose.presets import from_preset

    spare(options.output, overwrite=options.overwrite)
    model = from_preset(options.preset)
    samples = []
    found = (one for name in options.sources for one in only_pictures(model.estimate(name, options.boxes)))
    for number, (picture, poses) in enumerate(found):
        for box, points, scores in zip(poses.boxes, poses.keypoints, poses.scores, strict=True):
            samples.append(Sample(picture, box, points, scores, number, len(samples)))
    if not samples:
        raise ValueError("There is nobody to choose from: nobody is found in the pictures")
    positions, expected = suggest(samples, model, options.count)
    rows = [["picture", "x1", "y1", "x2", "y2", "expected_error"]]
    for place, error in zip(positions.tolist(), expected.tolist(), strict=True):
        sample = samples[place]
        rows.append([sample.image, *(round(corner, 1) for corner in sample.box.tolist()), round(error, 4)])
    write_whole(options.output, csv_text(rows))
    print(f"{len(positions)} of the {len(samples)} people found are in {options.output}")
