"""A preset directory, a Keras file or an official checkpoint → a model: the part of `from_preset` that needs Keras."""

import json
import logging
import os
import shutil
import zipfile
from pathlib import Path

import h5py
import keras

from keras_regpose.convert.mmpose import from_mmpose
from keras_regpose.hub import preset_files
from keras_regpose.hub.download import ANOTHER_DISK, built_preset, cache_home, download_file
from keras_regpose.hub.preset_files import PresetError, PresetFolder, save_preset
from keras_regpose.regressor import PoseRegressor
from keras_regpose.zoo import preset_info

_log = logging.getLogger(__name__)
CHECKPOINTS = "https://download.openmmlab.com/mmpose/"
# Stock Keras layers that run code, or that open files named in their configuration.
_UNSAFE_LAYERS = {"Lambda", "__lambda__", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper"}
_UNSAFE_LAYERS |= {"StringLookup", "IntegerLookup", "TextVectorization"}


def load_preset(folder: str | os.PathLike | PresetFolder, load_weights=True, verify=True) -> PoseRegressor:
    """Reads a preset directory.

    Args:
        folder: str, path or `PresetFolder`.
        load_weights: bool. False leaves the weights random.
        verify: bool. Whether the files are compared with the checksums in `preset.json`, where it has them.

    Returns:
        `PoseRegressor`.

    Raises:
        FileNotFoundError: If there is no preset there.
        PresetError: If it is incomplete, damaged, of a newer format, or holds code.
    """
    if not isinstance(folder, PresetFolder):
        folder = PresetFolder.open(folder)
    if verify:
        folder.verify()
    path, skeleton, method = folder.path, folder.skeleton, folder.method
    with preset_files.damage_explained(path):
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        _refuse_code(config, path)
        if not load_weights:
            graph = keras.saving.deserialize_keras_object(config, safe_mode=True)
            return PoseRegressor.from_keras(graph, skeleton, method)
        for name in ("model.weights.h5", preset_files.FLOW_FILE) if method == "rle" else ("model.weights.h5",):
            _check_weights(path / name)
        graph = keras.saving.load_model(path, compile=False, safe_mode=True)
        model = PoseRegressor.from_keras(graph, skeleton, method)
        model.quantiles = folder.description.get("quantiles")
        if model.flow is not None:
            preset_files.flow_model(model.flow).load_weights(path / preset_files.FLOW_FILE)
            # It is 0 where training kept the flow out till the best epoch; plain `fit` would never let it in.
            model.flow.strength.assign(1.0)
        return model


def load_keras_file(path: Path) -> PoseRegressor:
    """Opens what `model.save("m.keras")` wrote, with its optimizer."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}")
    with preset_files.damage_explained(path, "It must be a file that model.save wrote: save it again"):
        with zipfile.ZipFile(path) as archive:
            _refuse_code(json.loads(archive.read("config.json")), path)
        model = keras.saving.load_model(path, safe_mode=True)
    if not isinstance(model, PoseRegressor):
        raise PresetError(f"{path} holds a {type(model).__name__}, not a PoseRegressor: open it with keras.saving")
    return model


def build_from_checkpoint(name: str, folder: Path) -> PresetFolder:
    """Makes a preset of a row's official checkpoint, once, even if several processes ask for it at the same time.

    Args:
        name: str. A published row.
        folder: Path. The preset directory to write; an intact preset that is there is left as it is.

    Returns:
        `PresetFolder`.

    Raises:
        ConnectionError, FileNotFoundError: If the checkpoint cannot be fetched.
        PresetError: If it is damaged.
        OSError: If the preset cannot be written; `errno` is ENOSPC if the disk is full.
    """
    from filelock import FileLock
    from huggingface_hub import constants

    info = preset_info(name)
    url = info["checkpoint"]["url"]
    base = os.environ.get("KERAS_REGPOSE_CHECKPOINTS")
    if base:
        url = f"{base.rstrip('/')}/{url.removeprefix(CHECKPOINTS)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (intact := built_preset(folder)) is not None:
            return intact
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("HF_HUB_OFFLINE is set")
        _log.warning("Building %s from the official checkpoint %s, once", name, url)
        checkpoint = cache_home() / "checkpoints" / url.rsplit("/", 1)[1]
        download_file(url, checkpoint, info["checkpoint"]["sha256_prefix"], name)
        for old in (folder, *folder.parent.glob(f".{folder.name}-*")):  # damaged, or of a process that was killed
            shutil.rmtree(old, ignore_errors=True)
        model = from_mmpose(checkpoint, name)
        save_preset(model, folder, advice=ANOTHER_DISK, preset=name, license=info["license"], origin=info["checkpoint"])
        checkpoint.unlink()
        return PresetFolder.open(folder)


def _refuse_code(config, directory):
    """Keras's safe mode refuses code as well; this names it, and refuses what else is not a stock layer."""
    if isinstance(config, list):
        for value in config:
            _refuse_code(value, directory)
    if not isinstance(config, dict):
        return
    kind, module, registered = (config.get(key) for key in ("class_name", "module", "registered_name"))
    known = module is None or module in ("keras", "builtins") or str(module).startswith("keras.")
    if not known and (registered is None or keras.saving.get_registered_object(registered) is None):
        what = f"{directory} asks for {module}.{kind}, which is no stock Keras layer, so it is not loaded"
        raise PresetError(f"{what}. If you trust it, import the package that registers this class first")
    if kind in _UNSAFE_LAYERS:
        raise PresetError(f"{directory} holds a layer that can run code or open files ({kind}), so it is not loaded")
    for value in config.values():
        _refuse_code(value, directory)


def _check_weights(path):
    """Opens a weights file, and refuses one that takes its numbers from other files."""

    def taken_from_elsewhere(name, item):  # None goes on
        is_outside = isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)
        return True if is_outside or isinstance(item, h5py.ExternalLink) else None

    with h5py.File(path, "r") as file:
        if file.visititems_links(taken_from_elsewhere) or file.visititems(taken_from_elsewhere):
            raise PresetError(f"{path} refers to another file, which no preset does. Do not use it")
