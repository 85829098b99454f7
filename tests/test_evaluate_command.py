"""The evaluate command compares σ with errors, in words, numbers and a picture."""

import cv2
import pytest

import keras_regpose as rp
from keras_regpose.cli import main

DATA = ["--dataset", "synthetic", "--count", "8"]


def preset(path, method):
    rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48), method=method).save_to_preset(path)
    return str(path)


def test_calibration_is_printed_and_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    target = tmp_path / "new" / "calibration.png"
    assert main(["evaluate", preset(tmp_path / "rle", "rle"), *DATA, "--calibration", str(target)]) == 0
    printed = capsys.readouterr().out
    for words in ("coordinates against their errors", "mean |error| / σ", "coverage error", "rank correlation"):
        assert words in printed
    assert cv2.imread(str(target)).shape == (720, 1500, 3)


def test_models_without_sigmas_have_nothing_to_calibrate(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    target = tmp_path / "calibration.png"
    assert main(["evaluate", preset(tmp_path / "plain", "deeppose"), *DATA, "--calibration", str(target)]) == 2
    assert "--calibration needs a model with σ" in capsys.readouterr().err
    assert not target.exists()
