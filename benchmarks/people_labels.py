r"""Which labels does the preset mobilenetv2_rle_people learn from? People's own, corrected by two teachers.

usage: python benchmarks/people_labels.py --data ../shared/data --models ../shared/models/movenet --output runs/people
Thunder and Lightning of MoveNet look at each person of LSPET and of the training part of COCO's pictures: upright, and
turned by 90, 180 and 270 degrees where Thunder's mean score upright is below .6 (the turn with the best one counts).
Against them each label is kept, exchanged, replaced or dropped:
- left and right are exchanged where that brings the label nearer to both teachers by half the torso or more on average;
- a joint is confirmed where a teacher lies within .3 torso, and has the weight 1;
- it is replaced by the teachers' mean where they agree (.25 torso) and are more than .5 torso away from it;
- all others are kept with the weight .6;
- joints without a label, and the face, are the teachers' mean where they agree, with the weight .6 (face: 1).
From the training photographs of LSPET come boxes of background, too, as large as the person, where the finder of people
(MultiPose) scores below .05: their "keypoints" are drawn evenly over the box with the weight .3, so that the most
likely answer is the middle and σ is wide. Four photographs that the project shows are left out.
Answers of the networks are kept in the output's folder: started again, it goes on. Writes train.json, val.json and
test.json (COCO's format, v is the weight) there, and the share of each decision to
benchmarks/results/people_labels.json.
"""

import argparse
import concurrent.futures
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from environment import environment

import keras_regpose as rp
from keras_regpose import geometry
from keras_regpose.images import read_image
from keras_regpose.metrics import torso_size

RESULT = Path(__file__).parent / "results" / "people_labels.json"
TEACHERS = {"movenet-thunder": 256, "movenet-lightning": 192}
SHOWN = ("000000129648.jpg", "000000000790.jpg", "000000234748.jpg", "000000397133.jpg")
# Of COCO's 17 keypoints those of LSP's 14 by number; neck and top of the head are not COCO's.
COCO_OF_LSP = {0: 16, 1: 14, 2: 12, 3: 11, 4: 13, 5: 15, 6: 10, 7: 8, 8: 6, 9: 5, 10: 7, 11: 9}
FACE = slice(0, 5)
UPRIGHT_IS_ENOUGH = 0.6
_networks = {}


def network(folder, name):
    """Returns an ONNX Runtime session of a network of MoveNet; made of its TensorFlow.js files once."""
    if name not in _networks:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        _networks[name] = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options)
    return _networks[name]


def convert(models, folder):
    """Writes the three networks as ONNX files."""
    for name in (*TEACHERS, "movenet-multipose"):
        path = folder / f"{name}.onnx"
        if not path.exists():
            graph = folder / f"{name}.pb"
            subprocess.run([sys.executable, models / "tfjs_to_graphdef.py", models / f"{name}.json", graph], check=True)
            parts = ["--graphdef", graph, "--inputs", "input:0", "--outputs", "Identity:0", "--output", path]
            subprocess.run([sys.executable, "-m", "tf2onnx.convert", *map(str, parts)], check=True)


def taught(folder, image, box):
    """Returns {teacher: (17, 3) x, y in image pixels and score} and the turn in degrees that was seen best."""
    center, scale = geometry.box_to_center_scale(box)

    def look(name, turn):
        side = TEACHERS[name]
        cut = geometry.cut_region(image, center, scale, (side, side), float(turn))
        session = network(folder, name)
        answer = session.run(None, {session.get_inputs()[0].name: cut.crop[None].astype(np.int32)})[0].reshape(17, 3)
        back = np.linalg.inv(np.vstack([cut.matrix, [0, 0, 1]]))[:2]
        return np.c_[geometry.transform_points(answer[:, 1::-1] * side, back), answer[:, 2]]

    seen = {0: look("movenet-thunder", 0)}
    if seen[0][:, 2].mean() < UPRIGHT_IS_ENOUGH:
        seen |= {turn: look("movenet-thunder", turn) for turn in (90, 180, 270)}
    best = max(seen, key=lambda turn: seen[turn][:, 2].mean())
    return {"movenet-thunder": seen[best], "movenet-lightning": look("movenet-lightning", best)}, best


