"""Checkpoints: all that a run needs to go on as if it had never stopped.

A checkpoint is one file: every variable of the model, its flow, its optimizer and its running means, and the state of
the run as JSON. It is written beside its place, flushed to the disk and renamed; the one before is kept, so that a torn
file costs one interval, never the run.
"""

import contextlib
import json
import logging
import os
import signal
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_regpose.training.devices import any_host, this_host

_log = logging.getLogger(__name__)
KEPT = 2


class Stopped(SystemExit):
    """The run was asked to stop by a signal, and its state is saved. The exit status is the shell's for that signal."""


def save_checkpoint(folder: Path, model: keras.Model, state: dict, further: Sequence[keras.Variable] = ()) -> Path:
    """Writes a checkpoint and removes all but the last two.

    Args:
        folder: Path. Made if it is not there.
        model: A compiled model whose optimizer is built.
        state: JSON-ready dict with the int `step`, by which checkpoints are ordered.
        further: Variables that are kept as well.

    Raises:
        OSError: If it cannot be written; what was there is unchanged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for abandoned in folder.glob(".*.writing"):
        abandoned.unlink(missing_ok=True)
    target = folder / f"step-{state['step']:09d}.npz"
    temporary = folder / f".{target.name}.writing"
    arrays = {
        f"{number:05d} {path}": np.asarray(variable)
        for number, (path, variable) in enumerate(_variables(model, further))
    }
    arrays = {
        name: value.astype(np.float32) if value.dtype.name == "bfloat16" else value for name, value in arrays.items()
    }
    try:
        with open(temporary, "wb") as file:
            np.savez(file, state=np.frombuffer(json.dumps(state).encode(), np.uint8), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, f"The checkpoint {target} cannot be written ({error.strerror})") from error
    for old in sorted(folder.glob("step-*.npz"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return target


def load_checkpoint(folder: Path, model: keras.Model, further: Sequence[keras.Variable] = ()) -> dict | None:
    """Loads the newest undamaged checkpoint into a model and returns its state, or None if there is no checkpoint.

    Raises:
        ValueError: If all checkpoints are damaged, or they belong to another model.
    """
    files = sorted(folder.glob("step-*.npz"), reverse=True)
    for file in files:
        try:
            with np.load(file) as stored:
                arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            _log.warning("The checkpoint %s is damaged (%s); going on from the one before", file, error)
            continue
        state = json.loads(arrays.pop("state").tobytes())
        variables = [variable for _, variable in _variables(model, further)]
        shapes = [tuple(variable.shape) for variable in variables]
        if [array.shape for array in arrays.values()] != shapes:
            raise ValueError(f"The checkpoint {file} belongs to another model. Use another --output folder")
        for variable, array in zip(variables, arrays.values(), strict=True):
            variable.assign(array)
        return state
    if files:
        raise ValueError(f"All checkpoints in {folder} are damaged. Remove the folder to start anew")
    return None


class Checkpoints(keras.callbacks.Callback):
    """Counts the steps; saves a checkpoint after every epoch, every few minutes, and when the run is asked to stop.

    Put it last: the state that it saves then holds what the callbacks before it have done in this epoch.

    Args:
        folder: Path of the checkpoints, or None to save none.
        state: `RunState`.
        dataset: What `make_dataset` returned.
        steps_per_epoch: int.
        minutes: float. Longest time without a checkpoint.
        further: Variables that are kept as well as the model's and the optimizer's.
    """

    def __init__(
        self,
        folder: Path | None,
        state: "RunState",
        dataset,
        steps_per_epoch: int,
        minutes: float,
        further: Sequence[keras.Variable] = (),
    ):
        super().__init__()
        self.further = further
        self.folder = folder
        self.state = state
        self.dataset = dataset
        self.steps_per_epoch = steps_per_epoch
        self.minutes = minutes
        self.saved_at = time.monotonic()
        self.signal_number = None

    @contextlib.contextmanager
    def signals(self):
        """Context in which SIGTERM and SIGINT let the present step end, save a checkpoint and stop the run.

        A second one acts as it would without this.
        """
        if self.folder is None or threading.current_thread() is not threading.main_thread():
            yield
            return

        def restore():
            for number, handler in before.items():
                signal.signal(number, handler)

        def ask_to_stop(number, frame):
            self.signal_number = number
            restore()

        # All are known before the first is replaced: a signal may come between.
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in before:
            signal.signal(number, ask_to_stop)
        try:
            yield
        finally:
            restore()

    def on_epoch_begin(self, epoch, logs=None):
        self.state.epoch = epoch
        self.dataset.seek(epoch, self.state.batch)
        if self.state.means is not None:
            # The running means of an epoch that goes on; Keras has just reset them.
            for variable, value in zip(self.model.metrics_variables, self.state.means, strict=True):
                variable.assign(value)
            self.state.means = None

    def on_train_batch_end(self, batch, logs=None):
        self.state.batch += 1
        self.state.step += 1
        if self.state.batch == self.steps_per_epoch:
            return  # the epoch's end follows
        # Hosts have to stop after the same step, or the others would wait for ever. Asking them costs a round trip.
        ask = this_host()[1] == 1 or self.state.step % 10 == 0
        stop = ask and any_host(self.signal_number is not None)
        if stop or time.monotonic() - self.saved_at > 60 * self.minutes:
            self._save()
        self._stop(stop)

    def on_epoch_end(self, epoch, logs=None):
        self.state.epoch, self.state.batch = epoch + 1, 0
        self._save()
        self._stop(any_host(self.signal_number is not None))

    def _stop(self, stop):
        if stop:
            raise Stopped(128 + (self.signal_number or signal.SIGTERM))

    def _save(self):
        self.saved_at = time.monotonic()
        if self.folder is None or this_host()[0] > 0:
            return
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        means = [np.asarray(variable).tolist() for variable in self.model.metrics_variables]
        state = self.state.to_dict() | {"means": means if self.state.batch else None}
        save_checkpoint(self.folder, self.model, state, self.further)
        self.saved_at = time.monotonic()


class RunState:
    """Where a run is, and what its callbacks remember.

    Args:
        recipe: dict of the recipe's settings.
        people: int. Samples that are trained on.
    """

    def __init__(self, recipe: dict, people: int):
        self.recipe = recipe
        self.people = people
        self.epoch = self.batch = self.step = 0
        self.best = None
        self.latest = {}
        self.history = []
        self.means = None

    def to_dict(self) -> dict:
        """Returns the state as JSON-ready values."""
        return dict(vars(self))

    def restore(self, stored: dict) -> None:
        """Takes over the state of a checkpoint.

        Raises:
            ValueError: If the checkpoint belongs to a run with other settings or other data.
        """
        settings = json.loads(json.dumps(self.recipe))
        changed = [name for name in settings if settings[name] != stored["recipe"].get(name)]
        if changed:
            name = changed[0]
            raise ValueError(
                f"The run to resume has {name} = {stored['recipe'].get(name)!r}, this one {settings[name]!r}. Use the "
                "same settings, or another output folder"
            )
        if stored["people"] != self.people:
            raise ValueError(
                f"The run to resume learns from {stored['people']} people, this one from {self.people}. Use the same "
                "data, or another output folder"
            )
        vars(self).update(stored)


def _variables(model, further):
    """Everything that changes in training, in a fixed order, once each."""
    variables = [*model.variables, *model.optimizer.variables, *further]
    return [(variable.path, variable) for variable in {id(variable): variable for variable in variables}.values()]
