"""One training run: samples and a recipe in, the best preset and the curves out; it can be stopped and resumed."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_regpose.data.batches import make_dataset
from keras_regpose.data.sample import Sample
from keras_regpose.images import ImageError
from keras_regpose.training.average import MovingAverage
from keras_regpose.training.callbacks import DelayFlow, KeypointMetrics, SaveBestPreset
from keras_regpose.training.checkpoint import Checkpoints, RunState, load_checkpoint
from keras_regpose.training.devices import check_strategy, same_on_all_hosts, this_host
from keras_regpose.training.heatmap import HeatmapLoss, heatmap_model
from keras_regpose.training.optimizer import frozen_stages, make_optimizer, make_schedule
from keras_regpose.training.progress import Curves, LogLearningRate, NonFiniteLoss, ProgressBar, StopAtNonFiniteLoss
from keras_regpose.training.recipe import Recipe


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
        validation: sequence of `Sample` or None. Scored with its data set's metric; the best model is kept by it.
        output: str, path or None. Folder for `best/` (a preset), `checkpoints/`, `history.csv`, `tensorboard/` and
            `validation/` (pictures of predictions).
        recipe: `Recipe` or None for `Recipe()`. What it says of the model itself is not looked at, since the model is
            there: backbone, input size, method (but "heatmap"), start and head_bias.
        resume: bool. Whether to go on from the last checkpoint in `output`, if there is one. The run then ends with the
            weights of a run that was never stopped.
        cache_bytes: int. Decoded photographs are kept in memory up to this size.
        cache_folder: str, path or None. Folder in which they are kept as well, for later epochs and runs.
        checkpoint_minutes: float. Longest time without a checkpoint; there is one after each epoch in any case.
        verbose: 0 shows nothing, anything else a progress bar.
        callbacks: Further callbacks.
        **changes: Settings of the recipe to change, such as `epochs=20`; see `Recipe.changed`.

    Returns:
        dict of lists, one value per epoch: loss, its parts, the learning rate and the validation metric. The model has
        the weights of the last epoch, or with `average_decay` their moving average.

    Raises:
        ValueError: If an argument or the data does not fit the model, or the loss is no longer a number.
        Stopped: On SIGTERM or SIGINT, after a checkpoint (with `output`).
    """
    recipe = recipe.changed(**changes) if recipe is not None else Recipe(**changes)
    check_strategy()
    precision = model.get_layer("pool").dtype_policy.name
    if precision != recipe.precision:
        raise ValueError(
            f"The model computes in {precision}, but precision is {recipe.precision}. Pass precision={precision!r}, or "
            f"train model.with_dtype({recipe.precision!r})"
        )
    trained = heatmap_model(model) if recipe.method == "heatmap" else model
    with frozen_stages(trained, recipe.frozen_stages):
        host = this_host()
        state = RunState(recipe.to_dict(), len(samples))
        # An endless stream: which batches an epoch sees does not depend on how often fit looks at the data.
        dataset = make_dataset(
            samples,
            model,
            training=True,
            batch_size=recipe.batch_size,
            augmentation=recipe.augmentation,
            seed=recipe.seed,
            repeat=True,
            host=host,
            targets_outside=recipe.method == "heatmap",
            cache_bytes=cache_bytes,
            cache_folder=cache_folder,
        )
        steps_per_epoch = len(samples) // recipe.batch_size
        schedule = make_schedule(recipe, steps_per_epoch)
        trained.compile(make_optimizer(recipe, schedule), HeatmapLoss() if recipe.method == "heatmap" else None)
        trained.optimizer.build(trained.trainable_variables)
        average = MovingAverage(trained, recipe.average_decay)

        output = None if output is None else Path(output)
        checkpoints = Checkpoints(
            None if output is None else output / "checkpoints",
            state,
            dataset,
            steps_per_epoch,
            checkpoint_minutes,
            average.variables,
        )
        if output is not None:
            _open_output(output, checkpoints, resume, trained, state)
        written = output if host[0] == 0 else None
        bar = ProgressBar(recipe.batch_size, state, recipe.epochs, steps_per_epoch, schedule)
        curves = Curves(written, state)
        chain = [
            StopAtNonFiniteLoss(dataset.loader, recipe.batch_size, state),
            LogLearningRate(schedule, state),
            average,
            *_validation(model, recipe, state, validation, output, average),
            *callbacks,
            *_best(model, recipe, state, validation, output, average),
            curves,
            *([bar] if verbose and host[0] == 0 else []),
            checkpoints,
        ]
        try:
            trained.stop_training = False
            with checkpoints.signals():
                # An epoch that was stopped in the middle is finished first: fit's epochs are all of one length.
                if state.batch:
                    _fit(trained, dataset, state, state.epoch + 1, steps_per_epoch - state.batch, chain)
                if not trained.stop_training:
                    _fit(trained, dataset, state, recipe.epochs, steps_per_epoch, chain)
            average.apply()
        finally:
            bar.close()
            curves.close()
        names = dict.fromkeys(name for row in state.history for name in row if name != "epoch")
        return {name: [row[name] for row in state.history if name in row] for name in names}


def _open_output(output, checkpoints, resume, trained, state):
    """Loads the last checkpoint of a run that goes on, and refuses to write over one that is not meant to."""
    if not resume and any(checkpoints.folder.glob("step-*.npz")):
        raise ValueError(
            f"{output} holds a run already. Add --resume (resume=True) to go on with it, or choose another folder"
        )
    output.mkdir(parents=True, exist_ok=True)
    stored = load_checkpoint(checkpoints.folder, trained, checkpoints.further) if resume else None
    if stored is not None:
        state.restore(stored)
    if not same_on_all_hosts(state.step):
        raise ValueError(f"The hosts do not see the same checkpoints in {output}. Choose a folder on a shared disk")
    if this_host()[0] == 0:
        for abandoned in sorted(output.glob(".best-*"), key=lambda path: path.stat().st_mtime, reverse=True):
            if resume and not (output / "best").exists() and (abandoned / "best" / "preset.json").is_file():
                os.replace(abandoned / "best", output / "best")  # the run was killed between two renamings
            shutil.rmtree(abandoned, ignore_errors=True)


def _validation(model, recipe, state, validation, output, average):
    if model.flow is not None and recipe.method != "heatmap":
        yield DelayFlow(recipe.delay_flow)
    if validation is not None and recipe.method != "heatmap":
        pictures = None if output is None else output / "validation"
        yield KeypointMetrics(
            validation,
            every=recipe.validate_every,
            pictures=pictures,
            epochs=recipe.epochs,
            state=state,
            average=average,
        )


def _best(model, recipe, state, validation, output, average):
    # Heatmap pretraining has no keypoints to score: its last backbone is the one to go on from.
    latest = recipe.method == "heatmap"
    if output is not None and (latest or validation is not None):
        yield SaveBestPreset(output / "best", model=model, latest=latest, state=state, average=average)


def _fit(model, dataset, state, last, steps, chain):
    dataset.seek(state.epoch, state.batch)
    try:
        model.fit(
            dataset,
            initial_epoch=state.epoch,
            epochs=last,
            steps_per_epoch=steps,
            shuffle=False,
            callbacks=chain,
            verbose=0,
        )
    except NonFiniteLoss:
        raise
    except Exception as error:
        # tf.data wraps an error of the loader in its own; give back the sentence that names the images.
        sentence = re.search(r"ImageError: (.*)", str(error))
        if sentence is None or isinstance(error, ImageError):
            raise
        raise ImageError(sentence[1]) from error
