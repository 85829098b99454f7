"""One side of a comparison: measures a short slice of a task on command, so that two sides can take turns.

Reads the name of a task per line from standard input and prints items per second for a slice of it. Started by
training_speed.py, once in this package's environment and once in MMPose's.
"""

import argparse
import atexit
import os
import sys
import tempfile
import time

import numpy as np
from repeated_coco import repeat_coco

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
BATCH = 16
FIT_STEPS = 20  # an epoch of 320 people, small beside what people train on


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("keras_regpose", "mmpose"))
    parser.add_argument("--coco", required=True, help="folder in COCO's layout")
    parser.add_argument("--peer-folder", help="folder of mmpose_cpu.py")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the libraries print must not be taken for an answer
    tasks = {}
    make = mmpose_task if options.side == "mmpose" else keras_task
    for line in sys.stdin:
        name = line.strip()
        if name not in tasks:
            tasks[name] = make(name, options)
            tasks[name]()
            tasks[name]()
        run, done, start = tasks[name], 0, time.perf_counter()
        while time.perf_counter() - start < options.seconds:
            done += run()
        print(done / (time.perf_counter() - start), file=answers, flush=True)


def keras_task(name, options):
    import keras
    import tensorflow as tf

    import keras_regpose as rp
    from keras_regpose.datasets import open_dataset

    kind, _, detail = name.partition(":")
    people = open_dataset("coco", options.coco, "train")
    if kind == "pipeline":
        model = rp.PoseRegressor("mobilenetv2", rp.COCO17)
        whole_epochs = 1
        if detail == "first epoch":
            folder = tempfile.TemporaryDirectory()
            atexit.register(folder.cleanup)
            # More people than the measurement gets through: no photograph is read in two epochs.
            people = open_dataset("coco", repeat_coco(options.coco, f"{folder.name}/coco", 60000), "train")
            whole_epochs = 0
        batches = iter(rp.data.make_dataset(people, model, True, BATCH, repeat=True))
        for _ in range(whole_epochs * len(people) // BATCH):
            next(batches)

        def run():
            return len(next(batches)[0])

        return run
    backbone, precision = detail.split()
    keras.mixed_precision.set_global_policy(precision)
    model = rp.PoseRegressor(backbone, rp.COCO17)
    model.compile(keras.optimizers.Adam(1e-3))
    if kind == "fit":
        dataset = rp.data.make_dataset(people, model, True, BATCH, repeat=True)

        def run():
            model.fit(dataset, steps_per_epoch=FIT_STEPS, shuffle=False, verbose=0)
            return FIT_STEPS * BATCH

        return run
    if kind == "fit on batches in memory":
        made = rp.data.make_dataset(people, model, True, BATCH, repeat=True).take(FIT_STEPS)
        crops, targets = (np.stack(part) for part in zip(*made.as_numpy_iterator(), strict=True))
        settings = tf.data.Options()
        settings.autotune.enabled = False  # as in the pipeline: its thread would hold up the end of fit
        dataset = tf.data.Dataset.from_tensor_slices((crops, targets)).repeat().with_options(settings)

        def run():
            model.fit(dataset, steps_per_epoch=FIT_STEPS, shuffle=False, verbose=0)
            return FIT_STEPS * BATCH

        return run
    random = np.random.default_rng(0)
    crops = random.integers(0, 256, (BATCH, 256, 192, 3)).astype("uint8")
    targets = np.concatenate([random.random((BATCH, 17, 2)), np.ones((BATCH, 17, 1))], -1).astype("float32")
    crops, targets = tf.constant(crops), tf.constant(targets)

    def run():
        model.train_on_batch(crops, targets)
        return BATCH

    return run


def mmpose_task(name, options):
    sys.path.insert(0, options.peer_folder)
    import cv2
    import torch
    from mmpose_cpu import build

    torch.set_num_threads(os.cpu_count())
    kind, _, detail = name.partition(":")
    if kind == "pipeline":
        from mmengine.dataset import pseudo_collate
        from mmengine.registry import DATASETS

        cv2.setNumThreads(0)
        config, _ = build("mobilenetv2_rle_coco")
        spec = config.train_dataloader.dataset
        spec.data_root = ""
        spec.ann_file = os.path.join(options.coco, "annotations/person_keypoints_train2017.json")
        spec.data_prefix = dict(img=os.path.join(options.coco, "train2017/"))
        loader = torch.utils.data.DataLoader(
            DATASETS.build(spec),
            batch_size=BATCH,
            shuffle=True,
            num_workers=os.cpu_count(),
            persistent_workers=True,
            collate_fn=pseudo_collate,
        )

        def endless():
            while True:
                yield from loader

        batches = endless()

        def run():
            return len(next(batches)["inputs"])

        return run
    _, model = build({"mobilenetv2": "mobilenetv2_rle_coco", "resnet50": "resnet50_rle_coco"}[detail.split()[0]])
    model = model.train().to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, 256, 192).contiguous(memory_format=torch.channels_last)
    target, weight = torch.rand(BATCH, 17, 2), torch.ones(BATCH, 17, 2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def run():
        output = model.head(model.extract_feat(images))
        loss = model.head.loss_module(output[..., :2], output[..., 2:], target, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return BATCH

    return run


if __name__ == "__main__":
    main()
