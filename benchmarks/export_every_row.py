"""Does every published row export in every format, and give Keras's outputs there?

    python benchmarks/export_every_row.py [--rows resnet50_coco …]

Networks are whole and at their published input size; weights follow the rule of the recorded vectors, since the
checkpoints are not at hand. Each is exported in float32, opened again, and compared with Keras on two drawn people.
Writes results/export_every_row.json after each row, and goes on with the rows that this does not hold yet.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from environment import environment

import keras_regpose as rp
from keras_regpose.convert import from_mmpose
from keras_regpose.export import calibration_crops
from keras_regpose.export.formats import FORMATS
from keras_regpose.files import write_whole

here = Path(__file__).parent
sys.path.insert(0, str(here.parent / "tests"))
from golden_weights import golden_tensor  # noqa: E402

RESULT = here / "results" / "export_every_row.json"
# Rows whose network is that of another one, at another input size or from another start.
SAME_NETWORK = {
    "resnet50_rle_pretrained_coco": "resnet50_rle_coco",
    "resnet152_rle_coco_384x288": "resnet152_rle_coco",
}


def state_dicts() -> dict[str, dict]:
    """Returns the shapes of the tensors in each published row's checkpoint, by row."""
    golden = here.parent / "tests" / "golden"
    shapes = {name: row["state_dict"] for name, row in json.loads((golden / "models.json").read_text()).items()}
    for name, row in json.loads((golden / "family.json").read_text()).items():
        shapes[name] = shapes["resnet50_mpii"] | row["shapes_unlike_resnet50_mpii"]
    return shapes | {name: shapes[other] for name, other in SAME_NETWORK.items()}


def export(name: str, shapes: dict) -> dict:
    """Returns the greatest difference of each format's outputs from Keras's, in units of the crop."""
    model = from_mmpose({key: golden_tensor(key, tuple(shape)) for key, shape in shapes.items()}, name)
    crops = calibration_crops(rp.data.Synthetic(2, seed=3), model.input_size)
    expected, differences, began = model.predict_on_batch(crops), {}, time.monotonic()
    for format, kind in FORMATS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"pose{kind.SUFFIX}"
            model.export(path, format, calibration=crops, verbose=False)  # the two crops, not sixteen of its own
            fast = rp.load_exported(path, trust=True)
            assert (fast.skeleton, fast.input_size, fast.method) == (model.skeleton, model.input_size, model.method)
            difference = np.abs(fast.predict_on_batch(crops).astype(np.float64) - expected).max()
        differences[format] = float(f"{difference:.2g}")
    spread = float(f"{expected[..., :2].std():.2g}")
    seconds = round(time.monotonic() - began)
    size = list(model.input_size)
    return {"input_size": size, "greatest_difference": differences, "spread_of_keypoints": spread, "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shapes = state_dicts()
    published = [name for name in rp.list_presets() if rp.preset_info(name)["checkpoint"]]
    parser.add_argument("--rows", nargs="+", default=published, choices=published)
    result = {"environment": environment(), "precision": "float32", "unit": "crop width and height", "crops": 2}
    result["rows"] = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else {}
    for name in parser.parse_args().rows:
        if name in result["rows"]:
            continue
        result["rows"][name] = export(name, shapes[name])
        print(name, result["rows"][name], flush=True)
        write_whole(RESULT, json.dumps(result, indent=1) + "\n")
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
