"""A run that is stopped, killed, or loses its newest checkpoint ends with the weights of one that never stopped."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest
from tiny_model import tiny_model

from keras_regpose import COCO17, PoseRegressor
from keras_regpose.data import Synthetic
from keras_regpose.training import Recipe, train
from keras_regpose.training.checkpoint import load_checkpoint, variables_of

PEOPLE, VALIDATION = Synthetic(12, seed=0), Synthetic(4, seed=1)
# Everything that has a state: schedule, moving average, accumulated gradients, best metric, running means.
SETTINGS = {
    "epochs": 3,
    "batch_size": 4,
    "warmup": 4,
    "accumulate": 2,
    "average_decay": 0.9,
    "validate_every": 1,
    "checkpoint_minutes": 0.0,
    "verbose": 0,
}


class AfterSteps(keras.callbacks.Callback):
    """Does something after some steps of a sitting."""

    def __init__(self, steps, action):
        super().__init__()
        self.steps = steps
        self.action = action

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if self.steps == 0:
            self.action()


class PowerCut(Exception):
    pass


def cut_the_power():
    raise PowerCut


def plain_model():
    """Without σ and flow, which take most of the time of a short run and are part of some of these runs only."""
    return tiny_model("deeppose")


def outcome(model, history):
    return [np.array(variable) for variable in model.variables], history


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    model = tiny_model()
    folder = tmp_path_factory.mktemp("uninterrupted")
    return outcome(model, train(model, PEOPLE, VALIDATION, folder, **SETTINGS))


@pytest.fixture(scope="module")
def uninterrupted_plain(tmp_path_factory):
    model = plain_model()
    folder = tmp_path_factory.mktemp("uninterrupted_plain")
    return outcome(model, train(model, PEOPLE, VALIDATION, folder, **SETTINGS))


def assert_same(first, second):
    assert first[1] == second[1]
    for ours, theirs in zip(first[0], second[0], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def resume(folder, model=tiny_model, **options):
    model = model()
    for variable in model.trainable_variables:
        variable.assign(variable * 0)  # nothing of what follows may come from the start
    return outcome(model, train(model, PEOPLE, VALIDATION, folder, resume=True, **SETTINGS | options))


@pytest.mark.parametrize("steps", [2, 3, 8])
def test_a_run_cut_off_after_any_step_ends_the_same(tmp_path, uninterrupted, steps):
    with pytest.raises(PowerCut):
        train(
            tiny_model(),
            PEOPLE,
            VALIDATION,
            tmp_path,
            callbacks=[AfterSteps(steps, cut_the_power)],
            **SETTINGS,
        )
    (tmp_path / ".best-of-a-killed-run").mkdir()
    assert_same(resume(tmp_path), uninterrupted)
    assert not (tmp_path / ".best-of-a-killed-run").exists()
    rows = (tmp_path / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3"]


def test_a_finished_run_is_left_as_it_is(tmp_path, uninterrupted_plain):
    train(plain_model(), PEOPLE, VALIDATION, tmp_path, **SETTINGS)
    assert_same(resume(tmp_path, plain_model), uninterrupted_plain)


# A rate that does not depend on the length of the run.
CONSTANT = {"drops": (99,), "warmup": 0, "learning_rate": 1e-3}


def test_a_finished_run_goes_on_for_more_epochs(tmp_path, caplog):
    straight = plain_model()
    history = train(straight, PEOPLE, VALIDATION, tmp_path / "straight", **SETTINGS | CONSTANT)
    train(plain_model(), PEOPLE, VALIDATION, tmp_path / "run", **SETTINGS | CONSTANT | {"epochs": 2})
    with caplog.at_level("INFO"):
        longer = resume(tmp_path / "run", plain_model, **CONSTANT)
    assert "Going on to epoch 3, not 2: the learning rate is now 0.001" in caplog.text
    assert_same(longer, outcome(straight, history))
    with pytest.raises(ValueError, match="The run to resume is beyond epoch 2. Ask for more epochs"):
        resume(tmp_path / "run", plain_model, **CONSTANT | {"epochs": 2})


def test_a_longer_run_follows_the_schedule_of_its_new_length(tmp_path):
    settings = SETTINGS | {"accumulate": 1, "schedule": "cosine", "warmup": 0, "learning_rate": 1e-3}
    short = train(plain_model(), PEOPLE, None, tmp_path, **settings | {"epochs": 2})
    history = train(plain_model(), PEOPLE, None, tmp_path, resume=True, **settings | {"epochs": 4})
    assert history["loss"][:2] == short["loss"] and len(history["loss"]) == 4
    # Of 12 steps after the last of each epoch; the shorter run had come down to the end of its own cosine.
    cosine = [1e-3 * 0.5 * (1 + np.cos(np.pi * step / 12)) for step in (8, 11)]
    np.testing.assert_allclose(history["learning_rate"][2:], cosine, rtol=1e-5)
    assert history["learning_rate"][1] == short["learning_rate"][1] < history["learning_rate"][2]


def test_a_flow_that_has_joined_stays_when_a_run_goes_on(tmp_path):
    strengths = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            strengths.append(float(self.model.flow.strength))

    recipe = Recipe(
        **{name: value for name, value in SETTINGS.items() if name not in ("checkpoint_minutes", "verbose")}
    )
    for epochs in (2, 4):
        changed = recipe.changed(epochs=2, delay_flow=1).changed(epochs=epochs)
        assert changed.delay_flow == epochs // 2
        train(tiny_model(), PEOPLE, None, tmp_path, changed, resume=epochs == 4, callbacks=[Watch()], verbose=0)
    assert strengths == [0, 1, 1, 1]


class Figures(keras.callbacks.Callback):
    """Puts chosen figures in the place of the validation's, before others follow them."""

    def __init__(self, figures):
        super().__init__()
        self.figures = figures

    def on_epoch_end(self, epoch, logs=None):
        logs.update(val_AP=self.figures[epoch])


