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


PROTOCOL = json.loads((Path(__file__).parents[1] / "golden" / "protocol.json").read_text())
ONE_OF_EACH = ("mobilenetv2_rle_coco", "resnet50_mpii", "resnet50_wflw", "resnet50_rhd2d")
EVERY = pytest.param(tuple(PROTOCOL), marks=pytest.mark.slow)
FIGURES = {"coco/AP": ["val_AP", "val_AR"], "PCK": ["val_PCKh"], "NME": ["val_NME"], "AUC": ["val_AUC"]}


@pytest.mark.parametrize("devices", [2, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("rows", [ONE_OF_EACH, EVERY])
def test_recipes_run_as_mmposes_configs_on_one_device_and_on_two(rows, devices, tmp_path):
    """Up to the first batch of the real command; `training_protocol.py` says what stands in for the network."""
    script = Path(__file__).parents[1] / "training_protocol.py"
    command = [sys.executable, str(script), str(devices), str(tmp_path), str(tmp_path / "seen.json"), *rows]
    subprocess.run(command, check=True)
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert tuple(seen) == rows
    for row, ours in seen.items():
        config = PROTOCOL[row]
        assert ours["replicas"] == devices and ours["start"] == "weights.pth", row
        share = [config["batch_size"] // devices, *config["input_size_wh"][::-1], 3]
        assert ours["shares"] and all(one == share for one in ours["shares"]), row
        assert (ours["batches_per_epoch"], ours["epochs"]) == (config["batches_per_epoch"], config["epochs"]), row
        (optimizer, rate), (start_factor, warmup, _) = config["optimizer"], config["warmup"]
        drops, factor = config["drops"]
        for step, given in ours["rates"]:
            part = start_factor + (1 - start_factor) * min(step / (warmup - 1), 1)
            part *= factor ** sum(step >= drop * config["batches_per_epoch"] for drop in drops)
            assert given == pytest.approx(part * rate, rel=2e-5), (row, step)
        assert ours["optimizer"] == optimizer and ours["clipped"] is ours["accumulated"] is None, row
        assert ours["epsilon"] == 1e-8 and ours["beta"] == 0.9 and ours["trained"], row  # PyTorch's
        assert ours["augmentation"] == {
            "flip_probability": config["flip_probability"],
            "half_body_probability": config["half_body_probability"],
            "shift_factor": config["shift"][0],
            "shift_probability": config["shift"][1],
            "scale_range": config["scale"][0],
            "scale_probability": config["scale"][1],
            "rotation": config["rotation"][0],
            "rotation_probability": config["rotation"][1],
        }
        validation, every = ours["validation"], config["validate_every"]
        assert validation["file"] == config["validation_file"], row
        assert validation["boxes_file"] == (config["validation_boxes"] or False), row
        assert validation["after"] == list(range(every, config["epochs"] + 1, every)), row
        assert ours["flip_test"] is config["flip_test"] and validation["figures"] == FIGURES[config["best"]], row


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


def seen_on(devices, folder, run, *precisions):
    """What `shared_training.py` sees on so many devices."""
    script, result = Path(__file__).parents[1] / "shared_training.py", folder / f"shared {devices}.npz"
    subprocess.run([sys.executable, str(script), str(devices), str(result), str(run), *precisions], check=True)
    return dict(np.load(result))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What is seen on 1 and 2 devices. The second ends the run that the first has begun."""
    folder = tmp_path_factory.mktemp("shared")
    return {devices: seen_on(devices, folder, folder / "run", "mixed_float16") for devices in (2, 1)}


def same(seen, one, beginnings, rtol=1e-4, atol=1e-4):
    names = [name for name in one if name.startswith(beginnings) and name in seen]
    assert names
    for name in names:
        assert np.isfinite(one[name]).all()
        np.testing.assert_allclose(seen[name], one[name], rtol=rtol, atol=atol, err_msg=name)


def test_figures_rows_and_poses_are_those_of_one_device_for_1_to_70_people(shared):
    assert sum(name.startswith("figures of") for name in shared[1]) == 70
    same(shared[2], shared[1], ("figures of", "rows of", "predict ", "estimate"))
    assert [len(shared[2][f"rows of {count}"]) for count in (1, 2, 5, 9)] == [1, 2, 5, 9]


def test_fit_validates_as_on_one_device_whatever_the_last_batch_holds(shared):
    names = {name for name in shared[1] if name.startswith("val_")}
    assert {f"val_{name} with {count}" for name in ("loss", "pck") for count in (1, 5, 7)} <= names
    same(shared[2], shared[1], ("loss with", "val_loss with", "val_pck with", "rle_"), rtol=1e-3)


def test_running_statistics_are_the_mean_of_the_devices(shared):
    for name in ("moving_mean", "moving_variance"):
        assert not shared[2][f"spread of {name}"].any()
    same(shared[2], shared[1], "running mean")


def test_gradients_are_bounded_and_weights_averaged_as_on_one_device(shared):
    same(shared[2], shared[1], ("history", "weight "), rtol=1e-3, atol=1e-3)


def test_mixed_precision_learns_on_two_devices_as_on_one(shared):
    same(shared[2], shared[1], "mixed_", rtol=1e-2)


def test_a_run_of_two_devices_goes_on_with_one(shared):
    resumed = {name.replace("resumed", "weight"): value for name, value in shared[1].items() if "resumed" in name}
    same(resumed, shared[1], "weight ", rtol=1e-3, atol=1e-3)


def test_batches_that_devices_cannot_share_are_refused(shared):
    refused = [str(value) for name, value in shared[2].items() if name.startswith("refused")]
    assert refused[0] == "A batch of 9 cannot be shared by 2 devices. Use a multiple of that"
    assert "accumulate is for a single device" in refused[1]
    assert "A training batch has fewer people than the 2 devices that share it" in refused[2]
