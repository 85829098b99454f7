"""What the wheel holds: every subpackage, and the zoo that stands beside the package in a clone."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def setuptools_table():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def test_every_subpackage_is_listed(setuptools_table):
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "keras_regpose").rglob("__init__.py")}
    assert set(setuptools_table["packages"]) == found | {"keras_regpose.rows"}


def test_the_zoo_is_part_of_the_package(setuptools_table):
    assert setuptools_table["package-dir"]["keras_regpose.rows"] == "zoo"
    travelling = {
        path
        for pattern in setuptools_table["package-data"]["keras_regpose.rows"]
        for path in (ROOT / "zoo").glob(pattern)
    }
    assert set((ROOT / "zoo").glob("*/recipe.toml")) <= travelling
