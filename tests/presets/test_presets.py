"""Preset directories: the round trip, other skeletons, and damaged ones."""

import json
import logging
from pathlib import Path

import h5py
import numpy as np
import pytest
from bundle import halve

from keras_regpose import COCO17, LSP14, from_preset
from keras_regpose.hub import preset_files
from keras_regpose.hub.preset_files import PresetError, PresetFolder, save_preset
from keras_regpose.loading import load_preset

CROPS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")


def test_the_directory_holds_what_the_format_says(preset):
    names = {path.name for path in preset.iterdir()}
    assert names >= {"config.json", "metadata.json", "model.weights.h5", "preset.json", "flow.weights.h5"}
    description = json.loads((preset / "preset.json").read_text())
    assert description["format"] == 1 and description["input_size"] == [32, 32]
    assert "keras_regpose" not in (preset / "config.json").read_text()
    assert not list(preset.parent.glob(".*"))


def test_half_precision_halves_the_file_and_moves_keypoints_little(model, preset, tmp_path):
    save_preset(model, tmp_path / "half")
    halve(tmp_path / "half")
    sizes = [(folder / "model.weights.h5").stat().st_size for folder in (preset, tmp_path / "half")]
    assert sizes[1] < 0.75 * sizes[0]
    half = load_preset(tmp_path / "half")
    assert {str(weight.dtype) for weight in half.weights} == {"float32"}
    np.testing.assert_allclose(half.predict(CROPS, verbose=0), model.predict(CROPS, verbose=0), atol=2e-3)


def test_what_was_frozen_in_training_trains_again(model, tmp_path):
    frozen = model.layers[3:6]
    for layer in frozen:
        layer.trainable = False
    try:
        save_preset(model, tmp_path / "frozen")
        loaded = load_preset(tmp_path / "frozen")
        assert all(layer.trainable for layer in loaded.layers)
        np.testing.assert_array_equal(loaded.predict_on_batch(CROPS), model.predict_on_batch(CROPS))
        assert not any(layer.trainable for layer in frozen)
    finally:
        for layer in frozen:
            layer.trainable = True


def test_another_skeleton_keeps_the_backbone_and_says_so(model, preset, caplog):
    with caplog.at_level(logging.WARNING):
        other = from_preset(preset, skeleton=LSP14)
    assert "Kept the backbone" in caplog.text and "14 keypoints" in caplog.text
    np.testing.assert_array_equal(other.backbone.predict(CROPS, verbose=0), model.backbone.predict(CROPS, verbose=0))
    assert other.output_shape == (None, 14, 4)
    caplog.clear()
    assert from_preset(preset, skeleton=COCO17).output_shape == (None, 17, 4)
    assert caplog.text == ""


def test_the_precision_can_be_chosen(model, preset):
    half = from_preset(preset, dtype="mixed_bfloat16")
    assert half.get_layer("layer3_0_project").compute_dtype == "bfloat16"
    difference = np.abs(half.predict_on_batch(CROPS) - model.predict_on_batch(CROPS)).max()
    assert 0 < difference < 0.1  # of a crop; random weights spread predictions over half of it


def test_saving_again_replaces_a_preset_but_nothing_else(model, preset, tmp_path):
    save_preset(model, preset, note="second")
    assert json.loads((preset / "preset.json").read_text())["note"] == "second"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(PresetError, match="is not a preset"):
        save_preset(model, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def damage(preset, name, content):
    (preset / name).write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda p: (p / "model.weights.h5").unlink(), "lacks model.weights.h5"),
        (lambda p: (p / "flow.weights.h5").unlink(), "lacks flow.weights.h5"),
        (lambda p: damage(p, "preset.json", b"{"), "preset.json is damaged"),
        (lambda p: damage(p, "preset.json", b"[]"), "preset.json is damaged"),
        (lambda p: damage(p, "preset.json", b'{"format": 1, "method": "rle", "skeleton": {}}'), "preset.json is"),
        (lambda p: damage(p, "model.weights.h5", (p / "model.weights.h5").read_bytes()[:5000]), "is damaged"),
        (lambda p: damage(p, "config.json", b"{}"), "is damaged"),
    ],
)
def test_damage_is_named(preset, harm, message):
    harm(preset)
    with pytest.raises(PresetError, match=message):
        load_preset(preset)


