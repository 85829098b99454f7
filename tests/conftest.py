"""Where recorded numbers and photographs are, and how a test process stays small."""

import ctypes
import gc
import importlib.util
import os
import sys
from pathlib import Path

# Before TensorFlow is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# Otherwise TensorFlow keeps what its largest model took to the end of the process: half a gigabyte after a ResNet-152.
os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")

import jaxtyping
import numpy as np
import pytest

# The array shapes that functions declare are checked while tests run. The files that declare some are named one by one:
# Keras looks into the constructors of its layers, and does not find its way through such a check.
PACKAGE = Path(importlib.util.find_spec("keras_regpose").origin).parent
DECLARING = [path for path in PACKAGE.rglob("*.py") if "from jaxtyping import" in path.read_text("utf-8")]
jaxtyping.install_import_hook(
    [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in DECLARING], "array_shapes.check"
)

pytest_plugins = ["hub_fixtures"]
# First the files that take much memory or start processes with TensorFlow in them, while the workers are still small;
# then those that take more than about a minute, so that no worker is left alone with one at the end.
FIRST = """
    test_docs training/test_devices test_predict_command test_zoo data/test_batches data/test_cache hub/test_publish
    export/test_export test_runtimes export/test_threads presets/test_presets_published test_regressor
    training/test_resume training/test_optimizer
    convert/test_mmpose_convert inference/test_golden_pipeline test_cli training/test_train
    training/test_average zoo/test_build zoo/test_cards
""".split()
GOLDEN = Path(__file__).resolve().parent / "golden"
SHARED = Path(__file__).resolve().parents[2] / "shared"


def _beside_the_checkout(name):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs ../shared/{name} beside the checkout (photographs and annotations are not part of it)")
    return path


def pytest_collection_modifyitems(items):
    def turn(item):
        name = item.path.relative_to(GOLDEN.parent).with_suffix("").as_posix()
        return FIRST.index(name) if name in FIRST else len(FIRST)

    items.sort(key=turn)


@pytest.fixture(scope="session")
def golden():
    """Folder of the numbers recorded from MMPose 1.3.2."""
    return GOLDEN


@pytest.fixture(scope="session")
def golden_crops():
    """The pixels of the recorded crops, (H, W, 3) uint8 BGR by name: parts of photographs, so not in the repository."""
    return np.load(_beside_the_checkout("golden/crops.npz"))


@pytest.fixture(scope="session")
def shared_data():
    """Folder of photographs with annotations."""
    return _beside_the_checkout("data")


@pytest.fixture(scope="session", autouse=True)
def keep_exports_elsewhere(tmp_path_factory):
    """Leaves the cache of whoever runs the tests alone."""
    os.environ["KERAS_REGPOSE_HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module", autouse=True)
def leave_no_models_behind():
    """Frees the models and graphs of a finished file: they refer to each other, and Keras and TensorFlow to them."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()
    _collect()


@pytest.fixture(autouse=True)
def collect_what_has_piled_up():
    """Frees what a test left in circles: Python counts objects, not the megabytes of the weights that they hold."""
    yield
    if _resident() > _collect.left + 200:
        _collect()


def _collect():
    if "tensorflow" in sys.modules:
        # TensorFlow keeps the graph of every step of training in its table of gradients.
        from tensorflow.python.framework.ops import gradient_registry

        for name in [name for name in gradient_registry.list() if name.startswith("CustomGradient-")]:
            del gradient_registry._registry[name]
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    _collect.left = _resident()


_collect.left = 0


def _resident():
    """Returns the memory in use in megabytes, or 0 where /proc does not tell."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20 if statm.exists() else 0
