"""The moving average of weights and batch statistics."""

import keras
import numpy as np
from tiny_model import tiny_model

from keras_regpose import from_preset
from keras_regpose.data import Synthetic
from keras_regpose.training import train
from keras_regpose.training.callbacks import MovingAverage, best_epoch


class Record(keras.callbacks.Callback):
    """Keeps some variable's value after every step."""

    def __init__(self, variables):
        super().__init__()
        self.variables = variables
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append([np.array(variable) for variable in self.variables])


def test_weights_and_batch_statistics_are_averaged_with_a_decay_that_grows():
    inputs = keras.layers.Input((2,))
    model = keras.Model(inputs, keras.layers.BatchNormalization(momentum=0.5)(inputs))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    average = MovingAverage(model, 0.15)
    record = Record(model.variables)
    expected = [np.array(variable) for variable in model.variables]
    x = np.random.default_rng(0).normal(size=(12, 2)).astype("float32")
    model.fit(x, x + 3, batch_size=4, shuffle=False, callbacks=[average, record], verbose=0)
    for decay, values in zip((1 / 10, 0.15, 0.15), record.steps, strict=True):
        expected = [decay * old + (1 - decay) * new for old, new in zip(expected, values, strict=True)]
    assert len(expected) == 4  # scale, offset, mean, variance
    with average.applied():
        for variable, value in zip(model.variables, expected, strict=True):
            np.testing.assert_allclose(np.array(variable), value, rtol=1e-5)
    for variable, value, averaged in zip(model.variables, record.steps[-1], expected, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)
        assert np.abs(value - averaged).max() > 1e-3


def test_what_is_saved_and_left_is_the_average(tmp_path):
    model, people = tiny_model(), Synthetic(8, seed=0)
    followed = [model.get_layer("coordinates").kernel, model.get_layer("first_bn").moving_mean]
    record = Record(followed)
    averages = [[np.array(variable) for variable in followed]]
    history = train(
        model,
        people,
        people,
        tmp_path,
        epochs=3,
        batch_size=4,
        average_decay=0.9,
        delay_flow=1,
        validate_every=3,
        verbose=0,
        callbacks=[record],
    )
    for step, values in enumerate(record.steps):
        decay = min(0.9, (1 + step) / (10 + step))
        averages.append([decay * old + (1 - decay) * new for old, new in zip(averages[-1], values, strict=True)])
    steps_of_best = 2 * best_epoch(history)[2]
    for trained, expected in ((model, averages[6]), (from_preset(tmp_path / "best"), averages[steps_of_best])):
        kernel, mean = trained.get_layer("coordinates").kernel, trained.get_layer("first_bn").moving_mean
        np.testing.assert_allclose(np.array(kernel), expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(np.array(mean), expected[1], rtol=1e-5, atol=1e-6)
    assert float(np.array(model.flow.strength)) == 1.0  # it is set, not learned
    with np.load(tmp_path / "checkpoints" / "step-000000006.npz") as stored:
        kernel = next(stored[name] for name in stored.files if name.endswith("coordinates/kernel"))
    np.testing.assert_array_equal(kernel, record.steps[-1][0])
