"""Checkpoints: all that a run needs to go on as if it had never stopped.

A checkpoint is one file: every variable of the model, its flow, its optimizer and its callbacks, the running means of
the epoch, and what callbacks remember as JSON. It is written beside its place, flushed to the disk and renamed; the one
before is kept, so that a torn file costs one interval, never the run.
"""

import itertools
import json
import logging
import os
import shutil
import signal
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_regpose.files import draft
from keras_regpose.training.devices import from_all_hosts, this_host
from keras_regpose.training.progress import Position

_log = logging.getLogger(__name__)
KEPT = 2


class Stopped(SystemExit):
    """The run was asked to stop by a signal, and its state is saved. The exit status is the shell's for that signal."""


def save_checkpoint(folder: Path, variables: Sequence[keras.Variable], state: dict) -> Path:
    """Writes a checkpoint and removes all but the last two.

    Args:
        folder: Path. Made if it is not there.
        variables: sequence of variables, as `variables_of` returns them.
        state: JSON-ready dict with the int `step`, by which checkpoints are ordered.

    Raises:
        OSError: If it cannot be written; what was there is unchanged.
    """
    target = folder / f"step-{state['step']:09d}.npz"
    arrays: dict[str, Any] = {}
    for number, variable in enumerate(variables):
        value = np.asarray(variable)
        is_bfloat16 = value.dtype.name == "bfloat16"
        arrays[f"{number:05d} {variable.path}"] = value.astype(np.float32) if is_bfloat16 else value
    try:
        for abandoned in folder.glob(".step-*"):  # of a run that was killed
            shutil.rmtree(abandoned, ignore_errors=True)
        with draft(target) as written, open(written, "wb") as file:
            np.savez(file, state=np.frombuffer(json.dumps(state).encode(), np.uint8), **arrays)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, f"The checkpoint {target} cannot be written ({error})") from error
    for old in sorted(folder.glob("step-*.npz"))[:-KEPT]:
        old.unlink(missing_ok=True)
    return target


