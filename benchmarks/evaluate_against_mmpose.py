"""Does `evaluate` print what MMPose's own test run prints, on the same weights and the same boxes?

    python benchmarks/evaluate_against_mmpose.py --peer-python PYTHON --peer-folder FOLDER [--data ../shared/data]

`--peer-python` is a Python with MMPose 1.x, `--peer-folder` holds `mmpose_cpu.py`, whose `build(row)` returns
MMPose's (config, model). Random networks predict nothing, and any two pipelines agree on an AP of 0. So MMPose's side
fits the last layer of a random network to the people of the set by ridge regression, which gives keypoints good
enough for every part of the metric to matter, and writes a checkpoint. It is converted, and both sides test it: their
own reading, crops, network, flip test, scores, suppression and evaluation. The random MobileNetV2's
features vary so little that its fit needs weights thousands of times as large as a trained head's
(`norm_of_last_layer`), which show float32's rounding as shifts of the keypoints; those of the ResNets are ordinary.
Writes results/evaluate_against_mmpose.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from environment import environment

ROWS = ("mobilenetv2_rle_coco", "resnet50_rle_coco", "resnet50_coco")
SETS = {
    "4 images of MMPose's tests, annotated boxes": (
        "mmpose_testdata/coco/test_coco.json",
        "mmpose_testdata/coco",
        None,
    ),
    "4 images of MMPose's tests, detected boxes": (
        "mmpose_testdata/coco/test_coco.json",
        "mmpose_testdata/coco",
        "mmpose_testdata/coco/test_coco_det_AP_H_56.json",
    ),
    "44 images of COCO val2017, annotated boxes": (
        "coco_mini/annotations/person_keypoints_val2017.json",
        "coco_mini/val2017",
        None,
    ),
}

PEER = r"""
import json, sys
import numpy as np, torch

folders, row, folder, sets = sys.argv[1].split(":"), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
shrinkage = float(sys.argv[5])
sys.path[:0] = folders
from golden_weights import golden_tensor
from mmpose_cpu import build
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmpose.registry import DATASETS, METRICS

torch.manual_seed(0)
config, model = build(row)
for name, tensor in model.state_dict().items():
    tensor.copy_(torch.from_numpy(golden_tensor(name, tuple(tensor.shape))))

def dataset_of(annotations, images, boxes):
    options = dict(config.val_dataloader.dataset)
    options.update(data_root="", ann_file=annotations, data_prefix=dict(img=images), bbox_file=boxes)
    return DATASETS.build(options)

def batches(dataset):
    for start in range(0, len(dataset), 16):
        yield pseudo_collate([dataset[i] for i in range(start, min(start + 16, len(dataset)))])

features, labels, weights = [], [], []
width, height = config.codec["input_size"]
with torch.no_grad():
    for annotations, images, boxes in sets.values():
        if boxes is not None:
            continue
        for batch in batches(dataset_of(annotations, images, None)):
            data = model.data_preprocessor(batch, False)
            for mirrored in (False, True):  # both halves of the flip test
                inputs = data["inputs"].flip(-1) if mirrored else data["inputs"]
                features.append(model.extract_feat(inputs)[-1].flatten(1).double().numpy())
                for sample in data["data_samples"]:
                    instance, facts = sample.gt_instances, sample.metainfo
                    label = (instance.keypoints[0] - facts["input_center"]) / facts["input_scale"] + 0.5
                    visible = instance.keypoints_visible[0]
                    if mirrored:
                        label = np.stack([1 - label[:, 0] - 1 / width, label[:, 1]], 1)[facts["flip_indices"]]
                        visible = visible[facts["flip_indices"]]
                    labels.append(label)
                    weights.append(visible)
features, labels, weights = np.concatenate(features), np.stack(labels), np.stack(weights)
mean = features.mean(0)
centered = features - mean
weight, bias = model.head.fc.weight, model.head.fc.bias
joints = labels.shape[1]
rows = weight.shape[0] // joints
penalty = shrinkage * np.trace(centered @ centered.T) / len(centered)
with torch.no_grad():
    weight.normal_(0, 0.02)  # the rows of the scale: scores that differ
    bias.fill_(-1.0)
    for joint in range(joints):
        seen = weights[:, joint] > 0
        average = labels[seen, joint].mean(0)
        # Orthogonal to the mean feature: parts of the sum that cancel would leave nothing but float32's rounding.
        x = np.concatenate([centered[seen], 100 * mean[None]])
        y = np.concatenate([labels[seen, joint] - average, np.zeros((1, 2))])
        solution = x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), y)
        for axis in range(2):
            weight[joint * rows + axis] = torch.tensor(solution[:, axis])
            bias[joint * rows + axis] = float(average[axis] - mean @ solution[:, axis])
