"""Does the finder of people find what the network that it was made of finds, and how much is that?

usage: python ../shared/models/movenet/tfjs_to_graphdef.py ../shared/models/movenet/movenet-multipose.json original.pb
       python -m tf2onnx.convert --graphdef original.pb --inputs input:0 --outputs Identity:0 --output original.onnx
       python benchmarks/people_finder.py original.onnx

Compares decoded boxes and scores with those of the original graph on 40 photographs; measures AP at IoU .5 of people
larger than 96² px on coco_mini val, with an interval (bootstrap over pictures), recall and false boxes of any size a
picture at several thresholds, what pictures without people, black ones and noise give, and on LSPET how often the best
box is right (IoU .5 with the box of the joints, grown by an eighth on each side), with all boxes and with the default
threshold. Writes benchmarks/results/people_finder.json.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from environment import environment

import keras_regpose as rp
from keras_regpose.images import read_image
from keras_regpose.inference.people_finder import THRESHOLD, PeopleFinder

LARGE = 96**2  # pixels
THRESHOLDS = (0.05, 0.08, 0.1, 0.12, 0.13, 0.14, 0.15, 0.16, 0.18, 0.2, 0.25, 0.3)
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("original", help="the original graph as ONNX")
parser.add_argument("--data", type=Path, default=Path("../shared/data"))
options = parser.parse_args()
session = onnxruntime.InferenceSession(options.original, providers=["CPUExecutionProvider"])


def original(image):
    """Boxes and scores of the original graph, brought to the picture as `PeopleFinder` does."""
    padded, size = network_input(image)
    rows = session.run(None, {"input:0": padded[None].astype(np.int32)})[0][0, :, 51:]
    height, width = image.shape[:2]
    found = np.column_stack([rows[:, [1, 0, 3, 2]], rows[:, 4]])
    found[:, :4] *= np.tile([width / size[0] * padded.shape[1], height / size[1] * padded.shape[0]], 2)
    found[:, :4] = found[:, :4].clip(0, [width, height] * 2)
    return found[np.argsort(-found[:, 4])]


def network_input(image):
    height, width = image.shape[:2]
    share = 256 / max(height, width)
    size = round(width * share), round(height * share)
    padded = np.zeros((-(-size[1] // 32) * 32, -(-size[0] // 32) * 32, 3), np.uint8)
    method = cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR
    padded[: size[1], : size[0]] = cv2.resize(image, size, interpolation=method)
    return padded, size


def overlaps(found, truth, of_found=False):
    """(N, M) intersections over unions, or over the boxes that were found."""
    low = np.maximum(found[:, None, :2], truth[None, :, :2])
    high = np.minimum(found[:, None, 2:4], truth[None, :, 2:4])
    both = (high - low).clip(0).prod(-1)
    area, other = ((boxes[:, 2:4] - boxes[:, :2]).prod(-1) for boxes in (found, truth))
    return both / (area[:, None] if of_found else area[:, None] + other - both)


def judged(found, picture):
    """Rows (score, 1 if right, 0 or -1 if false) of the boxes of a picture, and how many large people it has."""
    boxes, large, crowd = picture
    rows, free = [], np.ones(len(boxes), bool)
    iou = overlaps(found, boxes)
    for box, row in zip(found, iou, strict=True):
        for wanted in (large, ~large & ~crowd):
            open_ = np.where(wanted & free, row, 0)
            if len(open_) and open_.max() >= 0.5:
                free[open_.argmax()] = False
                if wanted is large:
                    rows.append((box[4], 1))
                break
        else:
            inside = len(boxes) and (overlaps(box[None], boxes, of_found=True)[0] * crowd).max() >= 0.5
            if not inside:  # COCO's precision of large people does not count small boxes
                rows.append((box[4], 0 if (box[2:4] - box[:2]).prod() >= LARGE else -1))
    return np.array(rows).reshape(-1, 2), int(large.sum())


def average_precision(pictures):
    """COCO's: the mean precision at 101 recalls."""
    rows = np.concatenate([rows for rows, _ in pictures])
    rows = rows[rows[:, 1] >= 0]
    right = rows[np.argsort(-rows[:, 0], kind="stable"), 1].cumsum()
    recall, precision = right / sum(count for _, count in pictures), right / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, np.linspace(0, 1, 101) - 1e-9)
    return float(np.append(precision, 0)[places].mean())


def interval(values, statistic, draws=1000):
    generator = np.random.default_rng(0)
    drawn = [statistic([values[n] for n in generator.integers(0, len(values), len(values))]) for _ in range(draws)]
    return [round(float(edge), 4) for edge in np.percentile(drawn, [2.5, 97.5])]


