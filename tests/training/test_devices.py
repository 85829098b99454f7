"""Several devices train as one: real logical devices, in a process of their own."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from keras_regpose.training import device_scope, join_hosts, train

SCRIPT = """
    import json, sys
    import keras, numpy as np, tensorflow as tf
    devices = int(sys.argv[1])
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    import keras_regpose as rp
    sys.path.insert(0, sys.argv[4])
    from tiny_model import tiny_model
    people = rp.data.Synthetic(32, seed=0)
    with rp.training.device_scope():
        model = tiny_model()
        rp.training.synchronize_batch_norm(model)
        model.compile(keras.optimizers.SGD(1e-4))
        dataset = rp.data.make_dataset(people, model, training=True, batch_size=16, seed=3, repeat=True)
        history = model.fit(dataset, epochs=2, steps_per_epoch=2, shuffle=False, verbose=0).history
    np.savez(sys.argv[2], *[weight.numpy() for weight in model.weights])
    json.dump(history, open(sys.argv[3], "w"))
    """


def run(devices, folder):
    weights, history = folder / f"{devices}.npz", folder / f"{devices}.json"
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(devices), str(weights), str(history)]
    subprocess.run([*command, str(Path(__file__).parents[1])], check=True)
    return list(np.load(weights).values()), json.loads(history.read_text())


def test_two_devices_give_the_loss_and_weights_of_one(tmp_path):
    one, history_of_one = run(1, tmp_path)
    two, history_of_two = run(2, tmp_path)
    assert {"loss", "rle_flow", "rle_residual", "rle_sigma"} <= set(history_of_one)
    for key in history_of_one:
        assert len(history_of_one[key]) == 2
        np.testing.assert_allclose(history_of_two[key], history_of_one[key], rtol=1e-4, err_msg=key)
    for first, second in zip(one, two, strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-4, atol=1e-4)


WORKERS = json.dumps({"cluster": {"worker": ["10.0.0.1:1", "10.0.0.2:1"]}, "task": {"type": "worker", "index": 0}})


@pytest.mark.parametrize("refuse", [device_scope, join_hosts, lambda: train(None, [], epochs=1)])
def test_several_workers_of_tensorflow_are_refused_with_the_reason(monkeypatch, refuse):
    monkeypatch.setenv("TF_CONFIG", WORKERS)
    with pytest.raises(ValueError, match="TF_CONFIG names several workers.*keras/issues/20585.*KERAS_BACKEND=jax"):
        refuse()


def test_a_multi_worker_strategy_in_scope_is_refused(monkeypatch):
    import tensorflow as tf

    # A real one can only be made before TensorFlow has run anything.
    strategy = object.__new__(tf.distribute.MultiWorkerMirroredStrategy)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: strategy)
    with pytest.raises(ValueError, match="MultiWorkerMirroredStrategy fails inside Keras 3's fit"):
        train(None, [], epochs=1)


def test_hosts_need_the_jax_backend():
    with pytest.raises(ValueError, match="Several hosts need the JAX backend, this is 'tensorflow'"):
        join_hosts("10.0.0.1:4321,10.0.0.2", 0)
