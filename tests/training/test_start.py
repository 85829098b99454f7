"""What a recipe's run begins with, and whose boxes it validates on, through the command."""

import argparse
import hashlib
import json
import shutil

import numpy as np
import pytest
from golden_weights import golden_tensor
from torch_files import write_legacy
from validation_sets import write_validation_set

from keras_regpose import from_preset, training
from keras_regpose.cli import main
from keras_regpose.commands import train as command
from keras_regpose.convert import from_mmpose
from keras_regpose.data import Coco
from keras_regpose.datasets import DETECTIONS
from keras_regpose.evaluation.evaluate import evaluate

ROW = "mobilenetv2_rle_coco"


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """COCO's layout with drawn people, the same for both splits."""
    folder = tmp_path_factory.mktemp("coco")
    file = write_validation_set(ROW, folder)
    shutil.copy(file, file.with_name("person_keypoints_train2017.json"))
    shutil.copytree(folder / "val2017", folder / "train2017")
    return folder


def test_the_row_of_mobilenetv2_starts_from_mmposes_heatmap_model(coco, golden, tmp_path, monkeypatch):
    shapes = json.loads((golden / "models.json").read_text())[ROW]["state_dict"]
    tensors = {name: golden_tensor(name, tuple(shape)) for name, shape in shapes.items()}
    heatmaps = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    for name, shape in {"deconv_layers.0.weight": (1280, 8, 4, 4), "final_layer.weight": (17, 8, 1, 1)}.items():
        heatmaps[f"keypoint_head.{name}"] = golden_tensor(name, shape)
    file = write_legacy(tmp_path / "heatmaps.pth", {"meta": {"epoch": 210}, "state_dict": heatmaps})
    digits = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    file = file.rename(tmp_path / f"mobilenetv2_coco_256x192-{digits}_20200727.pth")

    def train(model, *data, **options):
        started.append(model)
        return {"loss": [0.0]}

    started = []
    monkeypatch.setattr(training, "train", train)
    arguments = ["train", "--recipe", ROW, "--data", str(coco), "--output", str(tmp_path / "run")]
    arguments += ["--input-size", "64x48", "--batch-size", "4", "--epochs", "1"]
    assert main([*arguments, "--start", str(file)]) == 0
    whole = from_mmpose(tensors, ROW)  # which the recorded outputs hold against MMPose
    backbone, (kernel, bias) = started[0].backbone.get_weights(), started[0].get_layer("coordinates").get_weights()
    assert len(backbone) == len(whole.backbone.get_weights()) == 260
    for ours, theirs in zip(backbone, whole.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not bias.any() and kernel.std() == pytest.approx(0.01, rel=0.05)  # MMPose's own start of a head


def test_the_row_of_mobilenetv2_says_where_its_start_is(coco, tmp_path, capsys):
    assert main(["train", "--recipe", ROW, "--data", str(coco), "--output", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "td-hm_mobilenetv2_8xb64-210e_coco-256x192" in error and "with --start FILE, or pass --from-random" in error


@pytest.mark.slow
def test_validation_takes_the_detectors_boxes_and_the_flip_test(coco, golden, tmp_path, caplog):
    config = json.loads((golden / "protocol.json").read_text())[ROW]
    assert config["flip_test"] and DETECTIONS.endswith(config["validation_boxes"])
    arguments = ["train", "--recipe", ROW, "--data", str(coco), "--preset", "mobilenetv2_rle_people"]
    arguments += ["--batch-size", "6", "--epochs", "1", "--learning-rate", "1e-6", "--output", str(tmp_path / "run")]
    assert main(arguments) == 0 and "annotated boxes" not in caplog.text
    history = (tmp_path / "run" / "history.csv").read_text().splitlines()
    figures = dict(zip(history[0].split(","), history[1].split(","), strict=True))
    model, boxes = from_preset(tmp_path / "run" / "best"), coco / DETECTIONS
    annotations, images = coco / "annotations" / "person_keypoints_val2017.json", coco / "val2017"
    published, annotated, plain = (
        evaluate(model, Coco(annotations, images, file), flip_test=flip)["AP"]
        for file, flip in ((boxes, True), (None, True), (boxes, False))
    )
    assert published not in (annotated, plain)
    assert float(figures["val_AP"]) == pytest.approx(published, abs=1e-6)


def test_without_the_detectors_boxes_validation_takes_annotated_ones_and_says_so(coco, tmp_path, caplog):
    def taken(*options, data=coco):
        caplog.clear()
        parser = argparse.ArgumentParser()
        command.add_options(parser)
        options = parser.parse_args(["--recipe", ROW, "--data", str(data), "--output", "unused", *options])
        people, validation = command._people(options, command._recipe(options))
        assert not people.detected
        return validation.detected, caplog.text

    assert taken() == (True, "") and taken("--no-detected-boxes") == (False, "")
    detected, said = taken("--limit", "6")
    assert not detected and "Validation has annotated boxes" in said and "--limit counts annotated people" in said
    shutil.copytree(coco, tmp_path / "bare", ignore=shutil.ignore_patterns("person_detection_results"))
    detected, said = taken(data=tmp_path / "bare")
    assert not detected and f"{tmp_path / 'bare' / DETECTIONS} is not there" in said
