"""Which people to label next."""

import csv

import numpy as np
import pytest
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose.cli import main
from keras_regpose.images import save_picture
from keras_regpose.inspection.suggestion import choose


def heaps(count=5, each=20):
    return np.random.default_rng(0).normal(0, 0.1, (count, each, 3)) + 10 * np.arange(count)[:, None, None]


def test_what_is_chosen_is_as_often_there_as_it_is_in_all():
    sizes = [60, 30, 10]
    features = np.concatenate([heaps(1, size)[0] + 10 * place for place, size in enumerate(sizes)])
    heap_of, nobody = np.repeat(range(3), sizes), np.empty((0, 3))
    chosen = choose(features, 20, nobody)
    assert len(set(chosen.tolist())) == 20
    np.testing.assert_allclose(np.bincount(heap_of[chosen]), [12, 6, 2], atol=1)
    assert choose(features, 20, nobody).tolist() == chosen.tolist()
    # Of whom there are enough labelled, fewer are chosen.
    chosen = choose(features, 20, features[:20])
    np.testing.assert_allclose(np.bincount(heap_of[chosen]), [4, 12, 4], atol=1)


def test_suggested_people_and_what_is_expected_of_them():
    model, people = tiny_model(), rp.data.Synthetic(12, seed=0)
    positions, expected = rp.inspection.suggest(people, model, 20)
    assert sorted(positions.tolist()) == list(range(12))
    # A score is 1 − mean σ in units of the crop.
    scores = np.array([model.estimate(person.image, boxes=[person.box]).scores.mean() for person in people])
    np.testing.assert_allclose(expected, 1 - scores[positions], rtol=1e-3)
    known = list(people)[:6]
    positions, _ = rp.inspection.suggest(list(people)[6:], model, 3, labelled=known)
    assert len(set(positions.tolist())) == 3 and set(positions.tolist()) <= set(range(6))


def test_models_without_sigma_are_refused():
    with pytest.raises(ValueError, match="without σ"):
        rp.inspection.suggest(rp.data.Synthetic(4, seed=0), tiny_model("deeppose"), 2)


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
