"""Is this checkout as fast as another of this repository? What people wait for, measured in turn on the same cores.

usage: git worktree add /tmp/old 21324a6
       python benchmarks/old_against_new.py --old /tmp/old
Each task is prepared in a process of each checkout, and slices of it are measured in turn. Processes are fresh after
three turns, or after each where their start is what is measured. Ratios are old time by new: above 1 this checkout is
faster. Writes benchmarks/results/old_against_new.json after each task; with --only it keeps those not measured.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import environment
from repeated_coco import repeat_coco

before_import = time.perf_counter()
import keras_regpose as rp  # noqa: E402

IMPORT_MS = 1e3 * (time.perf_counter() - before_import)
HERE = Path(__file__).resolve().parent
BATCHES = {"mobilenetv2": 8, "resnet50": 4}  # backbone: people in a training step


def milliseconds(call, seconds):
    """Returns the median time of the calls in so many seconds, after a quarter of the time to warm up."""
    times, start = [], time.perf_counter()
    while not times or time.perf_counter() - start < 1.25 * seconds:
        before = time.perf_counter()
        call()
        if times or time.perf_counter() - start > 0.25 * seconds:
            times.append(1e3 * (time.perf_counter() - before))
    return statistics.median(times)


# A task prepares what it needs and returns a function that measures a slice: figure → milliseconds.
# It runs with either version, in a folder of its side's, beside ../coco and ../many, the same with 4,800 photographs.


def import_package(started):
    before = time.perf_counter()
    _ = rp.PoseRegressor
    figures = {"import": IMPORT_MS, "first use of PoseRegressor": 1e3 * (time.perf_counter() - before)}
    return lambda: figures


def from_preset(started):
    rp.from_preset("mobilenetv2_rle_lspet")
    whole = 1e3 * (time.time() - started)
    again = lambda: milliseconds(lambda: rp.from_preset("mobilenetv2_rle_lspet"), 1.5)  # noqa: E731
    return lambda: {"from_preset, whole process": whole, "from_preset, once more": again()}


def pipeline(started):
    model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17)  # says how large the crops are
    sets = {"first epoch": people("train", "../many"), "photographs in memory": people("train")}
    batches = {name: iter(rp.data.make_dataset(some, model, True, 16, repeat=True)) for name, some in sets.items()}

    def per_person(batches):
        for _ in range(8):
            next(batches)  # read ahead meanwhile, or the rest of the first epoch
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < 2.5:
            count += len(next(batches)[0])
        return 1e3 * (time.perf_counter() - start) / count

    return lambda: {f"input pipeline, {name}, per person": per_person(some) for name, some in batches.items()}


def training_steps(started):
    import keras
    import numpy as np
    import tensorflow as tf

    def step(backbone, batch):
        model, random = rp.PoseRegressor(backbone, rp.COCO17), np.random.default_rng(0)
        model.compile(keras.optimizers.Adam(1e-3))
        crops = tf.constant(random.integers(0, 256, (batch, 256, 192, 3)), tf.uint8)
        targets = tf.constant(np.concatenate([random.random((batch, 17, 2)), np.ones((batch, 17, 1))], -1), tf.float32)
        model.train_on_batch(crops, targets)  # compiles
        return lambda: model.train_on_batch(crops, targets)

    steps = {f"training step, {backbone}, {batch} people": step(backbone, batch) for backbone, batch in BATCHES.items()}
    return lambda: {name: milliseconds(run, 3.0) for name, run in steps.items()}


def estimate(started):
    without_constants()
    return estimates({f"Keras, {backbone}": rp.PoseRegressor(backbone, rp.COCO17) for backbone in BATCHES})


def exports(started):
    from inference_speed import EXPORTS

    if not Path("made").exists():
        import keras

        keras.utils.set_random_seed(0)
        model = rp.PoseRegressor("mobilenetv2", rp.COCO17)
        crops = rp.export.calibration_crops(people("train"), model.input_size, 32)
        for file in EXPORTS:
            model.export(file, precision=file.split(".")[0], calibration=crops)
        Path("made").touch()
    return estimates({label: rp.load_exported(file) for file, label in EXPORTS.items()})


def estimates(models):
    import cv2
    import numpy as np

    sample = people("val")[0]
    image = np.ascontiguousarray(cv2.imread(str(sample.image))[..., ::-1])
    boxes = np.stack([sample.box + 3 * number for number in range(8)])
    asked = {f"estimate, {name}, {count} people": (models[name], count) for name in models for count in (1, 8)}
    for model, count in asked.values():
        model.estimate(image, boxes[:count])  # compiles

    def run(name):
        model, count = asked[name]
        return milliseconds(lambda: model.estimate(image, boxes[:count]), 0.5)

    return lambda: {name: run(name) for name in asked}


def evaluation(started):
    try:
        from keras_regpose.evaluation.evaluate import evaluate
    except ImportError:  # its place up to 21324a6
        from keras_regpose.inference.evaluation import evaluate
    without_constants()
    model, samples = rp.PoseRegressor("mobilenetv2", rp.COCO17), people("val")
    evaluate(model, samples)  # compiles
    return lambda: {f"evaluate, mobilenetv2, {len(samples)} people": milliseconds(lambda: evaluate(model, samples), 3)}


def people(split, folder="../coco"):
    return rp.data.Coco(f"{folder}/annotations/person_keypoints_{split}2017.json", f"{folder}/{split}2017")


def without_constants():
    """Keeps versions that made constants of the weights from the 33rd run on from doing so."""
    with contextlib.suppress(ImportError):
        from keras_regpose.models import constant_weights

        constant_weights.PLAIN_RUNS = sys.maxsize


# name: what prepares it, turns after which processes are fresh
TASKS = {
    "import": (import_package, 1),
    "from_preset": (from_preset, 1),
    "pipeline": (pipeline, 3),
    "step": (training_steps, 3),
    "estimate": (estimate, 3),
    "exports": (exports, 3),
    "evaluate": (evaluation, 3),
}


def work(task, started):
    """One side: says when it is ready, then measures a slice for each line that comes in."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the libraries print must not be taken for an answer
    measure = TASKS[task][0](float(started))
    print(json.dumps(rp.__file__), file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure()), file=answers, flush=True)


