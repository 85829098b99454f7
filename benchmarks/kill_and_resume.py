"""Does a run that is killed end with the weights of one that never was? 20 runs, each killed at a random moment.

Each run is a process of its own that trains a small model on drawn people with everything that has a state: schedule,
moving average, accumulated gradients, best metric. It is killed with SIGKILL at a random moment of its training and
started again with `resume=True`. Weights, moving average and curves are compared bit for bit.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
from environment import environment

RESULT = Path(__file__).parent / "results" / "kill_and_resume.json"
EPOCHS, STEPS_PER_EPOCH = 8, 12
PROCESSES = multiprocessing.get_context("forkserver")  # each run is a fresh process, with the libraries imported


def small_model():
    """Returns a pose regressor of three convolutions, which compiles in a second."""
    import keras

    import keras_regpose as rp

    inputs = x = keras.layers.Input((64, 48, 3))
    for filters in (8, 16, 32):
        x = keras.layers.Conv2D(filters, 3, strides=2, use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
    return rp.PoseRegressor(keras.Model(inputs, x), rp.COCO17, (64, 48))


def run(folder, begun):
    """Trains, or goes on with, the run in a folder."""
    import keras

    import keras_regpose as rp

    keras.utils.set_random_seed(0)
    model = small_model()
    rp.training.train(
        model,
        rp.data.Synthetic(4 * STEPS_PER_EPOCH, seed=0),
        rp.data.Synthetic(8, seed=1),
        folder / "run",
        resume=True,
        checkpoint_minutes=0.1 / 60,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: begun.set())],
        epochs=EPOCHS,
        batch_size=4,
        warmup=10,
        accumulate=2,
        clip_norm=100.0,
        average_decay=0.9,
        validate_every=2,
    )
    np.savez(folder / "weights.npz", *[np.asarray(variable) for variable in model.variables])


def start(folder):
    """Starts a run; returns its process and when it had compiled and taken its first step."""
    folder.mkdir(parents=True, exist_ok=True)
    begun = PROCESSES.Event()
    process = PROCESSES.Process(target=run, args=(folder, begun))
    process.start()
    while not begun.wait(timeout=1) and process.is_alive():
        pass
    return process, time.monotonic()


def finish(process):
    process.join()
    return process.exitcode


def outcome(folder):
    weights = list(np.load(folder / "weights.npz").values())
    return weights, (folder / "run" / "history.csv").read_text()


def last_step(folder):
    steps = [int(path.stem.removeprefix("step-")) for path in (folder / "run" / "checkpoints").glob("step-*.npz")]
    return max(steps, default=0)


def killed_run(folder, seconds, generator):
    """Runs, kills and resumes; returns where it was killed."""
    process, began = start(folder)
    time.sleep(generator.uniform(0.0, seconds))
    process.kill()
    if finish(process) != -signal.SIGKILL:
        return None
    after, step = time.monotonic() - began, last_step(folder)
    if step == EPOCHS * STEPS_PER_EPOCH:
        return None
    process, _ = start(folder)
    if finish(process) != 0:
        raise RuntimeError(f"The resumed run in {folder} failed")
    return {"killed_after_seconds": round(after, 2), "last_checkpoint_step": step}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    PROCESSES.set_forkserver_preload(["keras", "tensorflow_probability", "keras_regpose.training"])
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        process, began = start(folder / "uninterrupted")
        if finish(process) != 0:
            raise RuntimeError("The uninterrupted run failed")
        seconds = time.monotonic() - began
        weights, history = outcome(folder / "uninterrupted")
        runs = []
        for attempt in range(10 * options.runs):
            place = folder / f"run{attempt}"
            killed = killed_run(place, seconds, generator)
            if killed is None:
                continue  # it was faster than its killer
            resumed, resumed_history = outcome(place)
            same = all(np.array_equal(a, b) for a, b in zip(weights, resumed, strict=True))
            killed |= {"weights_bit_for_bit": same, "curves_equal": resumed_history == history}
            print(killed, flush=True)
            runs.append(killed)
            if len(runs) == options.runs:
                break
    result = {
        "environment": environment(),
        "uninterrupted_seconds": round(seconds, 1),
        "steps": EPOCHS * STEPS_PER_EPOCH,
        "steps_per_epoch": STEPS_PER_EPOCH,
        "runs": len(runs),
        "runs_with_equal_weights": sum(run["weights_bit_for_bit"] for run in runs),
        "runs_with_equal_curves": sum(run["curves_equal"] for run in runs),
        "runs_resumed_within_an_epoch": sum(run["last_checkpoint_step"] % STEPS_PER_EPOCH > 0 for run in runs),
        "kills": runs,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if not all(run["weights_bit_for_bit"] and run["curves_equal"] for run in runs):
        raise SystemExit("A resumed run differs from the uninterrupted one")


if __name__ == "__main__":
    main()
