"""People are written as COCO files that read back with the same numbers."""

import json
import os

import cv2
import numpy as np
import pytest

from keras_regpose.data import Coco, People, Sample, Synthetic, write_coco
from keras_regpose.images import read_image
from keras_regpose.skeleton import Skeleton

ARM = Skeleton("arm", ("hand", "elbow", "other"), edges=(("hand", "elbow"),), flip_pairs=(("hand", "other"),))


def person(image, number, image_id, **changes):
    generator = np.random.default_rng(number)
    low = generator.uniform(0, 20, 2)
    values = {
        "image": str(image),
        "box": np.concatenate([low, low + generator.uniform(5, 20, 2)]).astype(np.float32),
        "keypoints": np.append(generator.uniform(0, 45, (2, 2)), [[0, 0]], axis=0).astype(np.float32),
        "visible": np.array([1, 1, 0], np.float32),
        "image_id": image_id,
        "id": number,
        "area": float(generator.uniform(1, 500)),
    }
    return Sample(**{**values, **changes})


def assert_same(one, other):
    for field in ("image_id", "id", "area", "category_id", "box_score"):
        assert getattr(one, field) == getattr(other, field)
    for field in ("box", "keypoints", "visible"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        assert getattr(one, field).dtype == np.float32


def test_what_is_written_reads_back_exactly(tmp_path):
    for name in ("data/in/a.png", "data/b.png", "beside/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((48, 64, 3), np.uint8))
    samples = [
        person(tmp_path / "data/in/a.png", 5, 70),
        person(tmp_path / "data/b.png", 3, 71, category_id=4),
        person(tmp_path / "beside/c.png", 900, 2**40),
        person(tmp_path / "data/in/a.png", 6, 70),
    ]
    path = tmp_path / "data" / "people.json"
    write_coco(People(samples, ARM), path)
    content = json.loads(path.read_text())
    assert content["images"] == [
        {"id": 70, "file_name": "in/a.png", "height": 48, "width": 64},
        {"id": 71, "file_name": "b.png", "height": 48, "width": 64},
        {"id": 2**40, "file_name": str(tmp_path / "beside" / "c.png"), "height": 48, "width": 64},
    ]
    assert [category["id"] for category in content["categories"]] == [1, 4]
    assert content["categories"][0]["keypoints"] == ["hand", "elbow", "other"]
    assert content["categories"][0]["skeleton"] == [[1, 2]] and content["categories"][0]["name"] == "arm"
    assert [one["num_keypoints"] for one in content["annotations"]] == [2] * 4
    assert content["annotations"][0]["keypoints"][2::3] == [2, 2, 0]
    found = {sample.id: sample for number in (1, 4) for sample in Coco(path, path.parent, category=number)}
    assert len(found) == 4
    for sample in samples:
        assert_same(found[sample.id], sample)
        assert os.path.samefile(str(found[sample.id].image), str(sample.image))
    assert Coco(path, path.parent, category=4).skeleton == ARM


def test_drawn_people_are_written_with_their_pictures(tmp_path):
    drawn = Synthetic(6, seed=2)
    with pytest.raises(ValueError, match="The picture of sample 1 is no file: pass images="):
        write_coco(drawn, tmp_path / "people.json")
    assert os.listdir(tmp_path) == []
    write_coco(drawn, tmp_path / "people.json", images=tmp_path / "pictures")
    people = Coco(tmp_path / "people.json", tmp_path)
    assert len(os.listdir(tmp_path / "pictures")) == len(set(drawn.field("image_id"))) < 6
    by_id = {sample.id: sample for sample in people}
    for sample in drawn:
        again = by_id[sample.id]
        np.testing.assert_array_equal(read_image(again.image), sample.image)
        np.testing.assert_array_equal(again.visible, sample.visible)
        np.testing.assert_array_equal(again.keypoints[again.visible > 0], sample.keypoints[sample.visible > 0])
        np.testing.assert_array_equal(again.box, sample.box.clip(0, [319, 255, 319, 255]))


def test_one_number_for_two_pictures_is_refused(tmp_path):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((48, 64, 3), np.uint8))
    samples = [person(tmp_path / "a.png", 1, 7), person(tmp_path / "b.png", 2, 7)]
    with pytest.raises(ValueError, match="have the same image_id 7: number pictures anew"):
        write_coco(People(samples, ARM), tmp_path / "people.json")