def load_checkpoint(folder: Path, variables: Sequence[keras.Variable]) -> dict | None:
    """Loads the newest undamaged checkpoint into variables and returns its state, or None if there is no checkpoint.

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
        _check_fit(file, arrays, variables)
        for variable, array in zip(variables, arrays.values(), strict=True):
            variable.assign(array)
        return state
    if files:
        raise ValueError(f"All checkpoints in {folder} are damaged. Remove the folder to start anew")
    return None


def _check_fit(file, arrays, variables):
    """Names are for the message alone: Keras numbers layers by how many a process has made before."""
    stored = [(name.partition(" ")[2], array.shape) for name, array in arrays.items()]
    wanted = [(variable.path, tuple(variable.shape)) for variable in variables]
    for (theirs, shape), (ours, needed) in itertools.zip_longest(stored, wanted, fillvalue=("no variable", "")):
        if shape != needed:
            misfit = f"it has {theirs} {shape} where this one has {ours} {needed}"
            raise ValueError(f"The checkpoint {file} belongs to another model: {misfit}. Use another --output folder")


def variables_of(model: keras.Model, further: Sequence[keras.Variable] = ()) -> list[keras.Variable]:
    """Returns everything that changes in training, in a fixed order, once each.

    Args:
        model: A compiled model whose optimizer is built.
        further: sequence of variables that belong to neither.
    """
    variables = [*model.variables, *model.optimizer.variables, *further]
    return list({id(variable): variable for variable in variables}.values())


@dataclass(eq=False, repr=False)
class Checkpoints(keras.callbacks.Callback):
    """Saves a checkpoint after every epoch, every few minutes, and when the run is asked to stop. It runs last.

    It is asked by SIGTERM or SIGINT while `noted` is the list of `noted_signals`: the present step then ends first.

    Args:
        folder: Path of the checkpoints.
        position: `Position`.
        callbacks: sequence of callbacks. Of each, the attributes are kept that it names in `saved`, JSON-ready values,
            and its `saved_variables`.
        facts: dict of JSON-ready values that a run to resume must have in common with this one.
        minutes: float. Longest time without a checkpoint.
    """

    folder: Path
    position: Position
    callbacks: Sequence[keras.callbacks.Callback]
    facts: dict
    minutes: float

    def __post_init__(self):
        super().__init__()
        self.facts = json.loads(json.dumps(self.facts))
        self.saved_at = time.monotonic()
        self.noted = []  # the signal that asked to stop
        self.means = None
        self.variables = [variable for each in self.callbacks for variable in getattr(each, "saved_variables", ())]
        self.states = {}
        for callback in self.callbacks:
            if hasattr(callback, "saved"):
                kind = type(callback).__name__
                number = sum(name.startswith(f"{kind} ") for name in self.states)
                self.states[f"{kind} {number}"] = callback

    def restore(self, model: keras.Model) -> None:
        """Loads the newest checkpoint, if there is one: variables, and the states of the callbacks.

        Raises:
            ValueError: If it belongs to another model, or to a run with other settings, data or callbacks. Only its
                length may be another one; the learning rate then follows the schedule of the new length.
        """
        stored = load_checkpoint(self.folder, variables_of(model, self.variables))
        if stored is None:
            return
        before, epochs, position = stored["facts"], self.facts["epochs"], self.position
        longer = ("epochs", "drops", "delay_flow") if before["epochs"] != epochs else ()
        for name, value in self.facts.items():
            if before.get(name) != value and name not in (*longer, "patience"):
                what = f"The run to resume has {name} = {before.get(name)!r}, this one {value!r}"
                raise ValueError(f"{what}. Use the same settings and data, or another output folder")
        for name, state in stored["callbacks"].items():
            if name in self.states:
                callback = self.states[name]
                vars(callback).update({attribute: state[attribute] for attribute in callback.saved})
            else:
                _log.warning("The run to resume had a callback %s, of which nothing is known here", name)
        self.means = stored["means"]
        if position.step > epochs * position.steps_per_epoch:
            raise ValueError(f"The run to resume is beyond epoch {epochs}. Ask for more epochs, or another folder")
        if longer:
            rate = float(position.schedule(position.step))
            _log.info("Going on to epoch %d, not %d: the learning rate is now %.3g", epochs, before["epochs"], rate)

    def on_epoch_begin(self, epoch, logs=None):
        if self.means is not None:
            # The running means of an epoch that goes on; Keras has just reset them.
            for variable, value in zip(self.model.metrics_variables, self.means, strict=True):
                variable.assign(value)
            self.means = None

    def on_train_batch_end(self, batch, logs=None):
        if self.position.batch < self.position.steps_per_epoch:  # else the epoch's end follows
            # Hosts have to stop after the same step, or the others would wait for ever. Asking them costs a round trip.
            ask = this_host()[1] == 1 or self.position.step % 10 == 0
            self._save(ask, due=time.monotonic() - self.saved_at > 60 * self.minutes)

    def on_epoch_end(self, epoch, logs=None):
        self._save(ask=True, due=True)

    def _save(self, ask, due):
        """Saves a checkpoint if it is due, or if one of the hosts was asked to stop, which stops the run."""
        stop = ask and any(from_all_hosts(bool(self.noted)))
        if (stop or due) and this_host()[0] == 0:
            if hasattr(self.model, "jax_state_sync"):
                self.model.jax_state_sync()
            means = [np.asarray(variable).tolist() for variable in self.model.metrics_variables]
            states = {name: {key: getattr(one, key) for key in one.saved} for name, one in self.states.items()}
            state = {"step": self.position.step, "facts": self.facts, "callbacks": states}
            state["means"] = means if self.position.batch else None
            save_checkpoint(self.folder, variables_of(self.model, self.variables), state)
        if stop or due:
            self.saved_at = time.monotonic()
        if stop:
            if this_host()[0] == 0:
                _log.warning("Stopped; all is saved. The same command with --resume (resume=True) goes on")
            raise Stopped(128 + (self.noted or [signal.SIGTERM])[0])
