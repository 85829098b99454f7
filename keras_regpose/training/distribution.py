"""Training on several devices of one machine."""

import contextlib

import keras


def device_scope():
    """Returns the context in which to build and compile a model: `MirroredStrategy` where there are several devices.

    GPUs count first; without one, logical CPU devices. On one device, and on other backends than TensorFlow, the
    context does nothing.
    """
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        return contextlib.nullcontext()
    return tf.distribute.MirroredStrategy([device.name for device in devices]).scope()


def synchronize_batch_norm(model: keras.Model) -> None:
    """Makes batch statistics those of the global batch, so that several devices train as one would.

    Call it before `compile`. Statistics of each device's own share are faster, and what the published rows were
    trained with; they make the result depend on the number of devices.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
