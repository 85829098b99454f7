"""What a model predicts and learns on so many logical devices, and how training goes on under another number of them.

    python tests/shared_training.py DEVICES RESULT RUN [PRECISION …]

It is a process of its own, since logical devices are made before TensorFlow computes. RUN is the folder of a training
run: where there is none, it is begun and broken off in its second epoch, else it is ended.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose.evaluation.evaluate import evaluate

SETTINGS = {"batch_size": 8, "warmup": 0, "learning_rate": 1e-3, "verbose": 0}


class BreakOff(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == 4:  # the second checkpoint of the second epoch is written
            raise InterruptedError


def synchronized(precision="float32"):
    model = tiny_model().with_dtype(precision)
    rp.training.synchronize_batch_norm(model)
    return model


def predict(people, seen):
    """Predictions and figures for 1, 2 … people."""
    model = tiny_model()
    crops = np.random.default_rng(0).integers(0, 256, (9, 64, 48, 3), np.uint8)
    for count in range(1, len(people) + 1):
        seen[f"figures of {count}"] = list(evaluate(model, people[:count], flip_test=True).values())
    for count in (1, 2, 5, 9):
        seen[f"rows of {count}"] = model.predict_on_batch(crops[:count])
        seen[f"predict {count}"] = model.predict(crops[:count], batch_size=4, verbose=0)
    seen["estimate"] = np.concatenate([one.keypoints for one in model.estimate(list(crops[:3]), boxes="image")])


def fit(people, seen):
    """Keras' own training and validation, on last batches of one person and a first one that is odd."""
    model = synchronized()
    model.compile(keras.optimizers.SGD(1e-4), metrics=[rp.metrics.PCK(model.input_size)])
    dataset = rp.data.make_dataset(people[:8], model, training=True, batch_size=8, seed=3)
    for count, batch_size in ((5, 4), (7, 16), (1, 4)):
        validation = rp.data.make_dataset(people[:count], model, batch_size=batch_size)
        history = model.fit(dataset, validation_data=validation, shuffle=False, verbose=0).history
        seen |= {f"{name} with {count}": values for name, values in history.items()}


def statistics(people, seen):
    """Running statistics where each device normalises by its own share."""
    model = tiny_model()
    model.compile(keras.optimizers.SGD(0.0))
    dataset = rp.data.make_dataset(people[:8], model, training=True, batch_size=8, seed=3)
    model.fit(dataset, verbose=0)
    for variable in model.get_layer("first_bn").non_trainable_variables:
        values = tf.distribute.get_strategy().experimental_local_results(variable.value)
        seen[f"spread of {variable.name}"] = np.ptp([value.numpy() for value in values], axis=0)
    seen["running mean"] = model.get_layer("first_bn").moving_mean


def train(people, seen, run):
    """A run with a bound of the gradients and an average of the weights, whole, and begun or ended."""
    settings = {**SETTINGS, "epochs": 3, "clip_norm": 1.0, "average_decay": 0.5}
    model = synchronized()
    seen["history"] = rp.training.train(model, people, people[:5], validate_every=1, **settings)["val_PCK"]
    seen |= {f"weight {number}": weight for number, weight in enumerate(model.get_weights())}
    model = synchronized()
    if run.exists():
        rp.training.train(model, people, output=run, resume=True, **settings)
        seen |= {f"resumed {number}": weight for number, weight in enumerate(model.get_weights())}
        return
    try:
        rp.training.train(model, people, output=run, checkpoint_minutes=0, callbacks=[BreakOff()], **settings)
    except InterruptedError:
        return
    raise AssertionError("The run was not broken off")


def refuse(people, seen):
    """What is refused before anything is trained."""
    model = tiny_model()
    for settings in ({"batch_size": 9}, {"accumulate": 2}):
        try:
            rp.training.train(model, people, epochs=1, **SETTINGS | settings)
        except ValueError as error:
            seen[f"refused {settings}"] = str(error)
    model.compile()
    try:
        model.fit(np.zeros((9, 64, 48, 3), np.uint8), np.zeros((9, 17, 3)), batch_size=8, verbose=0)
    except tf.errors.InvalidArgumentError as error:
        seen["refused one"] = str(error)


def main(devices, result, run, *precisions):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(devices))
    people, seen = list(rp.data.Synthetic(70, seed=0)), {}
    with rp.training.device_scope():
        predict(people, seen)
        fit(people, seen)
        statistics(people, seen)
        if devices != "1":
            refuse(people, seen)
        train(people[:16], seen, Path(run))
        for precision in precisions:
            settings = SETTINGS | {"epochs": 2, "clip_norm": 1.0, "precision": precision}
            history = rp.training.train(synchronized(precision), people[:16], **settings)
            seen[precision] = history["loss"]
    np.savez(result, **{name: np.asarray(value) for name, value in seen.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
