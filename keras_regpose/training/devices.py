"""Training on several devices of one machine, and on several machines.

One machine: `tf.distribute.MirroredStrategy`, or `keras.distribution.DataParallel` on the JAX backend.
Several: the JAX backend, one process on each host, each reading its share of every batch.
"""

import contextlib
import json
import os

import keras
import numpy as np

# Set by launchers when they start one process on each host, with the number of processes.
_LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "KERAS_DISTRIBUTION_NUM_PROCESSES")
_REFUSED = (
    "MultiWorkerMirroredStrategy fails inside Keras 3's fit (https://github.com/keras-team/keras/issues/20585). For "
    "several hosts use the JAX backend: set KERAS_BACKEND=jax and pass --hosts and --host-index"
)


def join_hosts(hosts: str | None = None, host_index: int | None = None) -> None:
    """Makes this process one of those that train together, if there are several. Call it before anything is computed.

    Args:
        hosts: str or None. Addresses of all hosts, "first:port,second,…"; only the first one's port is used. None takes
            what a launcher (Slurm's srun, mpirun, or the variables KERAS_DISTRIBUTION_*) says, if there is one.
        host_index: int or None. This host's place in `hosts`, from 0.

    Raises:
        ValueError: If the hosts cannot be joined: wrong arguments, or another backend than JAX.
    """
    check_strategy()
    if (hosts is None) != (host_index is None):
        raise ValueError("--hosts and --host-index go together: all addresses, and which of them this host is")
    is_jax = keras.backend.backend() == "jax"
    if hosts is None:  # other backends may be started by a launcher too: as several runs of their own
        if is_jax and any(int(os.environ.get(name) or 1) > 1 for name in _LAUNCHERS):
            keras.distribution.initialize()
        return
    if not is_jax:
        raise ValueError(
            f"Several hosts need the JAX backend, this is {keras.backend.backend()!r}: set KERAS_BACKEND=jax"
        )
    addresses = [address.strip() for address in hosts.split(",")]
    if ":" not in addresses[0]:
        raise ValueError(f"--hosts must begin with an address and its port, such as 10.0.0.1:4321. Received: {hosts!r}")
    if host_index is None or not 0 <= host_index < len(addresses):
        raise ValueError(f"--host-index must be from 0 to {len(addresses) - 1} for these hosts. Received: {host_index}")
    keras.distribution.initialize(addresses[0], len(addresses), host_index)


def this_host() -> tuple[int, int]:
    """Returns (index, count) of this host among those that train together: (0, 1) without others."""
    if keras.backend.backend() != "jax":
        return 0, 1
    import jax  # pyright: ignore[reportMissingImports]

    return jax.process_index(), jax.process_count()


def device_scope():
    """Returns the context in which to build, compile and train a model on all devices.

    On TensorFlow it is `MirroredStrategy` over the GPUs, without one over the logical CPU devices; on JAX it is
    `DataParallel` over the devices of all hosts. On a single device the context does nothing.

    Raises:
        ValueError: If TF_CONFIG names several workers.
    """
    if keras.backend.backend() == "jax":
        import jax  # pyright: ignore[reportMissingImports]

        if jax.device_count() < 2:
            return contextlib.nullcontext()
        # The pipeline gives each host its own share already.
        return keras.distribution.DataParallel(auto_shard_dataset=False).scope()
    check_strategy()
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        return contextlib.nullcontext()
    return tf.distribute.MirroredStrategy([device.name for device in devices]).scope()


def check_strategy() -> None:
    """Refuses the TensorFlow strategies with which `fit` does not work.

    Raises:
        ValueError: If such a strategy is in scope, or TF_CONFIG names several workers.
    """
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    if isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(_REFUSED)
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    except (ValueError, AttributeError):
        return
    if len(cluster.get("worker", [])) + len(cluster.get("chief", [])) > 1:
        raise ValueError(f"TF_CONFIG names several workers, and {_REFUSED}")


@contextlib.contextmanager
def on_this_host_alone():
    """Context in which models that are made belong to this host's first device, whatever others do."""
    shared = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(shared)


def from_all_hosts(value: int) -> list[int]:
    """Returns the values that the hosts have for a number. All of them have to call it."""
    if this_host()[1] == 1:
        return [value]
    from jax.experimental import multihost_utils  # pyright: ignore[reportMissingImports]

    return np.ravel(multihost_utils.process_allgather(np.array([value]))).tolist()


def synchronize_batch_norm(model: keras.Model) -> None:
    """Makes batch statistics those of the global batch, so that several devices train as one would.

    Call it before `compile`. On TensorFlow each device uses the statistics of its own share otherwise, which is faster
    and is what the published rows were trained with; the result then depends on the number of devices. JAX always
    takes the global batch's.

    Args:
        model: keras.Model. Its layers are changed.
    """
    if keras.backend.backend() != "tensorflow":
        return
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
