"""`zoo/build.py`: presets of stand-ins of the official checkpoints, evaluated on a few people, published."""

import hashlib
import json
import shutil

import build
import cards
import keras
import numpy as np
import pytest
import scipy.io
from golden_weights import golden_tensor
from huggingface_hub import ModelCard
from stand_ins import publish, stand_in

from keras_regpose import from_preset, preset_info
from keras_regpose.data import Coco
from keras_regpose.evaluation.evaluate import evaluate
from keras_regpose.zoo import read_results

COCO_ROW, MPII_ROW, BUNDLED, ABSENT = "mobilenetv2_rle_coco", "resnet50_mpii", "mobilenetv2_rle_lspet", "resnet50_coco"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return stand_in(COCO_ROW, tmp_path_factory.mktemp("checkpoint"), golden_tensor)


@pytest.fixture
def coco(shared_data, tmp_path):
    """COCO's layout with the four images of MMPose's tests, and the detections of their people."""
    source, root = shared_data / "mmpose_testdata" / "coco", tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").symlink_to(source)
    shutil.copy(source / "test_coco.json", root / "annotations" / "person_keypoints_val2017.json")
    (root / build.DETECTIONS).parent.mkdir()
    detections = json.loads((source / "test_coco_det_AP_H_56.json").read_text())
    (root / build.DETECTIONS).write_text(json.dumps([box for box in detections if box["score"] > 0.5]))
    return root


def requests(server):
    return [f"{method} {path}" for method, path, _ in server.log]


def test_one_command_builds_checks_evaluates_and_publishes(
    checkpoint, hub, files, owner, coco, tmp_path, monkeypatch, capsys
):
    publish(monkeypatch, files, COCO_ROW, checkpoint)
    output = tmp_path / "out"
    command = ["--presets", ABSENT, COCO_ROW, BUNDLED, "--coco", str(coco), "--publish", "org"]
    command += ["--output", str(output)]
    assert build.main(command) == 1  # the row whose checkpoint is not there, which did not stop the others
    captured = capsys.readouterr()
    assert captured.out.startswith(f"[1/3] {ABSENT}\n[2/3] {COCO_ROW}\n  checked: 2.3 M parameters")
    assert f"2 of 3 rows are in {output}" in captured.out
    assert "  failed: There is no http" in captured.err and f"Failed: {ABSENT}. The same command" in captured.err
    assert not (output / ABSENT).exists()

    model = from_preset(output / COCO_ROW)
    detected, annotated = read_results(output / COCO_ROW)["evaluations"]
    assert detected["boxes"] == "detections of COCO_val2017_detections_AP_H_56_person.json"
    assert (annotated["boxes"], annotated["images"], annotated["people"]) == ("annotated", 4, 12)
    assert detected["data"] == "COCO val2017" and detected["people"] == 18 and detected["flip_test"]
    samples = Coco(coco / "annotations" / "person_keypoints_val2017.json", coco / "val2017")
    figures = evaluate(model, samples, flip_test=True)
    assert annotated["metrics"] == {name: pytest.approx(value, abs=1e-6) for name, value in figures.items()}

    card = ModelCard.load(output / COCO_ROW / "README.md")
    assert f'from_preset("hf://org/{COCO_ROW}")' in card.content
    assert f"COCO val2017: {detected['people']} people in 4 images" in card.content
    sent = hub.files(f"org/{COCO_ROW}")
    kept = {path.name: path.read_bytes() for path in (output / COCO_ROW).iterdir() if path.is_file()}
    assert {name: sent[name] for name in kept} == kept and {"results.json", "keypoints.jpg"} <= set(kept)
    (commit,) = hub.repositories[f"org/{COCO_ROW}"].tags.values()
    digest = hashlib.sha256(kept["preset.json"]).hexdigest()
    pin = f'hub = {{ repo = "org/{COCO_ROW}", revision = "{commit}", sha256 = "{digest}" }}'
    assert f"  published as hf://org/{COCO_ROW}@v1; in facts.toml: {pin}\n" in captured.out
    crops = np.zeros((1, 256, 192, 3), "uint8")
    theirs = keras.saving.load_model(f"hf://org/{COCO_ROW}").predict(crops, verbose=0)
    np.testing.assert_allclose(theirs, model.predict(crops, verbose=0), rtol=0, atol=1e-5)
    assert "PCK@0.2" in hub.files(f"org/{BUNDLED}")["README.md"].decode()

    # The same command again does nothing that was done, and goes on with what failed.
    monkeypatch.setattr(build, "predict_samples", lambda *arguments, **options: pytest.fail("evaluated again"))
    hub.log.clear()
    files.log.clear()
    assert build.main(command) == 1
    assert [request.rsplit("/", 1)[1] for request in requests(files)] == [
        preset_info(ABSENT)["checkpoint"]["url"].rsplit("/", 1)[1]
    ]
    assert not [request for request in requests(hub) if request.startswith("PUT")]
    assert list(hub.repositories[f"org/{COCO_ROW}"].tags) == ["v1"]
    assert {path.name: path.read_bytes() for path in (output / COCO_ROW).iterdir() if path.is_file()} == kept


