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
from keras_regpose.data.folders import open_dataset
from keras_regpose.data.subset import Subset
from keras_regpose.inference.evaluation import evaluate

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", default="../shared/data/coco_mini")
parser.add_argument("--people", type=int, default=64)
parser.add_argument("--epochs", type=int, default=400)
options = parser.parse_args()

keras.utils.set_random_seed(0)
people = open_dataset("coco", options.data, "train")
people = Subset(people, range(options.people))
model = rp.PoseRegressor("mobilenetv2", rp.COCO17, input_size=(128, 96))
history = rp.training.train(
    model,
    people,
    epochs=options.epochs,
    batch_size=16,
    learning_rate=2e-3,
    schedule="cosine",
    warmup=50,
    delay_flow=options.epochs // 2,
    augmentation=rp.data.Augmentation.none(),
    verbose=2,
)
result = {
    "environment": environment(),
    "model": "mobilenetv2, RLE, 128×96, random start",
    "people": len(people),
    "epochs": options.epochs,
    "loss": [round(value, 3) for value in history["loss"][:: max(options.epochs // 20, 1)]],
    "figures": evaluate(model, people),
}
print(json.dumps(result["figures"], indent=1))
results = Path(__file__).parent / "results"
(results / "overfit_coco_mini.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
