"""How fast are exported models, beside Keras, MMPose and plain ONNX Runtime, and how far are they from float32?

usage: python benchmarks/inference_speed.py --peer-python PEER/bin/python --peer-folder ../shared/peer
All take turns on the same cores with the same pictures and boxes, flip test off; MMPose is its whole
`inference_topdown`, as ours is the whole `estimate`. Ratios are medians over the turns. Weights follow the rule of the
recorded vectors in ../shared/golden. Writes benchmarks/results/inference_speed.json and .png after each comparison;
`python zoo/cards.py` makes the README's table and the cards of them.
With --threads 1 it is CPU time, which other work on the machine hardly touches: inference_speed_one_core.json.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from environment import environment

here = Path(__file__).parent
RESULTS = here / "results"
MODELS = {"mobilenetv2_rle_coco": 0.29, "resnet50_rle_coco": 4.00}  # GMACs
EXPORTS = {
    "float32": "TF SavedModel, float32",
    "float32.onnx": "ONNX, float32",
    "int8.onnx": "ONNX, int8",
    "float32.tflite": "LiteRT, float32",
    "int8.tflite": "LiteRT, int8",
    "float32.xml": "OpenVINO, float32",
    "bfloat16.xml": "OpenVINO, bfloat16",
    "int8.xml": "OpenVINO, int8",
}
RUNTIMES = ("openvino", "onnxruntime", "ai-edge-litert")
LITERT = ("float32.tflite", "int8.tflite")
KERAS = {"keras float32": "Keras, float32", "keras mixed_bfloat16": "Keras, bfloat16"}
VARIANTS = {
    "MMPose": "MMPose (PyTorch)",
    **KERAS,
    **EXPORTS,
    "plain ONNX Runtime": "plain ONNX Runtime, network alone",
}
TASKS = {"1": "1 person", "8": "8 people", "folder": "folder of 1,000 people"}


class Side:
    """A worker process that measures on command."""

    def __init__(self, python, side, options, people):
        command = [python, str(here / "inference_worker.py"), side, "--people", str(people)]
        command += [
            "--threads",
            str(options.threads),
            "--exports",
            options.exports,
            "--peer-folder",
            options.peer_folder,
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def measure(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def result_file(options):
    return RESULTS / ("inference_speed_one_core.json" if options.threads == 1 else "inference_speed.json")


def make_exports(options):
    """Exports both networks in every format, unless a run before did; returns their deviations on other photographs."""
    sys.path.insert(0, str(here.parent / "tests"))
    from golden_weights import golden_tensor

    import keras_regpose as rp
    from keras_regpose.convert import from_mmpose
    from keras_regpose.datasets import open_dataset
    from keras_regpose.export import Deviation, calibration_crops

    rows, deviations = json.loads((Path(options.golden) / "models.json").read_text()), {}
    for name in options.models:
        folder = Path(options.exports) / name
        record = folder / "deviations.json"
        if not record.exists():
            calibration = calibration_crops(open_dataset("coco", options.coco, "train"), (256, 192), 128)
            crops = calibration_crops(open_dataset("coco", options.coco, "val"), (256, 192), 64)
            shapes = rows[name]["state_dict"].items()
            model = from_mmpose({key: golden_tensor(key, tuple(shape)) for key, shape in shapes}, name)
            expected, found = model.predict_on_batch(crops), {}
            if not (folder / "preset").exists():
                model.save_to_preset(folder / "preset")
            np.save(folder / "crops.npy", crops[:8])
            for file in EXPORTS:
                if not (folder / file).exists():
                    model.export(folder / file, precision=file.split(".")[0], calibration=calibration)
                output = rp.load_exported(folder / file).predict_on_batch(crops)
                found[file] = vars(Deviation.between(output, expected, model.input_size))
            half = model.with_dtype("mixed_bfloat16").predict_on_batch(crops)
            found["keras mixed_bfloat16"] = vars(Deviation.between(half, expected, model.input_size))
            record.write_text(json.dumps(found))
        deviations[name] = json.loads(record.read_text())
    return deviations


def list_people(options, target, count=1000):
    """Writes the folder's pictures and boxes: those of COCO-mini, again and again up to so many people."""
    from keras_regpose.datasets import open_dataset

    pictures = {}
    for split in ("val", "train"):
        for sample in open_dataset("coco", options.coco, split):
            pictures.setdefault(os.path.abspath(sample.image), []).append(np.asarray(sample.box).tolist())
    listed, people = [], 0
    while people < count:
        for path, boxes in pictures.items():
            listed.append({"path": path, "boxes": boxes[: count - people]})
            people += len(listed[-1]["boxes"])
            if people == count:
                break
    target.write_text(json.dumps(listed))


