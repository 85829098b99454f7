r"""Are wrong labels found? Planted ones, among drawn people and among photographs with wrong labels of their own.

usage: python benchmarks/wrong_labels.py drawn
       python benchmarks/wrong_labels.py photographs --data ../shared/data/lspet --models ../shared/models
In each draw 5 % of the people get one of four wrong labels: left and right exchanged, a joint moved onto another's
place or by half a torso, or the label of another person, fitted into the box. Boxes stay what they were. `judge_labels`
ranks the people; the same ranking by |error| / σ of the preset alone stands beside it. The preset's features are
computed once, heads and flows are fitted for each draw. "Confirmed" are photographs in which Thunder and Lightning of
MoveNet both find every joint within half a torso of its label; wrong labels of their own are rare there. What the two
find is kept in --cache, as finished draws are: started again, it goes on. Writes benchmarks/results/wrong_labels.json.
With --report FOLDER nothing is planted: the report of `inspect` shows the people whose labels are the least likely.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from environment import environment

import keras_regpose as rp
from keras_regpose import geometry
from keras_regpose.data.people import People
from keras_regpose.images import read_image
from keras_regpose.inspection.features import CropFeatures, crop_features
from keras_regpose.inspection.judge import judge_labels
from keras_regpose.inspection.report import write_report
from keras_regpose.metrics import torso_size
from keras_regpose.presets import from_preset
from keras_regpose.progress import progress_bar

KINDS = ("sides swapped", "another joint's place", "half a torso", "another person")
RESULT = Path(__file__).parent / "results" / "wrong_labels.json"
TEACHERS = {"movenet-thunder": 256, "movenet-lightning": 192}


def usual_torso(points, visible, boxes, skeleton):
    """(N,) lengths of torsos in pixels, a quarter of the box's height where the torso is not labelled."""
    torso = torso_size(points, visible, skeleton)
    return np.where(np.isfinite(torso) & (torso > 0), torso, (boxes[:, 3] - boxes[:, 1]) / 4)


def spoil(points, visible, boxes, skeleton, seed, share=0.05):
    """Returns (N, K, 2) points of which some are wrong, their (N, K) visible flags, and the (N,) kinds, −1 for none."""
    generator, points, visible = np.random.default_rng(seed), points.copy(), visible.copy()
    clean, flags = points.copy(), visible.copy()
    torso = usual_torso(clean, flags, boxes, skeleton)
    kinds = np.full(len(points), -1)
    chosen = generator.permutation(len(points))[: round(share * len(points))]
    kinds[chosen] = np.arange(len(chosen)) % len(KINDS)
    for i in chosen:
        labelled = np.flatnonzero(flags[i] > 0)
        if kinds[i] == 0:
            points[i], visible[i] = clean[i, skeleton.flip_permutation], flags[i, skeleton.flip_permutation]
        elif kinds[i] == 1:
            far = [(a, b) for a in labelled for b in labelled if np.hypot(*(clean[i, a] - clean[i, b])) > torso[i] / 2]
            if not far:
                kinds[i] = -1
                continue
            a, b = far[generator.integers(len(far))]
            points[i, a] = clean[i, b]
        elif kinds[i] == 2:
            angle = generator.uniform(0, 2 * np.pi)
            points[i, generator.choice(labelled)] += torso[i] / 2 * np.array([np.cos(angle), np.sin(angle)])
        else:
            other = generator.choice(np.setdiff1d(np.arange(len(points)), [i]))
            corner, size = boxes[other, :2], boxes[other, 2:] - boxes[other, :2]
            points[i] = (clean[other] - corner) / size * (boxes[i, 2:] - boxes[i, :2]) + boxes[i, :2]
            visible[i] = flags[other]
    return points.astype(np.float32), visible, kinds


def figures(scores, kinds, chosen):
    """Average precision, and the share of each kind among the first 2n, of the chosen people."""
    scores, kinds = scores[chosen], kinds[chosen]
    order = np.argsort(-scores, kind="stable")
    wrong = kinds[order] >= 0
    precision = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
    first = order[: 2 * wrong.sum()]
    found = {name: [int((kinds[first] == k).sum()), int((kinds == k).sum())] for k, name in enumerate(KINDS)}
    return {"people": len(kinds), "planted": int(wrong.sum()), "AP": float(precision[wrong].mean()), "found": found}


def in_both(skeleton, other):
    names = [name for name in skeleton.keypoints if name in other.keypoints]
    return [skeleton.index(name) for name in names], [other.index(name) for name in names]


