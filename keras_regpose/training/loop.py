"""One training run: samples and a recipe in, the best preset and the curves out; it can be stopped and resumed."""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_regpose.data.batches import make_dataset
from keras_regpose.data.sample import Sample
from keras_regpose.images import ImageError
from keras_regpose.interrupt import noted_signals
from keras_regpose.recipe import Recipe
from keras_regpose.training.callbacks import DelayFlow, KeypointMetrics, MovingAverage, SaveBestPreset
from keras_regpose.training.checkpoint import Checkpoints
from keras_regpose.training.devices import check_strategy, from_all_hosts, this_host
from keras_regpose.training.optimizer import frozen_stages, make_optimizer
from keras_regpose.training.progress import Curves, Position, ProgressBar

_log = logging.getLogger(__name__)


def train(
    model,
    samples: Sequence[Sample],
    validation: Sequence[Sample] | None = None,
    output: str | os.PathLike | None = None,
    recipe: Recipe | None = None,
    resume: bool = False,
    cache_bytes: int = 1 << 30,
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
    recipe = Recipe.with_settings(**changes) if recipe is None else recipe.changed(**changes)
    if recipe.patience is not None and validation is None:
        raise ValueError("patience counts validations: pass people to validate on, or leave patience out")
    check_strategy()
    precision = model.get_layer("pool").dtype_policy.name
    if precision != recipe.precision:
        advice = f"Pass precision={precision!r}, or train model.with_dtype({recipe.precision!r})"
        raise ValueError(f"The model computes in {precision}, but precision is {recipe.precision}. {advice}")
    output = None if output is None else Path(output)
    first_host = this_host()[0] == 0
    # An endless stream: which batches an epoch sees does not depend on how often fit looks at the data.
    settings = {name: getattr(recipe, name) for name in ("batch_size", "augmentation", "seed")}
    settings |= {"cache_bytes": cache_bytes, "host": this_host()}
    dataset = make_dataset(samples, model, training=True, repeat=True, **settings)
    position = Position(dataset, recipe, -(-len(samples) // recipe.batch_size))
    with frozen_stages(model, recipe.frozen_stages), contextlib.ExitStack() as stack:
        model.compile(
            make_optimizer(recipe, position.schedule, model.replicas), recipe.loss, unit_errors=recipe.unit_errors
        )
        model.optimizer.build(model.trainable_variables)
        average = None if recipe.average_decay is None else MovingAverage(model, recipe.average_decay)
        chosen = [*callbacks]
        if model.flow is not None:
            chosen.append(DelayFlow(recipe.delay_flow))
        if validation is not None:
            pictures = None if output is None else output / "validation"
            options = {"epochs": recipe.epochs, "flip_test": recipe.flip_test, "average": average}
            chosen.append(KeypointMetrics(validation, recipe.validate_every, pictures=pictures, **options))
        if output is not None:
            chosen.append(SaveBestPreset(output / "best", latest=validation is None, average=average))
        curves = Curves(output if first_host else None, recipe)
        chain = [position, *([average] if average else []), *in_order(chosen), curves]
        if verbose and first_host:
            chain.append(ProgressBar(position))
            stack.callback(chain[-1].close)
        if output is not None:
            facts = recipe.to_dict() | {"people": len(samples)}
            checkpoints = Checkpoints(output / "checkpoints", position, chain, facts, checkpoint_minutes)
            _open_output(output, checkpoints, resume, model)
            checkpoints.noted = stack.enter_context(noted_signals())
            chain = [*chain, checkpoints]
        model.stop_training = curves.over
        # An epoch that was stopped in the middle is finished first: fit's epochs are all of one length.
        if position.batch:
            _fit(model, position, position.epoch + 1, chain)
        if not model.stop_training:
            _fit(model, position, recipe.epochs, chain)
        if curves.over:
            _log.info("Ended after epoch %d: no better figure in %d validations", position.epoch, recipe.patience)
        if average:
            average.exchange()
    return curves.history()


def in_order(callbacks: Sequence[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    """Returns callbacks in the order in which they must run: figures are made before they are followed and written."""
    return sorted(callbacks, key=lambda each: isinstance(each, SaveBestPreset) - isinstance(each, KeypointMetrics))


def _open_output(output, checkpoints, resume, network):
    """Loads the last checkpoint of a run that goes on, and refuses to write over one that is not meant to."""
    if not resume and any(checkpoints.folder.glob("step-*.npz")):
        raise ValueError(f"{output} holds a run. Add --resume (resume=True) to go on with it, or choose another folder")
    output.mkdir(parents=True, exist_ok=True)
    if resume:
        checkpoints.restore(network)
    if len(set(from_all_hosts(checkpoints.position.step))) > 1:
        raise ValueError(f"The hosts do not see the same checkpoints in {output}. Choose a folder on a shared disk")
    if this_host()[0] == 0:
        for abandoned in sorted(output.glob(".best-*"), key=lambda path: path.stat().st_mtime, reverse=True):
            if resume and not (output / "best").exists() and (abandoned / "best" / "preset.json").is_file():
                os.replace(abandoned / "best", output / "best")  # the run was killed between two renamings
            shutil.rmtree(abandoned, ignore_errors=True)


def _fit(network, position, last, chain):
    """Trains to the end of the epoch `last`, from where the run is."""
    position.dataset.seek(position.epoch, position.batch)
    try:
        steps = position.steps_per_epoch - position.batch
        span = {"initial_epoch": position.epoch, "epochs": last, "steps_per_epoch": steps}
        network.fit(position.dataset, **span, shuffle=False, callbacks=chain, verbose=0)
    except Exception as error:
        # tf.data wraps an error of the loader in its own; give back the sentence that names the images.
        sentence = re.search(r"ImageError: (.*)", str(error))
        if sentence is None or isinstance(error, ImageError):
            raise
        raise ImageError(sentence[1]) from error
