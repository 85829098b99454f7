"""Presets from strangers: nothing in them runs, and no file beside them is opened or written."""

import hashlib
import json
import pickle
import time
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_regpose.hub.download import hub_preset
from keras_regpose.hub.preset_files import PresetError, PresetFolder
from keras_regpose.loading import load_preset
from keras_regpose.presets import from_preset
from keras_regpose.regressor import PoseRegressor
from keras_regpose.skeleton import COCO17, Skeleton


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


@pytest.mark.parametrize(
    ("module", "kind"),
    [("keras", "layers.TFSMLayer"), ("keras.src.layers.core.lambda_layer", "Lambda"), (None, "Lambda")],
)
def test_a_layer_is_known_by_what_it_is_and_not_by_its_name(preset, module, kind):
    add_layer(preset, module=module, class_name=kind, config={})
    refused(
        preset, r"can run code or open files \((TFSMLayer|Lambda)\), so it is not loaded. If you trust it, pass trust"
    )


def test_code_that_is_trusted_runs(preset):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Lambda(lambda x: x / 255, output_shape=(32, 32, 3))(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Reshape((17, 2))(keras.layers.Dense(34)(x))
    keras.saving.save_model(keras.Model(inputs, x), preset, zipped=False)
    description = json.loads((preset / "preset.json").read_text()) | {"method": "deeppose", "checksums": {}}
    (preset / "preset.json").write_text(json.dumps(description))
    refused(preset, "can run code or open files .Lambda.")
    assert from_preset(preset, trust=True).output_shape == (None, 17, 2)


def test_every_layer_of_keras_that_runs_no_code_is_loaded(tmp_path):
    backbone = keras.applications.EfficientNetV2B0(include_top=False, weights=None, input_shape=(32, 32, 3))
    PoseRegressor(backbone, COCO17, (32, 32)).save_to_preset(tmp_path / "preset")
    loaded = load_preset(tmp_path / "preset")
    kinds = {type(layer.kernel_initializer).__name__ for layer in loaded.layers if hasattr(layer, "kernel_initializer")}
    assert "VarianceScaling" in kinds and "_Bounded" not in kinds  # which is gone when the model is made


@pytest.mark.parametrize("change", [1 << 24, 100_000, "no initializers"])
def test_a_configuration_of_a_larger_network_than_its_weights(preset, change):
    config = json.loads((preset / "config.json").read_text())
    layer = next(one["config"] for one in config["config"]["layers"] if one["class_name"] == "Conv2D")
    layer["filters"] = change if isinstance(change, int) else 1 << 24
    if change == "no initializers":
        del layer["kernel_initializer"], layer["bias_initializer"]
    exchange(preset, "config.json", json.dumps(config).encode())
    refused(preset, r"is damaged \(.*larger network than its weights are of\)")


def test_pictures_of_a_hundred_thousand_pixels_a_side(preset):
    description = json.loads((preset / "preset.json").read_text()) | {"input_size": [40_000, 40_000]}
    (preset / "preset.json").write_text(json.dumps(description))
    refused(preset, r"input_size must be \(height, width\), each from 32 to 4096 pixels. Received: \[40000, 40000\]")


def test_weights_that_are_walked_or_unpacked_without_end(preset):
    def doubly_linked(file):
        group = file.create_group("deep")
        for _ in range(40):  # 2⁴⁰ paths
            inner = group.create_group("a")
            group["b"] = inner
            group = inner

    def compressed(file):
        file.create_dataset("zeros", (1 << 31,), "float32", chunks=(1 << 20,), compression="gzip")

    def never_written(file):
        file.create_dataset("zeros", (1 << 40,), "float32")

    for hostile, message in (
        (doubly_linked, "twice to one of its parts"),
        (compressed, "compressed or lacks numbers"),
        (never_written, "compressed or lacks numbers"),
    ):
        with h5py.File(preset / "model.weights.h5", "r+") as file:
            hostile(file)
        exchange(preset, "model.weights.h5", (preset / "model.weights.h5").read_bytes())
        with pytest.raises(PresetError, match=message):
            load_preset(preset)
        with h5py.File(preset / "model.weights.h5", "r+") as file:
            del file["deep" if "deep" in file else "zeros"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(preset, value):
    with h5py.File(preset / "model.weights.h5", "r+") as file:
        weights = []
        file.visititems(lambda name, item: weights.append(item) if isinstance(item, h5py.Dataset) else None)
        weights[-1][0] = value
    exchange(preset, "model.weights.h5", (preset / "model.weights.h5").read_bytes())
    refused(preset, "its weights are not finite")


def test_thirty_thousand_keypoints_take_no_time(preset):
    description = json.loads((preset / "preset.json").read_text())
    names = [f"left_{one}" for one in range(15_000)] + [f"right_{one}" for one in range(15_000)]
    skeleton = {
        "name": "many",
        "keypoints": names,
        "flip_pairs": list(zip(names[:15_000], names[15_000:], strict=True)),
    }
    (preset / "preset.json").write_text(json.dumps(description | {"skeleton": skeleton}))
    start = time.process_time()
    many = PresetFolder.open(preset).skeleton
    assert many.flip_permutation[0] == 15_000
    assert Skeleton.from_category({"keypoints": names}).flip_pairs == many.flip_pairs
    assert time.process_time() - start < 5


@pytest.mark.parametrize("what", ["method", "skeleton", "input_size"])
def test_a_description_without_what_each_preset_says(preset, what):
    description = json.loads((preset / "preset.json").read_text())
    del description[what]
    (preset / "preset.json").write_text(json.dumps(description))
    refused(preset, f"preset.json is damaged .'{what}'")


def test_a_keras_file_of_a_stranger(model, tmp_path):
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    config["config"]["graph"]["layers"][2]["config"]["padding"] = [[1 << 20, 0], [0, 0]]
    layer = next(one["config"] for one in config["config"]["graph"]["layers"] if one["class_name"] == "Conv2D")
    layer["filters"] = 1 << 24
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        for name, content in (members | {"config.json": json.dumps(config).encode()}).items():
            archive.writestr(name, content)
    with pytest.raises(PresetError, match="larger network than its weights"):
        from_preset(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(PresetError, match="is compressed, which no file of model.save is"):
        from_preset(tmp_path / "m.keras")