PATIENT = SETTINGS | {"epochs": 6, "patience": 2}
FALLING = [0.1, 0.3, 0.2, 0.3, 0.9, 0.9]  # after epoch 4 there were two without a better one


def test_patience_ends_a_run_also_one_that_is_resumed(tmp_path, caplog):
    with caplog.at_level("INFO"):
        straight = plain_model()
        history = train(straight, PEOPLE, VALIDATION, tmp_path / "straight", callbacks=[Figures(FALLING)], **PATIENT)
    assert history["val_AP"] == FALLING[:4]
    assert "Ended after epoch 4: no better figure in 2 validations" in caplog.text
    for steps in (8, 11):  # in the epochs 3 and 4
        folder = tmp_path / str(steps)
        cut = [AfterSteps(steps, cut_the_power), Figures(FALLING)]
        with pytest.raises(PowerCut):
            train(plain_model(), PEOPLE, VALIDATION, folder, callbacks=cut, **PATIENT)
        assert_same(resume(folder, plain_model, callbacks=[Figures(FALLING)], **PATIENT), outcome(straight, history))
    # What has ended stays as it is, until it is given more patience.
    assert_same(
        resume(tmp_path / "8", plain_model, callbacks=[Figures(FALLING)], **PATIENT), outcome(straight, history)
    )
    _, longer = resume(tmp_path / "8", plain_model, callbacks=[Figures(FALLING)], **PATIENT | {"patience": 3})
    assert longer["val_AP"] == FALLING


def test_patience_counts_validations_and_wants_some():
    history = train(
        *(plain_model(), PEOPLE, VALIDATION),
        callbacks=[Figures([0.5] * 12)],
        **SETTINGS | {"epochs": 12, "validate_every": 2, "patience": 2},
    )
    assert len(history["loss"]) == 4  # validated after the epochs 1, 2 and 4
    with pytest.raises(ValueError, match="patience counts validations: pass people to validate on"):
        train(plain_model(), PEOPLE, **PATIENT)
    with pytest.raises(ValueError, match="patience must be at least 1. Received: 0"):
        train(plain_model(), PEOPLE, VALIDATION, **PATIENT | {"patience": 0})


TERMINATED = """
    import os, signal, sys
    sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
    import test_resume as this
    before = signal.getsignal(signal.SIGTERM)
    terminate = this.AfterSteps(int(sys.argv[3]), lambda: os.kill(os.getpid(), signal.SIGTERM))
    settings = this.SETTINGS | {"checkpoint_minutes": 9}
    try:
        this.train(this.plain_model(), this.PEOPLE, this.VALIDATION, sys.argv[2], callbacks=[terminate], **settings)
    finally:
        print("handler restored:", signal.getsignal(signal.SIGTERM) is before)
    """