def people_in(folder, image):
    """Returns (6, 5) boxes xyxy in image pixels and scores of MultiPose, the long side at 256."""
    import cv2

    height, width = image.shape[:2]
    ratio = 256 / max(height, width)
    small = cv2.resize(image, (round(width * ratio), round(height * ratio)), interpolation=cv2.INTER_AREA)
    padded = np.zeros((1, 256, 256, 3), np.int32)
    padded[0, : small.shape[0], : small.shape[1]] = small
    session = network(folder, "movenet-multipose")
    found = session.run(None, {session.get_inputs()[0].name: padded})[0].reshape(6, 56)[:, 51:]
    return np.c_[found[:, [1, 0, 3, 2]] * 256 / ratio, found[:, 4]]


def look_at(job):
    """Returns what the networks say of one person."""
    folder, path, box, finder = job
    image = read_image(path)
    answers, turn = taught(folder, image, np.array(box, np.float32))
    found = people_in(folder, image).tolist() if finder else []
    size = [image.shape[1], image.shape[0]]
    answers = {name: np.round(answer, 3).tolist() for name, answer in answers.items()}
    return {"answers": answers, "turn": turn, "found": found, "size": size}


def look_at_all(jobs, store):
    """Returns {key: what `look_at` says} for {key: job}, from a file of lines that grows."""
    known = {}
    if store.exists():
        for line in store.read_text().splitlines():
            try:
                known |= json.loads(line)
            except ValueError:
                pass  # the last line, half written
    left = {key: job for key, job in jobs.items() if key not in known}
    with open(store, "a") as file, concurrent.futures.ProcessPoolExecutor(2) as pool:
        for number, (key, answer) in enumerate(zip(left, pool.map(look_at, left.values(), chunksize=8), strict=True)):
            file.write(json.dumps({key: answer}) + "\n")
            known[key] = answer
            if number % 200 == 0:
                file.flush()
                print(f"{number} of {len(left)}", flush=True)
    return known


def as_coco(sample):
    """Returns the (17, 3) keypoints of a sample, x, y and whether they are labelled, in COCO's order."""
    points = np.c_[sample.keypoints, sample.visible > 0].astype(float)
    if len(points) == 17:
        return points
    full = np.zeros((17, 3))
    full[list(COCO_OF_LSP.values())] = points[list(COCO_OF_LSP)]
    return full


def decide(points, answers, box, count):
    """Returns the (17, 3) keypoints x, y, weight to learn from; counts each decision."""
    thunder, lightning = (np.array(answers[name]) for name in TEACHERS)
    torso = float(torso_size(points[None, :, :2], points[None, :, 2], rp.COCO17)[0])
    if not (np.isfinite(torso) and torso > 1):
        torso = max(box[2] - box[0], box[3] - box[1]) / 4
    agree = np.hypot(*(thunder - lightning)[:, :2].T) / torso
    mean = (thunder[:, :2] + lightning[:, :2]) / 2
    sure = (thunder[:, 2] > 0.3) & (lightning[:, 2] > 0.2)

    def far(labels, teacher):
        known = (labels[5:, 2] > 0) & (teacher[5:, 2] > 0.2)
        return (np.hypot(*(labels - teacher)[5:, :2].T) / torso)[known].clip(0, 2)

    swapped = points[rp.COCO17.flip_permutation]
    gains = []
    for teacher in (thunder, lightning):
        before, after = far(points, teacher), far(swapped, teacher)
        gains.append(before.mean() - after.mean() if len(before) >= 6 and len(before) == len(after) else 0)
    if min(gains) > 0.5:
        points = swapped
        count["exchanged people"] += 1
    result = np.zeros((17, 3))
    for place in range(5, 17):
        away = [float(np.hypot(*(points[place] - teacher[place])[:2]) / torso) for teacher in (thunder, lightning)]
        together = agree[place] < 0.25 and sure[place]
        if points[place, 2] > 0:
            count["labelled joints"] += 1
            if min(away) < 0.3:
                result[place] = *points[place, :2], 1
                count["confirmed joints"] += 1
            elif together and min(away) > 0.5:
                result[place] = *mean[place], 0.6
                count["replaced joints"] += 1
            else:
                result[place] = *points[place, :2], 0.6
                count["kept joints"] += 1
        elif together:
            result[place] = *mean[place], 0.6
            count["filled joints"] += 1
    face = agree[FACE] < 0.15
    if (points[FACE, 2] > 0).any():  # COCO's own people have labelled faces
        result[FACE] = points[FACE]
        result[FACE, 2] = points[FACE, 2] > 0
    else:
        result[FACE][face & sure[FACE]] = np.c_[mean, np.ones(17)][FACE][face & sure[FACE]]
        count["points of faces"] += int((face & sure[FACE]).sum())
    return result


