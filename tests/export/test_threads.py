"""One model in many threads, in forked and in spawned workers gives what it gives alone, and memory does not grow."""

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest
from tiny_model import tiny_model

import keras_regpose as rp

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
pytest.importorskip("ai_edge_litert")

SUFFIXES = {"onnx": "pose.onnx", "openvino": "pose.xml", "litert": "pose.tflite"}
BOXES = [[10, 20, 60, 100], [30, 10, 90, 110], [5, 5, 99, 119]]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder, keras_model = tmp_path_factory.mktemp("threads"), tiny_model()
    for name in SUFFIXES.values():
        keras_model.export(folder / name, verbose=False)
    return {"keras": keras_model} | {name: rp.load_exported(folder / file) for name, file in SUFFIXES.items()}


@pytest.fixture(scope="module")
def pictures():
    return list(np.random.default_rng(0).integers(0, 255, (8, 120, 100, 3), np.uint8))


def estimates(model, pictures, calls=1):
    """Estimates with one, two or three people in a picture, since runtimes allocate anew for another batch."""
    return [
        model.estimate(picture, boxes=BOXES[: 1 + (place + call) % 3], flip_test=True).keypoints
        for call in range(calls)
        for place, picture in enumerate(pictures)
    ]


@pytest.mark.parametrize("rounds", [2, pytest.param(25, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["keras", *SUFFIXES])
def test_eight_threads_get_what_one_gets(name, rounds, models, pictures):
    expected = estimates(models[name], pictures, rounds)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        found = [threads.submit(estimates, models[name], pictures, rounds) for _ in range(8)]
    for one in found:
        for ours, theirs in zip(one.result(), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")
@pytest.mark.parametrize("name", SUFFIXES)
def test_forked_workers(name, models, pictures, tmp_path):
    """In a process of its own, since one with TensorFlow in it should not be forked."""
    np.save(tmp_path / "pictures.npy", pictures)
    script = f"""
import multiprocessing, sys, numpy as np, keras_regpose as rp
model, pictures = rp.load_exported({str(models[name]._path)!r}), np.load({str(tmp_path / "pictures.npy")!r})
boxes = {BOXES}
def work(start):
    return [model.estimate(one, boxes=boxes[:1 + place % 3]).keypoints for place, one in enumerate(pictures)]
expected = work(0)
with multiprocessing.get_context("fork").Pool(3) as pool:
    for found in pool.map(work, range(6)):
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
print("equal")
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.stdout.split() == ["equal"], result.stderr


def test_spawned_workers_are_given_the_model(models, pictures):
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as workers:
        for name in SUFFIXES:
            model = models[name]
            (found,) = workers.map(model.predict_on_batch, [np.stack(pictures)[:, :64, :48]])
            np.testing.assert_allclose(found, model.predict_on_batch(np.stack(pictures)[:, :64, :48]), atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_keras_says_that_it_cannot_be_forked(models, pictures):
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            models["keras"].estimate(pictures[0], boxes=BOXES[:1])
        except RuntimeError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)  # so that reading ends when the child does
    os.waitpid(child, 0)
    assert os.read(read, 999).decode().startswith("This model was made in another process, of which this one is a fork")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
@pytest.mark.parametrize("name", SUFFIXES)
def test_memory_does_not_grow(name, models, pictures):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def work(rounds):
        for _ in range(rounds):  # new threads each time, as servers have them
            with concurrent.futures.ThreadPoolExecutor(8) as threads:
                list(threads.map(lambda _: estimates(models[name], pictures), range(8)))

    work(5)
    before = resident()
    work(15)
    assert resident() - before < 20
