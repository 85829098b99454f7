"""The demo: on a photograph, and on drawn people."""

import json

import cv2
import numpy as np
import PIL.Image
import pytest

from keras_regpose import from_preset
from keras_regpose.cli import main
from keras_regpose.data import Synthetic
from keras_regpose.presets import BUNDLED_PRESET


def test_on_a_photograph(tmp_path, capsys):
    person = Synthetic(1, seed=0)[0]
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), person.image[..., ::-1])
    box = ",".join(str(float(side)) for side in person.box)
    assert main(["demo", "--image", str(photo), "--box", box, "--output", str(tmp_path / "shown")]) == 0
    assert str(tmp_path / "shown" / "photograph.png") in capsys.readouterr().out
    with PIL.Image.open(tmp_path / "shown" / "photograph.png") as picture:
        assert picture.size == person.image.shape[1::-1]
        assert (np.asarray(picture) != person.image).any()
    found = json.loads((tmp_path / "shown" / "photograph.json").read_text())["keypoints"]
    expected = from_preset(BUNDLED_PRESET, runtime="onnx").estimate(person.image, boxes=[person.box])
    np.testing.assert_allclose(found, expected.keypoints, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--box", "1,2,3,4"], "pass it with --image"),
        (["--image", "missing.jpg"], "missing.jpg"),
        (["--image", "missing.jpg", "--box", "1,2"], "x1,y1,x2,y2"),
    ],
)
def test_bad_input(arguments, sentence, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        raise SystemExit(main(["demo", *arguments, "--output", str(tmp_path / "out")]))
    assert exit_info.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_on_drawn_people(tmp_path, capsys):
    assert main(["demo", "--output", str(tmp_path / "out")]) == 0
    found, learned, heading, *rows = capsys.readouterr().out.splitlines()[:5]
    assert found.startswith("4 people found") and learned == "Learned from 128 drawn people, 4 times each:"
    assert heading.split() == ["before", "after"]
    figures = {row[:24].strip(): [float(value) for value in row[24:].split()] for row in rows}
    before, after = figures["PCK@0.2 of the torso"]
    assert after > before + 0.02 and set(figures) == {"AP", "PCK@0.2 of the torso"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("predictions.png", "preset", "photograph.png", "photograph.json")
    }
