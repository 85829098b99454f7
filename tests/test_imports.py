"""What imports what: the package stays light, and its parts know each other in one direction only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import keras_regpose

PACKAGE = Path(keras_regpose.__file__).parent
HEAVY = "tensorflow keras cv2 keras_cv tensorflow_probability tf_keras pycocotools scipy matplotlib".split()

# part of the package: the parts that it may import
FIRST = {"skeleton", "geometry", "codec"}
ALLOWED = {
    "skeleton": set(),
    "geometry": set(),
    "codec": set(),
    "data": FIRST,
    "metrics": {"skeleton"},
    "losses": set(),
    "models": {"skeleton", "losses", "inference", "hub", "training", "export"},  # the last four inside methods only
    "inference": FIRST | {"data", "metrics"},
    "training": FIRST | {"data", "models", "convert", "inference", "hub"},  # the last three inside functions only
    "convert": {"skeleton", "models", "losses", "hub"},
    # The last three inside functions only: convert knows the table of presets, and the zoo's build evaluates.
    "hub": {"skeleton", "models", "convert", "data", "inference"},
    "export": FIRST | {"data", "inference"},
}
AT_THE_TOP_ONLY_FROM = {
    "models": {"skeleton", "losses"},
    "training": FIRST | {"data", "models"},
    "hub": {"skeleton", "models"},
}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module, node
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def parts_of(names):
    return {name.split(".")[1] for name in names if name.startswith("keras_regpose.")}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    relative = path.relative_to(PACKAGE)
    part = relative.parts[0].removesuffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [name for name, _ in imported(tree)]
    assert not [name for name in names if name.startswith("keras.src")]
    if "tensorflow_probability" in " ".join(names):
        assert str(relative) == "losses/flow.py"
    if "keras_cv" in {name.split(".")[0] for name in names}:
        assert str(relative) == "models/keras_cv_backbones.py"
    if part not in ALLOWED:
        assert part in ("__init__", "cli", "commands", "demo")
        return
    assert parts_of(names) - {part} <= ALLOWED[part] | set(keras_regpose.__all__)
    if part in AT_THE_TOP_ONLY_FROM:
        at_the_top = [name for name, node in imported(tree) if node in tree.body]
        assert parts_of(at_the_top) - {part} <= AT_THE_TOP_ONLY_FROM[part]


def loaded_after(script, names):
    check = f"import sys; {script}; print(*[name for name in {names!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    return result.stdout.split()


def test_importing_the_package_imports_nothing_heavy():
    assert loaded_after("import keras_regpose", HEAVY) == []


def test_loading_and_predicting_need_neither_tfp_nor_keras_cv(tmp_path):
    model = keras_regpose.PoseRegressor("mobilenetv2_0.25", keras_regpose.COCO17, (64, 48))
    model.save_to_preset(tmp_path / "preset")
    script = (
        f"import numpy as np, keras_regpose as rp; model = rp.from_preset({str(tmp_path / 'preset')!r}); "
        "model.estimate(np.zeros((80, 60, 3), 'uint8'))"
    )
    assert loaded_after(script, ["tensorflow_probability", "tf_keras", "keras_cv"]) == []


def test_every_public_name_exists():
    for name in keras_regpose.__all__:
        assert getattr(keras_regpose, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'heatmaps'"):
        _ = keras_regpose.heatmaps
