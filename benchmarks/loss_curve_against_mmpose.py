"""Does a recipe learn as MMPose's training does? 50 optimizer steps of both, from the same weights and batches.

    python benchmarks/loss_curve_against_mmpose.py --peer-python PYTHON --peer-folder FOLDER [--coco FOLDER]

`--peer-python` is a Python with MMPose 1.x, `--peer-folder` holds `mmpose_cpu.py`, whose `build(row)` returns MMPose's
(config, model). MMPose's side initialises the network and writes a checkpoint, which is converted; the augmented
batches are recorded once and given to both. Network, loss, flow, batch normalisation, Adam and warm-up are each side's
own. Needs matplotlib. Writes results/loss_curve_against_mmpose.json and .png.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import keras
import numpy as np
from environment import environment

import keras_regpose as rp
from keras_regpose.datasets import open_dataset
from keras_regpose.training import Recipe
from keras_regpose.training.optimizer import make_optimizer, make_schedule

RESULTS = Path(__file__).parent / "results"
STEPS = 50
BATCHES_PER_EPOCH = 293  # of COCO's 149,813 people, 512 at a time; it says when the learning rate drops

PEER = r"""
import json, sys
import numpy as np, torch

sys.path.insert(0, sys.argv[1])
from mmpose_cpu import build

row, folder, task = sys.argv[2:5]
torch.manual_seed(0)
config, model = build(row)
if task == "initialise":
    model.init_weights()
    torch.save({"meta": {}, "state_dict": model.state_dict()}, f"{folder}/start.pth")
    sys.exit()
model.load_state_dict(torch.load(f"{folder}/start.pth", weights_only=True)["state_dict"])
settings = config.optim_wrapper["optimizer"]
warmup = config.param_scheduler[0]
assert settings["type"] == "Adam" and warmup["type"] == "LinearLR" and not warmup["by_epoch"]
optimizer = torch.optim.Adam(model.parameters(), settings["lr"])
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, warmup["start_factor"], total_iters=warmup["end"] - 1)
mean = torch.tensor(config.model.data_preprocessor["mean"]).view(1, 3, 1, 1)
std = torch.tensor(config.model.data_preprocessor["std"]).view(1, 3, 1, 1)
stored = np.load(f"{folder}/batches.npz")
model.train()
losses = []
for crops, targets in zip(stored["crops"], stored["targets"]):
    x = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() - mean) / std
    y = model.head(model.extract_feat(x))
    targets = torch.from_numpy(targets)
    labels, weights = targets[..., :2], targets[..., 2:]
    if y.shape[-1] == 4:
        loss = model.head.loss_module(y[..., :2], y[..., 2:], labels, weights)
    else:
        loss = model.head.loss_module(y, labels, weights)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    losses.append(loss.item())
model.eval()
with torch.no_grad():
    output = model.head(model.extract_feat(x))[..., :2].numpy()
json.dump({"losses": losses, "after": output.tolist()}, open(f"{folder}/mmpose.json", "w"))
"""


def compare(row, options, folder):
    def peer(task):
        command = [options.peer_python, "-c", PEER, options.peer_folder, row, folder, task]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    peer("initialise")
    model = rp.convert.from_mmpose(f"{folder}/start.pth", row)
    recipe = Recipe.of(row)
    people = open_dataset("coco", options.coco, "train")
    dataset = rp.data.make_dataset(
        people, model, training=True, batch_size=options.batch, augmentation=recipe.augmentation, repeat=True
    )
    batches = [(np.asarray(crops), np.asarray(targets)) for crops, targets in dataset.take(STEPS)]
    np.savez(f"{folder}/batches.npz", crops=[crops for crops, _ in batches], targets=[target for _, target in batches])
    peer("train")
    theirs = json.loads(Path(f"{folder}/mmpose.json").read_text())

    keras.utils.set_random_seed(0)
    model.compile(make_optimizer(recipe, make_schedule(recipe, BATCHES_PER_EPOCH)))
    ours = []
    for crops, targets in batches:
        model.reset_metrics()
        ours.append(float(model.train_on_batch(crops, targets, return_dict=True)["loss"]))
    after = model.predict(batches[-1][0], verbose=0)[..., :2]
    difference = np.abs(np.array(ours) / np.array(theirs["losses"]) - 1)
    return {
        "keras_regpose": ours,
        "mmpose": theirs["losses"],
        "largest_relative_difference": float(difference.max()),
        "median_relative_difference": float(np.median(difference)),
        "largest_difference_of_keypoints_after": float(np.abs(after - np.array(theirs["after"])).max()),
    }


def draw(rows):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(rows), figsize=(5 * len(rows), 3.6), squeeze=False)
    for axis, (row, curves) in zip(axes[0], rows.items(), strict=True):
        axis.plot(curves["mmpose"], color="0.6", linewidth=5, label="MMPose")
        axis.plot(curves["keras_regpose"], color="C0", linewidth=1.5, label="keras_regpose")
        axis.set(xlabel="step", ylabel="loss", title=row)
        axis.legend()
    figure.tight_layout()
    figure.savefig(RESULTS / "loss_curve_against_mmpose.png", dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--peer-folder", required=True)
    parser.add_argument("--coco", default="../shared/data/coco_mini")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rows", nargs="+", default=["mobilenetv2_rle_coco", "resnet50_rle_coco"])
    options = parser.parse_args()
    rows = {}
    for row in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            rows[row] = compare(row, options, folder)
        print(
            row,
            {name: value for name, value in rows[row].items() if name.endswith(("difference", "after"))},
            flush=True,
        )
        result = {
            "environment": environment(),
            "peer": "MMPose 1.3.2",
            "steps": STEPS,
            "batch": options.batch,
            "batches_per_epoch": BATCHES_PER_EPOCH,
            "unit_of_keypoints": "crop width and height",
            "rows": rows,
        }
        (RESULTS / "loss_curve_against_mmpose.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        draw(rows)


if __name__ == "__main__":
    main()
