"""The optimizer of a recipe, and which of the model's layers it moves."""

import contextlib

import keras

from keras_regpose.models.backbones import backbone_of
from keras_regpose.recipe import Recipe
from keras_regpose.regressor import PoseRegressor
from keras_regpose.schedules import WarmupCosine, WarmupSteps


def make_schedule(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate of a recipe as a function of the step.

    Args:
        recipe: `Recipe`.
        steps_per_epoch: int. Batches, of which `recipe.accumulate` make one move of the weights.

    Returns:
        A schedule from the number of the batch, from 0, to the learning rate.
    """
    per_epoch = steps_per_epoch / recipe.accumulate
    moves = max(int(per_epoch * recipe.epochs), 1)
    warmup = min(recipe.warmup, moves // 6)  # of the published runs the shortest, of 3,150 moves, has 500
    if recipe.schedule == "steps":
        drops = [round(epoch * per_epoch) for epoch in recipe.drop_epochs()]
        return WarmupSteps(recipe.learning_rate, drops, warmup, recipe.accumulate)
    return WarmupCosine(recipe.learning_rate, moves, warmup, recipe.accumulate)


def make_optimizer(recipe: Recipe, schedule, replicas: int = 1) -> keras.optimizers.Optimizer:
    """Returns a recipe's Adam.

    Args:
        recipe: `Recipe`.
        schedule: float, or what `make_schedule` returns. The learning rate.
        replicas: int. Devices of `MirroredStrategy` that share each batch.

    Raises:
        ValueError: If several devices are to accumulate, with which Keras fails.
    """
    steps = recipe.accumulate if recipe.accumulate > 1 else None
    if steps and replicas > 1:
        whole = f"a batch_size of {steps * recipe.batch_size}, which these {replicas} share, has the same effect"
        raise ValueError(f"accumulate is for a single device: leave it out; {whole}. Received: {steps}")
    clip_norm = recipe.clip_norm and recipe.clip_norm / replicas
    adam = SharedAdam if clip_norm and replicas > 1 else keras.optimizers.Adam
    # The epsilon is the reference's; Keras' default is 1e-7.
    return adam(schedule, epsilon=1e-8, global_clipnorm=clip_norm, gradient_accumulation_steps=steps)


@keras.saving.register_keras_serializable("keras_regpose")
class SharedAdam(keras.optimizers.Adam):
    """Adam under `MirroredStrategy` that clips the mean of the devices' gradients, before Keras adds them up.

    Keras itself clips the gradients of each device's share.
    """

    def apply(self, grads, trainable_variables=None):
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, grads)
        super().apply([each / context.num_replicas_in_sync for each in sums], trainable_variables)


@contextlib.contextmanager
def frozen_stages(model: PoseRegressor, stages: int):
    """Context in which the stem and the first stages of a backbone stay as they are, their batch statistics too.

    Args:
        model: `PoseRegressor`.
        stages: int. 0 freezes the stem alone, -1 nothing. ResNets have 4 stages, MobileNetV2 and EfficientNet 7.

    Raises:
        ValueError: If the backbone has fewer stages, or is not in the table of backbones, which knows the stages.
    """
    frozen = []
    if stages >= 0:
        backbone = backbone_of(model)
        if backbone is None:
            advice = "Set `layer.trainable = False` on the layers to freeze instead"
            unknown = "frozen_stages must be -1 for a backbone whose stages are not known"
            raise ValueError(f"{unknown}. Received: {stages}. {advice}")
        count = len(backbone.stages) - 1
        if stages > count:
            raise ValueError(f"frozen_stages must be at most {count} for this backbone. Received: {stages}")
        named = {layer: backbone.stage_of(layer.name) for layer in model.backbone.layers if layer.trainable}
        frozen = [layer for layer, stage in named.items() if stage is not None and stage <= stages]
    for layer in frozen:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in frozen:
            layer.trainable = True
