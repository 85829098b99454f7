"""σ recalibrated: errors of a known scale are found again, keypoints stay, and the flow follows."""

import numpy as np
import pytest

import keras_regpose as rp
from keras_regpose.evaluation.evaluate import predict_samples
from keras_regpose.training.recalibrate import errors_and_sigmas, recalibrate


@pytest.fixture(scope="module")
def model():
    return rp.from_preset("mobilenetv2_rle_lspet", skeleton=rp.COCO17)


@pytest.fixture(scope="module")
def people():
    return rp.data.Synthetic(24, seed=0)


def with_known_errors(predictions, samples, input_size, slope, offset, seed=0):
    """Moves the predictions so that their errors are Laplace of the scale sigmoid(slope · logit σ + offset)."""
    generator, moved = np.random.default_rng(seed), []
    for entry in predictions:
        low, high = entry["box"][:2], entry["box"][2:]
        side = 1.25 * (high - low).max()  # of the square crop
        sigma = generator.uniform(0.2, 0.8, entry["sigmas"].shape)
        scale = 1 / (1 + np.exp(-(slope * np.log(sigma / (1 - sigma)) + offset)))
        keypoints = samples[entry["index"]].keypoints + generator.laplace(0, scale) * side
        moved.append(entry | {"keypoints": keypoints, "sigmas": sigma * side})
    return moved


def test_the_scale_of_known_errors_is_found(model, people):
    model = rp.from_preset("mobilenetv2_rle_lspet", skeleton=rp.COCO17)
    predictions = predict_samples(model, people) * 40
    known = with_known_errors(predictions, people, model.input_size, 0.5, -2.5)
    kernel, bias = (weight.copy() for weight in model.get_layer("sigma").get_weights())
    slope, offset = recalibrate(model, known, people)
    assert slope == pytest.approx(0.5, abs=0.04) and offset == pytest.approx(-2.5, abs=0.04)
    new_kernel, new_bias = model.get_layer("sigma").get_weights()
    np.testing.assert_allclose(new_kernel, kernel * slope, rtol=1e-5)
    np.testing.assert_allclose(new_bias, bias * slope + offset, rtol=1e-5)


def test_a_model_agrees_with_its_errors_afterwards_and_its_keypoints_stay(model, people):
    before = predict_samples(model, people)
    errors, sigmas = errors_and_sigmas(before, people, model.input_size)
    assert abs((np.abs(errors) / sigmas).mean() - 1) > 0.3
    recalibrate(model, before, people)
    after = predict_samples(model, people)
    errors, sigmas = errors_and_sigmas(after, people, model.input_size)
    assert (np.abs(errors) / sigmas).mean() == pytest.approx(1, abs=0.02)
    for entry, earlier in zip(after, before, strict=True):
        np.testing.assert_array_equal(entry["keypoints"], earlier["keypoints"])
    # The flow has learned the density of errors / σ: better than a Laplace density of the scale 1.
    density = np.asarray(model.flow.log_prob((errors / sigmas).astype(np.float32)))
    laplace = (-np.abs(errors / sigmas) - np.log(2)).sum(-1)
    assert density.mean() > laplace.mean()


def test_errors_are_in_units_of_the_crop(model, people):
    predictions = predict_samples(model, people)
    moved = [entry | {"keypoints": people[entry["index"]].keypoints + [3, 0]} for entry in predictions]
    errors, sigmas = errors_and_sigmas(moved, people, model.input_size)
    sides = np.concatenate(
        [
            np.full(int((people[entry["index"]].visible > 0).sum()), 1.25 * (entry["box"][2:] - entry["box"][:2]).max())
            for entry in predictions
        ]
    )
    np.testing.assert_allclose(errors[:, 0], 3 / sides, rtol=1e-4)
    np.testing.assert_allclose(errors[:, 1], 0, atol=1e-6)
    assert sigmas.shape == errors.shape and (0 < sigmas).all() and (sigmas < 1).all()


def test_what_cannot_be_recalibrated(model, people):
    plain = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, (64, 48), method="deeppose")
    with pytest.raises(ValueError, match="Only a model trained by RLE"):
        recalibrate(plain, [], people)
    with pytest.raises(ValueError, match="takes 100 labelled keypoints, better thousands. The data has"):
        recalibrate(model, predict_samples(model, people)[:2], people)
