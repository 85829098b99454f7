"""A preset directory, a Keras file or an official checkpoint → a model: the part of `from_preset` that needs Keras."""

import inspect
import json
import logging
import math
import operator
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from keras_regpose.convert.mmpose import from_mmpose
from keras_regpose.files import damage_explained, read_json
from keras_regpose.hub import preset_files
from keras_regpose.hub.download import ANOTHER_DISK, built_preset, cache_home, download_file
from keras_regpose.hub.preset_files import PresetError, PresetFolder, save_preset
from keras_regpose.regressor import PoseRegressor
from keras_regpose.zoo import preset_info

_log = logging.getLogger(__name__)
CHECKPOINTS = "https://download.openmmlab.com/mmpose/"
# Stock Keras layers that run code, or that open files named in their configuration.
_UNSAFE = "Lambda TFSMLayer JaxLayer FlaxLayer TorchModuleWrapper StringLookup IntegerLookup TextVectorization".split()
_UNSAFE_LAYERS = tuple(getattr(keras.layers, name) for name in _UNSAFE)
_FUNCTIONS = ("builtins", "keras.activations", "keras.losses", "keras.metrics", "keras.ops")  # where they may be from
_UNBOUNDED = 1 << 30  # weights of an architecture alone
_TRUST = "If you trust it, pass trust=True, or import the package that registers this class first"


def load_preset(folder: str | os.PathLike | PresetFolder, load_weights=True, verify=True, trust=False) -> PoseRegressor:
    """Reads a preset directory.

    Args:
        folder: str, path or `PresetFolder`.
        load_weights: bool. False leaves the weights random.
        verify: bool. Whether the files are compared with the checksums in `preset.json`, where it has them.
        trust: bool. Whether layers may run code and open files; see `from_preset`.

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
    with damage_explained(path, preset_files.SAVE_AGAIN, PresetError):
        config = read_json(path / "config.json")
        config.pop("compile_config", None)  # training sets its own
        names = ("model.weights.h5", preset_files.FLOW_FILE) if method == "rle" else ("model.weights.h5",)
        held = [_checked_weights(path / name, name) for name in names] if load_weights else [_UNBOUNDED]
        _refuse_code(config, path, trust)
        graph = _built(config, held[0], safe_mode=not trust)
        if load_weights:
            graph.load_weights(path / "model.weights.h5")
        model = PoseRegressor.from_keras(graph, skeleton, method)
        if model.flow is not None and load_weights:
            preset_files.flow_model(model.flow).load_weights(path / preset_files.FLOW_FILE)
            # It is 0 where training kept the flow out till the best epoch; plain `fit` would never let it in.
            model.flow.strength.assign(1.0)
        if load_weights:
            model.quantiles = folder.description.get("quantiles")
            _refuse_nan(model)
        return model


def load_keras_file(path: Path, trust: bool = False) -> PoseRegressor:
    """Opens what `model.save("m.keras")` wrote, with its optimizer."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}")
    with damage_explained(path, "It must be a file that model.save wrote: save it again", PresetError):
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise PresetError(f"{path} is compressed, which no file of model.save is. Do not use it")
            config = json.loads(archive.read("config.json"))
            if config["registered_name"] != "keras_regpose>PoseRegressor":
                kind = config["class_name"]
                raise PresetError(f"{path} holds a {kind}, not a PoseRegressor: open it with keras.saving")
            with archive.open("model.weights.h5") as weights:
                held = _checked_weights(weights, "model.weights.h5")
        _refuse_code(config, path, trust)
        _built({"module": "keras", "class_name": "Model", "config": config["config"]["graph"]}, held, not trust)
        model = keras.saving.load_model(path, safe_mode=not trust)
        _refuse_nan(model)
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


def _parts(config) -> Iterator[dict]:
    """Yields the parts of a configuration of which Keras makes something by name."""
    if isinstance(config, dict) and {"class_name", "module"} & config.keys():
        yield config
    for value in config if isinstance(config, list) else list(config.values()) if isinstance(config, dict) else ():
        yield from _parts(value)


