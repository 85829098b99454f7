"""Which people to label next."""

import numpy as np
import pytest
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose.inspection.active_learning import k_centre, suggest


def test_k_centre_takes_one_of_each_heap_and_is_the_same_each_time():
    heaps = np.random.default_rng(0).normal(0, 0.1, (5, 20, 3)) + 10 * np.arange(5)[:, None, None]
    chosen = k_centre(heaps.reshape(100, 3), 5)
    assert sorted((chosen // 20).tolist()) == [0, 1, 2, 3, 4]
    assert k_centre(heaps.reshape(100, 3), 5).tolist() == chosen.tolist()
    known = heaps[[0, 1, 2], 0]
    assert sorted((k_centre(heaps.reshape(100, 3), 2, known) // 20).tolist()) == [3, 4]
    assert len(set(k_centre(np.zeros((4, 2)), 9).tolist())) == 4


def test_error_takes_the_largest_sigmas():
    model, people = tiny_model(), rp.data.Synthetic(12, seed=0)
    positions, expected = suggest(people, model, 12, method="error")
    assert sorted(positions.tolist()) == list(range(12)) and (np.diff(expected) <= 0).all()
    both, _ = suggest(people, model, 2)
    assert set(both.tolist()) <= set(positions[:6].tolist())


def test_a_model_without_sigma_is_refused():
    with pytest.raises(ValueError, match="without σ"):
        suggest(rp.data.Synthetic(4, seed=0), tiny_model("deeppose"), 2)
