"""Where a run is, and what a person watches of it: a progress bar, and curves as CSV and for TensorBoard."""

import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_regpose.files import csv_text, write_whole
from keras_regpose.progress import progress_bar
from keras_regpose.recipe import Recipe
from keras_regpose.training.callbacks import best_epoch
from keras_regpose.training.optimizer import make_schedule


class Position(keras.callbacks.Callback):
    """Where a run is, counted after each step; others read it. It runs first.

    It adds the learning rate of the last step to the logs of each epoch, and stops the run at the first batch whose
    loss is not a number, with the names of its images.

    Args:
        dataset: What `make_dataset` returned. At the beginning of each epoch it is told where to begin.
        recipe: `Recipe`.
        steps_per_epoch: int.

    Attributes:
        epoch: int. The epoch, from 0.
        batch: int. Batches of it that are done.
        step: int. Batches that are done in all.
        schedule: callable from the step to the learning rate.
    """

    saved = ("epoch", "batch", "step")  # by checkpoints

    def __init__(self, dataset, recipe: Recipe, steps_per_epoch: int):
        super().__init__()
        self.dataset = dataset
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.schedule = make_schedule(recipe, steps_per_epoch)
        self.epoch = self.batch = self.step = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.dataset.seek(epoch, self.batch)

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {})["loss"])
        if not np.isfinite(loss):
            where = f"The loss is {loss} in epoch {self.epoch + 1}, batch {self.batch + 1}"
            advice = "Look at the labels of its images, or lower the learning rate"
            raise ValueError(f"{where}. {advice}. The images: {self._images()}")
        self.batch += 1
        self.step += 1

    def on_epoch_end(self, epoch, logs=None):
        self.epoch, self.batch = epoch + 1, 0
        if logs is not None:
            logs["learning_rate"] = float(self.schedule(self.step - 1))

    def _images(self):
        """Returns the names of the present batch's images."""
        loader, size = self.dataset.loader, self.recipe.batch_size
        places = range(self.batch * size, (self.batch + 1) * size)
        order = loader.order(self.epoch, shuffle=True).take(places, mode="wrap")
        images = [(index, loader.samples[index].image) for index in order]
        names = [image if isinstance(image, str) else f"picture {index}" for index, image in images]
        return ", ".join(names[:16]) + (f" and {len(names) - 16} more" if len(names) > 16 else "")


class ProgressBar(keras.callbacks.Callback):
    """One bar for the whole run: epoch, losses by part, learning rate, images per second, time left.

    Args:
        position: `Position` of the run.
    """

    def __init__(self, position: Position):
        super().__init__()
        self.position = position
        self.shown = 0.0
        self.bar: Any = None

    def on_train_begin(self, logs=None):
        if self.bar is None:
            recipe = self.position.recipe
            done = self.position.step * recipe.batch_size
            total = recipe.epochs * self.position.steps_per_epoch * recipe.batch_size
            self.bar = progress_bar(total=total, initial=done, unit=" images", mininterval=1, smoothing=0.05)
            self.then = time.time()

    def on_epoch_begin(self, epoch, logs=None):
        self._leave_out_time_since_then()  # validation and checkpoints
        self.bar.set_description(f"epoch {epoch + 1}/{self.position.recipe.epochs}", refresh=False)

    def on_train_batch_end(self, batch, logs=None):
        if self.shown == 0:
            self._leave_out_time_since_then()  # the first step compiles
        if time.monotonic() - self.shown > 1:
            self.shown = time.monotonic()
            rate = float(self.position.schedule(self.position.step - 1))
            self.bar.set_postfix_str(f"{_figures(logs)} learning_rate {rate:.3g}", refresh=False)
        self.bar.update(self.position.recipe.batch_size)
        self.then = time.time()

    def _leave_out_time_since_then(self):
        """Takes the time since the last step, or the bar's begin, out of images per second and time left."""
        now = time.time()
        if not self.bar.disable:
            self.bar.start_t += now - self.then
            self.bar.last_print_t += now - self.then
        self.then = now

    def on_epoch_end(self, epoch, logs=None):
        if not self.bar.disable:
            self.bar.write(f"{self.bar.desc}{_figures(logs)}", file=sys.stderr)

    def close(self):
        """Leaves the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


class Curves(keras.callbacks.Callback):
    """Keeps a row of figures an epoch; writes them as `history.csv`, and for TensorBoard a file for each epoch.

    It ends training when the last validations have brought no better figure.

    Args:
        folder: Path of the run, or None to write nothing.
        recipe: `Recipe`, with its `patience` and `validate_every`.
    """

    saved = ("rows",)  # by checkpoints, so that the file of a resumed run has each epoch once

    def __init__(self, folder: Path | None, recipe: Recipe):
        super().__init__()
        self.folder = folder
        self.recipe = recipe
        self.rows = []

    def history(self) -> dict[str, list]:
        """Returns the figures by their names, a value for each epoch that has one."""
        names = dict.fromkeys(name for row in self.rows for name in row if name != "epoch")
        return {name: [row[name] for row in self.rows if name in row] for name in names}

    @property
    def over(self) -> bool:
        """Whether patience has ended, in a resumed run with the epochs before it."""
        best, every = best_epoch(self.history()), self.recipe.validate_every
        if best is None or self.recipe.patience is None:
            return False
        return len(self.rows) // every - best[2] // every >= self.recipe.patience

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        self.rows.append(row)
        if self.folder is not None:
            names = ["epoch", *self.history()]
            rows = ([one.get(name) for name in names] for one in self.rows)
            write_whole(self.folder / "history.csv", csv_text([names, *rows]))
            from tensorboard.summary import Writer

            writer = Writer(str(self.folder / "tensorboard"))  # Keras's own callback needs TensorFlow
            for name, value in list(row.items())[1:]:
                writer.add_scalar(name, value, row["epoch"])
            writer.close()
        self.model.stop_training |= self.over


def _figures(logs):
    return "  ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())