def background(box, found, size, generator):
    """Returns a box of background as large as the person's, or None where there is room for none."""
    side = float(np.clip(max(box[2] - box[0], box[3] - box[1]), 32, 0.7 * min(size)))
    people = [box, *(one[:4] for one in found if one[4] >= 0.05)]
    for _ in range(30):
        width, height = side * generator.uniform(0.5, 1), side * generator.uniform(0.5, 1)
        x, y = generator.uniform(0, size[0] - width), generator.uniform(0, size[1] - height)
        shared = [
            max(0, min(x + width, p[2]) - max(x, p[0])) * max(0, min(y + height, p[3]) - max(y, p[1])) for p in people
        ]
        if max(shared) < 0.1 * width * height:  # half-seen neighbours may reach in by a little
            return [x, y, x + width, y + height]
    return None


def content(people):
    """Returns the content of a COCO file of (file name, size, box, (17, 3) keypoints)."""
    images, annotations = {}, []
    for name, size, box, points in people:
        image = images.setdefault(name, {"id": len(images) + 1, "file_name": name, "width": size[0], "height": size[1]})
        x, y, right, bottom = (float(value) for value in box)
        keypoints = np.round(points, 2)
        annotations.append(
            {"id": len(annotations) + 1, "image_id": image["id"], "category_id": 1, "iscrowd": 0}
            | {"bbox": [x, y, right - x, bottom - y], "area": (right - x) * (bottom - y)}
            | {"keypoints": keypoints.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
        )
    category = {"id": 1, "name": "person", "keypoints": list(rp.COCO17.keypoints)}
    return {"images": list(images.values()), "annotations": annotations, "categories": [category]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models/movenet"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    convert(options.models, options.output)
    folder = options.data / "coco_mini"
    coco = rp.data.Coco(folder / "annotations/person_keypoints_train2017.json", folder / "train2017")
    parts = {split: list(rp.data.Lsp(options.data / "lspet", split=split)) for split in ("train", "val", "test")}
    parts["train"] += [sample for sample in coco if Path(sample.image).name not in SHOWN]
    generator = np.random.default_rng(0)
    result = {"environment": environment()}
    for split, samples in parts.items():
        names = [str(Path(sample.image).relative_to(options.data)) for sample in samples]
        keys = [f"{name} {sample.id}" for name, sample in zip(names, samples, strict=True)]
        jobs = {
            key: (options.output, sample.image, sample.box.tolist(), split == "train" and name.startswith("lspet"))
            for key, name, sample in zip(keys, names, samples, strict=True)
        }
        known = look_at_all(jobs, options.output / f"{split}.jsonl")
        decisions = ("people", "exchanged people", "labelled joints", "confirmed joints", "replaced joints")
        decisions += ("kept joints", "filled joints", "points of faces", "boxes of background", "turned people")
        count = dict.fromkeys(decisions, 0)
        people = []
        for key, name, sample in zip(keys, names, samples, strict=True):
            seen = known[key]
            points = as_coco(sample)
            if split == "train":
                points = decide(points, seen["answers"], sample.box, count)
                place = background(sample.box, seen["found"], seen["size"], generator) if seen["found"] else None
                if place is not None and generator.random() < 0.5:
                    x, y, right, bottom = place
                    drawn = generator.uniform([x, y, 0.3], [right, bottom, 0.3], (17, 3))
                    people.append((name, seen["size"], place, drawn))
                    count["boxes of background"] += 1
            count["people"] += 1
            count["turned people"] += seen["turn"] != 0
            people.append((name, seen["size"], sample.box, points))
        (options.output / f"{split}.json").write_text(json.dumps(content(people)))
        result[split] = count
        print(split, count, flush=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
