"""Can the model learn real people at all? 64 COCO people, no augmentation, RLE: their AP should come near 1.

usage: python benchmarks/overfit_coco_mini.py --data ../shared/data/coco_mini
Writes benchmarks/results/overfit_coco_mini.json.
"""

import argparse
import json
from pathlib import Path

import keras
from environment import environment

import keras_regpose as rp
from keras_regpose.data.crops import CropLoader
from keras_regpose.data.people import Subset
from keras_regpose.datasets import open_dataset
from keras_regpose.evaluation.evaluate import evaluate

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="../shared/data/coco_mini")
parser.add_argument("--people", type=int, default=64)
parser.add_argument("--epochs", type=int, default=1200)
options = parser.parse_args()

keras.utils.set_random_seed(0)
people = open_dataset("coco", options.data, "train")
model = rp.PoseRegressor("mobilenetv2_0.5", rp.COCO17, input_size=(96, 72))
# Labels outside the padded box get weight 0, as in the reference, and cannot be learned: leave such people out.
loader = CropLoader(people, model.skeleton, model.input_size)
inside = [i for i in range(len(people)) if loader.load(0, i)[1][:, 2].sum() == people[i].visible.sum()]
people = Subset(people, inside[: options.people])
history = rp.training.train(
    model,
    people,
    epochs=options.epochs,
    batch_size=options.people,
    learning_rate=3e-3,
    schedule="cosine",
    warmup=50,
    delay_flow=options.epochs // 2,
    augmentation=rp.data.Augmentation.none(),
    verbose=2,
)
result = {
    "environment": environment(),
    "model": "mobilenetv2_0.5, RLE, 96×72, random start",
    "people": len(people),
    "epochs": options.epochs,
    "loss": [round(value, 3) for value in history["loss"][:: max(options.epochs // 20, 1)]],
    # Suppression takes one of two people who stand in the same place, whatever was learned: both figures are kept.
    "figures": evaluate(model, people, nms=None),
    "figures_with_oks_nms": evaluate(model, people),
}
print(json.dumps({key: result[key] for key in ("figures", "figures_with_oks_nms")}, indent=1))
results = Path(__file__).parent / "results"
(results / "overfit_coco_mini.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
