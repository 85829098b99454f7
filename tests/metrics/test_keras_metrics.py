"""The Keras metrics agree with the functions of arrays, batch after batch, and work in `fit`."""

import keras
import numpy as np
import pytest
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose import COCO17

SIZE = HEIGHT, WIDTH = 64, 48
PAIR = ("left_shoulder", "right_hip")


@pytest.fixture(scope="module")
def batch():
    """Targets and outputs of 50 people, a third of whose keypoints are not labelled and have no coordinates."""
    generator = np.random.default_rng(0)
    points = generator.uniform(0.1, 0.9, (50, 17, 2))
    pred = points + generator.normal(0, 0.05, points.shape)
    weights = (generator.random((50, 17)) < 0.66).astype(float)
    weights[7] = 0
    targets = np.concatenate([np.where(weights[..., None], points, np.nan), weights[..., None]], -1)
    return targets.astype(np.float32), np.concatenate([pred, np.ones_like(pred)], -1).astype(np.float32)


def pixels(array):
    return array[..., :2] * np.array([WIDTH, HEIGHT], np.float32)


def expected(targets, outputs):
    pred, truth, visible = pixels(outputs), pixels(targets), targets[..., 2]
    areas = np.full(len(pred), 0.53 * HEIGHT * WIDTH / 1.25**2)
    diagonal = np.full(len(pred), np.hypot(HEIGHT, WIDTH) / 1.25)
    torso = rp.metrics.pair_distance(truth, visible, COCO17, PAIR)
    return [
        rp.metrics.pck(pred, truth, visible, diagonal, COCO17, 0.05)["Mean"],
        rp.metrics.pck(pred, truth, visible, torso, COCO17, 0.2)["Mean"],
        rp.metrics.epe(pred, truth, visible),
        np.nanmean(rp.metrics.labelled_oks(pred, truth, visible, areas, COCO17)),
    ]


def metrics():
    return [
        rp.metrics.PCK(SIZE),
        rp.metrics.PCK(SIZE, 0.2, PAIR, COCO17, name="torso_pck"),
        rp.metrics.MeanError(SIZE),
        rp.metrics.OKS(SIZE, COCO17.sigmas),
    ]


@pytest.mark.parametrize("numbers", [2, 4])
def test_batches_add_up_to_the_functions_of_arrays(batch, numbers):
    targets, outputs = batch
    for metric, value in zip(metrics(), expected(*batch), strict=True):
        assert np.isnan(float(metric.result()))
        for start in range(0, 50, 16):
            metric.update_state(targets[start : start + 16], outputs[start : start + 16, :, :numbers])
        assert float(metric.result()) == pytest.approx(value, rel=1e-5), metric.name
        metric.reset_state()
        metric.update_state(targets[7:8], outputs[7:8])
        assert np.isnan(float(metric.result()))  # nobody was labelled, which is no error of 0


def test_labels_that_are_no_numbers_do_not_count_and_predictions_that_are_none_are_wrong():
    targets = np.array([[[0.5, 0.5, 1], [np.nan, 0.5, 1], [0.25, 0.5, 1]]], np.float32)
    outputs = np.array([[[0.5, 0.5], [0.5, 0.5], [np.nan, 0.5]]], np.float32)
    metric = rp.metrics.PCK(SIZE)
    metric.update_state(targets, outputs)
    assert float(metric.result()) == 0.5
    error = rp.metrics.MeanError(SIZE)
    error.update_state(targets, outputs)
    assert np.isnan(float(error.result()))


def test_people_may_have_weights(batch):
    targets, outputs = batch
    metric = rp.metrics.MeanError(SIZE)
    metric.update_state(targets, outputs, sample_weight=np.r_[np.ones(10), np.zeros(40)])
    assert float(metric.result()) == pytest.approx(expected(targets[:10], outputs[:10])[2], rel=1e-5)


def test_they_are_what_they_were_once_they_are_loaded(batch):
    for metric in metrics():
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
        assert type(again) is type(metric) and again.get_config() == metric.get_config()
        for one in (metric, again):
            one.update_state(*batch)
        assert float(again.result()) == float(metric.result())


def test_fit_shows_them_and_a_saved_model_knows_them(tmp_path):
    model, people = tiny_model(), rp.data.Synthetic(10, seed=1)
    model.compile("adam", metrics=metrics())
    training = rp.data.make_dataset(rp.data.Synthetic(8, seed=0), model, training=True, batch_size=4)
    validation = rp.data.make_dataset(people, model, batch_size=4)
    history = model.fit(training, validation_data=validation, epochs=2, verbose=0).history
    names = ["pck", "torso_pck", "mean_error", "oks"]
    assert all(len(history[prefix + name]) == 2 for name in names for prefix in ("", "val_"))
    outputs, targets = [], []
    for crops, labels in validation:
        outputs.append(model.predict_on_batch(crops))
        targets.append(np.asarray(labels))
    found = expected(np.concatenate(targets), np.concatenate(outputs))
    assert [history[f"val_{name}"][-1] for name in names] == pytest.approx(found, rel=1e-4)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    figures = again.evaluate(validation, return_dict=True, verbose=0)
    assert [figures[name] for name in names] == pytest.approx(found, rel=1e-4)


def test_mistakes_are_explained():
    for pair, skeleton in [(PAIR, None), (("left_shoulder", "tail"), COCO17), (("nose", "nose"), COCO17)]:
        with pytest.raises(
            ValueError,
            match="PCK's pair is two of the skeleton's keypoints, (for which pass skeleton=|nose, .*)\. Received",
        ):
            rp.metrics.PCK(SIZE, 0.2, pair, skeleton)
    with pytest.raises(ValueError, match=r"pck needs targets of x, y and weight. Received shape: \(1, 17, 2\)"):
        rp.metrics.PCK(SIZE).update_state(np.zeros((1, 17, 2)), np.zeros((1, 17, 2)))
