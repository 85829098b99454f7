"""Every example in a docstring or in the README runs."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import tensorflow

import keras_regpose
from keras_regpose.data import Synthetic
from keras_regpose.inference.draw import save_picture

MODULES = [module.name for module in pkgutil.walk_packages(keras_regpose.__path__, "keras_regpose.")]
README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    # To compile a step of training takes longer than to run the few steps of an example.
    tensorflow.config.run_functions_eagerly(name.startswith("keras_regpose.training"))
    try:
        results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    finally:
        tensorflow.config.run_functions_eagerly(False)
    assert results.failed == 0


def test_readme_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_picture("photo.jpg", Synthetic(1, seed=0)[0].image)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 6
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    for written in ("poses.png", "people.json", "pose.onnx", "my_pose_model/preset.json"):
        assert (tmp_path / written).exists()


def test_the_readme_table_is_the_table_of_presets():
    table = keras_regpose.hub.preset_table(markdown=True)
    assert table in README.read_text(encoding="utf-8")
