"""Does an annotation file of COCO's size open as fast, and in as little memory, as with an earlier version?

usage: git worktree add /tmp/old 21324a6
       python benchmarks/open_150k.py --coco ../shared/data/coco_mini --old /tmp/old
150,000 annotated people, made by repeating a small data set. Each version opens the file in a process of its own, in
turn. Then `keras-regpose inspect` reports on the file, without a preset, as a whole process. Writes
benchmarks/results/open_150k.json. Linux only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import environment
from repeated_coco import repeat_coco

HERE = Path(__file__).resolve().parent
OPEN = """
import json, re, sys, time
import keras_regpose as rp
memory = lambda field: int(re.search(field + r":\\s*(\\d+) kB", open("/proc/self/status").read())[1]) / 2**20
start, before = time.perf_counter(), memory("VmRSS")
people = rp.data.Coco(sys.argv[1] + "/annotations/person_keypoints_train2017.json", sys.argv[1] + "/train2017")
seconds = time.perf_counter() - start
print(json.dumps([len(people), seconds, memory("VmRSS") - before, memory("VmHWM") - before]))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coco", required=True, help="folder of a small data set in COCO's layout")
    parser.add_argument("--old", required=True, help="checkout of the earlier version")
    parser.add_argument("--people", type=int, default=150_000)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    rows = {"old": [], "new": []}
    with tempfile.TemporaryDirectory() as folder:
        repeat_coco(options.coco, f"{folder}/coco", options.people)
        for turn in range(options.turns):
            for name, root in (("old", options.old), ("new", HERE.parent)):
                command = [sys.executable, "-c", OPEN, f"{folder}/coco"]
                done = subprocess.run(
                    command, env={**os.environ, "PYTHONPATH": str(root)}, cwd=folder, capture_output=True, check=True
                )
                rows[name].append(json.loads(done.stdout.splitlines()[-1]))
                print(turn, name, rows[name][-1], flush=True)
        start = time.perf_counter()
        command = [sys.executable, "-m", "keras_regpose.cli", "inspect", "--output", f"{folder}/report"]
        command += ["--annotations", f"{folder}/coco/annotations/person_keypoints_train2017.json"]
        command += ["--images", f"{folder}/coco/train2017"]
        subprocess.run(command, env={**os.environ, "PYTHONPATH": str(HERE.parent)}, cwd=folder, check=True)
        inspected = round(time.perf_counter() - start, 1)
    measured = {}
    for place, figure in enumerate(("people", "seconds", "gib_kept", "gib_at_the_peak")):
        old, new = ([row[place] for row in rows[name]] for name in ("old", "new"))
        ratios = sorted(one / other for one, other in zip(old, new, strict=True))
        measured[figure] = {
            "old": round(statistics.median(old), 3),
            "new": round(statistics.median(new), 3),
            "old_by_new": [round(value, 3) for value in (ratios[0], statistics.median(ratios), ratios[-1])],
        }
    result = {"turns": options.turns, "measured": measured, "seconds_of_inspect": inspected}
    result["environment"] = environment()
    (HERE / "results" / "open_150k.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