def plain(features, points, visible, people, input_size):
    """The ranking by the largest |error| / σ of the preset alone, for the keypoints that it has by name."""
    center, scale = geometry.box_to_center_scale(np.array(people.field("box")))
    scale = geometry.fix_aspect_ratio(scale, input_size)
    ours, theirs = in_both(people.skeleton, features.skeleton)
    units = (points[:, ours] - center[:, None]) / scale[:, None] + 0.5
    mean, sigma = features.outputs[:, 0, theirs, :2], features.outputs[:, 0, theirs, 2:]
    return np.where(visible[:, ours] > 0, np.abs((units - mean) / sigma).mean(-1), 0).mean(1)


def teachers(people, name, models, cache):
    """(N, 2, 17, 2) places that Thunder and Lightning find, at the quarter turn where Thunder is surest."""
    path = cache / f"teachers-{name}.npy"
    if path.is_file():
        return np.load(path)
    import tensorflow as tf

    networks = {}
    for teacher, side in TEACHERS.items():
        graph = cache / f"{teacher}.pb"
        script = models / "movenet" / "tfjs_to_graphdef.py"
        subprocess.run([sys.executable, script, models / "movenet" / f"{teacher}.json", graph], check=True)
        definition = tf.compat.v1.GraphDef.FromString(graph.read_bytes())
        wrapped = tf.compat.v1.wrap_function(lambda d=definition: tf.import_graph_def(d, name=""), [])
        networks[teacher] = wrapped.prune("input:0", "Identity:0"), side

    def run(teacher, image, box, rotation):
        network, side = networks[teacher]
        center, scale = geometry.box_to_center_scale(box)
        scale = geometry.fix_aspect_ratio(scale, (side, side))
        matrix = geometry.crop_matrix(center, scale, rotation, (side, side))
        crop = geometry.crop_image(image, matrix, (side, side))
        found = network(tf.constant(crop[None].astype(np.int32))).numpy().reshape(17, 3)
        back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
        return geometry.transform_points(found[:, 1::-1] * side, back), found[:, 2].mean()

    rows = []
    for sample in progress_bar(iterable=people, desc="teachers", unit=" people"):
        image = read_image(sample.image)
        turned = [run("movenet-thunder", image, sample.box, turn) for turn in (0, 90, 180, 270)]
        best = int(np.argmax([score for _, score in turned]))
        rows.append([turned[best][0], run("movenet-lightning", image, sample.box, 90 * best)[0]])
    np.save(path, np.array(rows, np.float32))
    return np.load(path)


def confirmed(people, found):
    """Which people have every labelled joint within half a torso of what each teacher finds there."""
    points, visible = np.array(people.field("keypoints")), np.array(people.field("visible"))
    ours, theirs = in_both(people.skeleton, rp.COCO17)
    apart = np.linalg.norm(found[:, :, theirs] - points[:, None, ours], axis=-1)
    near = apart < torso_size(points, visible, people.skeleton)[:, None, None] / 2
    return (near | (visible[:, None, ours] <= 0)).all((1, 2))


def sides_alone(people, found, points, visible, boxes, seeds):
    """What share of the exchanged sides Thunder, Lightning and both put among the first 2n people.

    They know no other wrong label, so that all of these places go to sides: no ranking of all kinds by them has more.
    """
    ours, theirs = in_both(people.skeleton, rp.COCO17)
    mirrored, counts = people.skeleton.flip_permutation, {}
    size = usual_torso(points, visible, boxes, people.skeleton)[:, None]
    for seed in seeds:
        labels, flags, kinds = spoil(points, visible, boxes, people.skeleton, seed)
        paired = (flags > 0) & (flags[:, mirrored] > 0)
        off, exchanged = (
            np.linalg.norm(found[:, :, theirs] - one[:, None, ours], axis=-1) for one in (labels, labels[:, mirrored])
        )
        gains = np.where(paired[:, None, ours], off - exchanged, 0).sum(-1) / size
        gains /= np.maximum(paired[:, ours].sum(1), 1)[:, None]
        for name, scores in zip(("Thunder", "Lightning", "both"), (*gains.T, gains.sum(1)), strict=True):
            first = np.argsort(-scores, kind="stable")[: 2 * (kinds >= 0).sum()]
            counts.setdefault(name, []).append(((kinds[first] == 0).sum(), (kinds == 0).sum()))
    return {name: round(float(np.divide(*np.sum(rows, 0))), 3) for name, rows in counts.items()}