def _found(part):
    """Returns what Keras would find: a class, or what is registered, or the name of a function, or None."""
    kind, module = str(part.get("class_name")), str(part.get("module") or "keras.layers")
    name = str(part.get("config")) if kind == "function" else kind
    registered = keras.saving.get_registered_object(part.get("registered_name") or name)
    if registered is not None or kind == "function":
        return registered or (name if module in _FUNCTIONS else None)
    try:  # by attributes as Keras does: "layers.Lambda" of "keras" is "Lambda" of "keras.layers"
        found = operator.attrgetter(f"{module}.{name}".removeprefix("keras."))(keras)
    except AttributeError:
        return None
    return found if isinstance(found, type) and module.split(".")[0] == "keras" else None


def _refuse_code(config, path, trust):
    """Refuses what Keras would import, unless it is trusted, or Keras's own that neither runs code nor opens files."""
    if trust:
        return keras.config.enable_unsafe_deserialization()  # models are copied from their configurations, too
    for part in _parts(config):
        kind, found = str(part.get("class_name")), _found(part)
        if kind == "__lambda__" or isinstance(found, type) and issubclass(found, _UNSAFE_LAYERS):
            what = f"a layer that can run code or open files ({getattr(found, '__name__', kind)})"
            raise PresetError(f"{path} holds {what}, so it is not loaded. {_TRUST}")
        if found is None and not kind.startswith("__"):  # Keras itself makes "__keras_tensor__" and the like
            what = f"{part.get('module')}.{kind}, which is no stock Keras layer"
            raise PresetError(f"{path} asks for {what}, so it is not loaded. {_TRUST}")


class _Bounded(keras.initializers.Initializer):
    """Makes a weight as another initializer does, while there are numbers left in the file that it will be read from.

    A configuration of a few bytes can ask for more memory than there is.
    """

    def __init__(self, inner, left):
        self.inner, self.left = keras.initializers.get(inner), left

    def __call__(self, shape, dtype=None, **options):
        self.left[0] -= math.prod(shape)
        if self.left[0] < 0:
            raise ValueError("its configuration describes a larger network than its weights are of")
        return self.inner(shape, dtype, **options)

    def get_config(self):
        return vars(self)


def _built(config, count, safe_mode):
    """Returns the model of a configuration, unless it would have more than `count` weights."""
    left = [count]
    for part in list(_parts(config)):
        options, kind = part.get("config"), _found(part)
        if isinstance(options, dict) and isinstance(kind, type):
            for name, option in inspect.signature(kind).parameters.items():
                if name.endswith("_initializer"):
                    options[name] = _Bounded(options.get(name, option.default) or "zeros", left)
    graph = keras.saving.deserialize_keras_object(config, safe_mode=safe_mode)
    for layer in graph._flatten_layers():
        for name, value in vars(layer).items():
            if isinstance(value, _Bounded):
                setattr(layer, name, value.inner)
    return graph


def _checked_weights(source, name):
    """Returns how many numbers a weights file has, after a check that all of them lie in it, once and as they are.

    Keras writes neither links nor compressed data, with which a small file could be walked or unpacked without end.
    """
    count, seen = 0, set()
    with h5py.File(source, "r") as file:
        waiting: list = [file]
        while waiting:
            group = waiting.pop()
            for key in group:
                item: Any = group[key] if isinstance(group.get(key, getlink=True), h5py.HardLink) else None
                address = item and h5py.h5o.get_info(item.id).addr
                if (
                    address is None
                    or address in seen
                    or getattr(item, "external", None)
                    or getattr(item, "is_virtual", False)
                ):
                    raise ValueError(
                        f"{name} refers to another file, which no preset does, or twice to one of its parts"
                    )
                seen.add(address)
                if isinstance(item, h5py.Group):
                    waiting.append(item)
                    continue
                if item.chunks is not None or item.id.get_storage_size() != item.nbytes:
                    raise ValueError(f"{name} is compressed or lacks numbers")
                count += item.size
    return count


def _refuse_nan(model):
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise ValueError("its weights are not finite: take an earlier checkpoint of the training that made it")
