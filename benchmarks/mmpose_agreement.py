"""How far is each network's output from MMPose's, with the same weights? On vectors recorded from MMPose 1.3.2.

usage: python benchmarks/mmpose_agreement.py
Weights follow the rule of the recorded vectors, inputs are theirs. Writes benchmarks/results/mmpose_agreement.json,
from which the cards of the zoo are made.
"""

import argparse
import json
import sys
from pathlib import Path

import keras
import numpy as np
from environment import environment

from keras_regpose.convert import from_mmpose
from keras_regpose.models.network import IMAGENET_MEAN, IMAGENET_STD

here = Path(__file__).parent
sys.path.insert(0, str(here.parent / "tests"))
from golden_weights import golden_tensor  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--golden", default=here.parent / "tests" / "golden")
golden = Path(parser.parse_args().golden)

recorded, family = dict(np.load(golden / "models.npz")), np.load(golden / "family.npz")
networks = {name: row["state_dict"] for name, row in json.loads((golden / "models.json").read_text()).items()}
for name, row in json.loads((golden / "family.json").read_text()).items():
    networks[name] = networks["resnet50_mpii"] | row["shapes_unlike_resnet50_mpii"]
    recorded[name] = family[f"{name}/output"]
rows = {}
for name, shapes in networks.items():
    model = from_mmpose({key: golden_tensor(key, tuple(shape)) for key, shape in shapes.items()}, name)
    batch = np.random.default_rng([0, 7]).standard_normal((2, *model.input_size, 3)).astype(np.float32)
    output = model.predict((batch * np.array(IMAGENET_STD) + np.array(IMAGENET_MEAN)).astype(np.float32), verbose=0)
    expected = recorded[name].copy()
    expected[..., 2:] = 1 / (1 + np.exp(-expected[..., 2:].astype(np.float64)))
    rows[name] = {"largest_deviation": float(f"{np.abs(output - expected).max():.2g}"), "crops": len(output)}
    print(name, rows[name], flush=True)
    del model
    keras.backend.clear_session()
result = {"environment": environment(), "mmpose": "1.3.2", "unit": "crop width and height", "rows": rows}
(here / "results" / "mmpose_agreement.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
