"""Presets from strangers: nothing in them runs, and no file beside them is opened or written."""

import hashlib
import json
import pickle

import h5py
import keras
import numpy as np
import pytest

from keras_regpose.hub.download import hub_preset
from keras_regpose.hub.preset_files import PresetError
from keras_regpose.loading import load_preset
from keras_regpose.presets import from_preset


def exchange(preset, name, content):
    """Writes a file, with its checksum, as whoever made the preset can."""
    (preset / name).write_bytes(content)
    description = json.loads((preset / "preset.json").read_text())
    description["checksums"][name] = hashlib.sha256(content).hexdigest()
    (preset / "preset.json").write_text(json.dumps(description))


def add_layer(preset, **layer):
    """Puts a layer into the configuration of the network."""
    config = json.loads((preset / "config.json").read_text())
    config["config"]["layers"].append({"name": "hostile", "registered_name": None, **layer})
    exchange(preset, "config.json", json.dumps(config).encode())


def refused(preset, message):
    for load in (load_preset, from_preset):
        with pytest.raises(PresetError, match=message):
            load(preset)


@pytest.fixture
def marker(tmp_path):
    """A file that the hostile code would make."""
    path = tmp_path / "code has run"
    yield path
    assert not path.exists()


def test_a_lambda_layer(preset, marker):
    inputs = keras.Input((32, 32, 3))
    touch = eval(f"lambda x: [x, __import__('pathlib').Path({str(marker)!r}).touch()][0]")
    hostile = keras.Model(inputs, keras.layers.Lambda(touch)(inputs))
    marker.unlink()  # building the model here has run it
    exchange(preset, "config.json", json.dumps(keras.saving.serialize_keras_object(hostile)).encode())
    refused(preset, "holds a layer that can run code or open files .Lambda., so it is not loaded")


@pytest.mark.parametrize(
    "kind", ["Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "StringLookup", "TextVectorization"]
)
def test_layers_that_run_code_or_open_files(preset, kind):
    add_layer(preset, module="keras.layers", class_name=kind, config={"vocabulary": "/etc/passwd"})
    refused(preset, f"can run code or open files .{kind}.")


@pytest.mark.parametrize("module", ["os", "subprocess", "keras_regpose.cli", "kerasx", "builtins.eval"])
def test_modules_that_are_not_keras(preset, module):
    add_layer(preset, module=module, class_name="system", config={}, registered_name="os>system")
    refused(preset, f"asks for {module}.system, which is no stock Keras layer")


def test_code_hidden_in_an_argument_of_a_layer(preset):
    activation = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
    add_layer(preset, module="keras.layers", class_name="Activation", config={"activation": activation})
    refused(preset, "asks for os.function")


def test_a_compile_configuration_is_not_looked_at(preset, model):
    config = json.loads((preset / "config.json").read_text())
    config["compile_config"] = {"loss": {"module": "keras.losses", "class_name": "Nothing", "config": {}}}
    exchange(preset, "config.json", json.dumps(config).encode())
    assert load_preset(preset).get_weights()[0].shape == model.get_weights()[0].shape


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


@pytest.mark.parametrize("name", ["model.weights.h5", "flow.weights.h5", "config.json"])
def test_pickles(preset, marker, name):
    exchange(preset, name, pickle.dumps(Touch(marker)))
    refused(preset, "is damaged")


@pytest.mark.parametrize(
    "name", ["../../secret", "/etc/passwd", "assets/../../x", "..", "model.weights.h5/../x", "README.md", ""]
)
def test_file_names_that_lead_elsewhere(preset, name):
    description = json.loads((preset / "preset.json").read_text())
    description["checksums"][name] = "0" * 64
    (preset / "preset.json").write_text(json.dumps(description))
    refused(preset, "which is no file of a preset. Do not use it")


@pytest.mark.parametrize(
    "description", ["[]", "null", '"x"', "{}", "[" * 100_000, '{"format": 1, "method": "os", "skeleton": {}}']
)
def test_descriptions_that_are_none(preset, description):
    (preset / "preset.json").write_text(description)
    refused(preset, "preset.json is damaged")


def test_a_configuration_that_nests_without_end(preset):
    exchange(preset, "config.json", b'{"config":' * 100_000)
    refused(preset, "is damaged")


@pytest.mark.parametrize("name", ["model.weights.h5", "flow.weights.h5"])
def test_weights_that_are_taken_from_other_files(preset, tmp_path, name):
    np.zeros(64, "float32").tofile(tmp_path / "secret")
    with h5py.File(preset / name, "r+") as file:
        file["link"] = h5py.ExternalLink("/etc/passwd", "/")
    exchange(preset, name, (preset / name).read_bytes())
    refused(preset, "refers to another file, which no preset does")
    with h5py.File(preset / name, "r+") as file:
        del file["link"]
        file.create_dataset("raw", (64,), "float32", external=[(str(tmp_path / "secret"), 0, 256)])
    exchange(preset, name, (preset / name).read_bytes())
    refused(preset, "refers to another file, which no preset does")


def test_a_repository_cannot_write_outside_of_the_cache(hub, preset_bytes, caches):
    hub.upload("org/hostile", preset_bytes | {"../../escaped.json": b"{}", "model.pkl": pickle.dumps(Touch(caches))})
    folder = hub_preset("org/hostile").path
    assert sorted(path.name for path in folder.iterdir()) == sorted(preset_bytes)
    assert not list(caches.rglob("escaped*")) and not list(caches.rglob("*.pkl"))
