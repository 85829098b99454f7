"""How fast does ResNet-50 + RLE train on a GPU? Keras on JAX against PyTorch: same network, loss, batches, precision.

usage: KERAS_BACKEND=jax python benchmarks/gpu_training_speed.py --output benchmarks/results/gpu_training_speed.json
Needs JAX and PyTorch with CUDA and torchvision. Ours is `model.fit` in mixed_bfloat16, PyTorch's a bare loop with
bfloat16 autocast, channels_last and fused Adam; both take uint8 batches from the host's memory at each step. They run
side by side in a process each and are measured in turn; the ratio is the median over the turns.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HEIGHT, WIDTH, KEYPOINTS = 256, 192, 17
STEPS = 40  # of a slice
SIDES = ("keras_regpose", "pytorch")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="JSON file for the figures")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="the chip's dense bfloat16 peak")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        answer(options)
        return
    command = [sys.executable, __file__, "--output", options.output, "--batch-size", str(options.batch_size)]
    environment = os.environ | {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.45"}  # the other half is PyTorch's
    sides = {
        side: subprocess.Popen(
            [*command, "--side", side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for side in SIDES
    }
    about = {side: json.loads(process.stdout.readline()) for side, process in sides.items()}
    turns = []
    for _ in range(options.turns):
        turns.append({})
        for side, process in sides.items():
            process.stdin.write("\n")
            process.stdin.flush()
            turns[-1][side] = float(process.stdout.readline())
        print({side: round(rate) for side, rate in turns[-1].items()}, flush=True)
    for process in sides.values():
        process.stdin.close()
        process.wait()
    rates = {side: [round(turn[side], 1) for turn in turns] for side in SIDES}
    gmacs = about["keras_regpose"].pop("gmacs")
    # Forward and twice as much backward, two operations for a multiplication and addition.
    shares = {
        side: round(statistics.median(rate) * gmacs * 6e9 / (options.peak_tflops * 1e12), 3)
        for side, rate in rates.items()
    }
    result = {
        "environment": {"processor": platform.processor(), "cores": os.cpu_count(), **about},
        "network": f"ResNet-50 + RLE, {HEIGHT}×{WIDTH}, {KEYPOINTS} keypoints, batches of {options.batch_size}",
        "images_per_second": rates,
        "median_ratio": round(statistics.median(turn["keras_regpose"] / turn["pytorch"] for turn in turns), 3),
        "share_of_bfloat16_peak": shares,
        "peak_tflops": options.peak_tflops,
    }
    print(json.dumps(result, indent=1, ensure_ascii=False))
    Path(options.output).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def answer(options):
    """Says what it is, then measures a slice for each line that comes in."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the libraries print must not be taken for an answer
    random = np.random.default_rng(0)
    shape = (options.batch_size, HEIGHT, WIDTH, 3)
    batches = []
    for _ in range(4):
        place = random.random((options.batch_size, KEYPOINTS, 2))
        targets = np.concatenate([place, np.ones_like(place[..., :1])], -1).astype("float32")
        batches.append((random.integers(0, 256, shape, dtype=np.uint8), targets))
    run, about = (keras_side if options.side == "keras_regpose" else pytorch_side)(batches)
    run()  # compiles
    run()
    print(json.dumps(about), file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(STEPS * options.batch_size / (time.perf_counter() - start), file=answers, flush=True)


def keras_side(batches):
    """Returns a function that trains for a slice, and versions."""
    import jax
    import keras

    import keras_regpose as rp

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return STEPS

        def __getitem__(self, index):
            return batches[index % len(batches)]

    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = rp.PoseRegressor("resnet50", rp.COCO17, input_size=(HEIGHT, WIDTH))
    model.compile(keras.optimizers.Adam(1e-4))
    dataset = Batches()
    about = {"keras": keras.__version__, "jax": jax.__version__, "device": jax.devices()[0].device_kind}
    about["gmacs"] = rp.preset_info("resnet50_rle_coco")["gmacs"]
    return lambda: model.fit(dataset, verbose=0), about


def pytorch_side(batches):
    """Returns a function that trains for a slice, and versions."""
    import torch
    import torchvision

    device = torch.device("cuda")
    torch.backends.cudnn.benchmark = True
    network = torchvision.models.resnet50(num_classes=KEYPOINTS * 4).to(device, memory_format=torch.channels_last)
    scales, translations = (
        torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Linear(2, 64),
                torch.nn.LeakyReLU(),
                torch.nn.Linear(64, 64),
                torch.nn.LeakyReLU(),
                torch.nn.Linear(64, 2),
                *last,
            )
            for _ in range(6)
        ).to(device)
        for last in ([torch.nn.Tanh()], [])
    )
    masks = torch.tensor([[0.0, 1.0], [1.0, 0.0]] * 3, device=device)
    parameters = [*network.parameters(), *scales.parameters(), *translations.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4, fused=True)
    mean = torch.tensor([123.675, 116.28, 103.53], device=device)
    deviation = torch.tensor([58.395, 57.12, 57.375], device=device)
    pinned = [tuple(torch.from_numpy(part).pin_memory() for part in batch) for batch in batches]

    def log_density(points):
        determinant = torch.zeros(len(points), device=device)
        for number in reversed(range(6)):
            kept = masks[number] * points
            scale = scales[number](kept) * (1 - masks[number])
            points = (1 - masks[number]) * (points - translations[number](kept)) * torch.exp(-scale) + kept
            determinant = determinant - scale.sum(1)
        return determinant - 0.5 * (points**2).sum(1) - np.log(2 * np.pi)

    def run():
        for step in range(STEPS):
            crops, targets = (part.to(device, non_blocking=True) for part in pinned[step % len(pinned)])
            optimizer.zero_grad(set_to_none=True)
            pixels = ((crops - mean) / deviation).permute(0, 3, 1, 2)  # a view in channels_last
            with torch.autocast("cuda", torch.bfloat16):
                output = network(pixels)
            output = output.float().reshape(-1, KEYPOINTS, 4)
            sigma = output[..., 2:].sigmoid()
            error = (output[..., :2] - targets[..., :2]) / (sigma + 1e-9)
            density = log_density(error.reshape(-1, 2)).reshape(-1, KEYPOINTS, 1)
            loss = sigma.log() - density + (sigma * 2).log() + error.abs()
            (loss * targets[..., 2:]).sum((1, 2)).mean().backward()
            optimizer.step()
        torch.cuda.synchronize()

    return run, {"torch": torch.__version__, "torchvision": torchvision.__version__}


if __name__ == "__main__":
    main()
