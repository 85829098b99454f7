"""Learning rate schedules: the reference's warm-up and steps, and a cosine for short runs."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_regpose")
class WarmupSteps(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up per iteration, then a division by ten at each of the given iterations.

    Source: the schedule of all published rows; in mmengine's terms `LinearLR(start_factor=0.001, begin=0, end=500)`
    and `MultiStepLR(gamma=0.1)`.

    Args:
        learning_rate: float. The rate after the warm-up.
        drops: sequence of int. Iterations at which the rate is divided by ten.
        warmup: int. Iterations of the warm-up.

    Example:

    >>> schedule = WarmupSteps(1e-3, drops=(1000,), warmup=500)
    >>> [round(float(schedule(step)), 9) for step in (0, 1, 250, 499, 999, 1000)]
    [1e-06, 3.002e-06, 0.000501501, 0.001, 0.001, 0.0001]
    """

    def __init__(self, learning_rate: float, drops=(), warmup: int = 500):
        self.learning_rate = learning_rate
        self.drops = tuple(int(drop) for drop in drops)
        self.warmup = warmup

    def __call__(self, step):
        step = ops.cast(step, "float32")
        progress = ops.minimum(step / max(self.warmup - 1, 1), 1.0) if self.warmup > 1 else 1.0
        rate = self.learning_rate * (0.001 + 0.999 * progress)
        for drop in self.drops:
            rate = ops.where(step >= drop, rate * 0.1, rate)
        return rate

    def get_config(self):
        return {"learning_rate": self.learning_rate, "drops": list(self.drops), "warmup": self.warmup}


@keras.saving.register_keras_serializable("keras_regpose")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up per iteration, then half a cosine down to zero.

    Args:
        learning_rate: float. The rate after the warm-up.
        steps: int. Iterations in all.
        warmup: int. Iterations of the warm-up.
    """

    def __init__(self, learning_rate: float, steps: int, warmup: int = 500):
        self.learning_rate = learning_rate
        self.steps = int(steps)
        self.warmup = int(warmup)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        warm = (step + 1) / max(self.warmup, 1)
        progress = ops.clip((step - self.warmup) / max(self.steps - self.warmup, 1), 0.0, 1.0)
        return self.learning_rate * ops.minimum(warm, 0.5 * (1 + ops.cos(progress * 3.141592653589793)))

    def get_config(self):
        return {"learning_rate": self.learning_rate, "steps": self.steps, "warmup": self.warmup}


@keras.saving.register_keras_serializable("keras_regpose")
class EveryFewSteps(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that counts moves of the weights, where gradients of several steps are averaged for each.

    Args:
        schedule: `LearningRateSchedule` of the number of the move.
        accumulate: int. Steps for each move.
    """

    def __init__(self, schedule, accumulate: int):
        self.schedule = schedule
        self.accumulate = accumulate

    def __call__(self, step):
        return self.schedule(ops.floor_divide(step, self.accumulate))

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "accumulate": self.accumulate,
        }

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["accumulate"])
