"""Exports from strangers: the name says what opens a file, outputs go by their names, and no program runs."""

import json
import shutil

import numpy as np
import pytest
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose.files import sha256

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
CROPS = np.full((3, 64, 48, 3), 128, np.uint8)


def describe(path, **changes):
    """Writes a sidecar, as whoever made the file can."""
    content = {"version": 1, "format": "onnx", "precision": "float32", "method": "rle", "input_size": [64, 48]}
    content |= {"skeleton": rp.COCO17.to_dict(), "files": {path.name: [path.stat().st_size, sha256(path)]}}
    path.with_name(f"{path.name}.json").write_text(json.dumps(content | changes))
    return path


def write_onnx(path, outputs=("keypoints", "sigmas"), keypoints=17, value=1.0, **changes):
    """Writes a file whose outputs are the mean of the pixels, times a factor that differs."""
    helper, kind = onnx.helper, onnx.TensorProto
    nodes = [helper.make_node("Cast", ["image"], ["pixels"], to=kind.FLOAT)]
    nodes += [helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=1)]
    nodes += [helper.make_node("ReduceMean", ["mean"], ["one"], axes=[3], keepdims=0)]
    factors = [np.full((1, keypoints, 2), factor * value, np.float32) for factor in (1 / 256, 1 / 512)]
    nodes += [helper.make_node("Mul", ["one", f"by_{name}"], [name]) for name in outputs]
    constants = [
        onnx.numpy_helper.from_array(factor, f"by_{name}") for factor, name in zip(factors, outputs, strict=False)
    ]
    image = helper.make_tensor_value_info("image", kind.UINT8, ("B", 64, 48, 3))
    given = [helper.make_tensor_value_info(name, kind.FLOAT, ("B", keypoints, 2)) for name in outputs]
    graph = helper.make_graph(nodes, "pose", [image], given, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return describe(path, **changes)


def test_outputs_go_by_their_names(tmp_path):
    expected = np.repeat([[[0.5, 0.5, 0.25, 0.25]]], 17, 1)
    fast = rp.load_exported(write_onnx(tmp_path / "a.onnx"))
    np.testing.assert_allclose(fast.predict_on_batch(CROPS), np.repeat(expected, 3, 0))
    fast = rp.load_exported(write_onnx(tmp_path / "b.onnx", ("sigmas", "keypoints")))  # the other way round
    np.testing.assert_allclose(fast.predict_on_batch(CROPS), np.repeat(expected[..., [2, 3, 0, 1]], 3, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": ("keypoints",)}, "'sigmas'"),
        ({"outputs": ("x", "y")}, "'keypoints'"),
        ({"keypoints": 16}, r"it gives outputs of shape \[\(3, 16, 2\), \(3, 16, 2\)\]"),
    ],
)
def test_outputs_that_the_sidecar_does_not_describe(options, message, tmp_path):
    fast = rp.load_exported(write_onnx(tmp_path / "pose.onnx", **options))
    with pytest.raises(ValueError, match=rf"pose.onnx is damaged \({message}\). Export the model again"):
        fast.predict_on_batch(CROPS)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_outputs_that_are_not_finite(value, tmp_path):
    fast = rp.load_exported(write_onnx(tmp_path / "pose.onnx", value=value))
    with pytest.raises(ValueError, match="The model gives values that are not finite"):
        fast.estimate(np.full((80, 60, 3), 255, np.uint8), [[5, 5, 50, 70]])


def test_a_program_needs_a_word(tmp_path):
    tiny_model().export(tmp_path / "pose", verbose=False)
    with pytest.raises(ValueError, match="pose is a program of TensorFlow: pass trust=True"):
        rp.load_exported(tmp_path / "pose")
    assert rp.load_exported(tmp_path / "pose", trust=True).predict_on_batch(CROPS).shape == (3, 17, 4)
    # A folder that is called like a file, and a file that is not listed.
    for name in ("evil.onnx", "evil.tflite", "evil.xml"):
        shutil.copytree(tmp_path / "pose", tmp_path / name)
        content = json.loads((tmp_path / "pose" / "keras_regpose.json").read_text()) | {"files": {}}
        for format in ("tf_saved_model", "onnx"):
            (tmp_path / f"{name}.json").write_text(json.dumps(content | {"format": format}))
            with pytest.raises(ValueError, match=rf"{name} is no export in the format of its name"):
                rp.load_exported(tmp_path / name)
    (tmp_path / "pose" / "keras_regpose.json").write_text(json.dumps(content | {"format": "tf_saved_model"}))
    with pytest.raises(ValueError, match="saved_model.pb is missing, damaged or not the file that"):
        rp.load_exported(tmp_path / "pose", trust=True)


def test_a_file_that_is_not_listed(tmp_path):
    write_onnx(tmp_path / "pose.onnx", files={})
    with pytest.raises(ValueError, match="pose.onnx is missing, damaged or not the file that pose.onnx.json describes"):
        rp.load_exported(tmp_path / "pose.onnx")


@pytest.mark.parametrize(
    "changes",
    [
        {"files": 5},
        {"files": {"pose.onnx": 5}},
        {"files": [["pose.onnx"]]},
        {"input_size": [0, 48]},
        {"input_size": 64},
        {"input_size": [10**400, 48]},
        {"skeleton": {"name": "x", "keypoints": 7}},
        {"skeleton": {"name": "x", "keypoints": ["a"], "sigmas": [10**400]}},
        {"skeleton": {"name": "x", "keypoints": ["a"], "edges": 5}},
        {"method": []},
        {"precision": "float8"},
        {"format": ["onnx"]},
    ],
)
def test_sidecars_that_are_none(changes, tmp_path):
    path = write_onnx(tmp_path / "pose.onnx", **changes)
    with pytest.raises(ValueError, match="pose.onnx") as told:
        rp.load_exported(path)
    assert len(str(told.value)) < 600 and "\n" not in str(told.value)


def test_a_sidecar_that_nests_without_end(tmp_path):
    write_onnx(tmp_path / "pose.onnx").with_name("pose.onnx.json").write_text('{"a":' * 100_000)
    with pytest.raises(ValueError, match="pose.onnx.json is damaged .*is not valid JSON"):
        rp.load_exported(tmp_path / "pose.onnx")


@pytest.mark.parametrize("name", ["pose.onnx", "pose.tflite", "pose.xml"])
def test_bytes_that_no_runtime_reads(name, tmp_path):
    pytest.importorskip({"pose.tflite": "ai_edge_litert", "pose.xml": "openvino"}.get(name, "onnx"))
    (tmp_path / name).write_bytes(b"what is this?" * 100)
    kind = {"pose.tflite": "litert", "pose.xml": "openvino"}.get(name, "onnx")
    with pytest.raises(ValueError, match=rf"{name} is damaged \(.*\). Export the model again") as told:
        rp.load_exported(describe(tmp_path / name, format=kind))
    assert "\n" not in str(told.value)
