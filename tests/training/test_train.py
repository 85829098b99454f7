"""One small run: what it writes, what it logs, what it refuses."""

import csv
import time

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose import COCO17, PoseRegressor, from_preset
from keras_regpose.data import Augmentation, Synthetic
from keras_regpose.data.sample import Sample
from keras_regpose.evaluation.evaluate import evaluate
from keras_regpose.images import ImageError, save_picture
from keras_regpose.training import KeypointMetrics, Recipe, SaveBestPreset, train
from keras_regpose.training.loop import in_order
from keras_regpose.training.progress import Position, ProgressBar

PEOPLE, VALIDATION = Synthetic(8, seed=0), Synthetic(4, seed=1)
SIZE = (64, 48)


def small_model():
    return PoseRegressor("mobilenetv2_0.25", COCO17, SIZE)


class WithoutAnnotations(list):
    """Samples whose data set has no COCO annotations, as LSP's."""

    annotations = None


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = small_model()
    flow_at_first = [weight.numpy().copy() for weight in model.flow.trainable_weights]
    history = train(
        model, PEOPLE, VALIDATION, folder, epochs=2, batch_size=4, delay_flow=1, validate_every=1, verbose=0
    )
    return folder, model, history, flow_at_first


def test_it_writes_the_best_preset_the_last_state_and_the_curves(run):
    folder, model, history, _ = run
    written = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert written == {"best", "checkpoints", "history.csv", "tensorboard", "validation"}
    assert from_preset(folder / "best").skeleton == COCO17
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == [
        "step-000000002.npz",
        "step-000000004.npz",
    ]
    assert [path.name for path in sorted((folder / "validation").iterdir())] == ["epoch-0001.png", "epoch-0002.png"]
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert set(events.Tags()["tensors"]) == set(history)
    curve = [(one.step, float(make_ndarray(one.tensor_proto))) for one in events.Tensors("val_AP")]
    assert curve == [(epoch, pytest.approx(value)) for epoch, value in enumerate(history["val_AP"], 1)]
    with open(folder / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    figures = {"loss", "rle_flow", "rle_residual", "rle_sigma", "learning_rate", "val_AP", "val_AR"}
    assert set(rows[0]) == {"epoch", *figures} and set(history) == figures
    assert history["val_AP"][-1] == pytest.approx(evaluate(model, VALIDATION)["AP"], abs=1e-6)


def test_the_flow_was_delayed_for_one_epoch_and_then_moved(run):
    _, model, _, flow_at_first = run
    assert float(model.flow.strength.numpy()) == 1
    assert max(
        np.abs(w.numpy() - old).max() for w, old in zip(model.flow.trainable_weights, flow_at_first, strict=True)
    )


def test_without_validation_the_last_model_is_kept(tmp_path):
    model = tiny_model()
    train(model, PEOPLE, output=tmp_path, epochs=2, batch_size=4, verbose=0)
    kept = from_preset(tmp_path / "best")
    crops = np.random.default_rng(0).integers(0, 255, (2, 64, 48, 3), np.uint8)
    np.testing.assert_allclose(kept.predict_on_batch(crops), model.predict_on_batch(crops), atol=1e-6)


def test_a_delayed_flow_stays_as_it_is():
    model = small_model()
    before = [weight.numpy().copy() for weight in model.flow.trainable_weights]
    train(model, PEOPLE, epochs=1, batch_size=4, delay_flow=1, verbose=0)
    for weight, old in zip(model.flow.trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_pck_can_be_followed_by_keras_callbacks(tmp_path):
    stopping = keras.callbacks.EarlyStopping(monitor="val_PCK", mode="max", patience=0, start_from_epoch=0)
    history = train(
        small_model(),
        PEOPLE,
        WithoutAnnotations(VALIDATION),
        tmp_path,
        epochs=4,
        batch_size=4,
        learning_rate=0.0,
        schedule="cosine",
        validate_every=1,
        verbose=0,
        augmentation=Augmentation.none(),
        callbacks=[stopping],
    )
    # Nothing is learned at rate 0, though batch normalisation may still move PCK a little for an epoch.
    assert 2 <= len(history["val_PCK"]) <= 4
    assert all(0 <= value <= 1 for value in history["val_PCK"])


def test_labels_that_are_not_numbers_stop_the_run_with_their_image():
    broken = list(PEOPLE)
    keypoints = broken[3].keypoints.copy()
    keypoints[2] = np.nan
    broken[3] = Sample(broken[3].image, broken[3].box, keypoints, np.ones(17), 42, 0)
    with pytest.raises(ImageError, match="The labels of the picture with image_id 42 are not all numbers"):
        train(small_model(), broken, epochs=1, batch_size=4, verbose=0)


def test_a_loss_that_is_not_a_number_stops_the_run_with_its_images(tmp_path):
    files = []
    for number, person in enumerate(PEOPLE):
        path = str(tmp_path / f"{number}.png")
        save_picture(path, person.image)
        files.append(Sample(path, person.box, person.keypoints, person.visible, number, number))

    class BreakWeights(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                head = self.model.get_layer("coordinates")
                head.bias.assign(head.bias * np.nan)

    named = r"The loss is nan in epoch 1, batch 2. .* The images: (.*/[0-7]\.png, ){3}.*/[0-7]\.png$"
    with pytest.raises(ValueError, match=named):
        train(small_model(), files, epochs=1, batch_size=4, verbose=0, callbacks=[BreakWeights()])


def test_the_bar_shows_losses_rate_speed_and_time_left(capsys):
    train(small_model(), PEOPLE, epochs=2, batch_size=4, learning_rate=1e-3, warmup=0)
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    assert "epoch 2/2: loss " in shown and "rle_residual" in shown and "learning_rate 0.001" in shown
    assert "16/16 [" in shown and " images" in shown.rsplit("16/16 [", 1)[1]


def test_a_silenced_bar_shows_nothing(capsys):
    rp.set_progress(False)
    try:
        train(tiny_model(), PEOPLE, epochs=1, batch_size=4)
    finally:
        rp.set_progress(True)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_unreadable_images_end_the_run_with_one_sentence():
    missing = [Sample(f"/nowhere/{s.id}.jpg", s.box, s.keypoints, s.visible, s.image_id, s.id) for s in PEOPLE]
    with pytest.raises(ImageError, match="images cannot be read, more than the 10% allowed"):
        train(small_model(), missing, epochs=1, batch_size=4, verbose=0)


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match="schedule must be one of"):
        train(None, PEOPLE, schedule="constant")
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        train(None, PEOPLE, epochs=0)
    with pytest.raises(ValueError, match="put KeypointMetrics before it"):
        SaveBestPreset("unused").on_epoch_end(0, {"loss": 1.0})


def test_the_bar_counts_the_time_of_steps_alone():
    bar = ProgressBar(Position(None, Recipe(epochs=2, batch_size=4), steps_per_epoch=3))
    bar.on_train_begin()
    for epoch in range(2):
        bar.on_epoch_begin(epoch)
        time.sleep(0.5 if epoch == 0 else 0.0)  # the first step compiles
        for batch in range(3):
            time.sleep(0.1 if epoch or batch else 0.0)
            bar.on_train_batch_end(batch, {"loss": 1.0})
        time.sleep(0.5)  # validation
        bar.on_epoch_end(epoch, {"loss": 1.0})
    bar.on_epoch_begin(2)
    spent = time.time() - bar.bar.start_t
    bar.close()
    assert bar.bar.n == 24
    assert 0.5 <= spent < 0.5 + 0.5  # five steps of 0.1 s; compiling and validating took 1.5 s


def test_the_order_of_callbacks_does_not_matter(tmp_path):
    class SeesFigures(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(sorted(name for name in logs if name.startswith("val_") or name == "learning_rate"))

    seen = []
    given = [SaveBestPreset(tmp_path / "best"), SeesFigures(), KeypointMetrics(VALIDATION)]
    for callbacks in (given, given[::-1]):
        train(tiny_model(), PEOPLE, epochs=1, batch_size=4, verbose=0, callbacks=callbacks)
    assert seen == [["learning_rate", "val_AP", "val_AR"]] * 2
    kinds = [type(callback).__name__ for callback in in_order(given)]
    assert kinds == ["KeypointMetrics", "SeesFigures", "SaveBestPreset"]
    assert (tmp_path / "best" / "preset.json").is_file()
