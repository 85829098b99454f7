"""The evaluate command compares σ with errors, in words, numbers and a picture."""

import json
import re

import cv2
import numpy as np
import pytest
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose.cli import main
from keras_regpose.commands.evaluate import _verdict

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
    assert main(["evaluate", str(target), *DATA, "--calibration", str(tmp_path / "calibration.png")]) == 0
    printed = capsys.readouterr().out
    # On the people that the quantiles were measured on, a share lies within that is the share.
    shares = re.findall(r"truth within (interval|region) (\S+) +(\S+)", printed)
    assert len(shares) == 6 and "truth within density 0.5" in printed
    assert all(float(share) == pytest.approx(float(asked), abs=0.02) for _, asked, share in shares)
    assert "expected OKS against OKS" in printed
    assert (after[..., 2:] < 0.9 * before[..., 2:]).all()  # an untrained σ is half the crop, its errors are smaller
    assert main(["evaluate", preset["deeppose"], *DATA, "--recalibrated", str(target)]) == 2
    assert "--recalibrated needs a model with σ" in capsys.readouterr().err


def test_models_without_sigmas_have_nothing_to_calibrate(preset, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    target = tmp_path / "calibration.png"
    assert main(["evaluate", preset["deeppose"], *DATA, "--calibration", str(target)]) == 2
    assert "--calibration needs a model with σ" in capsys.readouterr().err
    assert not target.exists()


def test_figures_have_intervals_and_the_errors_their_kinds(preset, tmp_path, capsys):
    figures, picture = tmp_path / "figures.json", tmp_path / "sheet.png"
    assert main(["evaluate", preset["rle"], *DATA, "--json", str(figures), "--pictures", str(picture)]) == 0
    printed = capsys.readouterr().out
    values = json.loads(figures.read_text())
    value, low, high = values["intervals"]["error"]
    assert value == values["error"] and low < value < high
    assert f"error {value:.4f} (95 % interval {low:.4f} … {high:.4f})" in printed
    assert "PCK: within 0.2 torso lengths; error: mean distance in pixels" in printed and "better" not in printed
    row = values["errors"]["all"]
    shares = [share for name, share in row.items() if name != "labelled"]
    assert sum(shares) == pytest.approx(1) and 0 < row["labelled"] <= 8 * 17
    assert set(values["errors"]) == {*rp.COCO17.keypoints, "all"} and values["measure"].startswith("PCK")
    line = next(line for line in printed.splitlines() if line.split()[0] == "all")
    assert line.split()[1:] == [str(row["labelled"]), *(f"{share:.1%}" for share in shares)]
    assert cv2.imread(str(picture)) is not None


def test_another_preset_is_compared_on_the_same_people(preset, tmp_path, capsys):
    figures = tmp_path / "figures.json"
    other = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, (96, 64))
    other.save_to_preset(tmp_path / "other")
    arguments = ["evaluate", preset["rle"], *DATA, "--json", str(figures), "--against"]
    assert main([*arguments, str(tmp_path / "other")]) == 0
    printed, values = capsys.readouterr().out, json.loads(figures.read_text())
    value, low, high = values["against"]["difference"]["error"]
    assert value == pytest.approx(values["error"] - values["against"]["figures"]["error"])
    assert f"error {value:+.4f} (95 % interval {low:+.4f} … {high:+.4f})" in printed
    for line in printed.splitlines():
        if "better" in line:
            assert "95 % interval" in line and "excludes 0" in line
    assert main([*arguments, preset["rle"]]) == 0
    printed = capsys.readouterr().out
    assert "AP +0.0000 (95 % interval +0.0000 … +0.0000): it includes 0" in printed and "better" not in printed


@pytest.mark.parametrize(
    ("name", "interval", "words"),
    [
        ("AP", (0.1, 0.05, 0.2), "excludes 0, so better"),
        ("AP", (-0.1, -0.2, -0.05), "excludes 0, so worse"),
        ("error", (-1.0, -2.0, -0.5), "excludes 0, so better"),
        ("error", (1.0, 0.5, 2.0), "excludes 0, so worse"),
        ("PCK", (0.1, -0.05, 0.2), "do not tell which of the two is ahead"),
    ],
)
def test_what_a_difference_says(name, interval, words):
    assert words in _verdict(name, *interval)
