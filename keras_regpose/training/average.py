"""The moving average of a model's weights, which often scores better than the weights that training ends with."""

import contextlib

import keras
import numpy as np


class MovingAverage(keras.callbacks.Callback):
    """Keeps the exponential moving average of a model's weights, and of its batch statistics.

    Both are averaged alike: the statistics of the last batches belong to the last weights and do not fit their average,
    which is why the optimizer's own `use_ema` is not used. In the first steps t the decay is (1 + t) / (10 + t) at
    most, so that the average is not held back by the weights that the run began with
    (`tf.train.ExponentialMovingAverage`, `num_updates`).

    Args:
        model: keras.Model. The flow's strength, which is set and not learned, stays out.
        decay: float.
    """

    def __init__(self, model: keras.Model, decay: float):
        super().__init__()
        self.decay = decay
        statistics = (v for v in model.non_trainable_variables if v.path.endswith(("moving_mean", "moving_variance")))
        self.averaged = [*model.trainable_variables, *statistics]
        self.steps = keras.Variable(0, dtype="int32", trainable=False, name="average_steps")
        averages = [
            keras.Variable(np.array(variable), dtype=variable.dtype, trainable=False, name="average")
            for variable in self.averaged
        ]
        self.saved_variables = [self.steps, *averages]  # by checkpoints
        self.update = _compiled_update()

    def on_train_batch_end(self, batch, logs=None):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        step = int(self.steps.value)
        rate = np.float32(1 - min(self.decay, (1 + step) / (10 + step)))
        averages = self.saved_variables[1:]
        values = ([variable.value for variable in variables] for variables in (averages, self.averaged))
        for variable, value in zip(averages, self.update(*values, rate), strict=True):
            variable.assign(value)
        self.steps.assign(step + 1)

    @contextlib.contextmanager
    def applied(self):
        """Context in which the model has the averages in place of its weights and batch statistics."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    def exchange(self) -> None:
        """Puts the averages in place of the model's weights and batch statistics, and the other way round."""
        for variable, average in zip(self.averaged, self.saved_variables[1:], strict=True):
            # Copies: JAX would share the memory, and a step of training gives it away.
            value, other = np.array(variable), np.array(average)
            variable.assign(other)
            average.assign(value)


def _compiled_update():
    """Returns the function from averages, values and the rate to the next averages."""

    def update(averages, values, rate):
        return [average + (value - average) * rate for average, value in zip(averages, values, strict=True)]

    if keras.backend.backend() == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        return jax.jit(update)
    import tensorflow as tf

    return tf.function(update)