@pytest.mark.parametrize("steps", [2, 3])
def test_sigterm_lets_the_step_end_and_saves(tmp_path, uninterrupted_plain, steps):
    # In a process of its own: pytest's handler of crashes gives this one a stack for signals, which is too small for
    # the registers of current processors.
    command = [sys.executable, "-c", textwrap.dedent(TERMINATED), os.path.dirname(__file__), str(tmp_path), str(steps)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    assert ended.returncode == 128 + signal.SIGTERM
    assert ended.stdout == "handler restored: True\n"
    assert max(path.name for path in (tmp_path / "checkpoints").iterdir()) == f"step-{steps:09d}.npz"
    assert_same(resume(tmp_path, plain_model), uninterrupted_plain)


def test_the_best_preset_survives_a_kill_between_two_renamings(tmp_path, uninterrupted_plain):
    with pytest.raises(PowerCut):
        train(plain_model(), PEOPLE, VALIDATION, tmp_path, callbacks=[AfterSteps(5, cut_the_power)], **SETTINGS)
    (tmp_path / ".best-new").mkdir()
    (tmp_path / "best").rename(tmp_path / ".best-new" / "best")
    assert_same(resume(tmp_path, plain_model), uninterrupted_plain)
    assert (tmp_path / "best" / "preset.json").is_file() and not (tmp_path / ".best-new").exists()


def test_a_torn_checkpoint_costs_one_interval(tmp_path, uninterrupted_plain, caplog):
    with pytest.raises(PowerCut):
        train(plain_model(), PEOPLE, VALIDATION, tmp_path, callbacks=[AfterSteps(5, cut_the_power)], **SETTINGS)
    older, newest = sorted((tmp_path / "checkpoints").glob("step-*.npz"))
    content = newest.read_bytes()
    for damaged in (content[: len(content) // 2], b"", content[:2000] + b"x" * 500 + content[2500:]):
        newest.write_bytes(damaged)
        caplog.clear()
        model = plain_model()
        model.compile("adam")
        model.optimizer.build(model.trainable_variables)
        with pytest.raises(ValueError, match="belongs to another model"):
            load_checkpoint(newest.parent, variables_of(model))
        assert f"{newest} is damaged" in caplog.text
    assert_same(resume(tmp_path, plain_model), uninterrupted_plain)

    for file in (tmp_path / "checkpoints").glob("step-*.npz"):
        file.write_bytes(b"torn")
    with pytest.raises(ValueError, match="All checkpoints in .* are damaged. Remove the folder to start anew"):
        resume(tmp_path, plain_model)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, uninterrupted_plain):
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", tmp_path], capture_output=True)
    if mount.returncode:
        pytest.skip("needs the right to mount a small file system")
    ballast = tmp_path / "ballast"
    try:
        fill = AfterSteps(4, lambda: fill_disk(ballast))
        with pytest.raises(
            OSError,
            match="The checkpoint .*step-000000004.npz cannot be written .The disk of .* is full. Free some space",
        ):
            train(plain_model(), PEOPLE, VALIDATION, tmp_path, callbacks=[fill], **SETTINGS)
        assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())][-1] == "step-000000003.npz"
        ballast.unlink()
        assert_same(resume(tmp_path, plain_model), uninterrupted_plain)
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)  # the failed run's event file is still open


def fill_disk(ballast):
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass


def test_what_does_not_fit_is_refused(tmp_path):
    train(plain_model(), PEOPLE, VALIDATION, tmp_path, **SETTINGS | {"epochs": 1})
    with pytest.raises(ValueError, match="holds a run. Add --resume"):
        train(plain_model(), PEOPLE, VALIDATION, tmp_path, **SETTINGS)
    with pytest.raises(ValueError, match="has warmup = 4, this one 5. Use the same settings"):
        resume(tmp_path, plain_model, epochs=1, warmup=5)
    with pytest.raises(ValueError, match="has drops = None, this one .1.. Use the same settings"):
        resume(tmp_path, plain_model, epochs=1, drops=(1,))
    with pytest.raises(ValueError, match="has people = 12, this one 8"):
        train(plain_model(), Synthetic(8, seed=0), VALIDATION, tmp_path, resume=True, **SETTINGS | {"epochs": 1})
    other = PoseRegressor("mobilenetv2_0.25", COCO17, (64, 48))
    with pytest.raises(ValueError, match="belongs to another model"):
        train(other, PEOPLE, VALIDATION, tmp_path, resume=True, **SETTINGS | {"epochs": 1})