def cached_features(model, people, path):
    if path.is_file():
        with np.load(path) as file:
            maps = tuple(file[f"maps_{level}"] for level in range(3))
            return CropFeatures(maps, file["outputs"], model.skeleton, file["positions"])
    with progress_bar(total=len(people), desc="features", unit=" people") as bar:
        features = crop_features(model, people, bar.update)
    maps = {f"maps_{level}": one for level, one in enumerate(features.maps)}
    np.savez(path, outputs=features.outputs, positions=features.positions, **maps)
    return features


def summary(rows):
    """Means over the draws, with the 2.5 and 97.5 percentiles of a bootstrap over draws."""
    generator = np.random.default_rng(0)

    def interval(values):
        again = generator.choice(values, (2000, len(values))).mean(1)
        return [round(float(v), 3) for v in (np.mean(values), *np.percentile(again, [2.5, 97.5]))]

    made = {"AP": interval([row["AP"] for row in rows])}
    for kind in KINDS:
        found, planted = np.array([row["found"][kind] for row in rows]).sum(0)
        # Of few planted labels in a draw, draws are pooled before they are divided.
        pairs = np.array([row["found"][kind] for row in rows])
        again = pairs[generator.integers(len(pairs), size=(2000, len(pairs)))].sum(1)
        low, high = np.percentile(again[:, 0] / np.maximum(again[:, 1], 1), [2.5, 97.5])
        made[kind] = [round(float(v), 3) for v in (found / max(planted, 1), low, high)]
    return made | {
        "people": rows[0]["people"],
        "planted in a draw": round(float(np.mean([r["planted"] for r in rows])), 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_set", choices=("drawn", "photographs"))
    parser.add_argument("--data", default="../shared/data/lspet")
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--cache", type=Path, default=Path("wrong_labels_cache"))
    parser.add_argument("--preset", default="mobilenetv2_rle_people")
    parser.add_argument("--draws", type=int, help="default: 20 for photographs, 6 for drawn people")
    parser.add_argument("--people", type=int, default=2000, help="drawn people")
    parser.add_argument("--report", type=Path, help="folder for a report of the labels as they are")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    name, model = options.data_set, from_preset(options.preset)
    if name == "drawn":
        drawn = rp.data.Synthetic(options.people, seed=7)
        people = People([drawn[i] for i in range(len(drawn))], drawn.skeleton)
    else:
        splits = [rp.data.Lsp(options.data, split=split) for split in ("val", "test")]
        people = People([sample for split in splits for sample in split], splits[0].skeleton)
    features = cached_features(model, people, options.cache / f"features-{name}-{Path(options.preset).name}.npz")
    if options.report:
        judgement = judge_labels(people, model, seed=1000, features=features)
        write_report(people, options.report, judgement, model.input_size, suspects=50)
        return
    groups, limits = {"all": np.ones(len(people), bool)}, {}
    points, visible, boxes = (np.array(people.field(field)) for field in ("keypoints", "visible", "box"))
    seeds = range(options.draws or (6 if name == "drawn" else 20))
    if name == "photographs":
        found = teachers(people, name, options.models, options.cache)
        groups["confirmed"] = confirmed(people, found)
        limits = {"sides_alone": sides_alone(people, found, points, visible, boxes, seeds)}
    draws = []
    for seed in seeds:
        path = options.cache / f"draw-{name}-{seed:02d}.json"
        if not path.is_file():
            start = time.time()
            wrong, flags, kinds = spoil(points, visible, boxes, people.skeleton, seed)
            spoilt = [
                dataclasses.replace(sample, keypoints=label, visible=flag)
                for sample, label, flag in zip(people, wrong, flags, strict=True)
            ]
            spoilt = People(spoilt, people.skeleton)
            scores = np.full(len(people), -np.inf)
            judgement = judge_labels(spoilt, model, seed=seed, features=features)
            scores[judgement.positions] = judgement.scores
            by_sigma = plain(features, wrong, flags, people, model.input_size)
            row = {
                way: {group: figures(values, kinds, np.flatnonzero(chosen)) for group, chosen in groups.items()}
                for way, values in (("judge", scores), ("plain", by_sigma))
            }
            path.write_text(json.dumps(row | {"seconds": round(time.time() - start, 1)}))
        draws.append(json.loads(path.read_text()))
        made = {way: {group: summary([d[way][group] for d in draws]) for group in groups} for way in ("judge", "plain")}
        result = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
        result["environment"] = environment()
        mean = round(float(np.mean([d["seconds"] for d in draws])), 1)
        old = {key: value for key, value in result.get(name, {}).items() if key == "looked_at"}
        result[name] = {"preset": options.preset, "draws": len(draws), "seconds_a_draw": mean} | made | limits | old
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        print(json.dumps(made, indent=1), flush=True)


if __name__ == "__main__":
    main()