def coco_mini(split):
    """Yields (image, (boxes, whether large, whether a crowd)) of each picture."""
    contents = json.loads((options.data / f"coco_mini/annotations/person_keypoints_{split}2017.json").read_text())
    for entry in contents["images"]:
        people = [one for one in contents["annotations"] if one["image_id"] == entry["id"]]
        boxes = np.array([one["bbox"] for one in people], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        crowd = np.array([one["iscrowd"] for one in people], bool)
        large = ((boxes[:, 2:] - boxes[:, :2]).prod(1) > LARGE) & ~crowd
        yield read_image(options.data / f"coco_mini/{split}2017/{entry['file_name']}"), (boxes, large, crowd)


pictures = {split: list(coco_mini(split)) for split in ("train", "val")}
finder = PeopleFinder(threshold=1e-3)


def one_look(image):
    return finder._look(image, finder.threshold)


result = {"environment": environment(), "threshold": THRESHOLD}

differences = []
for image, _ in (pictures["train"] + pictures["val"])[:40]:
    size = np.array([*image.shape[1::-1]] * 2 + [1])
    ours, theirs = one_look(image) / size, original(image) / size
    for row in theirs[theirs[:, 4] > 0.02]:
        differences.append(np.abs(ours - row).max(1).min())
result["equality"] = {"photographs": 40, "boxes": len(differences), "greatest_difference": float(max(differences))}
print(result["equality"])

result["coco_mini_val"] = {}
finders = {
    "original": original,  # six boxes for every picture, some with a score of 0, which count in AP
    "original, scores from 0.001": lambda image: (found := original(image))[found[:, 4] >= finder.threshold],
    "one look, all boxes": lambda image: finder._look(image, 0.0),
    "one look, scores from 0.001": one_look,
    "PeopleFinder, scores from 0.001": finder,
}
for name, find in finders.items():
    judgements = [judged(find(image), truth) for image, truth in pictures["val"]]
    result["coco_mini_val"][name] = {
        "people": sum(count for _, count in judgements),
        "AP50": round(average_precision(judgements), 4),
        "AP50_interval": interval(judgements, average_precision),
    }
    print(name, result["coco_mini_val"][name], flush=True)
result["thresholds"] = []
for threshold in THRESHOLDS:
    find, row = PeopleFinder(threshold), {"threshold": threshold}
    for split, those in pictures.items():
        judgements = [judged(find(image), truth) for image, truth in those]
        right = sum((rows[:, 1] == 1).sum() for rows, _ in judgements)
        false = sum((rows[:, 1] < 1).sum() for rows, _ in judgements)
        people = sum(count for _, count in judgements)
        row[split] = {"people": people, "recall": round(float(right / people), 3)}
        row[split]["false_boxes"] = round(float(false / len(those)), 3)
    result["thresholds"].append(row)
    print(row, flush=True)

model = rp.from_preset("mobilenetv2_rle_people", runtime="onnx")


def estimated(image):
    """The boxes of the people that `estimate` gives, by the product of the finder's score and the expected OKS."""
    poses = model.estimate(image)
    scores = poses.box_scores * poses.expected_oks().mean(1)
    return np.column_stack([poses.boxes, scores])[np.argsort(-scores)]


result["estimate"] = {}
for split, those in pictures.items():
    judgements = [judged(estimated(image), truth) for image, truth in those]
    rows, people = np.concatenate([rows for rows, _ in judgements]), sum(count for _, count in judgements)
    result["estimate"][split] = {
        "people": people,
        "recall": round(float((rows[:, 1] == 1).sum() / people), 3),
        "false_boxes": round(float((rows[:, 1] < 1).sum() / len(those)), 3),
    }
print(result["estimate"], flush=True)

nobody = [image for split in pictures.values() for image, (boxes, _, _) in split if not len(boxes)]
best = [max([0, *finder(image)[:, 4]]) for image in nobody]
generator = np.random.default_rng(0)
blank = [np.full((480, 640, 3), value, np.uint8) for value in (0, 128, 255)]
blank += [generator.integers(0, 256, (480, 640, 3), np.uint8) for _ in range(5)]
blank += [cv2.resize(generator.integers(0, 256, (15, 20, 3), np.uint8), (640, 480)) for _ in range(5)]
result["without_people"] = {
    "photographs": len(best),
    "give_somebody": int(sum(score >= THRESHOLD for score in best)),
    "estimate_gives_somebody": sum(len(estimated(image)) > 0 for image in nobody),
    "best_scores": sorted((round(float(score), 3) for score in best), reverse=True),
    "black_grey_white_noise": round(max(float(max([0, *finder(image)[:, 4]])) for image in blank), 3),
    "estimate_gives_of_black_grey_white_noise": sum(len(estimated(image)) for image in blank),
}
print(result["without_people"])

lspet = rp.data.Lsp(options.data / "lspet", split="test")
result["lspet_test"] = {"photographs": len(lspet)}
for name, find in {
    "original": original,
    "one look": one_look,
    "PeopleFinder": PeopleFinder(),
    "estimate": estimated,
}.items():
    right, counts = [], []
    for sample in lspet:
        found = find(read_image(sample.image))
        joints = sample.keypoints[np.asarray(sample.visible, bool)]
        # The box of the joints has no hands, feet and hair: grown by an eighth on each side it is near to the person's.
        grow = np.ptp(joints, axis=0) / 8
        truth = np.concatenate([joints.min(0) - grow, joints.max(0) + grow])[None]
        right.append(len(found) > 0 and bool(overlaps(found[:1], truth)[0, 0] >= 0.5))
        counts.append(len(found))
    figures = {"best_box_right": round(float(np.mean(right)), 4), "interval": interval(right, np.mean)}
    if name in ("PeopleFinder", "estimate"):
        figures["nobody_found"] = round(float(np.mean(np.array(counts) == 0)), 4)
        figures["several_found"] = round(float(np.mean(np.array(counts) > 1)), 4)
    result["lspet_test"][name] = figures
    print(name, figures, flush=True)

results = Path(__file__).parent / "results" / "people_finder.json"
results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
