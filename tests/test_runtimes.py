"""Presets in runtimes other than Keras: what comes with them, what is made once and kept, and what "auto" takes."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose import runtimes
from keras_regpose.export import onnx, runtime
from keras_regpose.export.exporter import calibration_crops
from keras_regpose.hub.preset_files import EXPORT, PresetError
from keras_regpose.images import save_picture
from keras_regpose.presets import BUNDLED, BUNDLED_PRESET

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runtimes") / "preset"
    tiny_model().save_to_preset(folder)
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_REGPOSE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(runtimes, "computes_bfloat16", lambda: False)  # the same on all processors
    return tmp_path / "home"


@pytest.fixture
def counted(monkeypatch):
    """The exports that are made."""
    made = []
    export = rp.PoseRegressor.export
    monkeypatch.setattr(
        rp.PoseRegressor, "export", lambda self, path, **options: made.append(path) or export(self, path, **options)
    )
    return made


def test_the_bundled_export_is_small_and_keeps_keypoints(counted):
    fast, model = rp.from_preset(BUNDLED_PRESET, runtime="onnx"), rp.from_preset(BUNDLED_PRESET)
    assert isinstance(fast, rp.export.ExportedPoseRegressor) and (fast.format, fast.precision) == ("onnx", "float16")
    assert (BUNDLED / BUNDLED_PRESET / f"{EXPORT}.onnx").stat().st_size < 6e6
    crops = calibration_crops(rp.data.Synthetic(24, seed=5), model.input_size)
    outputs = fast.predict_on_batch(crops), model.predict_on_batch(crops)
    deviation = rp.export.Deviation.between(*outputs, model.input_size)
    # Of a keypoint that may be in two places, the mean of both moves with the last digit of each.
    assert deviation.median < 0.01 and deviation.p95 < 0.2 and deviation.sigma_median < 0.01
    person = rp.data.Synthetic(1, seed=7)[0]
    ours, theirs = (one.estimate(person.image, boxes=[person.box]) for one in (fast, model))
    np.testing.assert_allclose(ours.keypoints, theirs.keypoints, atol=0.2)
    assert ours.skeleton == theirs.skeleton and not counted


@pytest.mark.parametrize("name", runtimes.RUNTIMES)
def test_an_export_is_made_once_and_kept(name, preset, counted, home, caplog):
    caplog.set_level(logging.INFO, "keras_regpose")
    first = rp.from_preset(preset, runtime=name)
    (kept,) = (home / "exports").iterdir()
    assert kept.name.endswith("-float32") and f"-{rp.__version__}-{name}-" in kept.name
    crops = np.random.default_rng(0).integers(0, 255, (2, *first.input_size, 3), np.uint8)
    expected = np.asarray(rp.from_preset(preset).predict_on_batch(crops))
    np.testing.assert_allclose(first.predict_on_batch(crops), expected, atol=1e-4)
    again = rp.from_preset(preset, runtime=name)
    np.testing.assert_array_equal(again.predict_on_batch(crops), first.predict_on_batch(crops))
    assert len(counted) == 1
    (damaged,) = [file for file in kept.iterdir() if file.suffix in (".onnx", ".bin", ".tflite")]
    content = damaged.read_bytes()
    damaged.unlink()  # OpenVINO has mapped it into memory
    damaged.write_bytes(content[:-9])
    np.testing.assert_array_equal(
        rp.from_preset(preset, runtime=name).predict_on_batch(crops), first.predict_on_batch(crops)
    )
    assert len(counted) == 2
    assert f"Making the {name} export of preset in float32, once" in caplog.text
    assert f"preset runs in {name}, float32" in caplog.text


def test_other_weights_and_another_precision_are_other_exports(preset, counted, tmp_path, home):
    rp.from_preset(preset, runtime="onnx")
    half = rp.from_preset(preset, runtime="onnx", precision="float16")
    assert half.precision == "float16"
    model = rp.from_preset(preset)
    model.get_layer("first").set_weights([weight + 0.1 for weight in model.get_layer("first").get_weights()])
    model.save_to_preset(tmp_path / "other")
    rp.from_preset(tmp_path / "other", runtime="onnx")
    assert len(counted) == len(list((home / "exports").iterdir())) == 3


def test_two_processes_at_once_make_one_export(preset, home):
    script = (
        "import sys, logging, keras_regpose as rp; logging.basicConfig(level=logging.WARNING);"
        "print(rp.from_preset(sys.argv[1], runtime='openvino').predict_on_batch"
        "(__import__('numpy').full((1, 64, 48, 3), 99, 'uint8')).tobytes().hex())"
    )
    command = [sys.executable, "-c", script, str(preset)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert sum("Making the openvino export" in messages for _, messages in answers) == 1


def test_a_preset_brings_its_export_along(preset, counted, tmp_path):
    rp.from_preset(preset).save_to_preset(tmp_path / "ready", onnx=True)
    assert len(counted) == 1
    listed = json.loads((tmp_path / "ready" / "preset.json").read_text())["checksums"]
    assert {f"{EXPORT}.onnx", f"{EXPORT}.onnx.json"} <= set(listed)
    assert rp.from_preset(tmp_path / "ready", runtime="onnx").precision == "float16"
    assert rp.from_preset(tmp_path / "ready", runtime="onnx", precision="float32").precision == "float32"
    assert len(counted) == 2
    (tmp_path / "ready" / f"{EXPORT}.onnx").write_bytes(b"another model")
    with pytest.raises(PresetError, match="is damaged: exports/pose.onnx differ"):
        rp.from_preset(tmp_path / "ready", runtime="onnx")


def test_auto_takes_the_fastest_that_is_there(preset, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "keras_regpose")
    assert rp.from_preset(preset, runtime="auto").format == "onnx"
    assert rp.from_preset(BUNDLED_PRESET, runtime="auto").precision == "float16"
    imported = runtimes.import_optional

    def without(*missing):
        def import_optional(module, needed_for):
            if module in missing:
                raise ImportError(f"{needed_for} needs {module}")
            return imported(module, needed_for)

        monkeypatch.setattr(runtimes, "import_optional", import_optional)

    without("onnxruntime", "ai_edge_litert")
    assert rp.from_preset(preset, runtime="auto").format == "openvino"
    without("onnxruntime", "ai_edge_litert", "openvino")
    assert isinstance(rp.from_preset(preset, runtime="auto"), rp.PoseRegressor)
    assert "preset runs in Keras: it has no export" in caplog.text
    with pytest.raises(ImportError, match="runtime='onnx' needs onnxruntime"):
        rp.from_preset(preset, runtime="onnx")


def test_bfloat16_where_the_processor_has_it(preset, monkeypatch, caplog):
    assert rp.from_preset(preset, runtime="openvino").precision == "float32"
    monkeypatch.setattr(runtime, "computes_bfloat16", lambda: False)
    assert rp.from_preset(preset, runtime="openvino", precision="bfloat16").precision == "bfloat16"
    assert "does not say that it computes in bfloat16: float32 is likely to be faster" in caplog.text
    monkeypatch.setattr(runtimes, "computes_bfloat16", lambda: True)
    assert rp.from_preset(preset, runtime="auto").precision == "bfloat16"
    assert rp.from_preset(preset, runtime="onnx").precision == "float32"


def test_bad_arguments(preset, tmp_path, monkeypatch):
    for sentence, options in {
        "runtime must be one of onnx, litert, openvino, auto. Received: 'tensorrt'": {"runtime": "tensorrt"},
        "auto has no precision 'int8' for presets; for int8, which is calibrated": {
            "runtime": "auto",
            "precision": "int8",
        },
        "openvino has no precision 'float16'": {
            "runtime": "openvino",
            "precision": "float16",
        },
        "goes with runtime=": {"precision": "float16"},
        "runs a preset as it is": {"runtime": "onnx", "skeleton": rp.LSP14},
    }.items():
        with pytest.raises(ValueError, match=sentence):
            rp.from_preset(preset, **options)
    with pytest.raises(ValueError, match="runs a preset as it is"):
        rp.from_preset(tmp_path / "m.keras", runtime="onnx")

    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_REGPOSE_HOME", str(tmp_path / "file"))
    with pytest.raises(OSError, match="cannot be made: set KERAS_REGPOSE_HOME to a folder that can"):
        rp.from_preset(preset, runtime="onnx")


def test_large_weights_alone_are_rounded(preset, tmp_path, monkeypatch):
    import onnx as onnx_package

    def kinds(path):
        graph = onnx_package.load(path).graph
        return {constant.data_type for constant in graph.initializer if np.prod(constant.dims) > 100}

    model = rp.from_preset(preset)
    model.export(tmp_path / "plain.onnx", precision="float16", verbose=False)
    assert kinds(tmp_path / "plain.onnx") == {onnx_package.TensorProto.FLOAT}
    monkeypatch.setattr(onnx, "_LARGE", 100)
    model.export(tmp_path / "half.onnx", precision="float16", verbose=False)
    assert kinds(tmp_path / "half.onnx") == {onnx_package.TensorProto.FLOAT16}


def test_the_bundled_preset_runs_without_keras(tmp_path):
    script = (
        "import sys, numpy, keras_regpose as rp;"
        "rp.from_preset('mobilenetv2_rle_people', runtime='auto').estimate(numpy.zeros((80, 60, 3), 'uint8'), "
        "boxes=[[5, 5, 50, 70]]);"
        "print(*[name for name in ('keras', 'tensorflow', 'h5py', 'scipy', 'huggingface_hub') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert result.stdout.split() == []


def test_predict_runs_without_keras(tmp_path):
    save_picture(tmp_path / "photo.png", rp.data.Synthetic(1, seed=0)[0].image)
    script = "import sys; from keras_regpose.cli import main; status = main(sys.argv[1:]); "
    script += "print([name for name in ('keras', 'tensorflow', 'scipy') if name in sys.modules]); sys.exit(status)"
    command = [sys.executable, "-c", script, "predict", "photo.png", "--box", "20,20,90,100"]
    result = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "[]"
    assert result.stderr.splitlines() == ["mobilenetv2_rle_people runs in onnx, float16"]
    assert Path(tmp_path / "poses" / "photo.png").is_file()