def test_a_newer_format_asks_for_an_upgrade(preset):
    description = json.loads((preset / "preset.json").read_text())
    damage(preset, "preset.json", json.dumps({**description, "format": 2}).encode())
    with pytest.raises(PresetError, match="Upgrade keras-regpose"):
        load_preset(preset)


def test_a_graph_of_another_shape_is_refused(preset, tmp_path):
    description = json.loads((preset / "preset.json").read_text())
    damage(preset, "preset.json", json.dumps({**description, "skeleton": LSP14.to_dict()}).encode())
    with pytest.raises(PresetError, match="14 keypoints"):
        load_preset(preset)


def test_every_weight_is_stored_in_half_precision(model, tmp_path):
    save_preset(model, tmp_path / "half")
    halve(tmp_path / "half")
    with h5py.File(tmp_path / "half" / "model.weights.h5") as file:
        kinds = set()
        file.visititems(lambda name, item: kinds.add(item.dtype) if isinstance(item, h5py.Dataset) else None)
    assert kinds == {np.dtype("float16")}


def test_checksums_find_what_nothing_else_would(preset):
    with h5py.File(preset / "model.weights.h5", "r+") as file:
        weights = []
        file.visititems(lambda name, item: weights.append(item) if isinstance(item, h5py.Dataset) else None)
        weights[0][...] = weights[0][...] + 1e-3
    with pytest.raises(PresetError, match="is damaged: model.weights.h5 differ from the SHA-256 in preset.json"):
        load_preset(preset)
    assert load_preset(preset, verify=False).output_shape == (None, 17, 4)


def test_a_preset_without_checksums_is_of_an_older_version(preset):
    description = json.loads((preset / "preset.json").read_text())
    assert sorted(description.pop("checksums")) == sorted(
        ["config.json", "metadata.json", "model.weights.h5", "flow.weights.h5"]
    )
    damage(preset, "preset.json", json.dumps(description).encode())
    assert load_preset(preset).output_shape == (None, 17, 4)


def test_the_architecture_alone(model, preset):
    (preset / "model.weights.h5").write_bytes(b"")
    random = load_preset(preset, load_weights=False, verify=False)
    assert random.output_shape == model.output_shape
    assert [w.shape for w in random.get_weights()] == [w.shape for w in model.get_weights()]


def test_missing_names_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="no preset at"):
        from_preset(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="no preset at org/name: .* One of the Hub is written hf://org/name"):
        from_preset("org/name")
    with pytest.raises(ValueError, match="Did you mean"):
        from_preset("resnet50_rle_cocoo")


@pytest.mark.parametrize("way", ["folder", "bundled", "hub", "cached"])
def test_a_preset_is_opened_and_hashed_once_for_each_load(way, preset, preset_bytes, hub, monkeypatch):
    hub.upload("org/pose", preset_bytes)
    name = {"folder": preset, "bundled": "mobilenetv2_rle_lspet"}.get(way, "hf://org/pose")
    if way == "cached":
        from_preset(name)
    opened, hashed = [], []
    read, digest = PresetFolder.open.__func__, preset_files.sha256
    monkeypatch.setattr(
        PresetFolder,
        "open",
        classmethod(lambda cls, path, **options: opened.append(path) or read(cls, path, **options)),
    )
    monkeypatch.setattr(preset_files, "sha256", lambda path: hashed.append(Path(path).name) or digest(path))
    from_preset(name)
    assert len(opened) == 1
    ready = {"pose.onnx", "pose.onnx.json"} if way == "bundled" else set()
    assert sorted(hashed) == sorted((set(preset_bytes) | ready) - {"preset.json"})
