"""How far errors reach: tables of known errors, and what poses make of them."""

import numpy as np
import pytest
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose.inference.regions import SHARES, error_quantiles, reach


def test_the_quantiles_of_laplace_errors_are_found():
    generator = np.random.default_rng(0)
    sigmas = generator.uniform(1, 9, (200_000, 2))
    table = error_quantiles(generator.laplace(0, sigmas), sigmas)
    np.testing.assert_allclose(table["intervals"], -np.log1p(-SHARES), rtol=0.03, atol=1e-3)
    fresh = np.hypot(*generator.laplace(size=(2, 200_000)))
    inside = [(fresh <= reach(table, "regions", share)).mean() for share in (0.5, 0.8, 0.95)]
    np.testing.assert_allclose(inside, (0.5, 0.8, 0.95), atol=0.003)
    # Between two of the table's shares it is a straight line.
    assert reach(table, "regions", 0.905) == pytest.approx(np.mean([reach(table, "regions", p) for p in (0.9, 0.91)]))


def test_few_errors_hold_new_ones_at_least_as_often_as_asked_for():
    generator = np.random.default_rng(1)
    held = []
    for _ in range(4000):
        errors = generator.standard_cauchy((15, 2))
        table = error_quantiles(errors[:14], np.ones((14, 2)))
        held.append(np.hypot(*errors[14]) <= reach(table, "regions", 0.8))
    # Of 14 the 12th smallest, ⌈15 · 0.8⌉: exactly 12 / 15.
    assert np.mean(held) == pytest.approx(0.8, abs=0.02)


def test_poses_give_pixels():
    table = error_quantiles([[1, 2], [2, 0], [3, 4]], np.ones((3, 2)))
    poses = rp.Poses([[[9, 9]]], [[1]], [[0, 0, 9, 9]], [1], rp.Skeleton("dot", ("tip",)), sigmas=[[[2, 5]]])
    with pytest.raises(ValueError, match="does not know how far its errors reach"):
        poses.regions(0.9)
    poses.quantiles = table
    np.testing.assert_allclose(poses.regions(0.9), [[[2 * 5, 5 * 5]]])  # √(3² + 4²) is the greatest of three
    np.testing.assert_allclose(poses.intervals(0.99), [[[2 * 4, 5 * 4]]])
    assert poses[0].quantiles is table
    with pytest.raises(ValueError, match=r"between 0.01 and 0.99. Received: 1"):
        poses.regions(1)
    for damaged in ({"regions": [3, 2, 1]}, {"regions": [float("nan")] * 99}, [1, 2, 3]):
        poses.quantiles = damaged
        with pytest.raises(ValueError, match="damaged: 99 growing numbers"):
            poses.regions(0.5)
    poses.sigmas = None
    with pytest.raises(ValueError, match="models trained without RLE"):
        poses.regions(0.5)


def test_the_table_goes_with_the_model_until_it_is_trained(tmp_path):
    model = tiny_model()
    model.quantiles = error_quantiles(np.random.default_rng(0).laplace(size=(500, 2)), np.ones((500, 2)))
    model.save_to_preset(tmp_path / "preset")
    model.save(tmp_path / "model.keras")
    for kept in (rp.from_preset(tmp_path / "preset"), rp.from_preset(str(tmp_path / "model.keras"))):
        assert kept.quantiles == model.quantiles and kept.with_dtype("float32").quantiles == model.quantiles
    model.export(tmp_path / "pose.onnx", verbose=False)
    person = rp.data.Synthetic(1, seed=0, skeleton=model.skeleton)[0]
    for one in (model, rp.load_exported(tmp_path / "pose.onnx")):
        people = one.estimate(person.image, boxes=[person.box])
        factor = model.quantiles["regions"][89]
        np.testing.assert_allclose(people.regions(0.9), people.sigmas * factor, rtol=1e-6)
    model.compile("sgd")
    model.fit(*rp.data.make_dataset([person], model, batch_size=1).as_numpy_iterator().next(), verbose=0)
    assert model.quantiles is None
