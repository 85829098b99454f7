"""The script that makes the bundled finder: what it builds is what the package carries."""

import numpy as np
import onnxruntime
import pytest
from conftest import GOLDEN, SHARED

from keras_regpose.images import read_image
from keras_regpose.inference.people_finder import FOLDER, MAPS

MODEL = SHARED / "models" / "movenet" / "movenet-multipose.json"


@pytest.mark.skipif(not MODEL.is_file(), reason="needs ../shared/models/movenet beside the checkout")
def test_the_rebuilt_network_gives_the_maps_of_the_bundled_file():
    finder = pytest.importorskip("finder", reason="needs tf2onnx and onnx, with which the file is written")
    model = finder.build(MODEL)
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    assert model.input_shape == (None, None, None, 3) and tuple(model.output_names) == MAPS
    picture = np.zeros((1, 192, 256, 3), np.uint8)
    picture[0, :169] = read_image(GOLDEN / "people.png")
    session = onnxruntime.InferenceSession(FOLDER / "finder.onnx", providers=["CPUExecutionProvider"])
    bundled = session.run(list(MAPS), {"image": picture})
    for name, ours, expected in zip(MAPS, model(picture, training=False), bundled, strict=True):
        np.testing.assert_allclose(np.asarray(ours), expected, atol=1e-3, err_msg=name)
