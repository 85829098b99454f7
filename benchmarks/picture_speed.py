r"""How long does it take from a picture's file to the poses of its people, beside MediaPipe's single-person path?

usage: python -m venv mediapipe && mediapipe/bin/pip install mediapipe==0.10.21
       python benchmarks/picture_speed.py --mediapipe mediapipe/bin/python --data ../shared/data

Pictures of 640 × 480 with one person and with four, by what the finder finds in coco_mini's photographs. In each round
each way reads the file and estimates once, one after the other: the bundled preset in Keras and in each runtime, in
float32 and int8, all with the finder of people; the finder alone; and MediaPipe's `Pose` (full, static images: detector
and landmarks each time) in a process of its own. Medians of the rounds, and of the ratios to MediaPipe in the same
round with an interval (bootstrap over rounds). Writes benchmarks/results/picture_speed.json.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from environment import environment

import keras_regpose as rp
from keras_regpose.export import calibration_crops

PRESET, SIZE, COUNTS = "mobilenetv2_rle_people", (640, 480), (1, 4)
RESULT = Path(__file__).parent / "results" / "picture_speed.json"
MEDIAPIPE = """
import sys, time
import cv2, mediapipe as mp
pose = mp.solutions.pose.Pose(static_image_mode=True, model_complexity=1)
for line in sys.stdin:
    start = time.perf_counter()
    pose.process(cv2.imread(line.strip())[..., ::-1].copy())
    print("time", time.perf_counter() - start, flush=True)
"""


def chosen(data, folder):
    """Writes a picture for each number of people, and returns {count: path}."""
    finder, found = rp.PeopleFinder(), {}
    for path in sorted((data / "coco_mini").glob("*2017/*.jpg")):
        image = cv2.imread(str(path))
        if image.shape[1] < image.shape[0]:
            continue
        image = cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA)
        count = len(finder(image[..., ::-1].copy()))
        if count in COUNTS and count not in found:
            found[count] = folder / f"{count}.jpg"
            cv2.imwrite(str(found[count]), image)
    return found


def ways(data, folder):
    """Returns {name: function of a path}, the default first."""
    models = {
        f"{runtime}, float32": rp.from_preset(PRESET, runtime=runtime) for runtime in ("onnx", "openvino", "litert")
    }
    models["keras, float32"] = model = rp.from_preset(PRESET)
    crops = calibration_crops(rp.data.Lsp(data / "lspet", split="val"), model.input_size)
    for runtime, suffix in (("onnx", ".onnx"), ("openvino", ".xml"), ("litert", ".tflite")):
        path = folder / f"{runtime}{suffix}"
        model.export(path, precision="int8", calibration=crops, verbose=False)
        models[f"{runtime}, int8"] = rp.load_exported(path)
    finder = rp.PeopleFinder()
    alone = {"the finder alone, with reading": lambda path: finder(cv2.imread(str(path))[..., ::-1].copy())}
    return {name: one.estimate for name, one in models.items()} | alone


def spread(values):
    generator = np.random.default_rng(0)
    drawn = np.median(generator.choice(values, (2000, len(values))), axis=1)
    return [round(float(one), 3) for one in (np.median(values), *np.quantile(drawn, (0.025, 0.975)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mediapipe", required=True, help="Python of an environment with mediapipe 0.10.21")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    result = {"environment": environment(), "rounds": options.rounds, "size": SIZE}
    with tempfile.TemporaryDirectory() as folder:
        pictures, functions = chosen(options.data, Path(folder)), ways(options.data, Path(folder))
        pipes = {"text": True, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 1}
        with subprocess.Popen([options.mediapipe, "-c", MEDIAPIPE], **pipes) as process:

            def theirs(path):
                process.stdin.write(f"{path}\n")
                while not (line := process.stdout.readline()).startswith("time"):
                    pass
                return float(line.split()[1])

            for count, path in pictures.items():
                seconds = {name: [] for name in (*functions, "mediapipe")}
                for number in range(options.rounds + 3):  # the first three warm up
                    for name, function in functions.items():
                        start = time.perf_counter()
                        function(path)
                        took = time.perf_counter() - start
                        if number >= 3:
                            seconds[name].append(took)
                    took = theirs(path)
                    if number >= 3:
                        seconds["mediapipe"].append(took)
                rows, reference = {}, np.array(seconds["mediapipe"])
                for name, values in seconds.items():
                    rows[name] = {
                        "median_ms": round(float(np.median(values)) * 1000, 1),
                        "of_mediapipes_time": spread(np.array(values) / reference),
                    }
                result[f"{count} in the picture"] = rows
                print(count, json.dumps(rows, indent=1), flush=True)
            process.stdin.close()
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
