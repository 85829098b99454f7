"""σ against errors, and the learned density: measures with known answers."""

import cv2
import numpy as np
import pytest
from tiny_model import tiny_model

from keras_regpose import Poses, Skeleton, from_preset
from keras_regpose.data import Sample
from keras_regpose.evaluation.calibration import (
    calibrate,
    calibrate_predictions,
    coverages,
    plot_calibration,
    score_error,
)
from keras_regpose.inference.regions import error_quantiles


def draw(factor, seed=0, count=200_000):
    """Errors whose Laplace scale is `factor` times the σ that is told."""
    generator = np.random.default_rng(seed)
    sigmas = np.exp(generator.uniform(0, 3, count))
    return generator.laplace(0, factor * sigmas), sigmas


def test_a_perfect_model():
    result = calibrate(*draw(1.0))
    assert result.factor == pytest.approx(1, abs=0.01)
    assert result.binned_error < 0.02 and result.coverage_error < 0.005
    np.testing.assert_allclose(result.coverage, result.levels, atol=0.005)
    np.testing.assert_allclose(result.error, result.sigma, rtol=0.03)
    assert result.sigma.shape == (10,) and (np.diff(result.sigma) > 0).all() and result.count == 200_000
    assert 0.3 < result.rank_correlation < 0.9


@pytest.mark.parametrize("factor", [0.2, 3.0])
def test_a_factor_is_found(factor):
    result = calibrate(*draw(factor))
    assert result.factor == pytest.approx(factor, rel=0.01)
    assert result.binned_error == pytest.approx(abs(factor - 1), rel=0.03)
    assert result.binned_error_scaled < 0.02 and result.coverage_error_scaled < 0.005
    # P(|e| ≤ −σ ln(1 − p)) = 1 − (1 − p)^(1 / factor) for Laplace errors.
    expected = 1 - (1 - result.levels) ** (1 / factor)
    np.testing.assert_allclose(result.coverage, expected, atol=0.005)
    assert f"{result.factor:.3f}" in str(result)


def people_with_laplace_errors(factor, count=400):
    """Poses whose errors are Laplace of `factor` times their σ, and their samples, of boxes of 100 pixels."""
    generator = np.random.default_rng(0)
    three = Skeleton("three", ("a", "b", "c"), sigmas=(0.05, 0.1, 0.1))
    sigmas = generator.uniform(1, 9, (count, 3, 2))
    points = generator.laplace(0, factor * sigmas) + 50
    visible = np.array([1, 0, 1], np.float32)
    box, truth = np.array([0, 0, 100, 100], np.float32), np.full((3, 2), 50, np.float32)
    samples = [Sample(f"{n}.jpg", box, truth, visible, n, n) for n in range(count)]
    points[:, 1] = np.nan  # not labelled
    poses = Poses(points, np.ones((count, 3)), np.tile(box, (count, 1)), np.ones(count), three, sigmas=sigmas)
    return poses, np.arange(count), samples


def test_coverage_of_errors_that_are_as_expected_and_twice_as_great():
    class Laplace:
        """A flow whose density is that of the errors."""

        def log_prob(self, errors):
            return -np.abs(errors).sum(-1) - np.log(4)

        def sample(self, count, seed):
            return np.random.default_rng(seed).laplace(size=(count, 2))

    generator = np.random.default_rng(2)
    table = error_quantiles(generator.laplace(size=(100_000, 2)), np.ones((100_000, 2)))
    for factor in (1, 2):
        poses, positions, samples = people_with_laplace_errors(factor)
        poses.quantiles = table
        found = coverages(poses, positions, samples, Laplace())
        assert len(found) == 9
        for name, (value, low, high) in found.items():
            kind, share = name.split()
            # Twice as great errors: P(|e| ≤ −σ ln(1 − p)) = 1 − (1 − p)^½ on an axis.
            expected = float(share) if factor == 1 else 1 - (1 - float(share)) ** 0.5
            assert low < value < high and high - low < 0.1
            assert factor == 2 and kind != "interval" or value == pytest.approx(expected, abs=0.03)
    assert found["region 0.8"].value < 0.6 and found["density 0.8"].value < 0.6


def test_expected_oks_is_reached_where_errors_are_as_expected():
    good, bad = (score_error(*people_with_laplace_errors(factor)) for factor in (1, 3))
    assert good < 0.04 and bad > 0.15


def test_sigmas_that_tell_nothing():
    generator = np.random.default_rng(0)
    result = calibrate(generator.laplace(0, 5, 50_000), np.exp(generator.uniform(0, 3, 50_000)))
    assert abs(result.rank_correlation) < 0.02 and result.binned_error_scaled > 0.5
    constant = calibrate(generator.laplace(0, 5, 1000), np.full(1000, 5.0))
    assert np.isnan(constant.rank_correlation) and constant.factor == pytest.approx(1, abs=0.1)


