r"""How good is the bundled preset on photographs that it never saw, beside MoveNet and MediaPipe on the same people?

usage: python benchmarks/people_labels.py --data ../shared/data --output runs/people
       keras-regpose train --recipe mobilenetv2_rle_people --annotations runs/people/train.json \
           --images ../shared/data --val-annotations runs/people/val.json --start movenet-lightning.json \
           --output runs/people/run
       keras-regpose evaluate runs/people/run/best --annotations runs/people/val.json --images ../shared/data \
           --recalibrated runs/people/recalibrated
       python benchmarks/people.py --preset runs/people/recalibrated --work runs/people
LSPET's test split, its own labels as they are, box = extent of the joints × 1.25, one look without flip test: PCK@0.2
of the torso over the 12 joints that COCO has, too, with 95 % intervals from 2,000 bootstrap draws of people, and paired
ones of the differences. Lightning and Thunder look at the same crops; Thunder also at the best of four rotations by its
mean score. coco_mini's 68 validation people: AP with annotated boxes (bootstrap over pictures). Background: for each
person a box of the same size on the same picture where nobody is (the finder of people scores below .05 there and no
annotation lies there); AUROC of the mean expected OKS, people against background. With --mediapipe PYTHON, an
environment that has mediapipe 0.10.21, its single-person path looks at the same regions. The answers of all networks
are kept in --work: started again, it goes on. Writes benchmarks/results/people.json, and sheets of the best, median and
worst people into --work.
"""

import argparse
import dataclasses
import json
import subprocess
from pathlib import Path

import numpy as np
from environment import environment
from people_labels import COCO_OF_LSP, TEACHERS, as_coco, background, convert, network, people_in

import keras_regpose as rp
from keras_regpose import geometry
from keras_regpose.evaluation.calibration import calibrate_predictions
from keras_regpose.evaluation.evaluate import predict_samples, score_predictions
from keras_regpose.evaluation.sheets import prediction_sheet
from keras_regpose.images import read_image, save_picture
from keras_regpose.metrics import expected_oks, torso_size
from keras_regpose.recipe import Recipe

RESULT = Path(__file__).parent / "results" / "people.json"
LSP, COCO = list(COCO_OF_LSP), list(COCO_OF_LSP.values())
JOINTS = ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")
DRAWS = 2000

MEDIAPIPE = """
import json, sys
import numpy as np, cv2, mediapipe as mp
pose = mp.solutions.pose.Pose(static_image_mode=True, model_complexity=1)
OF = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]  # COCO's keypoints among BlazePose's
for line in sys.stdin:
    path, x, y, side = json.loads(line)
    matrix = np.array([[1, 0, -x], [0, 1, -y]], float)
    crop = cv2.warpAffine(cv2.imread(path), matrix, (round(side), round(side)))
    found = pose.process(crop[..., ::-1].copy()).pose_landmarks
    answer = [] if found is None else [[p.x * side + x, p.y * side + y] for p in (found.landmark[i] for i in OF)]
    print(json.dumps(answer), flush=True)
"""


def teacher(work, name, rotations, samples):
    """Returns (N, 17, 3) keypoints x, y in image pixels and scores of a network of MoveNet on people's crops."""
    store = work / f"test_{name}_{len(rotations)}_{len(samples)}.npy"
    if store.exists():
        return np.load(store)
    side, session, answers = TEACHERS[name], network(work, name), []
    for number, sample in enumerate(samples):
        image, region = read_image(sample.image), geometry.box_to_center_scale(sample.box)
        seen = []
        for turn in rotations:
            cut = geometry.cut_region(image, *region, (side, side), float(turn))
            found = session.run(None, {session.get_inputs()[0].name: cut.crop[None].astype(np.int32)})[0].reshape(17, 3)
            back = np.linalg.inv(np.vstack([cut.matrix, [0, 0, 1]]))[:2]
            seen.append(np.c_[geometry.transform_points(found[:, 1::-1] * side, back), found[:, 2]])
        answers.append(max(seen, key=lambda one: one[:, 2].mean()))
        if number % 100 == 0:
            print(name, len(rotations), number, flush=True)
    np.save(store, np.array(answers))
    return np.array(answers)


