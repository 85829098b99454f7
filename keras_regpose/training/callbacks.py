"""Keras callbacks: validation by the field's metric, and the best preset kept on disk."""

from collections.abc import Sequence
from pathlib import Path

import keras

from keras_regpose.data.sample import Sample


class KeypointMetrics(keras.callbacks.Callback):
    """Adds AP, PCKh or PCK on validation samples to the logs of `fit`, where later callbacks can follow them.

    COCO-format data adds `val_AP` and `val_AR`, MPII `val_PCKh`, other data `val_PCK`. Put it before callbacks that
    monitor these, such as `EarlyStopping(monitor="val_PCK", mode="max")`.

    Args:
        samples: sequence of `Sample` with its data set's `annotations` attribute.
        every: int. Validates after every so many epochs (and after the last); between, the last value stands.
        flip_test: bool. Whether to average with the mirrored crop.
        batch_size: int.

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

    def __init__(self, samples: Sequence[Sample], every: int = 1, flip_test: bool = False, batch_size: int = 64):
        super().__init__()
        self.samples = samples
        self.every = every
        self.flip_test = flip_test
        self.batch_size = batch_size
        self.latest = {}

    def on_epoch_end(self, epoch, logs=None):
        from keras_regpose.inference.evaluation import evaluate

        if (epoch + 1) % self.every == 0 or epoch + 1 == self.params.get("epochs") or not self.latest:
            figures = evaluate(self.model, self.samples, self.flip_test, self.batch_size)
            self.latest = main_metrics(figures)
        if logs is not None:
            logs.update(self.latest)


class DelayFlow(keras.callbacks.Callback):
    """Keeps the density of the RLE loss a standard normal for the first epochs.

    Without pretrained features, the flow learns where keypoints lie in a crop sooner than the network does, and takes
    away the reason to learn it: the keypoints then stay in the middle. Published recipes start from pretrained
    backbones and need no delay.

    Args:
        epochs: int. Epochs before the flow takes part.
    """

    def __init__(self, epochs: int):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.flow.strength.assign(0.0 if epoch < self.epochs else 1.0)


def main_metrics(figures: dict) -> dict[str, float]:
    """Returns the one or two figures of an evaluation that training follows, under their names in the logs."""
    if "AP" in figures:
        return {"val_AP": figures["AP"], "val_AR": figures["AR"]}
    return {"val_PCKh" if "Mean@0.1" in figures else "val_PCK": figures["Mean"]}


class SaveBestPreset(keras.callbacks.Callback):
    """Saves the model as a preset whenever the followed metric has risen.

    Args:
        directory: str or path of the preset directory.
        monitor: str or None. Name in the logs; None takes the first of `val_AP`, `val_PCKh` and `val_PCK`.
    """

    def __init__(self, directory: str | Path, monitor: str | None = None):
        super().__init__()
        self.directory = Path(directory)
        self.monitor = monitor
        self.best = float("-inf")

    def on_epoch_end(self, epoch, logs=None):
        from keras_regpose.hub.preset_files import save_preset

        names = (self.monitor,) if self.monitor else ("val_AP", "val_PCKh", "val_PCK")
        value = next((logs[name] for name in names if name in (logs or {})), None)
        if value is None:
            raise ValueError(
                f"SaveBestPreset finds none of {', '.join(names)} in the logs: put KeypointMetrics before it"
            )
        if value > self.best:
            self.best = value
            save_preset(self.model, self.directory)
