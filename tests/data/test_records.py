"""The list of samples that all readers share."""

import dataclasses

import numpy as np
import pytest

from keras_regpose import COCO17
from keras_regpose.data.records import SampleList
from keras_regpose.data.sample import Sample


def sample(number, **changes):
    random = np.random.default_rng(number)
    values = {
        "image": f"{number // 2}.jpg",
        "box": random.random(4, np.float32),
        "keypoints": random.random((17, 2), np.float32),
        "visible": random.integers(0, 2, 17).astype(np.float32),
        "image_id": number // 2,
        "id": 900100000000 + number,
        "area": 1.5 * number,
        "box_score": 0.25,
    }
    return Sample(**{**values, **changes})


@pytest.mark.parametrize(
    "changes",
    (
        {},
        {"head_size": 12.5},
        {"image_id": "a name"},
        {"id": 1 << 70},
        {"image": np.zeros((4, 5, 3), np.uint8)},
    ),
)
@pytest.mark.parametrize("changed", ((0, 1, 2, 3, 4), (2,)))
def test_samples_come_back_as_they_were(changes, changed):
    samples = [sample(number, **(changes if number in changed else {})) for number in range(5)]
    people = SampleList(samples, COCO17)
    assert len(people) == 5
    for one, same in [*zip(people, samples, strict=True), (people[-1], samples[-1]), (people[1:3][0], samples[1])]:
        for field in dataclasses.fields(Sample):
            value, expected = getattr(one, field.name), getattr(same, field.name)
            assert type(value) is type(expected)
            np.testing.assert_array_equal(value, expected)
            assert getattr(value, "dtype", None) == getattr(expected, "dtype", None)
    assert len(people[::2]) == 3
    with pytest.raises(IndexError):
        people[5]


def test_paths_of_a_photograph_are_one_string():
    people = SampleList([sample(number) for number in range(4)], COCO17)
    assert people[0].image is people[1].image and people[0].image != people[2].image
