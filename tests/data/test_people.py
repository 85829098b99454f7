"""The one type of a data set: samples that come back as they were, slices, and what a data set says of itself."""

import dataclasses
import json

import numpy as np
import pytest

from keras_regpose import COCO17, LSP14
from keras_regpose.data import People, Sample


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
    people = People(samples, COCO17)
    assert len(people) == 5
    for one, same in [*zip(people, samples, strict=True), (people[-1], samples[-1]), (people[1:3][0], samples[1])]:
        for field in dataclasses.fields(Sample):
            value, expected = getattr(one, field.name), getattr(same, field.name)
            assert type(value) is type(expected)
            np.testing.assert_array_equal(value, expected)
            assert getattr(value, "dtype", None) == getattr(expected, "dtype", None)
    assert isinstance(people[::2], People) and len(people[::2]) == 3
    with pytest.raises(IndexError):
        people[5]


def test_paths_of_a_photograph_are_one_string():
    people = People([sample(number) for number in range(4)], COCO17)
    assert people[0].image is people[1].image and people[0].image != people[2].image


def test_a_slice_has_the_annotations_of_its_people(tmp_path):
    truth = {
        "images": [{"id": 0}, {"id": 1}],
        "annotations": [{"id": number, "image_id": number // 2} for number in range(4)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    for annotations in (truth, tmp_path / "truth.json"):
        people = People([sample(number, id=number) for number in range(4)], COCO17, annotations, [("a", "b")])
        part = people[1:][:1]
        assert part.annotations == {"images": [{"id": 0}], "annotations": [{"id": 1, "image_id": 0}]}
        assert part.skeleton is COCO17 and part.skipped == [("a", "b")] and part.field("id") == [1]
    assert People([sample(0)], COCO17)[:].annotations is None
    # The ids of detections are not those of annotations: all people of their images are looked for.
    detected = People([sample(number, id=number) for number in range(4)], COCO17, truth, detected=True)
    assert detected[3:].annotations == {"images": [{"id": 1}], "annotations": truth["annotations"][2:]}


def test_samples_of_another_skeleton_and_none_at_all():
    with pytest.raises(ValueError, match="have 17 keypoints, the skeleton 'lsp14' of the model has 14"):
        People.of([sample(0)], LSP14)
    assert len(People.of([], COCO17)) == 0 and People([], COCO17).photographs.tolist() == []


def test_pictures_are_not_copied():
    picture = np.zeros((4, 5, 3), np.uint8)
    people = People([sample(number, image=picture) for number in range(3)], COCO17)
    assert people[0].image is people[2].image is picture and people.photographs.tolist() == [0, 0, 0]
