"""A preset in a runtime other than Keras: the export that comes with it, or one that is made once and kept."""

import contextlib
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
    names = RUNTIMES if runtime == "auto" else (runtime,)
    candidates = [(name, precision or "float32") for name in names]
    if precision is None and "openvino" in names and computes_bfloat16():
        candidates.insert(0, ("openvino", "bfloat16"))
    candidates = [(name, one) for name, one in candidates if one in FORMATS[name].PRECISIONS and one != "int8"]
    if not candidates:
        advice = "for int8, which is calibrated on people of yours, use model.export and load_exported"
        raise ValueError(f"{runtime} has no precision {precision!r} for presets; {advice}")
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


def _open(folder, name, precision, asked, load):
    """Returns an opened export: the one that comes with the preset, the one that was kept, or a new one."""
    kind = FORMATS[name]
    version = import_optional(kind.RUNS_WITH, f"runtime={name!r}").__version__.partition("-")[0]  # of OpenVINO's build
    ready = f"{EXPORT}{kind.SUFFIX}"
    if ready in folder.description["checksums"] and asked in (None, "float16"):
        return load_exported(folder.path / ready)
    ours = importlib.metadata.version("keras-regpose")
    kept = cache_home() / "exports" / f"{folder.key()}-{ours}-{name}-{version}-{precision}"
    path = kept / f"pose{kind.SUFFIX}"
    with contextlib.suppress(FileNotFoundError, ValueError):  # it is made again where it is damaged
        return load_exported(path)
    for module in kind.MADE_WITH:
        import_optional(module, f"An export to {name}")
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{kept} cannot be made: set KERAS_REGPOSE_HOME to a folder that can ({error})") from error
    from filelock import FileLock

    with FileLock(kept / ".lock"):
        with contextlib.suppress(FileNotFoundError, ValueError):  # another process has made it meanwhile
            return load_exported(path)
        _log.warning("Making the %s export of %s in %s, once", name, folder.path.name, precision)
        load().export(path, precision=precision, verbose=False, preset=folder.path.name)
        return load_exported(path)
