"""Is training as fast as MMPose's on the same cores? Input pipeline, training step, and what fit loses to the pipeline.

usage: python benchmarks/training_speed.py --peer-python PEER/bin/python --peer-folder ../shared/peer
Both sides run side by side and are measured in turn, several times; ratios are medians over the turns.
Writes benchmarks/results/training_speed.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from environment import environment

here = Path(__file__).parent
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--peer-python", required=True, help="Python of the environment in which MMPose runs")
parser.add_argument("--peer-folder", default="../shared/peer", help="folder of mmpose_cpu.py")
parser.add_argument("--coco", default="../shared/data/coco_mini")
parser.add_argument("--turns", type=int, default=5)
parser.add_argument("--seconds", type=float, default=4.0)
parser.add_argument("--only", type=int, nargs="+", help="numbers of the comparisons to make; default: all")
options = parser.parse_args()

# question: (ours, against, who answers the second)
COMPARISONS = {
    "input pipeline, first epoch": ("pipeline:first epoch", "pipeline:", "mmpose"),
    "input pipeline, later epochs, decoded photographs kept in memory": (
        "pipeline:kept in memory",
        "pipeline:",
        "mmpose",
    ),
    "training step MobileNetV2, float32": ("step:mobilenetv2 float32", "step:mobilenetv2", "mmpose"),
    "training step ResNet-50, float32": ("step:resnet50 float32", "step:resnet50", "mmpose"),
    "training step ResNet-50, mixed_bfloat16": ("step:resnet50 mixed_bfloat16", "step:resnet50", "mmpose"),
    "fit with the pipeline against fit on batches in memory, MobileNetV2 float32": (
        "fit:mobilenetv2 float32",
        "fit on batches in memory:mobilenetv2 float32",
        "keras_regpose",
    ),
}


class Side:
    """A worker process that measures on command."""

    def __init__(self, python, side):
        command = [python, str(here / "speed_worker.py"), side, "--coco", options.coco]
        command += ["--peer-folder", options.peer_folder, "--seconds", str(options.seconds)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def measure(self, task):
        self.process.stdin.write(task + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def versions_of_peer():
    code = "import mmpose, torch, cv2; print(mmpose.__version__, torch.__version__, cv2.__version__)"
    output = subprocess.run([options.peer_python, "-c", code], capture_output=True, text=True, check=True).stdout
    return dict(zip(("mmpose", "torch", "opencv"), output.split()[-3:], strict=True))


file = here / "results" / "training_speed.json"
earlier = json.loads(file.read_text())["comparisons"] if options.only else {}
earlier = {question: figures for question, figures in earlier.items() if question in COMPARISONS}
here_and_now = {"environment": environment(), "peer": versions_of_peer()}
result = {"batch": 16, "comparisons": earlier}
for number, (question, (ours, theirs, second)) in enumerate(COMPARISONS.items(), start=1):
    if options.only and number not in options.only:
        continue
    print(f"{number} of {len(COMPARISONS)} …", flush=True)
    # Fresh processes for each question: one side's threads and memory must not weigh on the next.
    sides = [Side(sys.executable, "keras_regpose")]
    # What both sides do in this package is measured in one process: two differ by more than what is asked for.
    sides.append(Side(options.peer_python, "mmpose") if second == "mmpose" else sides[0])
    turns = [(sides[0].measure(ours), sides[1].measure(theirs)) for _ in range(options.turns)]
    for side in set(sides):
        side.process.stdin.close()
        side.process.terminate()
        side.process.wait()
    ratios = [first / other for first, other in turns]
    result["comparisons"][question] = {
        "ours_per_second": [round(first, 1) for first, _ in turns],
        "against_per_second": [round(other, 1) for _, other in turns],
        "median_ratio": round(statistics.median(ratios), 3),
        **here_and_now,
    }
    print(f"{question}: ×{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})", flush=True)
    file.write_text(json.dumps(result, indent=1) + "\n")