torch.save(dict(meta={}, state_dict=model.state_dict()), folder + "/checkpoint.pth")

answers = {}
with torch.no_grad():
    for name, (annotations, images, boxes) in sets.items():
        dataset = dataset_of(annotations, images, boxes)
        metric = METRICS.build(dict(config.val_evaluator, ann_file=annotations, outfile_prefix=folder + "/mmpose"))
        metric.dataset_meta = dataset.metainfo
        evaluator = Evaluator(metric)
        people = []
        for batch in batches(dataset):
            outputs = model.test_step(batch)
            evaluator.process(data_samples=outputs, data_batch=batch)
            people += [
                dict(image_id=output.metainfo["img_id"], keypoints=output.pred_instances.keypoints[0].tolist(),
                     scores=output.pred_instances.keypoint_scores[0].tolist(),
                     box_score=float(output.gt_instances.bbox_scores[0]))
                for output in outputs
            ]
        figures = {key.removeprefix("coco/"): value for key, value in evaluator.evaluate(len(dataset)).items()}
        answers[name] = dict(figures=figures, people=people)
json.dump(answers, open(folder + "/answers.json", "w"))
"""

NAMES = {"AP .5": "AP50", "AP .75": "AP75", "AP (M)": "APM", "AP (L)": "APL"}
NAMES |= {"AR .5": "AR50", "AR .75": "AR75", "AR (M)": "ARM", "AR (L)": "ARL"}


def compare(row, options):
    import keras_regpose as rp
    from keras_regpose.evaluation.evaluate import predict_samples, score_predictions

    sets = {
        name: [str(options.data / path) if path else None for path in paths]
        for name, paths in SETS.items()
        if (options.data / paths[0]).exists()
    }
    with tempfile.TemporaryDirectory() as folder:
        folders = f"{options.peer_folder}:{Path(__file__).parents[1] / 'tests'}"
        peer = [options.peer_python, "-c", PEER, folders, row, folder, json.dumps(sets), str(options.shrinkage)]
        subprocess.run(peer, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        answers = json.loads(Path(folder, "answers.json").read_text())
        model = rp.convert.from_mmpose(Path(folder, "checkpoint.pth"), row)
    kernel = model.get_layer("coordinates").get_weights()[0]
    comparison = {"norm_of_last_layer": round(float(np.linalg.norm(kernel, axis=0).max()))}
    for name, (annotations, images, boxes) in sets.items():
        people = rp.data.Coco(annotations, images, boxes=boxes)
        poses, positions = predict_samples(model, people, flip_test=True)
        ours = score_predictions(poses, positions, people, model.input_size)
        theirs = {NAMES.get(key, key): value for key, value in answers[name]["figures"].items()}
        assert len(poses) == len(answers[name]["people"])
        shifts = []
        image_ids = people.field("image_id")
        for mine, position, other in zip(poses, positions, answers[name]["people"], strict=True):
            assert image_ids[position] == other["image_id"] and abs(mine.box_scores[0] - other["box_score"]) < 1e-6
            x1, y1, x2, y2 = mine.boxes[0]
            distance = np.abs(mine.keypoints[0] - np.array(other["keypoints"])).max()
            shifts.append(distance / max(x2 - x1, y2 - y1))
        scores = [
            np.abs(mine - other["scores"]).max()
            for mine, other in zip(poses.scores, answers[name]["people"], strict=True)
        ]
        comparison[name] = {
            "people": len(poses),
            "ours": {key: round(float(ours[key]), 5) for key in theirs},
            "mmpose": {key: round(float(value), 5) for key, value in theirs.items()},
            "largest_difference_of_figures": round(max(abs(ours[key] - theirs[key]) for key in theirs), 5),
            "largest_keypoint_shift_in_box_sides": round(float(max(shifts)), 5),
            "median_keypoint_shift_in_box_sides": round(float(np.median(shifts)), 6),
            "largest_score_difference": round(float(max(scores)), 6),
        }
        print(
            f"{row}, {name}: AP {ours['AP']:.4f} (MMPose {theirs['AP']:.4f}), keypoints within "
            f"{max(shifts):.3%} of the box side",
            flush=True,
        )
    return comparison


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--peer-folder", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rows", nargs="+", default=ROWS)
    parser.add_argument("--shrinkage", type=float, default=3e-3, help="of the fit, relative to the features' variance")
    options = parser.parse_args()
    result = {"environment": environment(), "opencv": cv2.__version__, "flip_test": True}
    result |= {"shrinkage": options.shrinkage, "rows": {}}
    file = Path(__file__).parent / "results" / "evaluate_against_mmpose.json"
    for row in options.rows:
        result["rows"][row] = compare(row, options)
        file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
