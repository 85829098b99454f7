"""How the devices of `tf.distribute.MirroredStrategy` share a model's batches.

Keras shares them too, but it fails on shares of different sizes or without anybody, has every device predict the whole
of a batch, and leaves each device with running statistics of its own.
"""

import keras
import numpy as np


def running_statistics(model: keras.Model) -> list[keras.Variable]:
    """Returns the running means and variances of a model's batch normalisation."""
    return [v for v in model.non_trainable_variables if v.path.endswith(("moving_mean", "moving_variance"))]


class SharedModel(keras.Model):
    """A functional model that gives one device's rows on several, for any number of rows.

    After each step of training, its running statistics are the mean of those of the devices. That equals the mean at
    the end of an epoch, which the published rows were trained with, and every checkpoint holds it.
    """

    @property
    def replicas(self) -> int:
        """Devices of `MirroredStrategy` that share each batch."""
        return getattr(getattr(self, "distribute_strategy", None), "num_replicas_in_sync", 1)  # of TensorFlow alone

    def call(self, inputs, training=None, mask=None):
        if self.replicas == 1:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        # The last devices have nobody of a small batch, and convolutions fail on nothing.
        count = tf.shape(inputs)[0]
        if training:
            few = f"A training batch has fewer people than the {self.replicas} devices that share it: use larger ones"
            tf.debugging.assert_positive(count, few)
        paddings = [[0, tf.maximum(1 - count, 0)]] + [[0, 0]] * (len(inputs.shape) - 1)
        return super().call(tf.pad(inputs, paddings), training=training, mask=mask)[:count]

    def train_step(self, *args):
        logs = super().train_step(*args)
        if self.replicas > 1:
            import tensorflow as tf

            def mean(strategy, values):  # no all-reduce, which devices may start before that of the gradients or after
                return tf.add_n(strategy.experimental_local_results(values)) / self.replicas

            statistics = running_statistics(self)
            values = tf.concat([tf.convert_to_tensor(each) for each in statistics], 0)
            means = tf.distribute.get_replica_context().merge_call(mean, [values])
            for variable, part in zip(statistics, tf.split(means, [each.shape[0] for each in statistics]), strict=True):
                variable.assign(part)
        return logs

    def predict_on_batch(self, x):
        if self.replicas == 1:
            return super().predict_on_batch(x)
        import tensorflow as tf

        filled = np.concatenate([x, np.zeros((-len(x) % self.replicas, *np.shape(x)[1:]), np.asarray(x).dtype)])
        shares = list(map(tf.convert_to_tensor, np.split(filled, self.replicas)))
        share = self.distribute_strategy.experimental_distribute_values_from_function
        return super().predict_on_batch(share(lambda context: shares[context.replica_id_in_sync_group]))[: len(x)]

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Looks at the first device's share, where Keras averages the shares, which must be of one size then."""
        if self.replicas > 1 and iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = keras.tree.map_structure(
                lambda values: self.distribute_strategy.experimental_local_results(values)[0], next(batches)
            )
        super()._maybe_symbolic_build(None, data_batch)
