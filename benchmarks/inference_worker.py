"""One side of inference_speed.py: measures slices of a task on command, so that sides can take turns.

Reads a JSON object per line: {"model", "variant", "task", "seconds", "turn", "turns"}. Prints milliseconds per person
of every call.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=("keras_regpose", "mmpose"))
    parser.add_argument("--people", required=True, help="JSON file: pictures and the boxes of their people")
    parser.add_argument("--exports", help="folder of the presets and their exports")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peer-folder", help="folder of mmpose_cpu.py")
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the libraries print must not be taken for an answer
    pictures = json.loads(Path(options.people).read_text())
    import cv2

    cv2.setNumThreads(options.threads)
    # On one core the processor's time is the time it takes, whatever else the machine has to do meanwhile.
    clock = time.process_time if options.threads == 1 else time.perf_counter
    if options.side == "keras_regpose":
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(options.threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(options.threads)
    estimators = {}
    for line in sys.stdin:
        request = json.loads(line)
        key = request["model"], request["variant"]
        warm_up = 0
        if key not in estimators:
            estimators[key] = mmpose_side(*key, options) if options.side == "mmpose" else our_side(*key, options)
            warm_up = 3
        times = measure(estimators[key], pictures, request, warm_up, clock)
        print(json.dumps(times), file=answers, flush=True)


def measure(estimate, pictures, request, warm_up, clock):
    """Returns milliseconds per person of each call in a slice of time; calls that warm up are left out."""
    if request["task"] == "folder":
        return [measure_folder(estimate, pictures[request["turn"] :: request["turns"]], warm_up, clock)]
    image, boxes = one_picture(pictures, int(request["task"]))
    for _ in range(warm_up or 1):
        estimate([image], [boxes])
    times, start = [], time.perf_counter()
    while not times or time.perf_counter() - start < request["seconds"]:
        before = clock()
        estimate([image], [boxes])
        times.append((clock() - before) / len(boxes) * 1e3)
    return times


def measure_folder(estimate, pictures, warm_up, clock):
    """Reads picture files and estimates all their people: the whole part that is this turn's."""
    paths = [picture["path"] for picture in pictures]
    boxes = [np.array(picture["boxes"], np.float32) for picture in pictures]
    for _ in range(warm_up):
        estimate(paths[:12], boxes[:12])
    before = clock()
    estimate(paths, boxes)
    return (clock() - before) / sum(map(len, boxes)) * 1e3


def one_picture(pictures, people):
    """Returns a decoded picture and so many boxes in it."""
    import cv2

    image = np.ascontiguousarray(cv2.imread(pictures[0]["path"])[..., ::-1])
    box = np.array(pictures[0]["boxes"][0], np.float32)
    return image, np.stack([box + 3 * number for number in range(people)])


def our_side(model, variant, options):
    import keras_regpose as rp

    folder = Path(options.exports) / model
    if variant == "plain ONNX Runtime":
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        session = onnxruntime.InferenceSession(folder / "float32.onnx", settings, providers=["CPUExecutionProvider"])
        crops = np.load(folder / "crops.npy")
        # The network alone, on crops that are there already.
        return lambda images, boxes: session.run(None, {"image": crops[: sum(map(len, boxes))]})
    if variant.startswith("keras "):
        loaded = rp.from_preset(folder / "preset", dtype=variant.removeprefix("keras "))
    else:
        loaded = rp.load_exported(folder / variant, threads=options.threads, trust=True)

    def estimate(images, boxes):
        if isinstance(images[0], str):
            return loaded.estimate(images, boxes)
        return loaded.estimate(images[0], boxes[0])

    return estimate


def mmpose_side(model, variant, options):
    sys.path.insert(0, options.peer_folder)
    import mmpose
    import torch
    from mmpose_cpu import build

    torch.set_num_threads(options.threads)
    from mmpose.apis import inference_topdown
    from mmpose.datasets.datasets.utils import parse_pose_metainfo

    _, network = build(model)
    configs = Path(mmpose.__file__).parent / ".mim/configs/_base_/datasets/coco.py"
    network.dataset_meta = parse_pose_metainfo(dict(from_file=str(configs)))
    network.test_cfg["flip_test"] = False

    def estimate(images, boxes):
        return [inference_topdown(network, *pair) for pair in zip(images, boxes, strict=True)]

    return estimate


if __name__ == "__main__":
    main()