def peak(threads):
    """Returns the GMAC/s of a large matrix product in each precision: what these cores can do at most."""
    import openvino
    from openvino import opset13 as ops

    side, found, settings = 2048, {}, {"INFERENCE_NUM_THREADS": threads}
    clock = time.process_time if threads == 1 else time.perf_counter
    random = np.random.default_rng(0)
    left = random.random((side, side), np.float32)
    for precision, hint in (("float32", "f32"), ("bfloat16", "bf16"), ("int8", "f32")):
        inputs, weights = ops.parameter([side, side], np.float32), ops.constant(random.random((side, side), np.float32))
        first, second = inputs, weights
        if precision == "int8":
            zero, one = (ops.constant(np.float32(value)) for value in (0, 1))
            first = ops.fake_quantize(inputs, zero, one, zero, one, 256)
            low, high = (ops.constant(np.float32(value)) for value in (-1, 127 / 128))
            second = ops.fake_quantize(weights, low, high, low, high, 256)
        product = ops.matmul(first, second, False, True)
        model = openvino.Model([ops.reduce_max(product, ops.constant(1), False)], [inputs])
        request = openvino.Core().compile_model(model, "CPU", settings | {"INFERENCE_PRECISION_HINT": hint})
        request = request.create_infer_request()
        times = []
        for _ in range(8):
            start = clock()
            request.infer([left], share_inputs=True)
            times.append(clock() - start)
        found[precision] = round(side**3 / min(times) / 1e9, 1)
    return found


def compare(options, deviations, people):
    result, load = {"environment": environment()}, round(os.getloadavg()[0], 2)
    result["runtimes"] = {name: importlib.metadata.version(name) for name in RUNTIMES}
    result |= {"threads": options.threads, "clock": "CPU time" if options.threads == 1 else "wall time"}
    result |= {"peer": versions_of_peer(options), "peak_gmacs_per_second": peak(options.threads)}
    file = result_file(options)
    earlier = json.loads(file.read_text()) if file.exists() else {"environment": {}, "comparisons": []}
    # Rows stand beside each other only where they are of one machine.
    same = earlier["environment"].get("processor") == result["environment"]["processor"]
    result["comparisons"] = earlier["comparisons"] if same else []
    for model in options.models:
        gmacs = MODELS[model]
        for task in options.tasks:
            # Fresh processes for each question: what one has left in memory must not weigh on the next.
            ours = Side(sys.executable, "keras_regpose", options, people)
            peer = Side(options.peer_python, "mmpose", options, people)
            times = {variant: [] for variant in VARIANTS}
            slices = {"model": model, "task": task, "seconds": options.seconds, "turns": options.turns}
            for turn in range(options.turns):
                for variant in times:
                    if task == "folder" and variant in ("plain ONNX Runtime", "float32", *LITERT):
                        continue
                    side = peer if variant == "MMPose" else ours
                    times[variant].append(side.measure(variant=variant, turn=turn, **slices))
            ours.close()
            peer.close()
            measured = model, TASKS[task]
            result["comparisons"] = [row for row in result["comparisons"] if (row["model"], row["task"]) != measured]
            for variant, turns in times.items():
                if not turns:
                    continue
                medians = [statistics.median(turn) for turn in turns]
                ratios = [statistics.median(theirs) / own for theirs, own in zip(times["MMPose"], medians, strict=True)]
                every = [value for turn in turns for value in turn]
                speed = gmacs / statistics.median(every) * 1e3
                precision = next((name for name in ("int8", "bfloat16") if name in variant), "float32")
                result["comparisons"].append(
                    {
                        "model": model,
                        "task": TASKS[task],
                        "label": VARIANTS[variant],
                        "variant": variant,
                        "ms_per_person": round(statistics.median(every), 2),
                        "p95_ms_per_person": round(float(np.percentile(every, 95)), 2),
                        "calls": len(every),
                        "median_ratio_to_mmpose": round(statistics.median(ratios), 2),
                        "ratios_to_mmpose": [round(ratio, 2) for ratio in ratios],
                        "gmacs_per_second": round(speed, 1),
                        "share_of_peak": round(speed / result["peak_gmacs_per_second"][precision], 3),
                        "load_average_before": load,
                        "deviation": deviations[model].get(variant),
                    }
                )
            file.write_text(json.dumps(result, indent=1) + "\n")
            plot(result, file.with_suffix(".png"))
            for row in result["comparisons"]:
                if (row["model"], row["task"]) == measured:
                    print(*measured, row["label"], row["ms_per_person"], row["ratios_to_mmpose"], flush=True)


