"""A preset directory: written and read.

`config.json`, `metadata.json` and `model.weights.h5` are a plain Keras model of stock layers, which
`keras.saving.load_model` opens without this package. `preset.json` says what its keypoints mean, and
`flow.weights.h5` holds the density learned by the RLE loss, for training to go on.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import h5py
import keras
import numpy as np

from keras_regpose.models.regressor import PoseRegressor
from keras_regpose.skeleton import Skeleton

FORMAT = 1
FLOW_FILE = "flow.weights.h5"


class PresetError(ValueError):
    """A preset directory is not what it should be."""


def save_preset(model: PoseRegressor, directory: str | os.PathLike, half_precision: bool = False, **facts) -> None:
    """Writes a model as a preset directory, beside its target first and then renamed into place.

    Args:
        model: `PoseRegressor`.
        directory: str or path. A preset that is already there is replaced.
        half_precision: bool. Whether weights are stored as float16, which halves the file; they are read as float32.
        **facts: JSON-ready values that go into `preset.json` (metrics, licence, data).
    """
    directory = Path(directory)
    if directory.exists() and not (directory.is_dir() and (not any(directory.iterdir()) or is_preset(directory))):
        raise PresetError(f"{directory} exists and is not a preset. Choose another folder, or remove it")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        keras.saving.save_model(model.to_keras(), temporary, zipped=False)
        if model.flow is not None:
            _flow_model(model.flow).save_weights(temporary / FLOW_FILE)
        if half_precision:
            for file in temporary.glob("*.weights.h5"):
                _store_half_precision(file)
        description = {
            "format": FORMAT,
            "method": model.method,
            "skeleton": model.skeleton.to_dict(),
            "input_size": list(model.input_size),
            **facts,
        }
        (temporary / "preset.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        temporary.chmod(0o755)
        if directory.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{directory.name}-old-", dir=directory.parent))
            os.replace(directory, old / "preset")
            os.replace(temporary, directory)
            shutil.rmtree(old)
        else:
            os.replace(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_preset(directory: str | os.PathLike) -> PoseRegressor:
    """Reads a preset directory.

    Raises:
        FileNotFoundError: If there is no preset there.
        PresetError: If it is incomplete, damaged or of a newer format.
    """
    directory = Path(directory)
    if not is_preset(directory):
        raise FileNotFoundError(f"{directory} is not a preset: it has no preset.json, as save_to_preset writes it")
    try:
        description = json.loads((directory / "preset.json").read_text(encoding="utf-8"))
        written_format, method = description["format"], description["method"]
        skeleton = Skeleton.from_dict(description["skeleton"])
    except (ValueError, KeyError, TypeError) as error:
        raise PresetError(
            f"{directory / 'preset.json'} is damaged ({error}). Download or save the preset again"
        ) from error
    if written_format != FORMAT:
        raise PresetError(
            f"{directory} has preset format {written_format}, this version reads {FORMAT}. Upgrade keras-regpose"
        )
    for name in ("config.json", "model.weights.h5") + ((FLOW_FILE,) if method == "rle" else ()):
        if not (directory / name).is_file():
            raise PresetError(f"{directory} lacks {name}. Download or save the preset again")
    try:
        h5py.File(directory / "model.weights.h5", "r").close()  # Keras stumbles over a truncated file
        model = PoseRegressor.from_keras(keras.saving.load_model(directory), skeleton, method)
        if model.flow is not None:
            _flow_model(model.flow).load_weights(directory / FLOW_FILE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise PresetError(f"{directory} is damaged ({reason}). Download or save the preset again") from error
    return model


def is_preset(directory: str | os.PathLike) -> bool:
    """Whether a directory holds a preset."""
    return (Path(directory) / "preset.json").is_file()


def _flow_model(flow):
    return keras.Sequential([keras.Input((2,)), flow])


def _store_half_precision(file):
    with h5py.File(file, "r") as full:
        arrays = {}
        full.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        attributes = {name: dict(item.attrs) for name, item in [("/", full), *_groups(full)]}
    with h5py.File(file, "w") as half:
        for name, values in attributes.items():
            half.require_group(name).attrs.update(values)
        for name, array in arrays.items():
            half[name] = array.astype(np.float16) if array.dtype == np.float32 else array


def _groups(file):
    groups = []
    file.visititems(lambda name, item: groups.append((name, item)) if isinstance(item, h5py.Group) else None)
    return groups
