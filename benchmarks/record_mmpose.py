"""Records from MMPose what the tests of the rows for faces and hands, and of every row's recipe, compare with.

    PEER_PYTHON benchmarks/record_mmpose.py --peer-folder FOLDER

Run it with a Python that has MMPose 1.3.2; the folder holds `mmpose_cpu.py`, which imports it on a CPU. Weights,
pictures, people and differences are functions of `tests/golden_weights.py`, so that only MMPose's answers are kept.
Writes tests/golden/family.npz, family.json and protocol.json; the README beside them says what is in them.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--peer-folder", required=True)
sys.path[:0] = [parser.parse_args().peer_folder, str(Path(__file__).parents[1] / "tests")]
import cv2  # noqa: E402
import mmengine.dataset.sampler as sampling  # noqa: E402
import mmpose_cpu  # noqa: E402
import torch  # noqa: E402
from golden_weights import golden_differences, golden_image, golden_people, golden_tensor  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.dataset import pseudo_collate  # noqa: E402
from mmpose.models import build_pose_estimator  # noqa: E402
from mmpose.registry import DATASETS, METRICS, MODELS, TRANSFORMS  # noqa: E402

CONFIGS = Path(mmpose_cpu.CONFIG_ROOT).parents[1]
GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
FACES, HANDS = "face_2d_keypoint/topdown_regression/wflw", "hand_2d_keypoint/topdown_regression"
FAMILY = {
    "resnet50_wflw": f"{FACES}/td-reg_res50_8xb64-210e_wflw-256x256.py",
    "resnet50_wing_wflw": f"{FACES}/td-reg_res50_wingloss_8xb64-210e_wflw-256x256.py",
    "resnet50_softwing_wflw": f"{FACES}/td-reg_res50_softwingloss_8xb64-210e_wflw-256x256.py",
    "resnet50_onehand10k": f"{HANDS}/onehand10k/td-reg_res50_8xb64-210e_onehand10k-256x256.py",
    "resnet50_rhd2d": f"{HANDS}/rhd2d/td-reg_res50_8xb64-210e_rhd2d-256x256.py",
}
COCO = "body_2d_keypoint/topdown_regression/coco"
ROWS = {name: f"body_2d_keypoint/topdown_regression/{file}" for name, file in mmpose_cpu.ROWS.items()} | {
    "resnet50_rle_pretrained_coco": f"{COCO}/td-reg_res50_rle-pretrained-8xb64-210e_coco-256x192.py",
    "resnet152_rle_coco_384x288": f"{COCO}/td-reg_res152_rle-8xb64-210e_coco-384x288.py",
    **FAMILY,
}
PEOPLE = {"CocoDataset": 149_813, "MpiiDataset": 22_246, "WFLWDataset": 7_500}
PEOPLE |= {"OneHand10KDataset": 10_000, "Rhd2DDataset": 41_258}
SIZES = [(352, 400), (400, 320), (256, 256)]  # height and width of the pictures


def network(config, row, answers, facts):
    model_config = config.model.copy()
    model_config.backbone.pop("init_cfg", None)
    model = build_pose_estimator(model_config).eval()
    state = {name: golden_tensor(name, tuple(value.shape)) for name, value in model.state_dict().items()}
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    batch = np.random.default_rng([0, 7]).standard_normal((2, 256, 256, 3)).astype(np.float32)
    with torch.no_grad():
        (features,) = model.backbone(torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()))
        answers[f"{row}/output"] = model.head(model.neck((features,))).numpy()
    answers[f"{row}/features_mean_std"] = np.array([features.mean(), features.std(unbiased=False)], np.float32)
    known = json.loads((GOLDEN / "models.json").read_text())["resnet50_mpii"]["state_dict"]
    shapes = {name: list(value.shape) for name, value in state.items()}
    differing = {name: shape for name, shape in shapes.items() if known.get(name) != shape}
    assert set(shapes) == set(known)
    facts["params"] = sum(value.numel() for value in model.parameters())
    facts["shapes_unlike_resnet50_mpii"] = differing
    return model


def annotation_file(dataset, keypoints):
    """Returns three people as the files that MMPose distributes have them: one of each picture."""
    people = golden_people(3, keypoints, seed=1)
    images, annotations = [], []
    for number, (height, width) in enumerate(SIZES):
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        points = np.concatenate([people["truth"][number], people["visible"][number][:, None]], -1)
        x1, y1, x2, y2 = people["boxes"][number].tolist()
        entry = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0}
        entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
        entry["keypoints"] = points.tolist() if dataset == "Rhd2DDataset" else points.ravel().tolist()
        if dataset == "WFLWDataset":
            centre, side = [(x1 + x2) / 2 + 3.5, (y1 + y2) / 2 - 2.25], max(x2 - x1, y2 - y1)
            entry |= {"num_keypoints": keypoints, "center": centre, "scale": round(side / 200 * 1.1, 3)}
        annotations.append(entry)
    # The files of both sets of hands list these names, although RHD's points come from the tip of each finger.
    fingers = [f"{name}{n}" for name in ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
               for n in range(1, 5)]  # fmt: skip
    names = [] if dataset == "WFLWDataset" else ["wrist", *fingers]
    categories = [{"id": 1, "name": "face" if not names else "hand", "keypoints": names}]
    return {"images": images, "annotations": annotations, "categories": categories}


def pipeline(config, model, row, answers, facts, folder):
    """The dataset's own reader, the test pipeline and `test_step`, without and with flip test."""
    options = config.val_dataloader.dataset.copy()
    contents = facts["annotations"] = annotation_file(options.type, config.model.head.num_joints)
    (folder / "people.json").write_text(json.dumps(contents))
    options.update(data_root=str(folder), ann_file="people.json", data_prefix={"img": ""})
    dataset = DATASETS.build(options)
    for name, flip in (("plain", False), ("flip", True)):
        model.test_cfg = config.model.test_cfg | {"flip_test": flip}
        with torch.no_grad():
            results = model.test_step(pseudo_collate([dataset[place] for place in range(len(dataset))]))
        found = np.concatenate([one.pred_instances.keypoints for one in results])
        answers[f"{row}/{name}"] = found.astype(np.float32)
    answers[f"{row}/boxes"] = np.concatenate([one.gt_instances.bboxes for one in results]).astype(np.float32)


