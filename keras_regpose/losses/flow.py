"""The normalizing flow of residual log-likelihood estimation: RealNVP made of TensorFlow Probability bijectors.

The only file that knows TensorFlow Probability, which is imported when a density is first evaluated.
Sources: Human Pose Regression with Residual Log-likelihood Estimation (Li et al., 2021), §3.3;
Density estimation using Real NVP (Dinh et al., 2017), §3.
"""

import keras
import numpy as np

_COUPLINGS = 6
_SIZES = (1, 64, 64, 1)  # of the layers of a coupling's networks


@keras.saving.register_keras_serializable("keras_regpose")
class RealNVP(keras.layers.Layer):
    """Density over the plane, learned: a chain of affine coupling layers over a standard normal.

    Each coupling keeps one coordinate and scales and shifts the other by two small networks of the kept one
    (1 → 64 → 64 → 1, leaky ReLU with slope 0.01; the log-scale passes through tanh). The couplings change the first
    and the second coordinate in turn. Weights start as in the reference: normal with standard deviation 0.01, biases 0.

    Example:

    >>> import numpy as np
    >>> flow = RealNVP()
    >>> bool(abs(flow.log_prob(np.zeros((1, 2), "float32"))[0] + np.log(2 * np.pi)) < 1e-3)  # nearly normal at first
    True
    """

    def __init__(self, **kwargs):
        # float32 whatever the policy: differences of log-densities drown in a half precision mantissa.
        kwargs["dtype"] = "float32"
        super().__init__(**kwargs)
        normal = keras.initializers.RandomNormal(stddev=0.01)
        for net in ("scale", "translation"):
            networks = []
            for coupling in range(_COUPLINGS):
                network = []
                for layer, (fan_in, fan_out) in enumerate(zip(_SIZES, _SIZES[1:], strict=False)):
                    name = f"{net}_{coupling}_{layer}"
                    kernel = self.add_weight(shape=(fan_in, fan_out), initializer=normal, name=f"{name}_kernel")
                    bias = self.add_weight(shape=(fan_out,), initializer="zeros", name=f"{name}_bias")
                    network.append((kernel, bias))
                networks.append(network)
            setattr(self, f"{net}_networks", networks)
        # 1 is the flow, 0 the standard normal it starts from; see `training.callbacks.DelayFlow`.
        self.strength = self.add_weight(shape=(), initializer="ones", trainable=False, name="strength")
        self.built = True

    def call(self, points):
        return self.log_prob(points)

    def compute_output_spec(self, points):
        return keras.KerasTensor(points.shape[:-1], dtype="float32")

    def log_prob(self, points):
        """Returns the natural logarithm of the density.

        Args:
            points: (..., 2) float tensor. Errors divided by σ.

        Returns:
            (...) float32 tensor.
        """
        # TensorFlow Probability keeps what a bijector was given for as long as its result lives. In a graph that is for
        # ever, since the result holds the graph, which holds the result: so no graph of a `fit` would ever be freed.
        kept = _tensorflow_probability().bijectors.Bijector._cache.storage
        before = set(kept)
        log_prob = self.distribution().log_prob(keras.ops.cast(points, "float32"))
        for result in set(kept) - before:
            result.cancel()
            kept.pop(result, None)  # which may have gone with another
        return log_prob

    def sample(self, count: int, seed: int | None = None):
        """Draws (count, 2) points from the density, the same ones on every backend."""
        normal = np.random.default_rng(seed).standard_normal((count, 2), np.float32)
        return self.distribution().bijector.forward(normal)

    def distribution(self):
        """Returns the density as a `tfp.distributions.TransformedDistribution`."""
        probability = _tensorflow_probability()
        # Data → latent runs through the couplings from the last to the first, which is a Chain's inverse.
        couplings = []
        for coupling in reversed(range(_COUPLINGS)):
            masked, function = -1 if coupling % 2 == 0 else 1, self._shift_and_log_scale(coupling)
            couplings.append(probability.bijectors.RealNVP(masked, shift_and_log_scale_fn=function))
        normal = probability.distributions.MultivariateNormalDiag(loc=keras.ops.zeros(2), scale_diag=keras.ops.ones(2))
        return probability.distributions.TransformedDistribution(normal, probability.bijectors.Chain(couplings))

    def _shift_and_log_scale(self, coupling):
        def evaluate(kept, output_units, **unused):
            shift = _apply(self.translation_networks[coupling], kept)
            log_scale = keras.ops.tanh(_apply(self.scale_networks[coupling], kept))
            return shift * self.strength, log_scale * self.strength

        return evaluate


def _apply(network, x):
    for number, (kernel, bias) in enumerate(network):
        x = keras.ops.matmul(x, kernel) + bias
        if number < len(network) - 1:
            x = keras.ops.leaky_relu(x, negative_slope=0.01)
    return x


def _tensorflow_probability():
    if keras.backend.backend() == "jax":
        from tensorflow_probability.substrates import jax

        return jax
    if keras.backend.backend() == "tensorflow":
        import tensorflow_probability

        return tensorflow_probability
    received = f"Received: {keras.backend.backend()!r}. Set KERAS_BACKEND before Python starts."
    raise RuntimeError(f"The RLE loss needs the TensorFlow or the JAX backend of Keras. {received}")
