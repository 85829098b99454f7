"""The evaluate command compares σ with errors, in words, numbers and a picture."""

import cv2
import numpy as np
import pytest
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose.cli import main

DATA = ["--dataset", "synthetic", "--count", "8"]
CROP = np.zeros((1, 64, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """Folders of presets with σ and without."""
    folders = {method: tmp_path_factory.mktemp("presets") / method for method in ("rle", "deeppose")}
    for method, folder in folders.items():
        tiny_model(method).save_to_preset(folder)
    return {method: str(folder) for method, folder in folders.items()}


def test_calibration_is_printed_and_drawn(preset, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    target = tmp_path / "new" / "calibration.png"
    assert main(["evaluate", preset["rle"], *DATA, "--calibration", str(target)]) == 0
    printed = capsys.readouterr().out
    for words in ("coordinates against their errors", "mean |error| / σ", "coverage error", "rank correlation"):
        assert words in printed
    assert cv2.imread(str(target)).shape == (720, 1500, 3)


def test_a_recalibrated_preset_is_written(preset, tmp_path, capsys):
    source = preset["rle"]
    target = tmp_path / "recalibrated"
    assert main(["evaluate", source, *DATA, "--recalibrated", str(target)]) == 0
    assert "With σ recalibrated on these 8 people" in capsys.readouterr().out
    before, after = (rp.from_preset(folder).predict_on_batch(CROP) for folder in (source, str(target)))
    np.testing.assert_array_equal(after[..., :2], before[..., :2])
    assert (after[..., 2:] < 0.9 * before[..., 2:]).all()  # an untrained σ is half the crop, its errors are smaller
    assert main(["evaluate", preset["deeppose"], *DATA, "--recalibrated", str(target)]) == 2
    assert "--recalibrated needs a model with σ" in capsys.readouterr().err


def test_models_without_sigmas_have_nothing_to_calibrate(preset, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    target = tmp_path / "calibration.png"
    assert main(["evaluate", preset["deeppose"], *DATA, "--calibration", str(target)]) == 2
    assert "--calibration needs a model with σ" in capsys.readouterr().err
    assert not target.exists()
