"""People are split by picture: all people of a picture are on one side."""

import numpy as np
import pytest

from keras_regpose import COCO17
from keras_regpose.data import People, Sample, Synthetic


def people_in(pictures):
    """Returns one person for each of the named pictures, each with an image_id of its own."""
    points, box = np.zeros((17, 2), np.float32), np.array([0, 0, 9, 9], np.float32)
    ones = np.ones(17, np.float32)
    return People([Sample(f"{name}.jpg", box, points, ones, n, n) for n, name in enumerate(pictures)], COCO17)


@pytest.mark.parametrize("share", [0.1, 0.34, 0.5, 0.9])
@pytest.mark.parametrize("people", [people_in("abcabcdefghijaajklmnopqrs"), Synthetic(40, seed=3), Synthetic(40)[5:]])
def test_no_picture_is_on_both_sides(people, share):
    learn, held_out = people.split(share)
    pictures = people.photographs
    assert sorted([*learn.positions, *held_out.positions]) == list(range(len(people)))
    assert not set(pictures[learn.positions]) & set(pictures[held_out.positions])
    assert len(set(pictures[held_out.positions])) == round(share * len(set(pictures)))
    assert list(learn.positions) == sorted(learn.positions)


def test_people_of_a_drawn_picture_stay_together():
    learn, held_out = Synthetic(60, seed=1).split(0.5)
    assert not set(learn.field("image_id")) & set(held_out.field("image_id"))
    assert len(set(Synthetic(60, seed=1).field("image_id"))) < 60


def test_the_seed_chooses():
    people = people_in("abcdefghijklmnopqrst")
    chosen = [list(people.split(0.3, seed)[1].field("id")) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_at_least_one_picture_is_on_each_side():
    people = people_in("aab")
    for share in (0.01, 0.99):
        learn, held_out = people.split(share)
        assert sorted([len(learn), len(held_out)]) == [1, 2]
    with pytest.raises(ValueError, match="The people are in 1 pictures, and a split needs at least 2"):
        people_in("aaa").split(0.5)
    for share in (0, 1, -0.2, float("nan")):
        with pytest.raises(ValueError, match="share of pictures to hold out must be between 0 and 1. Received"):
            people.split(share)
