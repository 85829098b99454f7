"""What a person watches: a progress bar, curves as CSV and for TensorBoard, and the word when numbers break."""

import csv
import io
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_regpose.files import write_whole
from keras_regpose.progress import progress_bar, progress_shown


class ProgressBar(keras.callbacks.Callback):
    """One bar for the whole run: epoch, losses by part, learning rate, images per second, time left.

    Args:
        batch_size: int.
        position: `Position` of the run.
        epochs: int.
        steps_per_epoch: int.
        schedule: callable from the step to the learning rate.
    """

    def __init__(self, batch_size: int, position, epochs: int, steps_per_epoch: int, schedule):
        super().__init__()
        self.schedule = schedule
        self.shown = 0.0
        self.batch_size = batch_size
        self.position = position
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.bar: Any = None

    def on_train_begin(self, logs=None):
        if self.bar is None:
            done = self.position.step * self.batch_size
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
            rate = float(self.schedule(self.position.step))
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
    """

    saved = ("rows",)  # by checkpoints, so that the file of a resumed run has each epoch once

    def __init__(self, folder: Path | None):
        super().__init__()
        self.folder = folder
        self.rows = []
        self.writer = None

    def history(self) -> dict[str, list]:
        """Returns the figures by their names, a value for each epoch that has one."""
        names = dict.fromkeys(name for row in self.rows for name in row if name != "epoch")
        return {name: [row[name] for row in self.rows if name in row] for name in names}

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}}
        self.rows.append(row)
        if self.folder is not None:
            self._write_table(self.folder)
            self._write_for_tensorboard(self.folder, row)

    def _write_table(self, folder):
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        table = csv.DictWriter(text, names, lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write_whole(folder / "history.csv", text.getvalue())

    def _write_for_tensorboard(self, folder, row):
        from tensorboard.summary import Writer

        if self.writer is None:
            self.writer = Writer(str(folder / "tensorboard"))
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, row["epoch"])
        self.writer.flush()

    def close(self):
        """Closes the file for TensorBoard."""
        if self.writer is not None:
            self.writer.close()


class LogLearningRate(keras.callbacks.Callback):
    """Adds the learning rate of the last step to the logs of each epoch.

    Args:
        schedule: callable from the step to the learning rate.
        position: `Position` of the run.
    """

    def __init__(self, schedule, position):
        super().__init__()
        self.schedule = schedule
        self.position = position

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = float(self.schedule(self.position.step - 1))


class NonFiniteLoss(ValueError):
    """The loss became NaN or infinite."""


class StopAtNonFiniteLoss(keras.callbacks.Callback):
    """Stops the run at the first batch whose loss is not a number, and names its images.

    Args:
        loader: `CropLoader` of the training data.
        batch_size: int.
        position: `Position` of the run.
    """

    def __init__(self, loader, batch_size: int, position):
        super().__init__()
        self.loader = loader
        self.batch_size = batch_size
        self.position = position

    def on_train_batch_end(self, batch, logs=None):
        loss = float((logs or {})["loss"])
        if np.isfinite(loss):
            return
        first = self.position.batch * self.batch_size
        order = self.loader.order(self.position.epoch, shuffle=True)[first : first + self.batch_size]
        images = [self.loader.samples[index].image for index in order]
        names = [
            image if isinstance(image, str) else f"picture {index}" for image, index in zip(images, order, strict=True)
        ]
        raise NonFiniteLoss(
            f"The loss is {loss} in epoch {self.position.epoch + 1}, batch {self.position.batch + 1}. "
            f"Look at the labels of its images, or lower the learning rate. The images: {', '.join(names[:16])}"
            + (f" and {len(names) - 16} more" if len(names) > 16 else "")
        )


def _figures(logs):
    return "  ".join(f"{name} {float(value):.4g}" for name, value in (logs or {}).items())
