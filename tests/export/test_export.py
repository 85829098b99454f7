"""Exports give Keras's outputs in every format, say what they are, and refuse what is not whole."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from golden_weights import golden_tensor

import keras_regpose as rp
from keras_regpose.datasets import open_dataset
from keras_regpose.export import calibration_crops
from keras_regpose.export.formats import FORMATS
from keras_regpose.export.openvino import computes_bfloat16
from keras_regpose.export.sidecar import Deviation
from keras_regpose.presets import BUNDLED_PRESET
from keras_regpose.skeleton import SKELETONS

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
pytest.importorskip("ai_edge_litert")

SIZE = (64, 48)
SUFFIXES = {name: format.SUFFIX for name, format in FORMATS.items()}
CASES = [(name, precision) for name, format in FORMATS.items() for precision in format.PRECISIONS]
EXACT = [case for case in CASES if case[1] in ("float32", "float16")]
LOWER = [case for case in CASES if case not in EXACT]
# Medians in crop pixels. float32 is compared in crop units besides.
MEDIAN = {"float32": 5e-4, "float16": 0.25, "bfloat16": 0.25, "int8": 1.0}


@pytest.fixture(scope="module")
def model():
    return rp.from_preset("mobilenetv2_rle_lspet")


@pytest.fixture(scope="module")
def small_model():
    keras.utils.set_random_seed(0)
    return rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=SIZE)


@pytest.fixture(scope="module")
def crops(model):
    return calibration_crops(rp.data.Synthetic(24, seed=3), model.input_size)


@pytest.fixture(scope="module")
def exported(model, crops, tmp_path_factory):
    """format, precision → path, made once."""
    made = {}

    def export(format, precision="float32"):
        if (format, precision) not in made:
            path = tmp_path_factory.mktemp("export") / f"pose{SUFFIXES[format]}"
            calibration = crops[:16] if precision == "int8" else None
            made[format, precision] = path, model.export(path, format, precision, calibration, verbose=False)
        return made[format, precision]

    return export


@pytest.mark.parametrize(("format", "precision"), EXACT)
def test_exports_give_kerass_outputs_for_any_batch(format, precision, exported, model, crops):
    path, reported = exported(format, precision)
    fast = rp.load_exported(path, trust=True)
    assert (fast.format, fast.precision, fast.method) == (format, precision, "rle")
    assert (fast.skeleton, fast.input_size, fast.output_shape) == (model.skeleton, (160, 160), (None, 14, 4))
    expected, whole = model.predict_on_batch(crops), fast.predict_on_batch(crops)
    deviation = Deviation.between(whole, expected, (160, 160))
    assert deviation.median <= MEDIAN[precision] and deviation.sigma_median <= MEDIAN[precision]
    for count in (24, 1, 5):
        output = fast.predict_on_batch(crops[:count])
        assert output.shape == (count, 14, 4) and output.dtype == np.float32
        assert Deviation.between(output, whole[:count], (160, 160)).maximum <= 5e-3
        assert precision != "float32" or Deviation.between(output, expected[:count], (160, 160)).crop_units <= 1e-4
    assert fast.predict_on_batch(crops[:0]).shape == (0, 14, 4)
    assert reported.median <= MEDIAN[precision]
    if precision != "float32":
        assert reported.median > 1e-3  # the precision is what was asked for, not float32 once more


@pytest.fixture(scope="module")
def bundled_on_photographs(shared_data):
    """The bundled preset with photographs to calibrate on and to compare: drawn people are nothing that it knows."""
    lspet, model = shared_data / "lspet", rp.from_preset(BUNDLED_PRESET)
    return model, *(
        calibration_crops(rp.data.Lsp(lspet, split=split), model.input_size, count)
        for split, count in (("val", 128), ("test", 100))
    )


@pytest.fixture(scope="module")
def published_on_photographs(shared_data, golden):
    """The recorded MobileNetV2 at 256×192, whose weights the recording gave it, with people of COCO."""
    row = "mobilenetv2_rle_coco"
    shapes = json.loads((golden / "models.json").read_text())[row]["state_dict"].items()
    model = rp.convert.from_mmpose({key: golden_tensor(key, tuple(shape)) for key, shape in shapes}, row)
    coco = shared_data / "coco_mini"
    return model, *(calibration_crops(open_dataset("coco", coco, split), (256, 192), 48) for split in ("train", "val"))


@pytest.mark.slow
@pytest.mark.parametrize("network", ["bundled", "published"])
@pytest.mark.parametrize(("format", "precision"), LOWER)
def test_lower_precisions_move_keypoints_in_photographs_little(format, precision, network, request, tmp_path):
    model, calibration, crops = request.getfixturevalue(f"{network}_on_photographs")
    path = tmp_path / f"pose{SUFFIXES[format]}"
    model.export(path, format, precision, calibration, verbose=False)
    deviation = Deviation.between(
        rp.load_exported(path, trust=True).predict_on_batch(crops), model.predict_on_batch(crops), model.input_size
    )
    greatest = MEDIAN[precision] / (2 if (network, precision) == ("bundled", "int8") else 1)
    if precision == "bfloat16" and not computes_bfloat16():
        greatest = 0.3  # OpenVINO's emulation rounds after every layer; `auto` never takes it on such a processor
    assert 1e-3 < deviation.median <= greatest and deviation.sigma_median <= greatest


@pytest.mark.parametrize("format", SUFFIXES)
def test_estimates_are_those_of_the_model(format, exported, model):
    person = rp.data.Synthetic(1, seed=0)[0]
    fast = rp.load_exported(exported(format)[0], threads=1, trust=True)
    for flip_test in (False, True):
        people = fast.estimate(person.image, boxes=[person.box], flip_test=flip_test)
        expected = model.estimate(person.image, boxes=[person.box], flip_test=flip_test)
        np.testing.assert_allclose(people.keypoints, expected.keypoints, rtol=0, atol=0.05)
        np.testing.assert_allclose(people.sigmas, expected.sigmas, rtol=0, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("row", ["resnet50_rle_coco", "resnet50_wflw", "resnet50_onehand10k"])
def test_resnet50_in_every_format(row, tmp_path):
    info = rp.preset_info(row)
    keras.utils.set_random_seed(0)
    model = rp.PoseRegressor("resnet50", SKELETONS[info["skeleton"]], input_size=SIZE, method=info["method"])
    crops = calibration_crops(rp.data.Synthetic(5, seed=3), SIZE)
    expected = model.predict_on_batch(crops)
    for suffix in SUFFIXES.values():
        model.export(tmp_path / f"pose{suffix}", verbose=False)
        fast = rp.load_exported(tmp_path / f"pose{suffix}", trust=True)
        for count in (5, 1):
            np.testing.assert_allclose(fast.predict_on_batch(crops[:count]), expected[:count], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_models_without_sigmas_have_one_output(tmp_path):
    crops = calibration_crops(rp.data.Synthetic(5, seed=3), SIZE)
    model = rp.PoseRegressor("mobilenetv2_0.25", rp.LSP14, input_size=SIZE, method="deeppose")
    for suffix in SUFFIXES.values():
        deviation = model.export(tmp_path / f"pose{suffix}", verbose=False)
        output = rp.load_exported(tmp_path / f"pose{suffix}", trust=True).predict_on_batch(crops)
        np.testing.assert_allclose(output, model.predict_on_batch(crops), rtol=0, atol=1e-4)
        assert deviation.sigma_median is None


def test_a_model_trained_in_mixed_precision_is_exported_in_float32(tmp_path, small_model):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        mixed = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=SIZE)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    mixed.set_weights(small_model.get_weights())
    assert mixed.export(tmp_path / "pose.xml", verbose=False).crop_units < 1e-4
    crops = calibration_crops(rp.data.Synthetic(5, seed=3), SIZE)
    output = rp.load_exported(tmp_path / "pose.xml").predict_on_batch(crops)
    np.testing.assert_allclose(output, small_model.predict_on_batch(crops), rtol=0, atol=1e-4)


def test_the_sidecar_says_what_the_numbers_mean(small_model, tmp_path, caplog):
    with caplog.at_level("INFO", "keras_regpose"):
        deviation = small_model.export(tmp_path / "pose.xml", preset="mine")
    assert f"{tmp_path / 'pose.xml'}: {deviation}" in caplog.messages and "px (median)" in str(deviation)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["pose.bin", "pose.xml", "pose.xml.json"]
    sidecar = json.loads((tmp_path / "pose.xml.json").read_text())
    assert sidecar["skeleton"]["keypoints"] == list(rp.COCO17.keypoints)
    assert (sidecar["format"], sidecar["precision"], sidecar["method"]) == ("openvino", "float32", "rle")
    assert sidecar["input_size"] == [64, 48] and sidecar["preset"] == "mine"
    assert set(sidecar["outputs"]) == {"keypoints", "sigmas"} and "image" in sidecar["input"]
    assert sidecar["deviation"]["median"] == deviation.median


def test_the_file_has_the_names_that_the_sidecar_tells(exported):
    import onnxruntime
    import openvino

    session = onnxruntime.InferenceSession(exported("onnx")[0], providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["image"]
    assert [value.name for value in session.get_outputs()] == ["keypoints", "sigmas"]
    network = openvino.Core().read_model(exported("openvino")[0])
    assert network.input("image").get_partial_shape()[0].is_dynamic
    assert {*network.output("keypoints").get_names(), *network.output("sigmas").get_names()} >= {"keypoints", "sigmas"}


def test_convolutions_are_merged_with_their_padding_and_normalisation(exported):
    import onnx

    kinds = [node.op_type for node in onnx.load(exported("onnx")[0]).graph.node]
    assert kinds.count("Conv") == 52
    # One of each normalises the pixels; the other additions are the ten residual ones.
    assert (kinds.count("Pad"), kinds.count("Mul"), kinds.count("Add")) == (0, 1, 11)
    assert "BatchNormalization" not in kinds


def test_int8_rounds_pixels_once(exported):
    import onnx

    nodes = onnx.load(exported("onnx", "int8")[0]).graph.node
    (scaled,) = (node for node in nodes if node.op_type == "Mul")
    (shifted,) = (node for node in nodes if scaled.output[0] in node.input)
    assert shifted.op_type == "Add"
    assert not any(node.op_type == "QuantizeLinear" for node in nodes[: list(nodes).index(shifted)])


@pytest.mark.slow
def test_an_export_replaces_the_one_before(small_model, tmp_path):
    other = rp.PoseRegressor("mobilenetv2_0.25", rp.LSP14, input_size=SIZE)
    for name in ("pose.onnx", "pose"):
        small_model.export(tmp_path / name, verbose=False)
        other.export(tmp_path / name, verbose=False)
        assert rp.load_exported(tmp_path / name, trust=True).skeleton == rp.LSP14
    assert sorted(file.name for file in tmp_path.iterdir()) == ["pose", "pose.onnx", "pose.onnx.json"]


def test_a_wrong_export_is_not_written(small_model, tmp_path):
    broken = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=SIZE)
    broken.set_weights(small_model.get_weights())
    kernel, bias = broken.get_layer("coordinates").get_weights()
    broken.get_layer("coordinates").set_weights([kernel, bias + 1e6])  # more than float16 holds
    with pytest.raises(ValueError, match="would be of no use, so nothing was written: keypoints"):
        broken.export(tmp_path / "pose.onnx", precision="float16", verbose=False)
    broken.get_layer("coordinates").set_weights([kernel, bias * np.nan])
    with pytest.raises(ValueError, match="not finite, so nothing was written"):
        broken.export(tmp_path / "pose.onnx", verbose=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pose.pt", {}, r"The format follows from the name: .*Received: pose.pt"),
        ("pose.onnx", {"format": "coreml"}, "follows from the name: .*Received: pose.onnx and format='coreml'"),
        ("pose", {"format": "onnx"}, "follows from the name: .*Received: pose and format='onnx'"),
        ("pose.onnx", {"format": "tf_saved_model"}, r"or no suffix \(tf_saved_model, a folder\)"),
        ("pose.onnx", {"precision": "bfloat16"}, "one of float32, float16, int8 for onnx. Received: 'bfloat16'"),
        ("pose.onnx", {"precision": "int8"}, r"int8 needs calibration=, \(N, H, W, 3\) crops"),
        ("pose.onnx", {"calibration": np.zeros((2, 48, 64, 3), "uint8")}, r"Received: uint8 \(2, 48, 64, 3\)"),
        ("pose.onnx", {"calibration": np.zeros((2, 64, 48, 3), "float32")}, "Received: float32 "),
        ("pose.onnx", {"calibration": np.zeros((0, 64, 48, 3), "uint8")}, "calibration holds no crop"),
    ],
)
def test_what_cannot_be_exported_is_said(name, options, message, small_model, tmp_path):
    with pytest.raises(ValueError, match=message):
        small_model.export(tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_someone_elses_is_left_alone(small_model, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="photos exists and is not an export"):
        small_model.export(tmp_path / "photos")
    assert [file.name for file in tmp_path.rglob("*")] == ["photos", "mine.txt"]


def test_damaged_exports_are_refused(small_model, tmp_path):
    path = tmp_path / "pose.onnx"
    with pytest.raises(FileNotFoundError, match="There is no export at"):
        rp.load_exported(path, trust=True)
    small_model.export(path, verbose=False)
    whole, sidecar = path.read_bytes(), tmp_path / "pose.onnx.json"
    description = sidecar.read_text()
    for damaged in (whole[:-1], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="pose.onnx is missing, damaged or not the file that pose.onnx.json"):
            rp.load_exported(path, trust=True)
    path.write_bytes(whole)
    sidecar.write_text(description[:100])
    with pytest.raises(ValueError, match="pose.onnx.json is damaged"):
        rp.load_exported(path, trust=True)
    sidecar.write_text(description.replace('"version": 1', '"version": 2'))
    with pytest.raises(ValueError, match="Upgrade keras-regpose"):
        rp.load_exported(path, trust=True)
    sidecar.unlink()
    with pytest.raises(FileNotFoundError, match="needs pose.onnx.json, which is written with it"):
        rp.load_exported(path, trust=True)


def test_crops_of_another_shape_or_type_are_refused(exported, crops):
    fast = rp.load_exported(exported("openvino")[0])
    for wrong in (crops[0], crops.astype("float32"), crops[:, :, :40]):
        with pytest.raises(ValueError, match=r"crops must be uint8 \(B, H, W, 3\) of \(160, 160\)"):
            fast.predict_on_batch(wrong)
    with pytest.raises(ValueError, match="threads must be at least 1"):
        rp.load_exported(exported("openvino")[0], threads=0)


def test_running_an_export_needs_no_keras_and_its_package_is_named(exported):
    path = exported("openvino")[0]
    script = (
        f"import numpy, sys, keras_regpose as rp; rp.load_exported({str(path)!r})"
        ".estimate(numpy.zeros((80, 60, 3), 'uint8'), 'image');"
        " print('keras' in sys.modules, 'tensorflow' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
    script = f"import sys; sys.modules['openvino'] = None; import keras_regpose as rp; rp.load_exported({str(path)!r})"
    failed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "pip install 'keras-regpose[export]'" in failed.stderr.splitlines()[-1]


def test_deviations_are_distances_in_pixels():
    expected = np.full((5, 17, 4), 0.5)
    moved = expected.copy()
    moved[..., 0] += 3 / 48
    moved[..., 1] += 4 / 64
    moved[0, 0, 0] = 0.5 + 48 / 48
    moved[..., 3] -= 0.25
    deviation = Deviation.between(moved, expected, SIZE)
    assert deviation.median == pytest.approx(5) and deviation.p95 == pytest.approx(5)
    assert deviation.maximum == pytest.approx(np.hypot(48, 4)) and deviation.crop_units == pytest.approx(1)
    assert deviation.sigma_median == pytest.approx(8) and deviation.crops == 5  # half of 0 and 16


def test_the_command_exports_calibrated_int8(tmp_path, capsys):
    from keras_regpose.cli import main

    target = str(tmp_path / "pose.onnx")
    arguments = ["export", "mobilenetv2_rle_lspet", target, "--precision", "int8"]
    assert main(arguments) == 2
    assert "--dataset" in capsys.readouterr().err
    assert main([*arguments, "--dataset", "synthetic", "--people", "4"]) == 0
    assert "px (median)" in capsys.readouterr().out
    assert rp.load_exported(target).precision == "int8"