class Side:
    """A process of one checkout."""

    def __init__(self, checkout, task, folder):
        folder.mkdir(exist_ok=True)
        self.log = folder / "log.txt"
        settings = {"PYTHONPATH": str(checkout), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        command, pipe = [sys.executable, __file__, "work", task, str(time.time())], subprocess.PIPE
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=os.environ | settings, cwd=folder
            )
        if not Path(self.answer()).is_relative_to(checkout):
            raise SystemExit(f"{checkout} is not what Python imports: is the package's folder in sys.path before it?")

    def answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else sys.exit(f"A process failed:\n{self.log.read_text()[-3000:]}")

    def measure(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(task, checkouts, turns, folder):
    """Returns for each figure of a task its old and new milliseconds in each turn, and their ratios."""
    times, sides = {}, {}
    for turn in range(turns):
        names = ("old", "new") if turn % 2 == 0 else ("new", "old")  # what the second gains or loses, both do
        if turn % TASKS[task][1] == 0:
            for side in sides.values():
                side.close()
            sides = {name: Side(checkouts[name], task, folder / name) for name in names}
        for name in names:
            for figure, value in sides[name].measure().items():
                times.setdefault(figure, {"old": [], "new": []})[name].append(round(value, 3))
    for side in sides.values():
        side.close()
    return {figure: with_ratios(**both) for figure, both in times.items()}


def with_ratios(old, new):
    ratios = sorted(first / second for first, second in zip(old, new, strict=True))
    # The median lies between the ratios so many from either end with this confidence, however they are distributed.
    ends = range((len(ratios) + 1) // 2)
    confidence = [1 - sum(math.comb(len(ratios), k) for k in range(end + 1)) / 2 ** (len(ratios) - 1) for end in ends]
    end = max((end for end in ends if confidence[end] >= 0.95), default=0)
    return {
        "old_ms": old,
        "new_ms": new,
        "median_ratio": round(statistics.median(ratios), 3),
        "interval": [round(ratios[end], 3), round(ratios[-1 - end], 3)],
        "confidence": round(confidence[end], 3),
    }


def commit(checkout):
    command = ["git", "-C", checkout, "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True, help="folder of the other checkout")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS), help="measure these alone")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data/coco_mini", help="in COCO's layout")
    parser.add_argument("--json", type=Path, default=HERE / "results" / "old_against_new.json")
    options = parser.parse_args()
    checkouts = {"old": options.old.resolve(), "new": HERE.parent}
    result = json.loads(options.json.read_text()) if options.json.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "coco").symlink_to(options.data.resolve())
        repeat_coco(options.data, folder / "many", 10_000)  # more than is read in three turns
        for task in options.only:
            about = environment() | {name: commit(checkout) for name, checkout in checkouts.items()}
            about["load_average_before"], start = round(os.getloadavg()[0], 2), time.monotonic()
            figures = compare(task, checkouts, options.turns, folder)
            for figure, row in figures.items():
                old, new = (f"{statistics.median(row[key]):.4g}" for key in ("old_ms", "new_ms"))
                print(f"{figure}: {old} → {new} ms, ×{row['median_ratio']}", row["interval"])
            print(f"    {task} took {time.monotonic() - start:.0f} s", flush=True)
            result[task] = {"environment": about, "figures": figures}
            temporary = options.json.with_name(f".{options.json.name}.writing")
            temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            os.replace(temporary, options.json)


if __name__ == "__main__":
    work(*sys.argv[2:]) if sys.argv[1:2] == ["work"] else main()