def metrics(config, facts):
    """MMPose's own metric classes on people near the truth."""
    people = golden_people(60, config.model.head.num_joints)
    samples = [
        {
            "pred_instances": {"keypoints": pred[None]},
            "gt_instances": {"keypoints": truth[None], "keypoints_visible": visible[None], "bboxes": box[None]},
        }
        for truth, visible, box, pred in zip(
            *(people[key] for key in ("truth", "visible", "boxes", "pred")), strict=True
        )
    ]
    evaluators = config.val_evaluator if isinstance(config.val_evaluator, list) else [config.val_evaluator]
    facts["metrics"] = {}
    for one in evaluators:
        metric = METRICS.build(one)
        metric.dataset_meta = {"dataset_name": "wflw"}
        metric.process([], samples)
        figures = metric.evaluate(len(samples))
        facts["metrics"] |= {name: float(value) for name, value in figures.items()}


def losses(answers):
    for kind in ("SmoothL1Loss", "WingLoss", "SoftWingLoss"):
        for scale in (1, 30):
            values = {name: torch.from_numpy(value) for name, value in golden_differences(scale).items()}
            values["pred"].requires_grad_()
            loss = MODELS.build({"type": kind, "use_target_weight": True})(*values.values())
            loss.backward()
            answers[f"{kind}/{scale}/loss"] = loss.detach().numpy()
            answers[f"{kind}/{scale}/gradient"] = values["pred"].grad.numpy()


def batches_of_an_epoch(people, per_device, devices=8):
    sampling.get_dist_info = lambda: (0, devices)
    sampler = sampling.DefaultSampler(range(people), shuffle=True)
    return len(torch.utils.data.DataLoader(range(people), batch_size=per_device, sampler=sampler))


def protocol(config):
    """What a config says of training and validation, with the defaults of its transforms filled in."""
    train, val = config.train_dataloader, config.val_dataloader.dataset
    transforms = {
        one["type"]: TRANSFORMS.build(one) for one in train.dataset.pipeline if one["type"] != "GenerateTarget"
    }
    warmup, steps = config.param_scheduler
    box, half = transforms["RandomBBoxTransform"], transforms.get("RandomHalfBody")
    evaluators = config.val_evaluator if isinstance(config.val_evaluator, list) else [config.val_evaluator]
    return {
        "dataset": train.dataset.type,
        "backbone": [config.model.backbone.type, config.model.backbone.get("depth")],
        "start": config.model.backbone.init_cfg.checkpoint,
        "loss": config.model.head.loss.type,
        "input_size_wh": list(config.model.head.decoder.input_size),
        "epochs": config.train_cfg.max_epochs,
        "validate_every": config.train_cfg.val_interval,
        "optimizer": [config.optim_wrapper.optimizer.type, config.optim_wrapper.optimizer.lr],
        "warmup": [warmup.start_factor, warmup.end, warmup.by_epoch],
        "drops": [list(steps.milestones), steps.gamma],
        "batch_per_device": train.batch_size,
        "batch_size": config.auto_scale_lr.base_batch_size,
        "people": PEOPLE[train.dataset.type],
        "batches_per_epoch": batches_of_an_epoch(PEOPLE[train.dataset.type], train.batch_size),
        "padding": transforms["GetBBoxCenterScale"].padding,
        "flip_probability": transforms["RandomFlip"].prob,
        "half_body_probability": half.prob if half else 0.0,
        "shift": [box.shift_factor, box.shift_prob],
        "scale": [list(box.scale_factor), box.scale_prob],
        "rotation": [box.rotate_factor, box.rotate_prob],
        "flip_test": config.model.test_cfg.flip_test,
        "shift_coords": config.model.test_cfg.get("shift_coords", True),
        "validation_file": val.ann_file,
        "validation_boxes": Path(val.bbox_file).name if val.get("bbox_file") else None,
        "evaluators": [dict(one) for one in evaluators],
        "best": config.default_hooks.checkpoint.save_best,
    }


answers, family, protocols = {}, {}, {}
losses(answers)
for row, file in ROWS.items():
    config = Config.fromfile(CONFIGS / file)
    protocols[row] = {"config": file} | protocol(config)
    if row in FAMILY:
        facts = family[row] = {}
        model = network(config, row, answers, facts)
        with tempfile.TemporaryDirectory() as folder:
            for number, size in enumerate(SIZES):
                cv2.imwrite(f"{folder}/{number}.png", golden_image(number, *size)[..., ::-1])
            pipeline(config, model, row, answers, facts, Path(folder))
        metrics(config, facts)
        print(row, facts["metrics"], flush=True)
np.savez_compressed(GOLDEN / "family.npz", **answers)
(GOLDEN / "family.json").write_text(json.dumps(family) + "\n")
(GOLDEN / "protocol.json").write_text(json.dumps(protocols, indent=1) + "\n")
