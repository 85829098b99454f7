"""Learning rate schedules: the reference's warm-up and steps, and a cosine for short runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_regpose")
@dataclass(eq=False)
class WarmupSteps(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up per iteration, then a division by ten at each of the given iterations.

    Source: the schedule of all published rows; in mmengine's terms `LinearLR(start_factor=0.001, begin=0, end=500)`
    and `MultiStepLR(gamma=0.1)`.

    Args:
        learning_rate: float. The rate after the warm-up.
        drops: sequence of int. Iterations at which the rate is divided by ten.
        warmup: int. Iterations of the warm-up.
        accumulate: int. Steps for each iteration, where gradients of several are averaged.

    Example:

    >>> schedule = WarmupSteps(1e-3, drops=(1000,), warmup=500)
    >>> [round(float(schedule(step)), 9) for step in (0, 1, 250, 499, 999, 1000)]
    [1e-06, 3.002e-06, 0.000501501, 0.001, 0.001, 0.0001]
    """

    learning_rate: float
    drops: Sequence[int] = ()
    warmup: int = 500
    accumulate: int = 1

    def __call__(self, step):
        step = ops.cast(ops.floor_divide(step, self.accumulate), "float32")
        progress = ops.minimum(step / max(self.warmup - 1, 1), 1.0) if self.warmup > 1 else 1.0
        rate = self.learning_rate * (0.001 + 0.999 * progress)
        for drop in self.drops:
            rate = ops.where(step >= drop, rate * 0.1, rate)
        return rate

    def get_config(self):
        return asdict(self)


@keras.saving.register_keras_serializable("keras_regpose")
@dataclass(eq=False)
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up per iteration, then half a cosine down to zero.

    Args:
        learning_rate: float. The rate after the warm-up.
        steps: int. Iterations in all.
        warmup: int. Iterations of the warm-up.
        accumulate: int. Steps for each iteration, where gradients of several are averaged.
    """

    learning_rate: float
    steps: int
    warmup: int = 500
    accumulate: int = 1

    def __call__(self, step):
        step = ops.cast(ops.floor_divide(step, self.accumulate), "float32")
        warm = (step + 1) / max(self.warmup, 1)
        progress = ops.clip((step - self.warmup) / max(self.steps - self.warmup, 1), 0.0, 1.0)
        return self.learning_rate * ops.minimum(warm, 0.5 * (1 + ops.cos(progress * 3.141592653589793)))

    def get_config(self):
        return asdict(self)
