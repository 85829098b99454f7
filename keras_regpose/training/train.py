"""One training run: samples and a recipe in, the best preset and the curves out; it can be stopped and resumed."""

import os
from collections.abc import Sequence

import keras

from keras_regpose.data.sample import Sample
from keras_regpose.recipe import Recipe
from keras_regpose.training.loop import run_epochs


def train(
    model,
    samples: Sequence[Sample],
    validation: Sequence[Sample] | None = None,
    output: str | os.PathLike | None = None,
    recipe: Recipe | None = None,
    resume: bool = False,
    cache_bytes: int = 1 << 30,
    cache_folder: str | os.PathLike | None = None,
    checkpoint_minutes: float = 10.0,
    verbose: int | str = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **changes,
) -> dict[str, list]:
    """Trains a model with `fit`.

    Build and call it inside `device_scope()` to use several devices.

    Args:
        model: `PoseRegressor`; it is compiled here with the recipe's optimizer and its own loss.
        samples: sequence of `Sample` to learn from.
        validation: sequence of `Sample` or None. Scored with its data set's metric; the best model is kept by it, the
            last one where there is None. See `People.split`.
        output: str, path or None. Folder for `best/` (a preset), `checkpoints/`, `history.csv`, `tensorboard/` and
            `validation/` (pictures of predictions).
        recipe: `Recipe` or None for `Recipe()`. What it says of the model itself is not looked at, since the model is
            there: backbone, input size, method, start and head_bias.
        resume: bool. Whether to go on from the last checkpoint in `output`, if there is one. The run then ends with the
            weights of a run that was never stopped. More `epochs` make it longer, also when it has ended:
            the learning rate then follows the schedule of the new length, which usually raises it again, and the flow
            takes part since when it did. `patience` may be another one, too; all else must be as it was.
        cache_bytes: int. Decoded photographs are kept in memory up to this size.
        cache_folder: str, path or None. Folder in which they are kept as well, for later epochs and runs.
        checkpoint_minutes: float. Longest time without a checkpoint; there is one after each epoch in any case.
        verbose: 0 shows nothing, anything else a progress bar.
        callbacks: Further callbacks. They run after validation, so that they find its figures in the logs. One that
            names attributes in `saved`, such as `saved = ("count",)`, has their values again when the run is resumed.
        **changes: Settings of the recipe or of its augmentation to change, such as `epochs=20` or `rotation=40`; see
            `Recipe.changed`.

    Returns:
        dict of lists, one value per epoch: loss, its parts, the learning rate and the validation metric. The model has
        the weights of the last epoch, or with `average_decay` their moving average.

    Raises:
        ValueError: If an argument or the data does not fit the model, or the loss is no longer a number.
        Stopped: On SIGTERM or SIGINT, after a checkpoint (with `output`).

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> people = rp.data.Synthetic(8, seed=0)
    >>> history = train(model, people, epochs=1, batch_size=4, rotation=40.0, verbose=0)
    >>> len(history["loss"])
    1
    """
    return run_epochs(
        model,
        None,
        model,
        samples,
        validation,
        output,
        recipe,
        resume,
        cache_bytes,
        cache_folder,
        checkpoint_minutes,
        verbose,
        callbacks,
        **changes,
    )
