"""What the wheel holds: the package with its data, and the facts of the zoo, without the scripts beside them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of the files in a wheel that is built from this clone, without a network."""
    pytest.importorskip("hatchling", reason="needs hatchling, with which wheels are built (the extra `test` has it)")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(file).namelist())


def test_all_of_the_package_travels(wheel):
    package = ROOT / "keras_regpose"
    here = {path.relative_to(ROOT).as_posix() for path in package.rglob("*") if path.is_file()}
    assert {name for name in here if "__pycache__" not in name} <= wheel
    assert {f"keras_regpose/bundled_finder/{name}" for name in ("finder.onnx", "NOTICE", "LICENSE")} <= wheel
    assert "keras_regpose/hub/card.md" in wheel and "keras_regpose/skeletons.toml" in wheel


def test_the_facts_of_the_zoo_travel_and_its_scripts_do_not(wheel):
    rows = {name.removeprefix("keras_regpose/rows/") for name in wheel if name.startswith("keras_regpose/rows/")}
    here = {path.relative_to(ROOT / "zoo").as_posix() for path in (ROOT / "zoo").glob("*/*") if path.is_file()}
    assert {name for name in here if "__pycache__" not in name} | {"zoo.toml", "citations.bib"} == rows
    assert {"resnet50_rle_coco/facts.toml", "resnet50_rle_coco/recipe.toml", "pictures/coco17.jpg"} <= rows
    assert not [name for name in wheel if name.endswith(("build.py", "cards.py"))]