def mediapipe(python, samples):
    """Returns (N, 17, 2) keypoints of MediaPipe in the same regions, NaN where it finds nobody."""
    lines = []
    for sample in samples:
        center, scale = geometry.box_to_center_scale(sample.box)
        side = float(scale.max())
        lines.append(json.dumps([sample.image, *(center - side / 2).tolist(), side]))
    done = subprocess.run(
        [python, "-c", MEDIAPIPE], input="\n".join(lines), text=True, stdout=subprocess.PIPE, check=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return np.array([answer or np.full((17, 2), np.nan) for answer in answers])


def as_labelled(sample):
    """Returns a person of LSPET with COCO's keypoints."""
    points = as_coco(sample).astype(np.float32)
    return dataclasses.replace(sample, keypoints=points[:, :2], visible=points[:, 2])


def with_interval(right, labelled, draws):
    """Returns the PCK of (N, 12) right and labelled joints, and its (DRAWS,) values for draws of people."""
    rows = np.array([right.sum(1), labelled.sum(1)])
    drawn = rows[:, draws].sum(-1)
    return rows[0].sum() / rows[1].sum(), drawn[0] / drawn[1]


def spread(value, drawn):
    return [round(float(number), 4) for number in (value, *np.quantile(drawn, (0.025, 0.975)))]


def auroc(people, others):
    """The share of pairs in which the person has the higher score."""
    return float((people[:, None] > others).mean() + 0.5 * (people[:, None] == others).mean())


def background_boxes(work, samples, generator):
    """Returns for each sample a box of background of its size on its picture, or None."""
    everybody = {}
    for sample in samples:
        everybody.setdefault(sample.image, []).append([*sample.box.tolist(), 1.0])
    boxes = []
    for sample in samples:
        image = read_image(sample.image)
        known = everybody[sample.image] + people_in(work, image).tolist()
        boxes.append(background(sample.box, known, (image.shape[1], image.shape[0]), generator))
    return boxes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", type=Path, default=Path("../shared/models/movenet"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--mediapipe", help="Python of an environment with mediapipe 0.10.21")
    parser.add_argument("--settings", default="", help="the training command, kept beside the figures")
    options = parser.parse_args()
    convert(options.models, options.work)
    model = rp.from_preset(options.preset)
    generator = np.random.default_rng(0)
    people = len(rp.data.Coco(options.work / "train.json", options.data))
    training = {"command": options.settings, "people": people, "epochs": Recipe.of("mobilenetv2_rle_people").epochs}
    result = {"environment": environment(), "training": training}

    samples = list(rp.data.Lsp(options.data / "lspet", split="test"))
    truth = np.stack([sample.keypoints for sample in samples])
    labelled = np.stack([sample.visible for sample in samples])[:, LSP] > 0
    visible = np.stack([sample.visible for sample in samples])
    torso = torso_size(truth, visible, rp.LSP14)[:, None]
    measured = np.isfinite(torso[:, 0]) & (torso[:, 0] > 0)
    labelled &= measured[:, None]
    torso = np.where(measured[:, None], torso, 1)
    unlabelled = [
        rp.data.Sample(
            one.image, one.box, np.zeros((17, 2), np.float32), np.zeros(17, np.float32), one.image_id, one.id
        )
        for one in samples
    ]
    poses, positions = predict_samples(model, rp.data.People(unlabelled, rp.COCO17))
    assert len(positions) == len(samples)
    found = {"ours": poses.keypoints}
    for name, rotations in (
        *(("movenet-lightning", (0,)), ("movenet-thunder", (0,))),
        *(("movenet-lightning", (0, 90, 180, 270)), ("movenet-thunder", (0, 90, 180, 270))),
    ):
        label = name.removeprefix("movenet-") + (", best of four rotations" if len(rotations) > 1 else "")
        found[label] = teacher(options.work, name, rotations, samples)[..., :2]
    if options.mediapipe:
        found["mediapipe"] = mediapipe(options.mediapipe, samples)
    draws = generator.integers(len(samples), size=(DRAWS, len(samples)))
    figures, drawn = {}, {}
    names = [rp.COCO17.keypoints[place] for place in COCO]
    for name, points in found.items():
        away = np.linalg.norm(points[:, COCO] - truth[:, LSP], axis=-1) / torso
        right = (away < 0.2) & labelled
        value, drawn[name] = with_interval(right, labelled, draws)
        figures[name] = {"PCK@0.2": spread(value, drawn[name])}
        for joint in JOINTS:
            places = [place for place, one in enumerate(names) if one.endswith(joint)]
            figures[name][joint] = spread(*with_interval(right[:, places], labelled[:, places], draws))
        if name != "ours":
            difference = drawn["ours"] - drawn[name]
            figures[name]["ours minus this"] = spread(figures["ours"]["PCK@0.2"][0] - value, difference)
    left_out = int((~measured).sum())
    result["lspet test, 12 joints"] = {"people": len(samples) - left_out, "left_out": left_out, **figures}
    calibration = calibrate_predictions(poses, positions, [as_labelled(one) for one in samples])
    protocol = rp.preset_info("mobilenetv2_rle_people")["evaluation"]
    pck = {"PCK@0.2": figures["ours"]["PCK@0.2"][0]}
    pck |= {name: value[0] for name, value in figures["ours"].items() if name in JOINTS}
    about = {"people": len(samples) - left_out, "left_out": left_out, "flip_test": False}
    names = ("count", "factor", "binned_error", "coverage_error", "rank_correlation")
    found_calibration = {name: round(getattr(calibration, name), 4) for name in names}
    result["evaluations"] = [
        {
            "data": protocol["data"],
            "boxes": protocol["boxes"],
            **about,
            "metrics": pck,
            "calibration": found_calibration,
        }
    ]
    print(json.dumps(result["lspet test, 12 joints"], indent=1), flush=True)

    folder = options.data / "coco_mini"
    coco = rp.data.Coco(folder / "annotations/person_keypoints_val2017.json", folder / "val2017")
    ours = score_predictions(*predict_samples(model, coco), coco, model.input_size)
    metrics = {name: round(ours[name], 4) for name in ("AP", "AR")}
    about = {"data": "44 pictures of COCO val2017", "people": len(coco), "boxes": "annotated", "flip_test": False}
    result["evaluations"].append(about | {"metrics": metrics})
    result["coco_mini val, annotated boxes"] = {
        "people": len(coco),
        "ours": {name: ours.intervals[name] for name in ("AP", "AR")},
    }
    for name in TEACHERS:
        answers = teacher(options.work, name, (0,), list(coco))
        theirs, places = predict_samples(model, coco)
        theirs = theirs.__class__(
            **vars(theirs) | {"keypoints": answers[places, :, :2], "scores": answers[places, :, 2]}
        )
        scores = score_predictions(theirs, places, coco, model.input_size)
        result["coco_mini val, annotated boxes"][name.removeprefix("movenet-")] = {
            "AP": scores.intervals["AP"],
            "ours minus this": ours.minus(scores)["AP"],
        }
    print(json.dumps(result["coco_mini val, annotated boxes"], indent=1), flush=True)

    result["background"] = {}
    for name, people in (("lspet test", unlabelled), ("coco_mini val", list(coco))):
        boxes = background_boxes(options.work, people, generator)
        pairs = [(sample, box) for sample, box in zip(people, boxes, strict=True) if box is not None]
        scores = []
        for chosen in ([sample.box for sample, _ in pairs], [box for _, box in pairs]):
            there = [
                rp.data.Sample(
                    sample.image, np.array(box, np.float32), np.zeros((17, 2), np.float32), np.zeros(17), 0, i
                )
                for i, ((sample, _), box) in enumerate(zip(pairs, chosen, strict=True))
            ]
            seen, _ = predict_samples(model, rp.data.People(there, rp.COCO17))
            sides = np.array(chosen)[:, 2:] - np.array(chosen)[:, :2]
            scores.append(expected_oks(seen.sigmas, sides.prod(1), rp.COCO17.sigmas).mean(1))
        repeated = generator.integers(len(pairs), size=(DRAWS, len(pairs)))
        values = [auroc(scores[0][one], scores[1][one]) for one in repeated[:200]]
        medians = [round(float(np.median(one)), 3) for one in scores]
        result["background"][name] = {"pairs": len(pairs), "AUROC": spread(auroc(*scores), values), "medians": medians}
    print(json.dumps(result["background"], indent=1), flush=True)
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    away = (np.linalg.norm(found["ours"][:, COCO] - truth[:, LSP], axis=-1) / torso * labelled).sum(1)
    order = np.argsort(away / np.maximum(labelled.sum(1), 1))
    middle = len(order) // 2
    people = rp.data.People(unlabelled, rp.COCO17)
    for name, chosen in (("best", order[:24]), ("median", order[middle - 12 : middle + 12]), ("worst", order[-24:])):
        save_picture(options.work / f"{name}.png", prediction_sheet(poses[chosen], positions[chosen], people))
    poses, positions = predict_samples(model, coco)
    save_picture(options.work / "coco_mini.png", prediction_sheet(poses[:40], positions[:40], coco))


if __name__ == "__main__":
    main()
