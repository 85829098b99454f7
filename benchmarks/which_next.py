r"""Which people to label next? 200 labelled and 200 more, chosen by `suggest`, by parts of it, or at random.

usage: python benchmarks/which_next.py --data ../shared/data/lspet --models ../shared/models
LSPET's training people are the ones to choose from. The frozen backbone is that of MoveNet Lightning, which has not
learned them, and its features are computed once. In each seed three heads learn from 200 people, and the mean of their
densities says what errors to expect of the others; each way chooses 200 more; a new head learns from the 400, and
PCK@0.2 is that of its places on the test people. Beside `suggest`: the same weighed by expected errors, the largest
expected errors alone, the farthest from all others ("k-centre", Sener and Savarese, ICLR 2018) and chance. Finished
seeds are kept in --cache: started again, it goes on. Writes benchmarks/results/which_next.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from environment import environment
from keras import ops

import keras_regpose as rp
from keras_regpose import geometry
from keras_regpose.evaluation.pck import pck, torso_size
from keras_regpose.images import read_image
from keras_regpose.inspection.judge import cells_of, head_network, places_of
from keras_regpose.inspection.suggestion import choose
from keras_regpose.progress import progress_bar

SIDE = 192
FPN = "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1/"
MAPS = (FPN + "model/block_12_add/add:0", FPN + "tf.__operators__.add/AddV2:0")
RESULT = Path(__file__).parent / "results" / "which_next.json"
STEPS, HEADS = 400, 3
CHANNELS = 96  # of the first of the two maps


def frozen_maps(people, name, models, cache):
    """(N, 12, 12, 160) float16 maps of Lightning's backbone, of square crops of 192 pixels."""
    path = cache / f"lightning-{name}.npy"
    if path.is_file():
        return np.load(path)
    import tensorflow as tf

    graph = cache / "movenet-lightning.pb"
    movenet = models / "movenet"
    command = [sys.executable, movenet / "tfjs_to_graphdef.py", movenet / "movenet-lightning.json", graph]
    subprocess.run(command, check=True)
    definition = tf.compat.v1.GraphDef.FromString(graph.read_bytes())
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(definition, name=""), [])
    network, rows = wrapped.prune("input:0", list(MAPS)), []
    for sample in progress_bar(iterable=people, desc=name, unit=" people"):
        cut = geometry.cut(read_image(sample.image), sample.box, (SIDE, SIDE))
        found = network(tf.constant(cut.crop[None].astype(np.int32)))
        rows.append(np.concatenate([one.numpy()[0] for one in found], -1).astype(np.float16))
    np.save(path, np.stack(rows))
    return np.load(path)


def labels(people):
    """Keypoints in units of the crop's side from its centre, visible flags, centres and sides."""
    center, scale = geometry.box_to_center_scale(np.array(people.field("box")))
    side = geometry.fix_aspect_ratio(scale, (SIDE, SIDE))[:, :1]
    visible = np.array(people.field("visible")) > 0
    points = (np.array(people.field("keypoints")) - center[:, None]) / side[:, None]
    return np.where(visible[..., None], points, 0).astype(np.float32), visible, center, side


class Batches(keras.utils.PyDataset):
    """Batches drawn at random from some people."""

    def __init__(self, draw, seed):
        super().__init__()
        self.draw, self.seed = draw, seed

    def __len__(self):
        return STEPS

    def __getitem__(self, step):
        return self.draw(np.random.default_rng((self.seed, step)))


