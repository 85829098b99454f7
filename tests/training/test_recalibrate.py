"""σ recalibrated: errors of a known scale are found again, keypoints stay, and the flow follows."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_regpose as rp
from keras_regpose.evaluation.evaluate import labels, predict_samples
from keras_regpose.training.recalibrate import errors_and_sigmas, recalibrate


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)  # of the head's rows that the preset does not have
    return rp.from_preset("mobilenetv2_rle_lspet", skeleton=rp.COCO17)


@pytest.fixture(scope="module")
def people():
    return rp.data.Synthetic(24, seed=0)


def side(poses):
    """Sides of the square crops, (N, 1, 1)."""
    return 1.25 * (poses.boxes[:, 2:] - poses.boxes[:, :2]).max(-1)[:, None, None]


def with_known_errors(poses, truth, slope, offset, seed=0):
    """Moves the predictions so that their errors are Laplace of the scale sigmoid(slope · logit σ + offset)."""
    generator = np.random.default_rng(seed)
    sigma = generator.uniform(0.2, 0.8, poses.sigmas.shape)
    scale = 1 / (1 + np.exp(-(slope * np.log(sigma / (1 - sigma)) + offset)))
    keypoints = truth + generator.laplace(0, scale) * side(poses)
    return dataclasses.replace(poses, keypoints=keypoints, sigmas=sigma * side(poses))


def test_the_scale_of_known_errors_is_found(model, people):
    model = rp.from_preset("mobilenetv2_rle_lspet", skeleton=rp.COCO17)
    poses, positions = predict_samples(model, people)
    poses, positions = poses[np.tile(np.arange(24), 40)], np.tile(positions, 40)
    known = with_known_errors(poses, labels(poses, positions, people)[0], 0.5, -2.5)
    kernel, bias = (weight.copy() for weight in model.get_layer("sigma").get_weights())
    slope, offset = recalibrate(model, known, positions, people)
    assert slope == pytest.approx(0.5, abs=0.04) and offset == pytest.approx(-2.5, abs=0.04)
    new_kernel, new_bias = model.get_layer("sigma").get_weights()
    np.testing.assert_allclose(new_kernel, kernel * slope, rtol=1e-5)
    np.testing.assert_allclose(new_bias, bias * slope + offset, rtol=1e-5)


def test_a_model_agrees_with_its_errors_afterwards_and_its_keypoints_stay(model, people):
    before, positions = predict_samples(model, people)
    errors, sigmas = errors_and_sigmas(before, positions, people, model.input_size)
    assert abs((np.abs(errors) / sigmas).mean() - 1) > 0.3
    recalibrate(model, before, positions, people)
    after, positions = predict_samples(model, people)
    errors, sigmas = errors_and_sigmas(after, positions, people, model.input_size)
    assert (np.abs(errors) / sigmas).mean() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(after.keypoints, before.keypoints)
    # The flow has learned the density of errors / σ: better than a Laplace density of the scale 1.
    density = np.asarray(model.flow.log_prob((errors / sigmas).astype(np.float32)))
    laplace = (-np.abs(errors / sigmas) - np.log(2)).sum(-1)
    assert density.mean() > laplace.mean()
    inside = np.hypot(*(errors / sigmas).T) <= model.quantiles["regions"][79]
    assert inside.mean() == pytest.approx(0.8, abs=0.005)


def test_errors_are_in_units_of_the_crop(model, people):
    poses, positions = predict_samples(model, people)
    truth, visible = labels(poses, positions, people)
    moved = dataclasses.replace(poses, keypoints=truth + [3, 0])
    errors, sigmas = errors_and_sigmas(moved, positions, people, model.input_size)
    sides = np.repeat(side(poses), (visible > 0).sum(-1))
    np.testing.assert_allclose(errors[:, 0], 3 / sides, rtol=1e-4)
    np.testing.assert_allclose(errors[:, 1], 0, atol=1e-6)
    assert sigmas.shape == errors.shape and (0 < sigmas).all() and (sigmas < 1).all()


def test_what_cannot_be_recalibrated(model, people):
    plain = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, (64, 48), method="deeppose")
    with pytest.raises(ValueError, match="Only a model trained by RLE"):
        recalibrate(plain, *predict_samples(plain, people), people)
    poses, positions = predict_samples(model, people)
    with pytest.raises(ValueError, match="takes 100 labelled keypoints, better thousands. The data has"):
        recalibrate(model, poses[:2], positions[:2], people)
