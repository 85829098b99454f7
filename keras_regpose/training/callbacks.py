"""Keras callbacks: validation by the metric of the field, the best preset on disk, the moving average of weights."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from keras_regpose.data.people import People
from keras_regpose.data.sample import Sample
from keras_regpose.evaluation.evaluate import predict_samples, score_predictions
from keras_regpose.evaluation.sheets import prediction_sheet
from keras_regpose.hub.preset_files import save_preset
from keras_regpose.images import save_picture
from keras_regpose.models.replicas import running_statistics
from keras_regpose.training.devices import on_this_host_alone, this_host

METRICS = ("val_AP", "val_PCKh", "val_NME", "val_AUC", "val_PCK")
ERRORS = ("val_NME",)  # the less, the better


class MovingAverage(keras.callbacks.Callback):
    """Keeps the exponential moving average of a model's weights, and of its batch statistics.

    Both are averaged alike: the statistics of the last batches belong to the last weights and do not fit their average,
    which is why the optimizer's own `use_ema` is not used. In the first steps t the decay is (1 + t) / (10 + t) at
    most, so that the average is not held back by the weights that the run began with
    (`tf.train.ExponentialMovingAverage`, `num_updates`).

    Args:
        model: keras.Model. The flow's strength, which is set and not learned, stays out.
        decay: float.
    """

    def __init__(self, model: keras.Model, decay: float):
        super().__init__()
        self.decay = decay
        self.averaged = [*model.trainable_variables, *running_statistics(model)]
        self.steps = keras.Variable(0, dtype="int32", trainable=False, name="average_steps")
        averages = [keras.Variable(np.array(v), dtype=v.dtype, trainable=False, name="average") for v in self.averaged]
        self.saved_variables = [self.steps, *averages]  # by checkpoints
        self.update = _compiled_update()

    def on_train_batch_end(self, batch, logs=None):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        step = int(np.array(self.steps))
        rate = np.float32(1 - min(self.decay, (1 + step) / (10 + step)))
        averages = self.saved_variables[1:]
        values = ([variable.value for variable in variables] for variables in (averages, self.averaged))
        for variable, value in zip(averages, self.update(*values, rate), strict=True):
            variable.assign(value)
        self.steps.assign(step + 1)

    @contextlib.contextmanager
    def applied(self):
        """Context in which the model has the averages in place of its weights and batch statistics."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def exchange(self) -> None:
        """Puts the averages in place of the model's weights and batch statistics, and the other way round."""
        for variable, average in zip(self.averaged, self.saved_variables[1:], strict=True):
            # Copies: JAX would share the memory, and a step of training gives it away.
            value, other = np.array(variable), np.array(average)
            variable.assign(other)
            average.assign(value)


def _compiled_update():
    """Returns the function from averages, values and the rate to the next averages."""

    def update(averages, values, rate):
        return [average + (value - average) * rate for average, value in zip(averages, values, strict=True)]

    if keras.backend.backend() == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        return jax.jit(update)
    import tensorflow as tf

    return tf.function(update)


