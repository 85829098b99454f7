"""The network of a model that estimates again and again: its weights become constants of TensorFlow's graph.

TensorFlow's kernels for CPUs reorder weights at every call, unless they are constants, which they reorder once.
"""

import keras
import numpy as np

from keras_regpose.models.folding import folded

PLAIN_RUNS = 32  # making constants takes seconds: who estimates a few pictures should not wait for it


def runs_on_tensorflow_cpu() -> bool:
    """Returns whether networks run on TensorFlow's kernels for CPUs."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_logical_devices("GPU")


class ConstantWeights:
    """Runs a model's network, from the 33rd run with the same weights on with weights that are constants.

    Whenever a weight has changed, in whatever way, the model itself runs again: results are always those of its
    weights. Both give the same outputs, but for rounding.

    Args:
        model: `PoseRegressor`.
    """

    def __init__(self, model):
        import tensorflow as tf

        self.skeleton, self.input_size = model.skeleton, model.input_size
        self._model = model
        variables = [variable.value for variable in keras.Model(model.inputs, model.outputs).variables]
        self._read = tf.function(lambda: [variable.read_value() for variable in variables])
        self._weights, self._places, self._runs, self._function = [], None, 0, None

    def predict_on_batch(self, crops: np.ndarray) -> np.ndarray:
        """Runs the network.

        Args:
            crops: (B, H, W, 3) uint8 array, RGB.

        Returns:
            (B, K, 4 or 2) float32 array in crop units, as the model's own `predict_on_batch` returns it.
        """
        # While it is held, nothing else is written where a weight lies: a weight that changed lies somewhere else.
        weights = self._read()
        places = [np.asarray(weight).__array_interface__["data"][0] for weight in weights]
        if places != self._places:
            self._weights, self._places, self._runs, self._function = weights, places, 0, None
        self._runs += 1
        if self._runs <= PLAIN_RUNS:
            return np.asarray(self._model.predict_on_batch(crops))
        if self._function is None:
            self._function = _function_of_constants(self._model)
        return self._function(crops).numpy()


def _function_of_constants(model):
    """Returns a TensorFlow function from crops to outputs in which the weights are constants."""
    import tensorflow as tf

    graph = keras.Model(model.inputs[0], model.outputs[0])
    if model.compute_dtype == "float32":  # elsewhere merged weights would be rounded in another way
        graph = folded(graph)
    trained, others = (
        [variable.numpy() for variable in variables]
        for variables in (graph.trainable_variables, graph.non_trainable_variables)
    )

    @tf.function(input_signature=[tf.TensorSpec((None, *graph.input_shape[1:]), tf.uint8)], autograph=False)
    def run(crops):
        constants = ([tf.constant(value) for value in values] for values in (trained, others))
        return graph.stateless_call(*constants, crops, training=False)[0]

    return run
