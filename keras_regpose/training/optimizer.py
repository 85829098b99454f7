"""The optimizer of a recipe, and which of the model's layers it moves."""

import contextlib
import re

import keras
import numpy as np

from keras_regpose.training.recipe import Recipe
from keras_regpose.training.schedule import WarmupCosine, WarmupSteps

# Layers behind the backbone, by the first part of their variables' paths.
_HEAD = ("coordinates", "sigma", "flow", "heatmaps", "deconvolution")


@keras.saving.register_keras_serializable("keras_regpose")
class AdamWithBackboneRate(keras.optimizers.Adam):
    """Adam whose learning rate is multiplied for the backbone.

    Args:
        backbone_rate: float. The factor for every variable that belongs to neither the head nor the flow.
        **arguments: Those of `keras.optimizers.Adam`.
    """

    def __init__(self, backbone_rate: float = 1.0, **arguments):
        super().__init__(**arguments)
        self.backbone_rate = backbone_rate

    def update_step(self, gradient, variable, learning_rate):
        if not variable.path.startswith(_HEAD):
            learning_rate = learning_rate * self.backbone_rate
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return super().get_config() | {"backbone_rate": self.backbone_rate}


def make_optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Returns a recipe's Adam with its schedule.

    Args:
        recipe: `Recipe`.
        steps_per_epoch: int. Batches, of which `recipe.accumulate` make one move of the weights.
    """
    # The optimizer's step counts moves of the weights.
    per_epoch = steps_per_epoch / recipe.accumulate
    steps = max(int(per_epoch * recipe.epochs), 1)
    warmup = min(recipe.warmup, steps // 10)
    if recipe.schedule == "steps":
        drops = [round(epoch * per_epoch) for epoch in recipe.drop_epochs()]
        rate = WarmupSteps(recipe.learning_rate, drops, warmup)
    else:
        rate = WarmupCosine(recipe.learning_rate, steps, warmup)
    options = {
        "learning_rate": rate,
        "epsilon": 1e-8,  # the reference's; Keras' default is 1e-7
        "global_clipnorm": recipe.clip_norm,
        "gradient_accumulation_steps": recipe.accumulate if recipe.accumulate > 1 else None,
        "use_ema": recipe.average_decay is not None,
        "ema_momentum": recipe.average_decay or 0.99,
    }
    if recipe.backbone_rate == 1:
        return keras.optimizers.Adam(**options)
    return AdamWithBackboneRate(recipe.backbone_rate, **options)


def freeze_stages(model: keras.Model, stages: int) -> None:
    """Keeps the first stages of a named backbone, and all before them, as they are; batch statistics included.

    Args:
        model: A model whose backbone is one of ours.
        stages: int. 0 freezes the stem alone, -1 nothing. ResNets have 4 stages, MobileNetV2 has 7.
    """
    if stages < 0:
        return
    found = set()
    for layer in model.layers:
        stage = re.match(r"layer(\d+)", layer.name)
        if stage:
            found.add(int(stage[1]))
        if layer.name.startswith(("conv1", "bn1")) or (stage and int(stage[1]) <= stages):
            layer.trainable = False
    if stages > len(found):
        raise ValueError(f"frozen_stages must be at most {len(found)} for this backbone. Received: {stages}")


@contextlib.contextmanager
def averaged_weights(model: keras.Model):
    """Context in which a model has the moving average of its weights, if its optimizer keeps one."""
    if not getattr(model.optimizer, "use_ema", False):
        yield
        return
    current = [np.array(variable) for variable in model.trainable_variables]
    model.optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, current, strict=True):
            variable.assign(value)
