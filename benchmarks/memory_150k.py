"""How much memory does training on data of COCO's size need, and how soon does it begin?

usage: python benchmarks/memory_150k.py --coco ../shared/data/coco_mini
150,000 annotated people, made by repeating a small data set with its photographs under other names, in a process of
its own: from its start to the end of the first training step, some more steps, then a whole epoch of the pipeline.
Writes benchmarks/results/memory_150k.json. Linux only.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import environment
from repeated_coco import repeat_coco

here = Path(__file__).parent
STEPS = 20


def memory_gib(field):
    kib = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]
    return round(int(kib) / 2**20, 2)


def measure(folder, backbone, batch, cache_gb, start):
    """Prints a JSON object per stage: what was done, seconds since the start, memory now and at its peak in GiB."""
    import keras

    import keras_regpose as rp
    from keras_regpose.datasets import open_dataset

    def report(stage):
        row = {"stage": stage, "seconds": round(time.time() - start, 1)}
        row |= {"resident_gib": memory_gib("VmRSS"), "peak_gib": memory_gib("VmHWM")}
        print("RESULT" + json.dumps(row), flush=True)

    report("libraries imported")
    people = open_dataset("coco", folder, "train")
    report(f"annotations of {len(people)} people read")
    model = rp.PoseRegressor(backbone, rp.COCO17)
    model.compile(keras.optimizers.Adam(1e-3))
    dataset = rp.data.make_dataset(people, model, True, batch, repeat=True, cache_bytes=int(cache_gb * 2**30))

    class Steps(keras.callbacks.Callback):
        def on_train_batch_end(self, step, logs=None):
            if step in (0, STEPS - 1):
                report(f"training step {step + 1}")

    model.fit(dataset, steps_per_epoch=STEPS, verbose=0, callbacks=[Steps()])
    batches = iter(dataset)
    for _ in range(len(people) // batch):
        next(batches)
    report("an epoch of the pipeline alone")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", default="../shared/data/coco_mini")
    parser.add_argument("--people", type=int, default=150_000)
    parser.add_argument("--backbone", default="mobilenetv2")
    parser.add_argument("--cache-gb", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--measure", nargs=2, metavar=("FOLDER", "START"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        folder, start = options.measure
        measure(folder, options.backbone, options.batch_size, options.cache_gb, float(start))
        return
    with tempfile.TemporaryDirectory() as folder:
        repeat_coco(options.coco, f"{folder}/coco", options.people)
        settings = ["--backbone", options.backbone, "--batch-size", str(options.batch_size)]
        settings += ["--cache-gb", str(options.cache_gb)]
        command = [sys.executable, __file__, *settings, "--measure", f"{folder}/coco", str(time.time())]
        annotations = Path(folder, "coco/annotations/person_keypoints_train2017.json").stat().st_size
        stages = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if line.startswith("RESULT"):
                    stages.append(json.loads(line.removeprefix("RESULT")))
                    print(stages[-1], flush=True)
        if process.returncode:
            sys.exit(process.returncode)
    result = {
        "environment": environment(),
        "model": options.backbone,
        "batch": options.batch_size,
        "cache_gib": options.cache_gb,
        "annotation_file_mib": round(annotations / 2**20),
        "stages": stages,
    }
    (here / "results" / "memory_150k.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
