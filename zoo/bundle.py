"""Puts a trained preset into the package, with float16 weights and a ready export.

usage: python zoo/bundle.py runs/people/recalibrated mobilenetv2_rle_people
"""

import sys

from keras_regpose.hub.preset_files import save_preset
from keras_regpose.presets import BUNDLED, from_preset
from keras_regpose.zoo import preset_info

if __name__ == "__main__":
    trained, name = sys.argv[1:]
    save_preset(
        from_preset(trained),
        BUNDLED / name,
        half_precision=True,
        onnx=True,
        preset=name,
        license=preset_info(name)["license"],
    )
