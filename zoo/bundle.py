"""Puts a trained preset into the package, with float16 weights and a ready export.

usage: python zoo/bundle.py runs/people/recalibrated mobilenetv2_rle_people
"""

import json
import os
import sys
from pathlib import Path

import h5py
import numpy as np

from keras_regpose.files import sha256, write_whole
from keras_regpose.hub.preset_files import save_preset
from keras_regpose.presets import BUNDLED, from_preset
from keras_regpose.zoo import preset_info


def halve(preset: Path) -> None:
    """Stores the weights of a preset as float16, which halves its files; they are read as float32."""
    description = json.loads((preset / "preset.json").read_text(encoding="utf-8"))
    for file in preset.glob("*.weights.h5"):
        store_half_precision(file)
        description["checksums"][file.name] = sha256(file)
    write_whole(preset / "preset.json", json.dumps(description, indent=1) + "\n")


def store_half_precision(file: Path) -> None:
    """Stores the weights of a file of Keras as float16."""

    def copy(name, item):
        if isinstance(item, h5py.Group):
            half.create_group(name).attrs.update(item.attrs)
        else:
            half[name] = item[()].astype(np.float16 if item.dtype == np.float32 else item.dtype)

    shorter = file.with_suffix(".half")
    with h5py.File(file, "r") as full, h5py.File(shorter, "w") as half:
        half.attrs.update(full.attrs)
        full.visititems(copy)
    os.replace(shorter, file)


if __name__ == "__main__":
    trained, name = sys.argv[1:]
    facts = {"preset": name, "license": preset_info(name)["license"]}
    # Twice, so that the export is one of the rounded weights.
    for source, options in ((trained, {}), (BUNDLED / name, {"onnx": True})):
        save_preset(from_preset(source), BUNDLED / name, **options, **facts)
        halve(BUNDLED / name)
