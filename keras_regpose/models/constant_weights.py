"""The network of a model that estimates again and again: its weights become constants of TensorFlow's graph.

TensorFlow's kernels for CPUs reorder weights at every call, unless they are constants, which they reorder once.
"""

import operator
import threading
from collections.abc import Callable
from typing import NamedTuple

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
        self._variables, self._values, self._read = [], [], None
        self._weights, self._addresses, self._runs = [], None, 0
        self._fast = None
        self._lock = threading.Lock()

    def predict_on_batch(self, crops: np.ndarray) -> np.ndarray:
        """Runs the network.

        Args:
            crops: (B, H, W, 3) uint8 array, RGB.

        Returns:
            (B, K, 4 or 2) float32 array in crop units, as the model's own `predict_on_batch` returns it.
        """
        output = self._run_with_constants(crops)
        if output is None:
            with self._lock:
                self._count_run(crops)
            output = self._run_with_constants(crops)
        return np.asarray(self._model.predict_on_batch(crops)) if output is None else output

    def _run_with_constants(self, crops):
        """Returns the output, or None where the constants are not the weights as they are now, or not yet made."""
        fast = self._fast
        if fast is None or not _same_objects(self._graph.variables, fast.variables):
            return None
        output, weights = fast.function(crops)
        # As long as what was read is held, nothing else is written there: a weight that changed has another address.
        return output.numpy() if _addresses(weights) == fast.addresses else None

    def _count_run(self, crops):
        """Counts runs with the same weights, and makes constants of them in time."""
        import tensorflow as tf

        variables = self._graph.variables
        if not _same_objects(variables, self._variables):  # layers can get others: LoRA, quantization
            values = [variable.value for variable in variables]
            self._variables, self._values = variables, values
            self._read = tf.function(lambda: [value.read_value() for value in values])
        weights = self._read()
        addresses = _addresses(weights)
        if addresses != self._addresses:
            self._weights, self._addresses, self._runs, self._fast = weights, addresses, 0, None
        self._runs += 1
        if self._runs == PLAIN_RUNS + 1:
            function = _function_of_constants(self._model, self._values, crops)
            self._fast = function and _Fast(function, variables, self._weights, addresses)


class _Fast(NamedTuple):
    """A function whose constants are a model's weights as long as its variables have the same addresses."""

    function: Callable
    variables: list
    weights: list
    addresses: list


def _same_objects(first, second):
    return len(first) == len(second) and all(map(operator.is_, first, second))


def _addresses(tensors):
    return [np.asarray(tensor).__array_interface__["data"][0] for tensor in tensors]


def _function_of_constants(model, values, crops):
    """Returns a TensorFlow function from crops to outputs, for which the weights are constants, and to values read.

    One function does both in less time than two. None if it cannot be made of the model, or gives other outputs for the
    crops, as it may with layers of users' own.
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
            constants = ([tf.constant(weight) for weight in weights] for weights in (trained, others))
            output = graph.stateless_call(*constants, crops, training=False)[0]
            return output, [value.read_value() for value in values]

        function = run.get_concrete_function()
        output = function(tf.constant(crops))[0].numpy()
    except Exception:
        return None
    expected = np.asarray(model.predict_on_batch(crops))
    close = np.allclose(output, expected, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
    return (lambda crops: function(tf.constant(crops))) if close else None
