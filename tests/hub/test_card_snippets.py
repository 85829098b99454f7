"""The snippets of every card run as they stand, against the tests' own Hub.

There the rows have small networks with the inputs and outputs of the real ones, so that all cards take seconds.
"""

import re

import numpy as np
import pytest

from keras_regpose import PoseRegressor, list_presets, preset_info
from keras_regpose.skeleton import SKELETONS
from keras_regpose.zoo import zoo_folder

SNIPPET = re.compile(r"```python\n(.*?)```", re.S)
# One of each kind of inputs and outputs; the other rows' snippets differ from these in the name alone.
KINDS = ("resnet50_rle_coco", "resnet50_coco", "resnet50_rle_mpii", "resnet50_mpii", "resnet152_rle_coco_384x288")
KINDS += ("resnet50_wflw", "resnet50_onehand10k", "resnet50_rhd2d", "mobilenetv2_rle_lspet", "mobilenetv2_rle_people")


def snippets(name):
    return SNIPPET.findall((zoo_folder() / name / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", KINDS)
def test_snippets_run(name, hub, tmp_path, monkeypatch):
    info = preset_info(name)
    size, skeleton = tuple(info["input_size"]), SKELETONS[info["skeleton"]]
    model = PoseRegressor("mobilenetv2_0.25", skeleton, size, method=info["method"])
    model.save_to_preset(tmp_path / "saved")
    files = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir() if path.is_file()}
    hub.upload(f"keras-regpose/{name}", files)
    monkeypatch.chdir(tmp_path)
    ours, plain = snippets(name)
    assert len(ours.strip().splitlines()) == 8  # six lines after the import
    namespace = {}
    exec(compile(ours, f"{name}, use it", "exec"), namespace)
    count = len(skeleton)
    assert namespace["people"].keypoints.shape == (1, count, 2) and (tmp_path / "people.png").stat().st_size > 1000
    assert (namespace["people"].sigmas is None) == (info["method"] == "deeppose")
    exec(compile(plain, f"{name}, plain Keras", "exec"), namespace)
    expected = model.predict(np.zeros((1, *size, 3), "uint8"), verbose=0)
    assert namespace["output"].shape == (1, count, 4 if info["method"] == "rle" else 2)
    np.testing.assert_allclose(namespace["output"], expected, rtol=0, atol=1e-5)
    assert f"# (1, {count}, {namespace['output'].shape[-1]})" in plain


def test_the_other_snippets_differ_by_name_alone():
    for name in list_presets():
        info = preset_info(name)
        kind = (info["method"], info["skeleton"], info["input_size"])
        (same,) = (
            known
            for known in KINDS
            if kind == tuple(preset_info(known)[key] for key in ("method", "skeleton", "input_size"))
        )
        assert [text.replace(name, same) for text in snippets(name)] == snippets(same)