def learned(maps, points, visible, chosen, seed, predict, heads=1):
    """Places (M, K, 2) and spreads (M, K) of the people at `predict`, by heads that learned from the chosen ones."""
    count, grid, sides = points.shape[1], maps.shape[1:3], np.ones(2, np.float32)
    middle = (np.arange(grid[0]) + 0.5) / grid[0] - 0.5

    def inputs(who):
        found = maps[who].astype(np.float32)
        return found[..., CHANNELS:], found[..., :CHANNELS], np.zeros((len(who), 1), np.float32)

    def draw(generator):
        who = generator.choice(chosen, 32)
        return inputs(who), cells_of(points[who], sides, grid) * visible[who, :, None, None]

    def loss(target, log_density):
        return -ops.sum(target * log_density) / ops.maximum(ops.sum(target), 1.0)

    networks = []
    for head in range(heads):
        keras.utils.set_random_seed(HEADS * seed + head)
        network = head_network([(*grid, maps.shape[-1] - CHANNELS), (*grid, CHANNELS), (1,)], count)
        rate = keras.optimizers.schedules.CosineDecay(2e-3, STEPS)
        network.compile(keras.optimizers.AdamW(rate, weight_decay=0.01, global_clipnorm=5.0), loss)
        network.fit(Batches(draw, HEADS * seed + head), verbose=0)
        networks.append(network)
    places, spreads = [], []
    for part in np.array_split(predict, -(-len(predict) // 256)):
        density = np.mean([np.exp(network.predict_on_batch(inputs(part))) for network in networks], axis=0)
        places.append(places_of(np.log(density + 1e-9), sides))
        variances = [
            (one * np.square(middle)).sum(-1) - (one * middle).sum(-1) ** 2 for one in (density.sum(2), density.sum(3))
        ]
        spreads.append(np.sqrt(np.maximum(sum(variances), 0)))
    return np.concatenate(places), np.concatenate(spreads)


def k_centre(features, count, known):
    """Chooses again and again the row that is farthest from all chosen and known ones."""
    distance = np.full(len(features), np.inf)
    for row in known:
        distance = np.minimum(distance, np.square(features - row).sum(1))
    chosen = []
    for _ in range(count):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.square(features - features[chosen[-1]]).sum(1))
    return np.array(chosen)


def weighed(weights, features, count, known):
    """Chooses as `suggest` does, but of a person with twice the weight as if there were two."""
    deviation = features.std(0) + 1e-6
    features, known = (features / deviation).astype(np.float32), (known / deviation).astype(np.float32)
    some = np.random.default_rng(0).permutation(len(features))[:2000]
    width = np.mean([np.median(np.square(features[some] - row).sum(1)) for row in features[some[:100]]]) * 0.25 + 1e-9

    def alike(rows):
        return np.exp((2 * features @ rows.T - np.square(features).sum(1)[:, None] - np.square(rows).sum(1)) / width)

    wanted = alike(features[some]) @ (weights[some] / weights[some].sum())
    there, chosen = alike(known).sum(1), []
    for number in range(count):
        gain = wanted - there / (len(known) + number + 1)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        there = there + alike(features[chosen[-1:]])[:, 0]
    return np.array(chosen)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/lspet")
    parser.add_argument("--models", type=Path, default=Path("../shared/models"))
    parser.add_argument("--cache", type=Path, default=Path("which_next_cache"))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    train, test = (rp.data.Lsp(options.data, split=split) for split in ("train", "test"))
    maps, test_maps = (
        frozen_maps(one, name, options.models, options.cache) for one, name in ((train, "train"), (test, "test"))
    )
    count = len(train)
    every, test_positions = np.concatenate([maps, test_maps]), np.arange(count, count + len(test))
    del maps, test_maps
    points, visible, center, side = (np.concatenate(pair) for pair in zip(labels(train), labels(test), strict=True))
    truth, flags = np.array(test.field("keypoints")), np.array(test.field("visible"))
    torso, pooled = torso_size(truth, flags, test.skeleton), every[:count].mean((1, 2), dtype=np.float32)
    pooled = (pooled - pooled.mean(0)) / (pooled.std(0) + 1e-6)

    def score(chosen, seed):
        places, _ = learned(every, points, visible, chosen, seed, test_positions)
        places = places * side[test_positions, None] + center[test_positions, None]
        return float(pck(places, truth, flags, torso, test.skeleton)["Mean"])

    rows = []
    for seed in range(options.seeds):
        path = options.cache / f"seed-{seed}.json"
        if not path.is_file():
            order = np.random.default_rng(seed).permutation(count)
            first, others = order[:200], np.sort(order[200:])
            expected = learned(every, points, visible, first, seed, others, HEADS)[1].mean(1)
            row = {"200 labelled": score(first, seed)}
            ways = {
                "suggest, weighed by errors": weighed(expected, pooled[others], 200, pooled[first]),
                "suggest": choose(pooled[others], 200, pooled[first]),
                "mean σ": np.argsort(-expected)[:200],
            }
            ways["k-centre"] = k_centre(pooled[others], 200, pooled[first])
            ways["random"] = np.random.default_rng(seed + 100).permutation(len(others))[:200]
            for name, chosen in ways.items():
                row[name] = score(np.concatenate([first, others[chosen]]), seed)
            path.write_text(json.dumps(row))
        rows.append(json.loads(path.read_text()))
        print(rows[-1], flush=True)
    ways = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        gain = values - [row["random"] for row in rows]
        ways[name] = {"PCK@0.2": round(values.mean(), 4), "standard_deviation": round(values.std(ddof=1), 4)}
        ways[name] |= {
            "more_than_random": round(gain.mean(), 4),
            "standard_error": round(gain.std(ddof=1) / len(rows) ** 0.5, 4),
        }
        ways[name]["seeds"] = [round(value, 4) for value in values]
    result = {"labelled": 200, "chosen": 200, "from": count - 200, "heads": HEADS, "steps": STEPS, "ways": ways}
    RESULT.write_text(json.dumps({"environment": environment()} | result, indent=1) + "\n")


if __name__ == "__main__":
    main()
