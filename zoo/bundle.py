"""Puts a trained preset into the package, with float16 weights and a ready export.

usage: python zoo/bundle.py runs/people/recalibrated mobilenetv2_rle_people
"""

import sys

from keras_regpose.hub.preset_files import save_preset
from keras_regpose.presets import BUNDLED, from_preset
from keras_regpose.zoo import preset_info

if __name__ == "__main__":
    trained, name = sys.argv[1:]
    facts = {"preset": name, "license": preset_info(name)["license"]}
    # Twice, so that the export is one of the rounded weights.
    save_preset(from_preset(trained), BUNDLED / name, half_precision=True, **facts)
    save_preset(from_preset(BUNDLED / name), BUNDLED / name, half_precision=True, onnx=True, **facts)
