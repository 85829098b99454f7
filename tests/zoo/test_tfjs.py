"""`read_tfjs`: nodes and arrays of files as the converter of TensorFlow.js writes them."""

import json

import numpy as np
import pytest
from tfjs import read_tfjs


def write(folder, content, *entries):
    """Writes a graph model with one file of weights."""
    (folder / "group1-shard1of1.bin").write_bytes(content)
    manifest = [{"paths": ["group1-shard1of1.bin"], "weights": list(entries)}]
    nodes = [{"name": "input", "op": "Placeholder"}]
    model = {"format": "graph-model", "modelTopology": {"node": nodes}, "weightsManifest": manifest}
    path = folder / "model.json"
    path.write_text(json.dumps(model))
    return path


def test_arrays_of_every_kind_are_read(tmp_path):
    half, byte = np.array([[0.5, -2.0]], "<f2"), np.array([0, 255], "u1")
    content = half.tobytes() + byte.tobytes() + np.array([7], "<i4").tobytes() + np.array([1.5], "<f4").tobytes()
    path = write(
        tmp_path,
        content,
        {"name": "half", "shape": [1, 2], "dtype": "float32", "quantization": {"dtype": "float16"}},
        {
            "name": "byte",
            "shape": [2],
            "dtype": "float32",
            "quantization": {"dtype": "uint8", "scale": 0.1, "min": -1.0},
        },
        {"name": "whole", "shape": [], "dtype": "int32"},
        {"name": "plain", "shape": [1], "dtype": "float32"},
    )
    nodes, weights = read_tfjs(path)
    assert nodes == [{"name": "input", "op": "Placeholder"}]
    assert weights["half"].tolist() == [[0.5, -2.0]] and weights["half"].dtype == np.float32
    np.testing.assert_allclose(weights["byte"], [-1, 24.5], rtol=1e-6)
    assert weights["whole"] == 7 and weights["whole"].dtype == np.int32
    assert weights["plain"].tolist() == [1.5]


def test_weights_that_are_cut_short_are_refused(tmp_path):
    path = write(tmp_path, b"\0\0", {"name": "plain", "shape": [3], "dtype": "float32"})
    with pytest.raises(ValueError, match="model.json is not a graph model of TensorFlow.js with its weights"):
        read_tfjs(path)


def test_other_files_are_refused_and_missing_ones_named(tmp_path):
    (tmp_path / "a.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="a.json is not a graph model"):
        read_tfjs(tmp_path / "a.json")
    path = write(tmp_path, b"", {"name": "plain", "shape": [0], "dtype": "float32"})
    (tmp_path / "group1-shard1of1.bin").unlink()
    with pytest.raises(FileNotFoundError, match="group1-shard1of1.bin"):
        read_tfjs(path)
