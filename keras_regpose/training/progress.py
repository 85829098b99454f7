"""What a person watches: a progress bar, curves as CSV and for TensorBoard, and the word when numbers break."""

import csv
import io
import os
import sys
import time
from pathlib import Path

import keras
import numpy as np

from keras_regpose.progress import progress_bar, progress_shown


class ProgressBar(keras.callbacks.Callback):
    """One bar for the whole run: epoch, losses by part, learning rate, images per second, time left.

    Args:
        batch_size: int.
        state: `RunState`. Says where the run starts.
        epochs: int.
        steps_per_epoch: int.
        schedule: callable from the step to the learning rate.
    """

    def __init__(self, batch_size: int, state, epochs: int, steps_per_epoch: int, schedule):
        super().__init__()
        self.schedule = schedule
        self.shown = 0.0
        self.batch_size = batch_size
        self.state = state
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.bar = None

    def on_train_begin(self, logs=None):
        if self.bar is None:
            done = self.state.step * self.batch_size
            total = self.epochs * self.steps_per_epoch * self.batch_size
            self.bar = progress_bar(total=total, initial=done, unit=" images", mininterval=1, smoothing=0.05)
            self.then = time.time()

    def on_epoch_begin(self, epoch, logs=None):
        self._leave_out_time_since_then()  # validation and checkpoints
        self.bar.set_description(f"epoch {epoch + 1}/{self.epochs}", refresh=False)

    def on_train_batch_end(self, batch, logs=None):
        if self.shown == 0:
            self._leave_out_time_since_then()  # the first step compiles
        if time.monotonic() - self.shown > 1:
            self.shown = time.monotonic()
            rate = float(self.schedule(self.state.step))
            self.bar.set_postfix_str(f"{_figures(logs)} learning_rate {rate:.3g}", refresh=False)
        self.bar.update(self.batch_size)
        self.then = time.time()

    def _leave_out_time_since_then(self):
        """Takes the time since the last step, or the bar's begin, out of images per second and time left."""
        now = time.time()
        self.bar.start_t += now - self.then
        self.bar.last_print_t += now - self.then
        self.then = now

    def on_epoch_end(self, epoch, logs=None):
        if progress_shown():
            self.bar.write(f"epoch {epoch + 1}/{self.epochs}: {_figures(logs)}", file=sys.stderr)

    def close(self):
        """Leaves the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


class Curves(keras.callbacks.Callback):
    """Keeps a row of figures an epoch; writes them as `history.csv` and for TensorBoard.

    Args:
        folder: Path of the run, or None to write nothing.
        state: `RunState`. Keeps the rows, so that a resumed run's file has each epoch once.
    """

    def __init__(self, folder: Path | None, state):
        super().__init__()
        self.folder = folder
        self.state = state
        self.writer = None

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        self.state.history.append(row)
        if self.folder is not None:
            self._write_table()
            self._write_for_tensorboard(row)

    def _write_table(self):
        names = list(dict.fromkeys(name for row in self.state.history for name in row))
        text = io.StringIO()
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows(self.state.history)
        temporary = self.folder / ".history.csv.writing"
        temporary.write_text(text.getvalue(), encoding="utf-8")
        os.replace(temporary, self.folder / "history.csv")

    def _write_for_tensorboard(self, row):
        from tensorboard.summary import Writer

        if self.writer is None:
            self.writer = Writer(str(self.folder / "tensorboard"))
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, row["epoch"])
        self.writer.flush()

    def close(self):
        """Closes the file for TensorBoard."""
        if self.writer is not None:
            self.writer.close()


class LogLearningRate(keras.callbacks.Callback):
    """Adds the learning rate of the last step to the logs of each epoch. Put it before callbacks that write them.

    Args:
        schedule: callable from the step to the learning rate.
        state: `RunState`. Counts the steps.
    """

    def __init__(self, schedule, state):
        super().__init__()
        self.schedule = schedule
        self.state = state

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = float(self.schedule(self.state.step - 1))


class NonFiniteLoss(ValueError):
    """The loss became NaN or infinite."""


class StopAtNonFiniteLoss(keras.callbacks.Callback):
    """Stops the run at the first batch whose loss is not a number, and names its images.

    Args:
        loader: `CropLoader` of the training data.
        batch_size: int.
        state: `RunState`.
    """

    def __init__(self, loader, batch_size: int, state):
        super().__init__()
        self.loader = loader
        self.batch_size = batch_size
        self.state = state

    def on_train_batch_end(self, batch, logs=None):
        if np.isfinite(float(logs["loss"])):
            return
        first = self.state.batch * self.batch_size
        order = self.loader.order(self.state.epoch, shuffle=True)[first : first + self.batch_size]
        images = [self.loader.samples[index].image for index in order]
        names = [
            image if isinstance(image, str) else f"picture {index}" for image, index in zip(images, order, strict=True)
        ]
        raise NonFiniteLoss(
            f"The loss is {float(logs['loss'])} in epoch {self.state.epoch + 1}, batch {self.state.batch + 1}. Look at "
            f"the labels of its images, or lower the learning rate. The images: {', '.join(names[:16])}"
            + (f" and {len(names) - 16} more" if len(names) > 16 else "")
        )


def _figures(logs):
    return "  ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())
