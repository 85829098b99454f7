r"""How well does a small model learn 6,402 real photographs? PCK on photographs that it never saw.

usage: keras-regpose train --recipe mobilenetv2_rle_lspet --data ../shared/data/lspet --start BACKBONE \
           --output runs/lspet
       keras-regpose evaluate runs/lspet/best --dataset lsp --data ../shared/data/lspet --recalibrated runs/recalibrated
       python benchmarks/lspet.py runs/lspet --preset runs/recalibrated --data ../shared/data/lspet
BACKBONE was pretrained with heatmaps of the same photographs, which this version no longer does.
Reads the run's history and its best model, evaluates the test split, and compares with the mean pose of the training
people. Writes benchmarks/results/lspet.json and lspet.png (the curves), and contact sheets of the best, the median and
the worst predictions into the run's folder.
"""

import argparse
import csv
import json
from pathlib import Path

import matplotlib
import numpy as np
from environment import environment

import keras_regpose as rp
from keras_regpose import geometry
from keras_regpose.evaluation.calibration import calibrate_predictions
from keras_regpose.evaluation.evaluate import labels, predict_samples, score_predictions
from keras_regpose.evaluation.sheets import prediction_sheet
from keras_regpose.images import save_picture
from keras_regpose.metrics import box_size, pck, torso_size

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", nargs="+", help="folders of the training run, in order if it was continued")
parser.add_argument("--data", default="../shared/data/lspet")
parser.add_argument("--settings", default="", help="the training command, kept beside the figures")
parser.add_argument("--passes", type=int, default=1, help="passes over the people in an epoch of the history")
parser.add_argument("--preset", help="what to evaluate; default: the last run's best model")
options = parser.parse_args()
results = Path(__file__).parent / "results"


def crop_units(samples):
    """Keypoints (N, K, 2) as fractions of the square around the padded box, with weights, centres and sizes."""
    center, scale = geometry.box_to_center_scale(np.stack([sample.box for sample in samples]))
    scale = geometry.fix_aspect_ratio(scale, (1, 1))
    keypoints = np.stack([sample.keypoints for sample in samples])
    visible = np.stack([sample.visible for sample in samples])
    return (keypoints - center[:, None]) / scale[:, None] + 0.5, visible, center, scale


training, test = (rp.data.Lsp(options.data, split=split) for split in ("train", "test"))
model = rp.from_preset(options.preset or f"{options.run[-1]}/best")
poses, positions = predict_samples(model, test)
calibration = calibrate_predictions(poses, positions, test)
pred, (truth, visible) = poses.keypoints, labels(poses, positions, test)
units, weights, _, _ = crop_units(training)
mean_pose = (units * weights[..., None]).sum(0) / weights.sum(0)[:, None]
_, _, center, scale = crop_units([test[position] for position in positions])
mean_pred = geometry.crop_to_image(np.broadcast_to(mean_pose, pred.shape), center, scale)
boxes = poses.boxes
torso = torso_size(truth, visible, model.skeleton)

history = []
for run in options.run:
    with open(Path(run) / "history.csv") as file:
        history += [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def evaluation(poses, positions, flip_test, **more):
    """Figures of the test split, in the form of the zoo's result files."""
    figures = score_predictions(poses, positions, test, model.input_size)
    people, left_out, mean = (figures.pop(name) for name in ("persons", "left_out", "Mean"))
    metrics = {name: round(float(value), 6) for name, value in ({"PCK@0.2": mean} | figures).items()}
    data = {"data": protocol["data"], "people": people, "left_out": left_out, "boxes": protocol["boxes"]}
    return data | {"flip_test": flip_test, "metrics": metrics} | more


protocol = rp.preset_info("mobilenetv2_rle_lspet")["evaluation"]
baseline = {"PCK@0.2": round(pck(mean_pred, truth, visible, torso, model.skeleton)["Mean"], 6)}
calibrated = {
    name: round(getattr(calibration, name), 4)
    for name in ("count", "factor", "binned_error", "coverage_error", "rank_correlation")
}
result = {
    "environment": environment(),
    "training": {"command": options.settings, "people": len(training), "epochs": len(history) * options.passes},
    "evaluations": [
        evaluation(*predict_samples(model, test, flip_test=True), True, baseline=baseline),
        evaluation(poses, positions, False, calibration=calibrated),  # without flip test, as `estimate` predicts
    ],
    "test_PCK@0.2_box": pck(pred, truth, visible, box_size(boxes), model.skeleton)["Mean"],
    "mean_pose_PCK@0.2_box": pck(mean_pred, truth, visible, box_size(boxes), model.skeleton)["Mean"],
    "passes_per_row_of_history": options.passes,
    "history": {key: [round(row[key], 4) for row in history] for key in ("loss", "rle_sigma", "val_PCK")},
}
print(json.dumps({key: value for key, value in result.items() if key != "history"}, indent=1, ensure_ascii=False))
(results / "lspet.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), constrained_layout=True)
epochs = options.passes * np.arange(1, len(history) + 1)
left.plot(epochs, result["history"]["loss"])
# One mislabelled person can have a loss of millions; its peaks leave the picture.
losses = result["history"]["loss"]
left.set(xlabel="epoch", ylabel="RLE loss", title="Training loss", ylim=(min(losses) - 3, losses[0] + 3))
right.plot(epochs, result["history"]["val_PCK"], label="model, validation split")
right.axhline(baseline["PCK@0.2"], color="gray", linestyle="--", label="mean pose, test split")
right.set(xlabel="epoch", ylabel="PCK@0.2 of the torso", title="Photographs never trained on", ylim=(0, None))
right.legend()
figure.savefig(results / "lspet.png", dpi=110)

error = np.linalg.norm(pred - truth, axis=-1) / box_size(boxes)[:, None]
order = np.argsort((error * visible).sum(-1) / visible.sum(-1))
middle = len(order) // 2
for name, chosen in (("best", order[:24]), ("median", order[middle - 12 : middle + 12]), ("worst", order[-24:])):
    sheet = prediction_sheet(poses[chosen], positions[chosen], test)
    save_picture(Path(options.run[-1]) / f"{name}.png", sheet)
