"""Smooth L1 against the reference's figures."""

import numpy as np
import pytest

from keras_regpose.losses import SmoothL1


def targets(points, weight):
    points = np.asarray(points, "float32")
    return np.concatenate([points, np.asarray(weight, "float32")[..., None]], -1)


def test_equals_the_dossier():
    i = np.arange(12)
    pred = (0.5 + 0.25 * np.sin(1.3 * i)).reshape(2, 3, 2).astype("float32")
    target = (0.5 + 0.25 * np.sin(1.3 * i + 0.2)).reshape(2, 3, 2)
    weight = [[1, 0, 1], [1, 1, 0]]
    assert float(SmoothL1()(targets(target, weight), pred)) == pytest.approx(0.000407678932, rel=1e-5)
    assert float(SmoothL1()(targets(target, np.ones((2, 3))), pred)) == pytest.approx(0.000620859095, rel=1e-5)


def test_linear_branch_equals_the_dossier():
    pred = np.array([[[3, 0.5], [0.2, -2]]], "float32")
    assert float(SmoothL1()(targets(np.zeros((1, 2, 2)), [[1, 0]]), pred)) == pytest.approx(0.65625)
    assert float(SmoothL1()(targets(np.zeros((1, 2, 2)), [[1, 1]]), pred)) == pytest.approx(1.03625)


def test_equals_mmpose(golden):
    recorded = np.load(golden / "rle_loss.npz")
    loss = SmoothL1()(targets(recorded["target"], recorded["weight"][..., 0]), recorded["pred"])
    assert float(loss) == pytest.approx(float(recorded["smooth_l1"]), rel=1e-5)


def test_masked_nan_is_ignored():
    pred = np.array([[[0.5, 0.5], [0.1, 0.2]]], "float32")
    with_nan = SmoothL1()(targets([[[0.4, 0.5], [np.nan, np.nan]]], [[1, 0]]), pred)
    assert float(with_nan) == pytest.approx(0.5 * 0.01 / 4, rel=1e-4)
