"""Paths of the recorded vectors and photographs; tests that need them skip elsewhere."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

pytest_plugins = ["hub_fixtures"]
SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(name):
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"needs {name}/ beside the checkout (recorded vectors and photographs are not part of it)")
    return path


@pytest.fixture
def golden():
    """Folder of the vectors recorded from MMPose 1.3.2."""
    return _folder("golden")


@pytest.fixture
def shared_data():
    """Folder of photographs with annotations."""
    return _folder("data")
