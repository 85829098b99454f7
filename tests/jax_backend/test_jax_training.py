"""Training on the JAX backend, where TensorFlow need not be installed: one process, two processes, resumed.

Run with KERAS_BACKEND=jax in an environment of its own, as `.ci/run` does.
"""

import csv
import importlib.util
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

if os.environ.get("KERAS_BACKEND") != "jax" or importlib.util.find_spec("jax") is None:
    pytest.skip("needs KERAS_BACKEND=jax and JAX, an environment of its own", allow_module_level=True)

import keras
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose.training.checkpoint import Stopped

TRAIN = [
    *("train", "--dataset", "synthetic", "--count", "8", "--no-augmentation", "--batch-size", "4", "--epochs", "2"),
    *("--validate-every", "2", "--learning-rate", "1e-3", "--warmup", "0", "--average-decay", "0.9"),
]


def processes(folder, count, *arguments):
    """Trains in some processes of one run; returns its epochs and all variables of its last checkpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hosts = ",".join([f"127.0.0.1:{port}", *["127.0.0.1"] * (count - 1)])
    run = f"import sys; from keras_regpose.cli import main; sys.exit(main({[*TRAIN, *arguments]!r} + sys.argv[1:]))"
    started = []
    for index in range(count):
        host = ["--hosts", hosts, "--host-index", str(index)] if count > 1 else []
        command = [sys.executable, "-c", run, "--output", str(folder), *host]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    outputs = [process.communicate(timeout=400)[0] for process in started]
    assert [process.returncode for process in started] == [0] * count, "\n".join(outputs)
    with open(folder / "history.csv") as file:
        epochs = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    with np.load(folder / "checkpoints" / "step-000000004.npz") as stored:
        return epochs, {name: stored[name] for name in stored.files if name != "state"}, outputs


def test_two_processes_train_as_one(tmp_path):
    # Adam moves a weight by its gradient's sign at first, whatever its size. In a deep network many gradients are
    # rounding errors, so their weights would tell nothing: hence this model.
    tiny_model().save_to_preset(tmp_path / "start")
    start = ("--preset", str(tmp_path / "start"))
    epochs_of_one, one, _ = processes(tmp_path / "one", 1, *start)
    epochs_of_two, two, outputs = processes(tmp_path / "two", 2, *start)
    assert "Best AP" in outputs[0] and "Best AP" not in outputs[1]
    assert len(epochs_of_one) == len(epochs_of_two) == 2
    for first, second in zip(epochs_of_one, epochs_of_two, strict=True):
        assert {"loss", "rle_flow", "rle_residual", "rle_sigma", "val_AP", "val_AR"} < set(first)
        assert second == pytest.approx(first, rel=1e-4, abs=1e-4)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-4, err_msg=name)
    assert rp.from_preset(tmp_path / "two" / "best").skeleton == rp.COCO17


class AfterSteps(keras.callbacks.Callback):
    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if self.steps == 0:
            raise Stopped(143)


def test_a_run_cut_off_within_an_epoch_ends_the_same(tmp_path):
    def run(folder, **options):
        model = tiny_model()
        history = rp.training.train(
            model,
            rp.data.Synthetic(12, seed=0),
            rp.data.Synthetic(4, seed=1),
            folder,
            epochs=2,
            batch_size=4,
            accumulate=2,
            average_decay=0.9,
            checkpoint_minutes=0.0,
            validate_every=1,
            verbose=0,
            **options,
        )
        return [np.array(variable) for variable in model.variables], history

    weights, history = run(tmp_path / "whole")
    with pytest.raises(Stopped):
        run(tmp_path / "cut", callbacks=[AfterSteps(5)])
    resumed_weights, resumed_history = run(tmp_path / "cut", resume=True)
    assert resumed_history == history
    for first, second in zip(weights, resumed_weights, strict=True):
        np.testing.assert_array_equal(second, first)
    assert len(list((tmp_path / "whole" / "tensorboard").iterdir())) == 2  # epochs


def test_every_epoch_sees_its_own_batches():
    """Batches that Keras loads before training, to see their shapes, must not be trained on in a later epoch."""
    seen = []

    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(float(np.asarray(self.model._jax_state["non_trainable_variables"][0])[0]))

    means = keras.layers.BatchNormalization(momentum=0.0, axis=-1, name="crops")
    inputs = keras.layers.Input((64, 48, 3))
    x = keras.layers.Conv2D(4, 3, strides=8)(means(inputs))
    model = rp.PoseRegressor(keras.Model(inputs, x), rp.COCO17, (64, 48), pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1))
    people = rp.data.Synthetic(12, seed=0)
    rp.training.train(model, people, epochs=3, batch_size=4, verbose=0, callbacks=[Seen()])
    batches = rp.data.make_dataset(people, model, training=True, batch_size=4)
    expected = [batches.load(epoch, batch)[0][..., 0].mean(dtype="float64") for epoch in range(3) for batch in range(3)]
    np.testing.assert_allclose(seen, expected, rtol=1e-4)


def test_training_needs_no_tensorflow():
    heavy = {"tensorflow", "keras_cv", "tf_keras"} & set(sys.modules)
    assert not heavy


def test_hosts_that_do_not_fit_are_refused():
    for hosts, index, message in (
        ("10.0.0.1:4321,10.0.0.2", None, "go together"),
        ("10.0.0.1,10.0.0.2", 0, "must begin with an address and its port"),
        ("10.0.0.1:4321,10.0.0.2", 2, "must be from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            rp.training.join_hosts(hosts, index)


def test_fit_shows_the_metrics_of_batches():
    model, people = tiny_model(), rp.data.Synthetic(8, seed=0)
    size = model.input_size
    model.compile("adam", metrics=[rp.metrics.PCK(size), rp.metrics.MeanError(size), rp.metrics.OKS(size)])
    batches = rp.data.make_dataset(people, model, training=True, batch_size=4)
    validation = rp.data.make_dataset(people, model, batch_size=4)
    history = model.fit(batches, validation_data=validation, epochs=2, verbose=0).history
    targets = np.concatenate([validation[n][1] for n in range(2)])
    outputs = np.concatenate([model.predict_on_batch(validation[n][0]) for n in range(2)])
    scale = np.array([size[1], size[0]])
    error = rp.metrics.epe(outputs[..., :2] * scale, targets[..., :2] * scale, targets[..., 2])
    assert history["val_mean_error"][-1] == pytest.approx(error, rel=1e-4)
    assert all(0 <= value <= 1 for name in ("pck", "val_pck", "oks", "val_oks") for value in history[name])
