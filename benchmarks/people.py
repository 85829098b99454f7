r"""How good is the bundled preset on photographs that it never saw, beside MoveNet and MediaPipe on the same people?

usage: python benchmarks/people_labels.py --data ../shared/data --output runs/people
       python zoo/movenet.py ../shared/models/movenet/movenet-lightning.json --annotations runs/people/train.json \
           --images ../shared/data --output runs/people/movenet
       keras-regpose train --recipe mobilenetv2_rle_people --preset runs/people/movenet \
           --annotations runs/people/train.json --images ../shared/data --val-annotations runs/people/val.json \
           --output runs/people/run
       keras-regpose evaluate runs/people/run/best --annotations runs/people/val.json --images ../shared/data \
           --recalibrated runs/people/recalibrated
       python benchmarks/people.py --preset runs/people/recalibrated --work runs/people
LSPET's test split, its own labels as they are, box = extent of the joints × 1.25, one look without flip test: PCK@0.2
of the torso over the 12 joints that COCO has, too, with 95 % intervals from 2,000 bootstrap draws of people, and paired
ones of the differences. Lightning and Thunder look at the same crops; Thunder also at the best of four rotations by its
mean score. coco_mini's 68 validation people: AP with annotated boxes (bootstrap over pictures). Background: for each
person a box of the same size on the same picture where nobody is (the finder of people scores below .05 there and no
annotation lies there); AUROC of the mean expected OKS, people against background; and AP of LSPET's people where both
boxes are given, by the ways to score. σ: how often the truth lies in intervals and regions of 50, 80 and 95 %, as Keras
and as an int8 export give them, on the test people, whom neither training nor recalibration saw. The whole path: from
pictures alone, find, cut, estimate; AP on coco_mini, and PCK on LSPET of the best person. With --mediapipe PYTHON, an
environment that has mediapipe 0.10.21, its single-person path looks at the same regions, and at the whole pictures.
Multiply-adds are those of the convolutions and matrix products of one crop. MoveNet's answers are kept in --work:
started again, it goes on. Writes benchmarks/results/people.json, and sheets of the best, median and worst people into
--work.
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
from keras_regpose.evaluation.calibration import calibrate_predictions, coverages, score_error
from keras_regpose.evaluation.coco import coco_evaluation
from keras_regpose.evaluation.evaluate import predict_samples, score_predictions
from keras_regpose.evaluation.intervals import interval, over_pictures
from keras_regpose.evaluation.sheets import prediction_sheet
from keras_regpose.export import calibration_crops
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


def mediapipe(python, samples, whole=False):
    """Returns (N, 17, 2) keypoints of MediaPipe in the same regions or whole pictures, NaN where it finds nobody."""
    lines = []
    for sample in samples:
        center, scale = geometry.box_to_center_scale(sample.box)
        side = float(max(read_image(sample.image).shape) if whole else scale.max())
        corner = [0.0, 0.0] if whole else (center - side / 2).tolist()
        lines.append(json.dumps([sample.image, *corner, side]))
    done = subprocess.run(
        [python, "-c", MEDIAPIPE], input="\n".join(lines), text=True, stdout=subprocess.PIPE, check=True
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return np.array([answer or np.full((17, 2), np.nan) for answer in answers])


def multiply_adds(path):
    """Returns the millions of multiply-adds of an ONNX file's convolutions and matrix products, for one crop."""
    import onnx

    model = onnx.load(path)
    for value in model.graph.input:
        for side in value.type.tensor_type.shape.dim:
            side.dim_value = side.dim_value or 1
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*graph.value_info, *graph.output, *graph.input)
    shapes = {one.name: [side.dim_value for side in one.type.tensor_type.shape.dim] for one in values}
    shapes |= {one.name: list(one.dims) for one in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            kernel, output = shapes[node.input[1]], shapes[node.output[0]]
            total += np.prod(output[1:]) * (np.prod(kernel[1:]) if node.op_type == "Conv" else kernel[0])
    return round(float(total) / 1e6, 1)


def blazepose(python, work):
    """Returns the ONNX file of the network of landmarks in MediaPipe's package, version "full"."""
    code = "import pathlib, mediapipe; print(pathlib.Path(mediapipe.__file__).parent)"
    folder = subprocess.run([python, "-c", code], text=True, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1]
    import tf2onnx

    file = Path(folder) / "modules/pose_landmark/pose_landmark_full.tflite"
    tf2onnx.convert.from_tflite(str(file), output_path=str(work / "blazepose.onnx"), opset=18)
    return work / "blazepose.onnx"


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


def blank(sample, box, number):
    """Returns an unlabelled person of COCO's keypoints with a box in a sample's picture."""
    nothing = np.zeros((17, 3), np.float32)
    return rp.data.Sample(
        sample.image, np.array(box, np.float32), nothing[:, :2], nothing[:, 2], sample.image_id, number
    )


def as_predictions(poses, image_ids):
    """Returns people as COCO's evaluation takes them."""
    areas = (poses.boxes[:, 2:] - poses.boxes[:, :2]).prod(1)
    return [
        {
            "image_id": image_id,
            "keypoints": one.keypoints[0],
            "scores": one.scores[0],
            "sigmas": one.sigmas[0],
            "box_score": float(one.box_scores[0]),
            "area": float(area) * geometry.BOX_PADDING**2,
            "box": one.boxes[0],
        }
        for one, image_id, area in zip(poses, image_ids, areas, strict=True)
    ]


def ranked(predictions, annotations, modes):
    """Returns AP by the ways to score, each with its interval, and that of the difference to the last of them."""
    found = {}
    for mode in modes:
        evaluation = coco_evaluation(predictions, annotations, mode, "oks", sigmas=rp.COCO17.sigmas)
        found[mode] = float(evaluation.stats[0]), over_pictures(evaluation).drawn()["AP"]
    value, drawn = found[modes[-1]]
    rows = {mode: {"AP": interval(one, draws)} for mode, (one, draws) in found.items()}
    for mode in modes[:-1]:
        rows[mode][f"{modes[-1]} minus this"] = interval(value - found[mode][0], drawn - found[mode][1])
    return rows


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
    model, fast = rp.from_preset(options.preset), rp.from_preset(options.preset, runtime="onnx")
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
    unlabelled = [blank(one, one.box, one.id) for one in samples]
    poses, positions = predict_samples(model, rp.data.People(unlabelled, rp.COCO17))
    assert len(positions) == len(samples)
    found = {"ours": poses.keypoints}
    for name, rotations in (
        *(("movenet-lightning", (0,)), ("movenet-thunder", (0,))),
        *(("movenet-lightning", (0, 90, 180, 270)), ("movenet-thunder", (0, 90, 180, 270))),
    ):
        label = name.removeprefix("movenet-") + (", best of four rotations" if len(rotations) > 1 else "")
        found[label] = teacher(options.work, name, rotations, samples)[..., :2]
    finder_path = np.full((len(samples), 17, 2), np.nan)
    for number, sample in enumerate(samples):
        seen = fast.estimate(sample.image)
        if len(seen):
            finder_path[number] = seen.keypoints[int(np.argmax(seen.box_scores * seen.expected_oks().mean(1)))]
    found["ours, from the picture alone"] = finder_path
    if options.mediapipe:
        found["mediapipe"] = mediapipe(options.mediapipe, samples)
        found["mediapipe, from the picture alone"] = mediapipe(options.mediapipe, samples, whole=True)
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
        against = "ours, from the picture alone" if name == "mediapipe, from the picture alone" else "ours"
        if name != against:
            difference = drawn[against] - drawn[name]
            figures[name][f"{against} minus this"] = spread(figures[against]["PCK@0.2"][0] - value, difference)
    left_out = int((~measured).sum())
    result["lspet test, 12 joints"] = {"people": len(samples) - left_out, "left_out": left_out, **figures}
    labelled_samples = [as_labelled(one) for one in samples]
    calibration = calibrate_predictions(poses, positions, labelled_samples)
    crops = calibration_crops(rp.data.Lsp(options.data / "lspet", split="val"), model.input_size)
    model.export(options.work / "int8.onnx", precision="int8", calibration=crops, verbose=False)
    exported = rp.load_exported(options.work / "int8.onnx")
    in_int8 = predict_samples(exported, rp.data.People(unlabelled, rp.COCO17))
    scale = geometry.fix_aspect_ratio(geometry.box_to_center_scale(poses.boxes)[1], model.input_size)
    moved = (in_int8[0].keypoints - poses.keypoints) / scale[:, None] * model.input_size[::-1]
    moved = float(np.median(np.linalg.norm(moved, axis=-1)))
    result["calibration, lspet test"] = {"int8 moves keypoints by, px of the crop": round(moved, 3)}
    for name, one in (("float32", model), ("int8", exported)):
        answers = (poses, positions) if one is model else in_int8
        figures_of = calibrate_predictions(*answers, labelled_samples)
        result["calibration, lspet test"][name] = {
            "mean |error| / σ": round(figures_of.factor, 4),
            "ENCE": round(figures_of.binned_error, 4),
            "rank correlation of σ and |error|": round(figures_of.rank_correlation, 4),
            "expected OKS against OKS, ECE": round(score_error(*answers, labelled_samples), 4),
            "truth within": {
                share: [round(number, 4) for number in value]
                for share, value in coverages(*answers, labelled_samples, getattr(one, "flow", None)).items()
            },
        }
    print(json.dumps(result["calibration, lspet test"], indent=1, ensure_ascii=False), flush=True)
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
            "coverage": {name: result["calibration, lspet test"][name]["truth within"] for name in ("float32", "int8")},
        }
    ]
    print(json.dumps(result["lspet test, 12 joints"], indent=1), flush=True)

    folder = options.data / "coco_mini"
    annotations = folder / "annotations/person_keypoints_val2017.json"
    coco, content = rp.data.Coco(annotations, folder / "val2017"), json.loads(annotations.read_text())
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
    people = []
    names = {Path(image["file_name"]).name: image["id"] for image in content["images"]}
    for path in sorted((folder / "val2017").glob("*.jpg")):
        seen = fast.estimate(path)
        people += as_predictions(seen, [names[path.name]] * len(seen)) if path.name in names else []
    rows = ranked(people, coco.truth(), ("bbox_rle", "expected_oks"))
    result["coco_mini val, from the pictures alone"] = {"people found": len(people), **rows}
    if options.mediapipe:
        # It finds one person, and knows no score: each is as sure as the other.
        firsts = list({one.image: one for one in coco}.values())
        answers = mediapipe(options.mediapipe, firsts, whole=True)
        results = [
            {"image_id": one.image_id, "keypoints": points, "scores": np.ones(17), "box_score": 1.0}
            for one, points in zip(firsts, answers, strict=True)
            if np.isfinite(points).all()
        ]
        evaluation = coco_evaluation(results, coco.truth(), "bbox", "oks", sigmas=rp.COCO17.sigmas)
        value = interval(float(evaluation.stats[0]), over_pictures(evaluation).drawn()["AP"])
        result["coco_mini val, from the pictures alone"]["mediapipe"] = {"people found": len(results), "AP": value}
    model.export(options.work / "float32.onnx", verbose=False)
    networks = {"ours": "float32.onnx"} | {name.removeprefix("movenet-"): f"{name}.onnx" for name in TEACHERS}
    adds = {name: multiply_adds(options.work / file) for name, file in networks.items()}
    if options.mediapipe:
        adds["mediapipe's network of landmarks"] = multiply_adds(blazepose(options.mediapipe, options.work))
    result["millions of multiply-adds for a crop"] = adds
    for name in ("coco_mini val, annotated boxes", "coco_mini val, from the pictures alone"):
        print(json.dumps(result[name], indent=1), flush=True)

    result["background"] = {}
    for name, people in (("lspet test", unlabelled), ("coco_mini val", list(coco))):
        boxes = background_boxes(options.work, people, generator)
        pairs = [(sample, box) for sample, box in zip(people, boxes, strict=True) if box is not None]
        scores, everybody = [], []
        truth_of = json.loads((options.work / "test.json").read_text()) if name == "lspet test" else content
        ids = {Path(image["file_name"]).name: image["id"] for image in truth_of["images"]}
        for chosen in ([sample.box for sample, _ in pairs], [box for _, box in pairs]):
            there = [blank(sample, box, i) for i, ((sample, _), box) in enumerate(zip(pairs, chosen, strict=True))]
            seen, _ = predict_samples(model, rp.data.People(there, rp.COCO17))
            sides = np.array(chosen)[:, 2:] - np.array(chosen)[:, :2]
            scores.append(expected_oks(seen.sigmas, sides.prod(1), rp.COCO17.sigmas).mean(1))
            everybody += as_predictions(seen, [ids[Path(one.image).name] for one in there])
        repeated = generator.integers(len(pairs), size=(DRAWS, len(pairs)))
        values = [auroc(scores[0][one], scores[1][one]) for one in repeated[:200]]
        medians = [round(float(np.median(one)), 3) for one in scores]
        result["background"][name] = {"pairs": len(pairs), "AUROC": spread(auroc(*scores), values), "medians": medians}
        modes = ("bbox_rle", "keypoint", "expected_oks")
        result["background"][name]["AP where people and background are given"] = ranked(everybody, truth_of, modes)
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