def plot(result, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    models = list(dict.fromkeys(row["model"] for row in result["comparisons"]))
    figure, axes = plt.subplots(1, len(models), figsize=(7 * len(models), 5), squeeze=False, layout="constrained")
    for axis, model in zip(axes[0], models, strict=True):
        of_tasks = (
            [_row(result, model, TASKS[task], variant) for task in ("8", "1", "folder")] for variant in VARIANTS
        )
        rows = [next(filter(None, rows)) for rows in of_tasks if any(rows)][::-1]
        colors = ["#E69F00" if row["variant"] == "MMPose" else "#56B4E9" for row in rows]
        speeds = [1e3 / row["ms_per_person"] for row in rows]
        axis.barh([row["label"] for row in rows], speeds, color=colors)
        for place, row in enumerate(rows):
            moved = f", {row['deviation']['median']:.2g} px" if row["deviation"] else ""
            axis.text(speeds[place], place, f"  ×{row['median_ratio_to_mmpose']:.1f}{moved}", va="center", fontsize=9)
        axis.set(title=f"{model}, {rows[0]['task']}", xlabel="people per second", xlim=(0, max(speeds) * 1.4))
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle("× against MMPose's inference_topdown; px: median distance from Keras in float32", fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def versions_of_peer(options):
    code = "import mmpose, torch, cv2; print(mmpose.__version__, torch.__version__, cv2.__version__)"
    output = subprocess.run([options.peer_python, "-c", code], capture_output=True, text=True, check=True).stdout
    return dict(zip(("mmpose", "torch", "opencv"), output.split()[-3:], strict=True))


def _row(result, model, task, variant):
    wanted = (model, task, variant)
    return next((row for row in result["comparisons"] if (row["model"], row["task"], row["variant"]) == wanted), None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="Python of the environment in which MMPose runs")
    parser.add_argument("--peer-folder", default="../shared/peer", help="folder of mmpose_cpu.py")
    parser.add_argument("--coco", default="../shared/data/coco_mini")
    parser.add_argument("--golden", default="../shared/golden", help="folder of models.json")
    parser.add_argument("--exports", default=os.path.join(tempfile.gettempdir(), "inference_speed_exports"))
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="1: CPU time, for machines that are busy")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="measure these alone")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="measure these alone")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    deviations = make_exports(options)
    if not options.peer_python:
        parser.error("the exports are made; --peer-python is needed to measure")
    people = Path(options.exports) / "people.json"
    list_people(options, people)
    compare(options, deviations, people)


if __name__ == "__main__":
    main()
