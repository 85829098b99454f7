"""What training and pretraining share: batches, optimizer, callbacks in their order, and `fit` that can be resumed."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_regpose.data.batches import make_dataset
from keras_regpose.data.sample import Sample
from keras_regpose.images import ImageError
from keras_regpose.recipe import Recipe
from keras_regpose.training.checkpoint import Checkpoints, Position
from keras_regpose.training.devices import check_strategy, same_on_all_hosts, this_host
from keras_regpose.training.optimizer import make_optimizer, make_schedule
from keras_regpose.training.progress import Curves, LogLearningRate, NonFiniteLoss, ProgressBar, StopAtNonFiniteLoss

# Callbacks run in this order, whatever the order in which they are given; others run where `others` stands. Each sees
# the logs and the state that those before it have made in the same step.
_ORDER = (
    *("StopAtNonFiniteLoss", "DelayFlow", "LogLearningRate", "MovingAverage", "KeypointMetrics", "others"),
    *("SaveBestPreset", "Curves", "ProgressBar", "Position", "Checkpoints"),
)


def in_order(callbacks: Sequence[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    """Returns callbacks in the order in which they must run: figures are made before they are followed and written."""

    def place(callback):
        names = [kind.__name__ for kind in type(callback).__mro__]
        return min((_ORDER.index(name) for name in names if name in _ORDER), default=_ORDER.index("others"))

    return sorted(callbacks, key=place)


def check_run(model, recipe: Recipe) -> None:
    """Raises ValueError if TensorFlow's strategy cannot train, or the model's precision is not the recipe's."""
    check_strategy()
    precision = model.get_layer("pool").dtype_policy.name
    if precision != recipe.precision:
        raise ValueError(
            f"The model computes in {precision}, but precision is {recipe.precision}. Pass precision={precision!r}, or "
            f"train model.with_dtype({recipe.precision!r})"
        )


def run_epochs(
    network: keras.Model,
    loss: keras.losses.Loss | None,
    samples: Sequence[Sample],
    model,
    recipe: Recipe,
    callbacks: Sequence[keras.callbacks.Callback],
    output: str | os.PathLike | None = None,
    resume: bool = False,
    cache_bytes: int = 1 << 30,
    cache_folder: str | os.PathLike | None = None,
    checkpoint_minutes: float = 10.0,
    verbose: int | str = "auto",
    targets_outside: bool = False,
) -> dict[str, list]:
    """Trains a network with `fit` for the epochs of a recipe, from the last checkpoint where there is one.

    Args:
        network: keras.Model to train; its layers that are not to move are frozen already.
        loss: keras.losses.Loss, or None for the network's own.
        samples: sequence of `Sample` to learn from.
        model: `PoseRegressor` whose skeleton and input size the crops have.
        recipe: `Recipe`.
        callbacks: sequence of callbacks, in any order. What they remember is kept in checkpoints: the attributes
            that they name in `saved`, and their `saved_variables`.
        output, resume, cache_bytes, cache_folder, checkpoint_minutes, verbose: See `train`.
        targets_outside: bool. Whether keypoints outside the crop have a weight, as heatmaps want it.

    Returns:
        dict of lists, one value per epoch.
    """
    host = this_host()
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
        targets_outside=targets_outside,
        cache_bytes=cache_bytes,
        cache_folder=cache_folder,
    )
    steps_per_epoch = len(samples) // recipe.batch_size
    schedule = make_schedule(recipe, steps_per_epoch)
    network.compile(make_optimizer(recipe, schedule), loss)
    network.optimizer.build(network.trainable_variables)

    output = None if output is None else Path(output)
    position = Position(dataset, steps_per_epoch)
    curves = Curves(output if host[0] == 0 else None)
    bars = []
    if verbose and host[0] == 0:
        bars = [ProgressBar(recipe.batch_size, position, recipe.epochs, steps_per_epoch, schedule)]
    chain = [
        *callbacks,
        position,
        curves,
        StopAtNonFiniteLoss(dataset.loader, recipe.batch_size, position),
        LogLearningRate(schedule, position),
        *bars,
    ]
    folder = None if output is None else output / "checkpoints"
    facts = {"recipe": recipe.to_dict(), "people": len(samples)}
    checkpoints = Checkpoints(folder, position, chain, facts, checkpoint_minutes)
    chain = in_order([*chain, checkpoints])
    if output is not None:
        _open_output(output, checkpoints, resume, network)
    try:
        network.stop_training = False
        with checkpoints.signals():
            # An epoch that was stopped in the middle is finished first: fit's epochs are all of one length.
            if position.batch:
                _fit(network, dataset, position, position.epoch + 1, steps_per_epoch - position.batch, chain)
            if not network.stop_training:
                _fit(network, dataset, position, recipe.epochs, steps_per_epoch, chain)
    finally:
        for callback in (curves, *bars):
            callback.close()
    return curves.history()


def _open_output(output, checkpoints, resume, network):
    """Loads the last checkpoint of a run that goes on, and refuses to write over one that is not meant to."""
    if not resume and any(checkpoints.folder.glob("step-*.npz")):
        raise ValueError(
            f"{output} holds a run already. Add --resume (resume=True) to go on with it, or choose another folder"
        )
    output.mkdir(parents=True, exist_ok=True)
    if resume:
        checkpoints.restore(network)
    if not same_on_all_hosts(checkpoints.position.step):
        raise ValueError(f"The hosts do not see the same checkpoints in {output}. Choose a folder on a shared disk")
    if this_host()[0] == 0:
        for abandoned in sorted(output.glob(".best-*"), key=lambda path: path.stat().st_mtime, reverse=True):
            if resume and not (output / "best").exists() and (abandoned / "best" / "preset.json").is_file():
                os.replace(abandoned / "best", output / "best")  # the run was killed between two renamings
            shutil.rmtree(abandoned, ignore_errors=True)


def _fit(network, dataset, position, last, steps, chain):
    dataset.seek(position.epoch, position.batch)
    try:
        network.fit(
            dataset,
            initial_epoch=position.epoch,
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