@pytest.mark.slow
def test_a_build_that_was_interrupted_goes_on(checkpoint, files, coco, tmp_path, monkeypatch, capsys):
    publish(monkeypatch, files, COCO_ROW, checkpoint)
    command = ["--presets", COCO_ROW, "--coco", str(coco), "--output", str(tmp_path / "out")]
    predict, calls = build.predict_samples, []

    def interrupted(model, samples, **options):
        calls.append(len(samples))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return predict(model, samples, **options)

    monkeypatch.setattr(build, "predict_samples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build.main(command)
    assert not (tmp_path / "out" / COCO_ROW / "README.md").exists()
    assert build.main(command) == 0
    assert len(calls) == 3 and calls[1] == calls[2] == 12
    assert len(read_results(tmp_path / "out" / COCO_ROW)["evaluations"]) == 2 and len(files.log) == 1
    assert (tmp_path / "out" / COCO_ROW / "README.md").is_file()


@pytest.mark.slow
def test_rows_of_mpii(hub, files, shared_data, tmp_path, monkeypatch, capsys):
    publish(monkeypatch, files, MPII_ROW, stand_in(MPII_ROW, tmp_path, golden_tensor))
    source, root = shared_data / "mmpose_testdata" / "mpii", tmp_path / "mpii"
    (root / "annotations").mkdir(parents=True)
    (root / "images").symlink_to(source)
    records = json.loads((source / "test_mpii.json").read_text())
    (root / "annotations" / "mpii_val.json").write_text(json.dumps(records))
    boxes = np.tile(np.array([[0.0, 0.0], [300.0, 400.0]])[..., None], (1, 1, len(records)))
    scipy.io.savemat(root / "annotations" / "mpii_gt_val.mat", {"headboxes_src": boxes})
    assert build.main(["--presets", MPII_ROW, "--mpii", str(root), "--output", str(tmp_path / "out")]) == 0
    (entry,) = read_results(tmp_path / "out" / MPII_ROW)["evaluations"]
    assert (entry["data"], entry["boxes"], entry["people"]) == ("MPII val", "annotated centre and scale", len(records))
    assert set(entry["metrics"]) == {"PCKh@0.5", "PCKh@0.1"} and 0 < entry["metrics"]["PCKh@0.5"] <= 1
    assert f"PCKh@0.5 {entry['metrics']['PCKh@0.5']:.3f}" in capsys.readouterr().out
    assert hub.log == []  # made from the checkpoint, and not published


def test_what_is_wrong_with_a_preset_is_told(checkpoint, files, tmp_path, monkeypatch, capsys):
    publish(monkeypatch, files, COCO_ROW, checkpoint)
    command = ["--presets", COCO_ROW, "--output", str(tmp_path / "out")]
    monkeypatch.setattr(build, "load_preset", lambda folder: from_preset(BUNDLED))
    assert build.main(command) == 1
    assert f"is another model than {COCO_ROW}: ('rle', 'lsp14', [160, 160]" in capsys.readouterr().err
    monkeypatch.undo()
    description = tmp_path / "out" / COCO_ROW / "preset.json"
    other = json.loads(description.read_text())
    other["origin"]["sha256_prefix"] = "00000000"
    description.write_text(json.dumps(other))
    monkeypatch.setenv("KERAS_REGPOSE_HOME", str(tmp_path / "home"))
    assert build.main(command) == 1
    assert "was made from another checkpoint. Remove it" in capsys.readouterr().err


def test_bad_input_stops_before_anything_is_built(files, tmp_path, capsys):
    cases = {
        "There is no preset 'resnet51'": ["--presets", "resnet51"],
        "There is no folder": ["--coco", str(tmp_path / "nowhere")],
        "mpii_val.json": ["--mpii", str(tmp_path)],
    }
    for message, options in cases.items():
        assert build.main([*options, "--output", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    assert files.log == [] and not (tmp_path / "out").exists()


@pytest.mark.parametrize("script", [build, cards])
def test_help_shows_an_example(script, capsys):
    with pytest.raises(SystemExit) as exit_info:
        script.main(["--help"])
    assert exit_info.value.code == 0
    assert f"python zoo/{script.__name__}.py --" in capsys.readouterr().out
