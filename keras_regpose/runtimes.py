"""A preset in a runtime other than Keras: the export that comes with it, or one that is made once and kept."""

import contextlib
import errno
import importlib.metadata
import logging
from collections.abc import Callable
from typing import Any

from keras_regpose.export.formats import FORMATS
from keras_regpose.export.openvino import computes_bfloat16
from keras_regpose.export.runtime import ExportedPoseRegressor, load_exported
from keras_regpose.hub.download import cache_home
from keras_regpose.hub.preset_files import EXPORT, PresetFolder
from keras_regpose.optional import import_optional

_log = logging.getLogger(__name__)

# The fastest in float32 first, over small and large networks: benchmarks/results/inference_speed.json.
RUNTIMES = ("onnx", "litert", "openvino")


def open_in_runtime(
    folder: PresetFolder, runtime: str, precision: str | None, load: Callable[[], Any]
) -> ExportedPoseRegressor | Any:
    """Opens a preset in a runtime; see `from_preset`.

    Args:
        folder: `PresetFolder`, whose files were compared with its checksums.
        runtime: str. "onnx", "openvino", "litert" or "auto".
        precision: str or None. None for the best that keeps keypoints.
        load: callable. Returns the preset as a Keras model, of which an export is made where there is none.

    Returns:
        `ExportedPoseRegressor`, or what `load` returns where "auto" finds no runtime.

    Raises:
        ValueError: If there is no such runtime, or it has no such precision.
        ImportError: If a package is missing that runs or makes the export.
        OSError: If there is no export and none can be written.
    """
    if runtime not in (*RUNTIMES, "auto"):
        raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, auto. Received: {runtime!r}")
    candidates = _candidates(runtime, precision)
    if precision == "int8" or not candidates:
        found = sorted({one for name in RUNTIMES if runtime in (name, "auto") for one in FORMATS[name].PRECISIONS})
        raise ValueError(
            f"precision must be one of {', '.join(found)} for {runtime}, and int8 is calibrated on people of yours: "
            f"export it with model.export, and open that with load_exported. Received: {precision!r}"
        )
    for name, chosen in candidates:
        try:
            model = _open(folder, name, chosen, precision, load)
        except ImportError as error:
            if runtime != "auto":
                raise
            _log.info("Not %s: %s", name, error)
            continue
        _log.info("%s runs in %s, %s", folder.path.name, name, model.precision)
        return model
    _log.warning("%s runs in Keras: it has no export, and what makes one is not installed", folder.path.name)
    return load()


def _candidates(runtime, precision):
    """Returns pairs of runtime and precision, the fastest first."""
    names = [name for name in RUNTIMES if runtime in (name, "auto")]
    if precision is not None:
        return [(name, precision) for name in names if precision in FORMATS[name].PRECISIONS]
    fastest = [("openvino", "bfloat16")] if "openvino" in names and computes_bfloat16() else []
    return fastest + [(name, "float32") for name in names]


def _open(folder, name, precision, asked, load):
    """Returns an opened export: the one that comes with the preset, the one that was kept, or a new one."""
    kind = FORMATS[name]
    version = import_optional(kind.RUNS_WITH, f"runtime={name!r}").__version__.partition("-")[
        0
    ]  # OpenVINO adds a commit
    ready = f"{EXPORT}{kind.SUFFIX}"
    if ready in folder.description["checksums"] and asked in (None, "float16"):
        return load_exported(folder.path / ready)
    ours = importlib.metadata.version("keras-regpose")
    kept = cache_home() / "exports" / "-".join([folder.key(), ours, name, version, precision])
    path = kept / f"pose{kind.SUFFIX}"
    with contextlib.suppress(FileNotFoundError, ValueError):  # it is made again where it is damaged
        return load_exported(path)
    for module in kind.MADE_WITH:
        import_optional(module, f"An export to {name}")
    try:
        return _made(path, folder, name, precision, load)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS):
            raise
        raise OSError(f"{kept} cannot be written: set KERAS_REGPOSE_HOME to a folder that can ({error})") from error


def _made(path, folder, name, precision, load):
    """Returns an export that is made, by one process, while others that want it wait."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(".lock")):
        with contextlib.suppress(FileNotFoundError, ValueError):
            return load_exported(path)
        _log.warning("Making the %s export of %s in %s, once", name, folder.path.name, precision)
        load().export(path, precision=precision, verbose=False, preset=folder.path.name)
        return load_exported(path)