KILLED = """
    import os, sys
    sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
    import test_resume as this
    model = this.tiny_model()
    begin = this.AfterSteps(1, lambda: print("begun", flush=True))
    this.train(model, this.PEOPLE, this.VALIDATION, sys.argv[2], resume=True, callbacks=[begin], **this.SETTINGS)
    """


@pytest.mark.slow
def test_killed_runs_end_the_same(tmp_path, uninterrupted):
    for pause in (0.0, 0.5):
        command = [sys.executable, "-c", textwrap.dedent(KILLED), os.path.dirname(__file__), str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "begun\n"
        time.sleep(pause)
        process.kill()
        assert process.wait() in (-signal.SIGKILL, 0)
    assert_same(resume(tmp_path), uninterrupted)


class Remembers(keras.callbacks.Callback):
    """A user's own callback, which counts the steps of the whole run."""

    saved = ("count",)

    def __init__(self):
        super().__init__()
        self.count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


def test_callbacks_of_ones_own_are_resumed(tmp_path):
    with pytest.raises(PowerCut):
        train(plain_model(), PEOPLE, None, tmp_path, callbacks=[AfterSteps(5, cut_the_power), Remembers()], **SETTINGS)
    counting = Remembers()
    train(plain_model(), PEOPLE, None, tmp_path, resume=True, callbacks=[counting], **SETTINGS)
    assert counting.count == 9


def test_checkpoints_fit_a_network_of_the_same_layers(tmp_path):
    def model(filters=4, others_before=0):
        for _ in range(others_before):
            keras.layers.Conv2D(1, 1)  # Keras numbers layers without a name through all of a process
        inputs = keras.layers.Input((64, 48, 3))
        x = keras.layers.Conv2D(4, 3, strides=2)(inputs)
        x = keras.layers.Conv2D(filters, 3, strides=2, name="second")(x)
        return PoseRegressor(keras.Model(inputs, x), COCO17, (64, 48))

    settings = SETTINGS | {"epochs": 1, "average_decay": None}
    train(model(), PEOPLE, None, tmp_path, **settings)
    train(model(others_before=3), PEOPLE, None, tmp_path, resume=True, **settings)
    message = r"it has second/kernel \(3, 3, 4, 4\) where this one has second/kernel \(3, 3, 4, 5\)"
    with pytest.raises(ValueError, match=message):
        train(model(filters=5), PEOPLE, None, tmp_path, resume=True, **settings)


def test_one_process_at_a_time_trains_into_a_folder(tmp_path):
    with pytest.raises(PowerCut):
        train(plain_model(), PEOPLE, VALIDATION, tmp_path, callbacks=[AfterSteps(2, cut_the_power)], **SETTINGS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != ".process"}
    other = subprocess.Popen([sys.executable, "-c", textwrap.dedent(HOLDS), str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"begun\n"
        with pytest.raises(ValueError, match=f"Process {other.pid} trains in .*. Wait, or choose another folder"):
            train(plain_model(), PEOPLE, VALIDATION, tmp_path, resume=True, **SETTINGS)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != ".process"} == before
    finally:
        other.kill()
        other.wait()
    train(plain_model(), PEOPLE, VALIDATION, tmp_path, resume=True, **SETTINGS)  # a dead process is in nobody's way


HOLDS = """
    import sys, time
    from pathlib import Path
    from keras_regpose.training.loop import _alone
    with _alone(Path(sys.argv[1])):
        print("begun", flush=True)
        time.sleep(600)
    """


@pytest.mark.parametrize("name", ["best", "history.csv", "validation", "tensorboard", "validation.json"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_files_of_others_is_not_trained_into(tmp_path, name, resume):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name} is there, and no training wrote it. Choose another output folder"):
        train(plain_model(), PEOPLE, VALIDATION, tmp_path, resume=resume, **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "mine"


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_anew(tmp_path):
    with pytest.raises(PowerCut):
        options = SETTINGS | {"checkpoint_minutes": 10}
        train(plain_model(), PEOPLE, None, tmp_path, callbacks=[AfterSteps(3, cut_the_power)], **options)
    (tmp_path / "history.csv").write_text("epoch,loss\n1,2.0\n")  # its epoch had ended
    assert len(train(plain_model(), PEOPLE, None, tmp_path, **SETTINGS)["loss"]) == SETTINGS["epochs"]
