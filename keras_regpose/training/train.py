"""One training run: samples in, the best preset, the last state and a history out."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_regpose.data.augment import Augmentation
from keras_regpose.data.images import ImageError
from keras_regpose.data.pipeline import make_dataset
from keras_regpose.data.sample import Sample
from keras_regpose.training.callbacks import DelayFlow, KeypointMetrics, SaveBestPreset
from keras_regpose.training.schedule import WarmupCosine, WarmupSteps

SCHEDULES = ("steps", "cosine")


def train(
    model,
    samples: Sequence[Sample],
    validation: Sequence[Sample] | None = None,
    output: str | os.PathLike | None = None,
    epochs: int = 210,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    schedule: str = "steps",
    warmup: int = 500,
    augmentation: Augmentation | None = None,
    delay_flow: int = 0,
    validate_every: int = 10,
    seed: int = 0,
    cache_bytes: int = 1 << 30,
    verbose: int | str = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, list]:
    """Trains a model with `fit`.

    Build and call it inside `device_scope()` to use several devices.

    Args:
        model: `PoseRegressor`, compiled or not; it is compiled here with Adam and its own loss.
        samples: sequence of `Sample` to learn from.
        validation: sequence of `Sample` or None. Scored with its data set's metric; the best model is kept by it.
        output: str, path or None. Folder for `best/` (a preset), `last.keras` (model, flow and optimizer) and
            `history.csv`.
        epochs: int.
        batch_size: int. Samples per step, over all devices.
        learning_rate: float. Rate after the warm-up.
        schedule: "steps" (divided by ten after 170/210 and 200/210 of the epochs) or "cosine".
        warmup: int. Steps of linear warm-up; at most a tenth of all steps are used.
        augmentation: `Augmentation` or None for the COCO recipe's.
        delay_flow: int. Epochs before the RLE loss's flow takes part; useful without pretrained features.
        validate_every: int. Epochs between validations.
        seed: int. Seeds order and augmentation.
        cache_bytes: int. Decoded photographs are kept in memory up to this size.
        verbose: As in `keras.Model.fit`.
        callbacks: Further callbacks.

    Returns:
        dict of lists, one value per epoch: loss, its parts, and the validation metric.

    Raises:
        ValueError: If an argument or the data does not fit the model.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {SCHEDULES}. Received: {schedule!r}")
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1. Received: {epochs}")
    # One endless stream, so that which batches an epoch sees does not depend on how often fit looks at the data.
    dataset = make_dataset(
        samples, model, True, batch_size, augmentation=augmentation, seed=seed, repeat=True, cache_bytes=cache_bytes
    )
    steps_per_epoch = len(samples) // batch_size
    steps = steps_per_epoch * epochs
    warmup = min(warmup, steps // 10)
    if schedule == "steps":
        drops = [round(epochs * share) * steps_per_epoch for share in (170 / 210, 200 / 210)]
        rate = WarmupSteps(learning_rate, drops, warmup)
    else:
        rate = WarmupCosine(learning_rate, steps, warmup)
    # The reference's epsilon is 1e-8; Keras' default is 1e-7.
    model.compile(keras.optimizers.Adam(rate, epsilon=1e-8))

    chain = [keras.callbacks.TerminateOnNaN()]
    if model.flow is not None:
        chain.append(DelayFlow(delay_flow))
    if validation is not None:
        chain.append(KeypointMetrics(validation, every=validate_every))
    if output is not None:
        output = Path(output)
        output.mkdir(parents=True, exist_ok=True)
        if validation is not None:
            chain.append(SaveBestPreset(output / "best"))
        chain.append(keras.callbacks.CSVLogger(str(output / "history.csv")))
        chain.append(_SaveLast(output / "last.keras"))
    try:
        history = model.fit(
            dataset,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            shuffle=False,
            callbacks=[*chain, *callbacks],
            verbose=verbose,
        )
    except Exception as error:
        # tf.data wraps an error of the loader in its own; give back the sentence that names the images.
        sentence = re.search(r"ImageError: (.*)", str(error))
        if sentence is None or isinstance(error, ImageError):
            raise
        raise ImageError(sentence[1]) from error
    return history.history


class _SaveLast(keras.callbacks.Callback):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        temporary = self.path.with_name(f".{self.path.name}.writing.keras")
        self.model.save(temporary)
        os.replace(temporary, self.path)
