"""What `keras-regpose train` does by the recipe of each published row, up to its first batch, on so many devices.

    python tests/training_protocol.py DEVICES FOLDER RESULT ROW …

It is a process of its own, since logical devices are made before TensorFlow computes. The command is the real one, on
as many people as the reference learns from, and its real validation set's files with few people. In place of the
network stands one layer, in place of the crops to learn from black ones, and in place of the step of training one that
notes what the device is given.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from unittest.mock import patch

import keras
import numpy as np
import tensorflow as tf
from validation_sets import write_validation_set

from keras_regpose.commands import train as command
from keras_regpose.commands.shared import open_samples
from keras_regpose.data import People, Sample
from keras_regpose.data.crops import CropLoader
from keras_regpose.datasets import DETECTIONS
from keras_regpose.evaluation.evaluate import predict_samples
from keras_regpose.regressor import PoseRegressor
from keras_regpose.skeleton import SKELETONS
from keras_regpose.training import callbacks, loop, start
from keras_regpose.zoo import preset_info

PROTOCOL = json.loads((Path(__file__).parent / "golden" / "protocol.json").read_text())


class Seen(Exception):
    """The first batch is done, and all is seen."""


class OnePerson:
    """The same person, as often as a data set has people."""

    def __init__(self, count, keypoints):
        labels = np.zeros((keypoints, 2), np.float32), np.ones(keypoints, np.float32)
        self.count, self.person = count, Sample("", np.array([0, 0, 9, 9], np.float32), *labels, 0, 0)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.person


class Look(keras.callbacks.Callback):
    """Notes the run after its first batch, has its validation done, and ends it."""

    def __init__(self, validation, folder, seen):
        super().__init__()
        self.validation, self.folder, self.seen = validation, folder, seen

    def on_train_batch_end(self, batch, logs=None):
        optimizer, seen, per_epoch = self.model.optimizer, self.seen, self.params["steps"]
        drops = [drop * per_epoch for drop in seen["drops"]]
        steps = [0, 1, 250, 499, *(step for drop in drops for step in (drop - 1, drop))]
        seen["rates"] = []
        for step in steps:
            optimizer.iterations.assign(step)
            seen["rates"].append([step, float(optimizer.learning_rate)])
        seen |= {"batches_per_epoch": per_epoch, "epochs": self.params["epochs"]}
        seen |= {"optimizer": type(optimizer).__name__, "epsilon": optimizer.epsilon, "beta": optimizer.beta_1}
        seen |= {"clipped": optimizer.global_clipnorm, "accumulated": optimizer.gradient_accumulation_steps}
        seen["trained"] = len(self.model.trainable_variables) == len(optimizer._trainable_variables)
        people = self.validation.samples
        seen["validation"] = {
            "boxes_file": people.detected and same_boxes(people, self.folder / DETECTIONS) and Path(DETECTIONS).name,
            "after": [epoch + 1 for epoch in range(self.params["epochs"]) if self._validates(epoch)],
        }
        self.validation.on_epoch_end(0, {})
        seen["validation"]["figures"] = sorted(self.validation.latest)
        raise Seen

    def _validates(self, epoch):
        done = []
        with patch.object(self.validation, "_validate", done.append):
            self.validation.latest = {"some": 0.0}
            self.validation.on_epoch_end(epoch, {})
        self.validation.latest = {}
        return bool(done)


def same_boxes(people, file):
    """Whether people are where a file of detections says."""
    boxes = np.array([one["bbox"] for one in json.loads(file.read_text())])
    boxes[:, 2:] += boxes[:, :2]
    return np.allclose(people.field("box"), boxes, rtol=0, atol=1e-4)


def network(backbone, skeleton, input_size, **options):
    inputs = keras.layers.Input((*input_size, 3))
    outputs = keras.layers.Conv2D(4, 1, strides=32, name="backbone")(inputs)
    return PoseRegressor(keras.Model(inputs, outputs), skeleton, input_size, **options)


def watch(row, folder):
    """Returns what the command does by a row's recipe."""
    file = write_validation_set(row, folder / "data")
    (folder / "weights.pth").write_bytes(b"")
    seen, shares = {"drops": PROTOCOL[row]["drops"][0]}, []

    def open_people(options, split, *more):
        if split != "train":
            return open_samples(options, split, *more)
        skeleton = SKELETONS[preset_info(row)["skeleton"]]
        return People(OnePerson(PROTOCOL[row]["people"], len(skeleton)), skeleton)

    def load(loader, epoch, indices):
        assert max(indices) < len(loader.samples) == PROTOCOL[row]["people"]
        crops = np.zeros((len(indices), *loader.input_size, 3), np.uint8)
        return crops, np.zeros((len(indices), len(loader.skeleton), 3), np.float32)

    def step(data):
        shares.append(list(data[0].shape))
        return {"loss": tf.constant(0.0)}

    def fit(model, position, last, chain):
        model.train_step = step
        seen["replicas"] = 1 if model.distribute_strategy is None else model.distribute_strategy.num_replicas_in_sync
        seen["augmentation"] = dataclasses.asdict(position.dataset.loader.augmentation)
        validation = next(one for one in chain if isinstance(one, callbacks.KeypointMetrics))
        fit_whole(model, position, last, [*chain, Look(validation, folder / "data", seen)])

    def predict(model, samples, flip_test, *more):
        seen["flip_test"] = flip_test
        return predict_samples(model, samples, flip_test, *more)

    fit_whole = loop._fit
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    arguments = [
        "--recipe",
        row,
        "--data",
        folder / "data",
        "--start",
        folder / "weights.pth",
        "--output",
        folder / "run",
    ]
    with (
        patch.object(command, "open_samples", open_people),
        patch.object(start, "PoseRegressor", network),
        patch.object(start, "load_torchvision_backbone", lambda model, path: seen.update(start=Path(path).name)),
        patch.object(CropLoader, "load_batch", load),
        patch.object(loop, "_fit", fit),
        patch.object(callbacks, "predict_samples", predict),
    ):
        try:
            command.run(parser.parse_args(list(map(str, arguments))))
        except Seen:
            # There is no other file of annotations, so that this one was read.
            seen["validation"]["file"] = str(file.relative_to(folder / "data"))
            return seen | {"shares": shares}
    raise AssertionError("The run was not looked at")


def main(devices, folder, result, *rows):
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(devices))
    seen = {}
    for row in rows:
        seen[row] = watch(row, Path(folder, devices, row))
        keras.backend.clear_session()
    Path(result).write_text(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
