"""Which people to label next."""

import csv

import numpy as np
import pytest
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose.cli import main
from keras_regpose.images import save_picture
from keras_regpose.inspection.suggestion import WAYS, choose


def heaps(count=5, each=20):
    return np.random.default_rng(0).normal(0, 0.1, (count, each, 3)) + 10 * np.arange(count)[:, None, None]


def test_diversity_takes_the_most_typical_of_each_heap():
    features, nobody = heaps(), np.empty((0, 3))
    chosen = choose(np.ones(100), features.reshape(100, 3), 5, nobody, "diversity")
    assert sorted((chosen // 20).tolist()) == [0, 1, 2, 3, 4]
    for one in chosen:
        middle = features[one // 20].mean(0)
        assert np.linalg.norm(features[one // 20] - middle, axis=1).argmin() == one % 20
    again = choose(np.ones(100), features.reshape(100, 3), 5, nobody, "diversity")
    assert again.tolist() == chosen.tolist()
    labelled = features[[0, 1, 2], 0]
    chosen = choose(np.ones(100), features.reshape(100, 3), 2, labelled, "diversity")
    assert sorted((chosen // 20).tolist()) == [3, 4]


def test_error_takes_the_largest_and_both_takes_heaps_among_them():
    features, expected = heaps().reshape(100, 3), np.tile([0.1, 0.2], 50)
    expected[7] = 0.9
    assert choose(expected, features, 1, np.empty((0, 3)), "error").tolist() == [7]
    chosen = choose(expected, features, 5, np.empty((0, 3)), "error and diversity")
    assert sorted((chosen // 20).tolist()) == [0, 1, 2, 3, 4] and (expected[chosen] >= 0.2).all()
    assert sorted(choose(expected, features, 200, np.empty((0, 3)), "diversity").tolist()) == list(range(100))


def test_suggested_people_and_what_is_expected_of_them():
    model, people = tiny_model(), rp.data.Synthetic(12, seed=0)
    positions, expected = rp.inspection.suggest(people, model, 12, by="error")
    assert sorted(positions.tolist()) == list(range(12)) and (np.diff(expected) <= 0).all()
    # A score is 1 − mean σ in units of the crop.
    scores = [model.estimate(person.image, boxes=[person.box]).scores.mean() for person in people]
    np.testing.assert_allclose(expected, 1 - np.sort(scores), rtol=1e-3)
    known = list(people)[:6]
    positions, _ = rp.inspection.suggest(list(people)[6:], model, 3, labelled=known)
    assert len(set(positions.tolist())) == 3 and set(positions.tolist()) <= set(range(6))
    assert set(WAYS) == {"error and diversity", "diversity", "error"}


def test_models_without_sigma_and_other_ways_are_refused():
    with pytest.raises(ValueError, match="without σ"):
        rp.inspection.suggest(rp.data.Synthetic(4, seed=0), tiny_model("deeppose"), 2)
    with pytest.raises(ValueError, match="one of error and diversity, diversity, error. Received: 'chance'"):
        rp.inspection.suggest(rp.data.Synthetic(4, seed=0), tiny_model(), 2, by="chance")


def test_the_shell_writes_whom_to_label_next(tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    for number, person in enumerate(rp.data.Synthetic(6, seed=0)):
        save_picture(tmp_path / "pictures" / f"{number}.png", person.image)
    tiny_model().save_to_preset(tmp_path / "preset")
    command = ["suggest", str(tmp_path / "pictures"), "--preset", str(tmp_path / "preset"), "--boxes", "image"]
    assert main([*command, "--count", "4", "--output", str(tmp_path / "next.csv")]) == 0
    assert "4 of the 6 people found are in" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "next.csv").read_text().splitlines()))
    assert len({row["picture"] for row in rows}) == 4 and all(0 < float(row["expected_error"]) < 1 for row in rows)
    height, width = rp.data.Synthetic(1, seed=0)[0].image.shape[:2]
    assert (float(rows[0]["x2"]), float(rows[0]["y2"])) == pytest.approx((width, height), abs=1.1)