@dataclass(eq=False, repr=False)
class KeypointMetrics(keras.callbacks.Callback):
    """Adds AP, PCKh or PCK on validation samples to the logs of `fit`, where later callbacks can follow them.

    COCO-format data adds `val_AP` and `val_AR`, MPII `val_PCKh`, WFLW `val_NME`, hands `val_AUC`, other data `val_PCK`,
    of the torso or, for skeletons without one, of the box; see `evaluation.evaluate.score_predictions`. Put it before
    callbacks that monitor these, such as `EarlyStopping(monitor="val_PCK", mode="max")`.

    Args:
        samples: `People` or any sequence of `Sample`. A list of a reader's samples has no annotation file: it is
            scored by PCK, while a slice of the reader, `people[:100]`, is scored by AP.
        every: int. Validates after every so many epochs (and after the last); between, the last value stands.
        epochs: int or None. Which epoch is the last; None takes it from `fit`.
        flip_test: bool. Whether to average with the mirrored crop.
        batch_size: int.
        pictures: path or None. Folder for a sheet of predictions at each validation.
        average: `MovingAverage` or None. If given, the averages are scored instead of the weights.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> people = rp.data.Synthetic(8, seed=0)
    >>> model.compile()
    >>> validation = rp.training.KeypointMetrics(rp.data.Synthetic(4, seed=1))
    >>> dataset = rp.data.make_dataset(people, model, training=True, batch_size=4)
    >>> history = model.fit(dataset, callbacks=[validation], verbose=0)
    >>> sorted(key for key in history.history if key.startswith("val"))
    ['val_AP', 'val_AR']
    """

    saved = ("latest",)  # by checkpoints

    samples: Sequence[Sample]
    every: int = 1
    flip_test: bool = False
    batch_size: int = 64
    pictures: str | Path | None = None
    epochs: int | None = None
    average: MovingAverage | None = None

    def __post_init__(self):
        super().__init__()
        self.latest = {}
        self.copy = None

    def on_train_begin(self, logs=None):
        self.samples = People.of(self.samples, self.model.skeleton)
        if self.samples.annotations is None and not any((sample.visible > 0).any() for sample in self.samples):
            raise ValueError(f"Validation needs labelled keypoints. Received: {len(self.samples)} people without any")

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0 or epoch + 1 == (self.epochs or self.params.get("epochs")) or not self.latest:
            with self.average.applied() if self.average else contextlib.nullcontext():
                self._validate(epoch)
        if logs is not None:
            logs.update(self.latest)

    def _validate(self, epoch):
        model = self._local_model()
        with on_this_host_alone():
            poses, positions = predict_samples(model, self.samples, self.flip_test, self.batch_size)
        figures = score_predictions(poses, positions, self.samples, self.model.input_size)
        self.latest = main_metrics(figures)
        if self.pictures is not None and this_host()[0] == 0:
            sheet = prediction_sheet(poses, positions, self.samples)
            save_picture(Path(self.pictures) / f"epoch-{epoch + 1:04d}.png", sheet)

    def _local_model(self):
        """The model itself, or a copy on this host where several devices of JAX train it: each host validates alone."""
        if keras.distribution.distribution() is None:
            return self.model
        with on_this_host_alone():
            if self.copy is None:
                self.copy = type(self.model).from_keras(self.model.to_keras(), self.model.skeleton, self.model.method)
            for target, source in zip(self.copy.weights, self.model.weights, strict=True):
                target.assign(np.asarray(source))
        return self.copy


class DelayFlow(keras.callbacks.Callback):
    """Keeps the density of the RLE loss a standard normal for the first epochs.

    Without pretrained features, the flow learns where keypoints lie in a crop sooner than the network does, and takes
    away the reason to learn it: the keypoints then stay in the middle. Published recipes start from pretrained
    backbones and need no delay.

    Args:
        epochs: int. Epochs before the flow takes part.
    """

    saved = ("epochs",)  # by checkpoints: a run that goes on for longer does not lose its flow again

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.flow.strength.assign(0.0 if epoch < self.epochs else 1.0)


def main_metrics(figures: dict) -> dict[str, float]:
    """Returns the one or two figures of an evaluation that training follows, under their names in the logs."""
    if "AP" in figures:
        return {"val_AP": figures["AP"], "val_AR": figures["AR"]}
    for name in ("NME", "AUC"):
        if name in figures:
            return {f"val_{name}": figures[name]}
    return {"val_PCKh" if "Mean@0.1" in figures else "val_PCK": figures["Mean"]}


def best_epoch(history: dict[str, list]) -> tuple[str, float, int] | None:
    """Returns name, value and epoch (from 1) of the best figure of the metric that training follows, or None."""
    for name in METRICS:
        if name in history:
            best = (min if name in ERRORS else max)(history[name])
            return name, best, history[name].index(best) + 1
    return None


@dataclass(eq=False, repr=False)
class SaveBestPreset(keras.callbacks.Callback):
    """Saves the model as a preset whenever the followed metric is better than before: higher, but for NME lower.

    Args:
        directory: str or path of the preset directory.
        monitor: str or None. Name in the logs; None takes the first of `METRICS`.
        latest: bool. Whether to save after every epoch, whatever the logs say.
        average: `MovingAverage` or None. If given, the averages are saved instead of the weights.
    """

    saved = ("best",)  # by checkpoints

    directory: str | Path
    monitor: str | None = None
    latest: bool = False
    average: MovingAverage | None = None

    def __post_init__(self):
        super().__init__()
        self.best = float("-inf")

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        names = (self.monitor,) if self.monitor else METRICS
        values = (-logs[name] if name in ERRORS else logs[name] for name in names if name in logs)
        value = next(values, None)
        if value is None and not self.latest:
            raise ValueError(f"SaveBestPreset finds no {', '.join(names)} in the logs: put KeypointMetrics before it")
        if self.latest or (value is not None and value > self.best):
            self.best = value
            with self.average.applied() if self.average else contextlib.nullcontext(), on_this_host_alone():
                if this_host()[0] == 0:
                    save_preset(self.model, self.directory)
