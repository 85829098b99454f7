"""The network of a model that estimates again and again: its weights become constants of TensorFlow's graph.

TensorFlow's kernels for CPUs reorder weights at every call, unless they are constants, which they reorder once.
"""

import threading

import keras
import numpy as np

from keras_regpose.models.folding import folded, scaled_by_rows

PLAIN_RUNS = 32  # making constants takes seconds: who estimates a few pictures should not wait for it
_TOLERANCE = 1e-3  # in crop units; float32 rounds to about 1e-6


def runs_on_tensorflow_cpu() -> bool:
    """Returns whether networks run on TensorFlow's kernels for CPUs."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


class ConstantWeights:
    """Runs a model's network, from the 33rd run with the same weights on with weights that are constants.

    Whenever a weight has changed, in whatever way, the model itself runs again: results are always those of its
    weights. Both give the same outputs, but for rounding; a network for which they do not stays as it is.

    Args:
        model: `PoseRegressor`.
    """

    def __init__(self, model):
        self.skeleton, self.input_size = model.skeleton, model.input_size
        self._model = model
        self._graph = keras.Model(model.inputs, model.outputs)
        self._variables, self._read = [], None
        self._weights, self._addresses, self._runs, self._function = [], None, 0, None
        self._lock = threading.Lock()

    def predict_on_batch(self, crops: np.ndarray) -> np.ndarray:
        """Runs the network.

        Args:
            crops: (B, H, W, 3) uint8 array, RGB.

        Returns:
            (B, K, 4 or 2) float32 array in crop units, as the model's own `predict_on_batch` returns it.
        """
        with self._lock:
            function = self._function_of_now(crops)
        if function is None:
            return np.asarray(self._model.predict_on_batch(crops))
        return function(crops).numpy()

    def _function_of_now(self, crops):
        """Returns the function whose constants are the weights as they are now, or None as long as there is none."""
        import tensorflow as tf

        variables = self._graph.variables
        if list(map(id, variables)) != list(map(id, self._variables)):  # layers can get others: LoRA, quantization
            self._variables, values = variables, [variable.value for variable in variables]
            self._read = tf.function(lambda: [value.read_value() for value in values])
        # As long as what was read is held, nothing else is written there: a weight that changed has another address.
        weights = self._read()
        addresses = [np.asarray(weight).__array_interface__["data"][0] for weight in weights]
        if addresses != self._addresses:
            self._weights, self._addresses, self._runs, self._function = weights, addresses, 0, None
        self._runs += 1
        if self._runs == PLAIN_RUNS + 1:
            self._function = _function_of_constants(self._model, crops)
        return self._function


def _function_of_constants(model, crops):
    """Returns a TensorFlow function from crops to outputs in which the weights are constants.

    None if that cannot be made of the model, or gives other outputs for the crops, as it may with layers of users' own.
    """
    import tensorflow as tf

    try:
        # Other types than float32 would round merged weights in another way.
        rewritten = folded if model.get_layer("pool").compute_dtype == "float32" else scaled_by_rows
        graph = rewritten(keras.Model(model.inputs[0], model.outputs[0]))
        trained, others = (
            [variable.numpy() for variable in variables]
            for variables in (graph.trainable_variables, graph.non_trainable_variables)
        )

        @tf.function(input_signature=[tf.TensorSpec((None, *graph.input_shape[1:]), tf.uint8)], autograph=False)
        def run(crops):
            constants = ([tf.constant(value) for value in values] for values in (trained, others))
            return graph.stateless_call(*constants, crops, training=False)[0]

        function = run.get_concrete_function()
        output = function(tf.constant(crops)).numpy()
    except Exception:
        return None
    expected = np.asarray(model.predict_on_batch(crops))
    close = np.allclose(output, expected, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
    return (lambda crops: function(tf.constant(crops))) if close else None