def test_only_labelled_keypoints_count():
    three = Skeleton("three", ("a", "b", "c"))
    visible = np.array([1, 0, 1], np.float32)
    samples = [Sample("a.jpg", np.zeros(4, np.float32), np.zeros((3, 2), np.float32), visible, 0, 0)]
    points = np.array([[[2, 2], [1e6, np.nan], [2, 2]]] * 5, np.float32)
    people = Poses(points, np.ones((5, 3)), np.zeros((5, 4)), np.ones(5), three, sigmas=np.full((5, 3, 2), 4.0))
    result = calibrate_predictions(people, np.zeros(5, int), samples)
    assert result.count == 20 and result.factor == 0.5
    people.sigmas = None
    with pytest.raises(ValueError, match="models trained without RLE"):
        calibrate_predictions(people, np.zeros(5, int), samples)


@pytest.mark.parametrize(
    ("errors", "sigmas", "message"),
    [
        (np.ones(5), np.ones(5), "needs 10 or more errors with σ. Received: 5 and 5"),
        (np.ones(20), np.zeros(20), "finite errors and positive σ"),
        (np.full(20, np.nan), np.ones(20), "finite errors and positive σ"),
    ],
)
def test_what_cannot_be_calibrated(errors, sigmas, message):
    with pytest.raises(ValueError, match=message):
        calibrate(errors, sigmas)


def test_the_picture(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "new" / "calibration.png"
    plot_calibration(calibrate(*draw(0.2, count=2000)), path)
    picture = cv2.imread(str(path))
    assert picture.shape == (720, 1500, 3) and (picture < 128).any()
    assert [file.name for file in path.parent.iterdir()] == ["calibration.png"]


@pytest.fixture(scope="module")
def trained():
    """The bundled model, whose flow has learned something, with the poses of one picture."""
    model = from_preset("mobilenetv2_rle_lspet")
    generator = np.random.default_rng(0)
    image = cv2.resize(generator.integers(0, 255, (6, 5, 3), np.uint8), (100, 120))
    return model, model.estimate(image, [[10, 10, 90, 110], [30, 30, 80, 90]])


def test_the_density_has_the_mass_one_and_lies_around_the_joints(trained):
    model, people = trained
    joint = Skeleton("joint", ("joint",))
    people = Poses(
        people.keypoints[:1, 3:4], people.scores[:1, 3:4], people.boxes[:1], [1], joint, people.sigmas[:1, 3:4]
    )
    density = model.density(people)
    mean, sigma = people.keypoints[0, 0], people.sigmas[0, 0]
    steps = np.linspace(-16, 16, 201)
    points = (mean + np.stack(np.meshgrid(steps, steps), -1) * sigma)[:, :, None, None]
    values = np.exp(density.log_prob(points)[..., 0, 0])
    cell = np.prod(sigma) * (steps[1] - steps[0]) ** 2
    assert values.sum() * cell == pytest.approx(1, abs=0.02)
    peak = np.unravel_index(values.argmax(), values.shape)
    assert abs(steps[peak[0]]) < 0.5 and abs(steps[peak[1]]) < 0.5
    # Flow and σ together: log p = log G(e) − log σx − log σy.
    error = ((people.keypoints - points[100, 110]) / people.sigmas).astype(np.float32)
    expected = np.asarray(model.flow.log_prob(error)) - np.log(people.sigmas).sum(-1)
    np.testing.assert_allclose(density.log_prob(points[100, 110]), expected, atol=1e-5)


def test_samples_follow_the_density(trained):
    model, people = trained
    density = model.density(people)
    samples = density.sample(4000, seed=1)
    assert samples.shape == (4000, 2, 14, 2)
    np.testing.assert_array_equal(samples, density.sample(4000, seed=1))
    # The mean of −log p over samples is the entropy, which for one G differs by log σx σy alone.
    entropy = -density.log_prob(samples).mean(0) - np.log(people.sigmas).sum(-1)
    assert np.ptp(entropy) < 0.15
    measured = np.abs(samples - people.keypoints).mean(0)
    np.testing.assert_allclose(measured, density.expected_error(), rtol=0.1)
    # σ was recalibrated: it is the size of the error that the density expects.
    np.testing.assert_allclose(density.expected_error(), people.sigmas, rtol=0.15)


def test_models_and_poses_without_a_density(trained):
    model, people = trained
    plain = tiny_model("deeppose")
    poses = plain.estimate(np.zeros((50, 40, 3), np.uint8), "image")
    with pytest.raises(ValueError, match="trained by RLE.*Received: a model without a flow"):
        plain.density(poses)
    with pytest.raises(ValueError, match="Received: poses without σ"):
        model.density(Poses(people.keypoints, people.scores, people.boxes, people.box_scores, people.skeleton))
    with pytest.raises(ValueError, match=r"points must have the shape .*\(2, 14, 2\)"):
        model.density(people).log_prob(np.zeros((5, 2)))


def test_the_bundled_model_knows_its_errors_on_photographs_it_never_saw(trained, shared_data):
    from keras_regpose.data import Lsp
    from keras_regpose.evaluation.evaluate import predict_samples

    model, people = trained
    samples = Lsp(shared_data / "lspet", split="test")
    result = calibrate_predictions(*predict_samples(model, samples), samples)
    assert result.factor == pytest.approx(0.964, abs=0.005)  # as benchmarks/results/lspet.json has it
    assert result.binned_error < 0.1 and result.coverage_error < 0.04 and result.rank_correlation > 0.4
    expected = (model.density(people).expected_error() / people.sigmas).mean()
    assert expected == pytest.approx(result.factor, rel=0.1)
