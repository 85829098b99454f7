"""A preset directory: written and read.

`config.json`, `metadata.json` and `model.weights.h5` are a plain Keras model of stock layers, which
`keras.saving.load_model` opens without this package. `preset.json` says what its keypoints mean and lists the
SHA-256 of the other files, and `flow.weights.h5` holds the density learned by the RLE loss, for training to go on.

`exports/pose.onnx`, with its description beside it, is there if the preset was saved with `onnx=True`; with it the
preset runs at once, and without Keras, which is therefore imported where it is needed alone.

A preset may come from a stranger: nothing in it is executed, and no file beside it is opened.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from keras_regpose.files import damage_explained, draft, sha256
from keras_regpose.skeleton import Skeleton
from keras_regpose.zoo import model_facts

FORMAT = 1
FLOW_FILE = "flow.weights.h5"
EXPORT = "exports/pose"  # and the suffix of its format
SAVE_AGAIN = "Download or save the preset again"
PRESET_FILES = ("preset.json", "config.json", "metadata.json", "model.weights.h5", FLOW_FILE)
PRESET_FILES += (f"{EXPORT}.onnx", f"{EXPORT}.onnx.json")


class PresetError(ValueError):
    """A preset directory is not what it should be."""


class NewerFormatError(PresetError):
    """A preset directory was written by a newer version of this package."""


def save_preset(
    model, directory: str | Path, onnx: bool = False, advice: str = "choose a folder of another disk", **facts
) -> None:
    """Writes a model as a preset directory, beside its target first and then renamed into place.

    Args:
        model: `PoseRegressor`.
        directory: str or path. A preset that is already there is replaced.
        onnx: bool. Whether an ONNX export goes with it, with weights in float16.
        advice: str. What a person can do, besides freeing space, when the disk is full.
        **facts: JSON-ready values that go into `preset.json` (metrics, licence, data).

    Raises:
        PresetError: If something else is there.
        OSError: If it cannot be written; `errno` is ENOSPC if the disk is full. What was there is still there then.
    """
    import keras

    directory = Path(directory)
    if directory.exists() and not (directory.is_dir() and (not any(directory.iterdir()) or is_preset(directory))):
        raise PresetError(f"{directory} exists and is not a preset. Choose another folder, or remove it")
    with draft(directory, advice) as written:
        written.mkdir()
        keras.saving.save_model(model.to_keras(), written, zipped=False)
        if model.flow is not None:
            flow_model(model.flow).save_weights(written / FLOW_FILE)
        if onnx:
            model.export(written / f"{EXPORT}.onnx", precision="float16", verbose=False)
        description: dict = {"format": FORMAT, "method": model.method, "skeleton": model.skeleton.to_dict()}
        description |= {"input_size": list(model.input_size)}
        description |= ({"quantiles": model.quantiles} if model.quantiles else {}) | facts
        files = [name for name in PRESET_FILES if (written / name).is_file()]
        description["checksums"] = {name: sha256(written / name) for name in files}
        (written / "preset.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class PresetFolder:
    """A preset directory that was opened: what its `preset.json` says, checked. It is passed on instead of the path.

    Attributes:
        path: Path of the directory.
        description: dict. The contents of `preset.json`.
        skeleton: `Skeleton`.
        method: "rle" or "deeppose".
    """

    path: Path
    description: dict
    skeleton: Skeleton
    method: str

    @classmethod
    def open(cls, directory: str | os.PathLike) -> "PresetFolder":
        """Reads `preset.json` and checks that it is of a format that this version reads, and that no file is missing.

        Args:
            directory: str or path.

        Raises:
            FileNotFoundError: If there is no preset there.
            PresetError: If it is incomplete, damaged or of a newer format.
        """
        directory = Path(directory)
        if not is_preset(directory):
            raise FileNotFoundError(f"{directory} is not a preset: it has no preset.json, as save_to_preset writes it")
        file = directory / "preset.json"
        with damage_explained(file, SAVE_AGAIN, PresetError):
            description = json.loads(file.read_text(encoding="utf-8"))
            if description["format"] != FORMAT:
                found = f"{directory} has preset format {description['format']!r:.80}"
                raise NewerFormatError(f"{found}, this version reads {FORMAT}. Upgrade keras-regpose")
            skeleton, method, _ = model_facts(description)
            if not isinstance(description.setdefault("checksums", {}), dict):
                raise ValueError("checksums must be an object of file names and SHA-256 digests")
            for name in description["checksums"]:
                if name not in PRESET_FILES[1:]:
                    raise PresetError(f"{file} lists {name!r}, which is no file of a preset. Do not use it")
        folder = cls(directory, description, skeleton, method)
        for name in folder.needed_files:
            if not (directory / name).is_file():
                raise PresetError(f"{directory} lacks {name}. {SAVE_AGAIN}")
        return folder

    @property
    def needed_files(self) -> list[str]:
        """The names of the files that the preset cannot do without, beside its `preset.json`."""
        names = {"config.json", "model.weights.h5", *self.description["checksums"]}
        names |= {FLOW_FILE} if self.method == "rle" else set()
        return [name for name in PRESET_FILES if name in names]

    def key(self) -> str:
        """Returns hexadecimal digits that stand for the architecture, the weights and the skeleton."""
        names = ("config.json", "model.weights.h5")
        digests = [self.description["checksums"].get(name) or sha256(self.path / name) for name in names]
        return hashlib.sha256(json.dumps([*digests, self.method, self.skeleton.to_dict()]).encode()).hexdigest()[:16]

    def damaged_files(self) -> list[str]:
        """Returns the names of the files that are not what `preset.json` lists; older presets list none."""
        return [name for name, digest in self.description["checksums"].items() if sha256(self.path / name) != digest]

    def verify(self) -> None:
        """Compares the files with the checksums in `preset.json`.

        Raises:
            PresetError: If a file is another one than was saved.
        """
        if damaged := self.damaged_files():
            what = f"{' and '.join(damaged)} differ from the SHA-256 in preset.json"
            raise PresetError(f"{self.path} is damaged: {what}. {SAVE_AGAIN}")


def is_preset(directory: str | os.PathLike) -> bool:
    """Whether a directory holds a preset."""
    return (Path(directory) / "preset.json").is_file()


def flow_model(flow):
    import keras

    return keras.Sequential([keras.Input((2,)), flow])
