"""COCO files become samples as the reference keeps and cleans them; bad files become one clear sentence."""

import json

import numpy as np
import pytest

from keras_regpose.data.coco import Coco
from keras_regpose.skeleton import COCO17, MPII16, Skeleton


def person(number=1, image_id=1, **changes):
    keypoints = np.zeros((17, 3))
    keypoints[:3] = [[10, 12, 2], [20, 30, 1], [30, 8, 2]]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [5, 6, 40, 30],
        "area": 700,
        "iscrowd": 0,
        "num_keypoints": 3,
        "keypoints": keypoints.ravel().tolist(),
        **changes,
    }


def write(folder, annotations, images=None, name="annotations.json"):
    images = images or [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 80} for i in (1, 2, 3)]
    contents = {"images": images, "annotations": annotations}
    (folder / name).write_text(json.dumps(contents))
    return folder / name


def without(record, field):
    return {key: value for key, value in record.items() if key != field}


@pytest.fixture
def fixture_files(shared_data):
    folder = shared_data / "mmpose_testdata" / "coco"
    return folder / "test_coco.json", folder, folder / "test_coco_det_AP_H_56.json"


def test_counts_of_the_reference(fixture_files):
    annotations, images, boxes = fixture_files
    people = Coco(annotations, images)
    assert len(people) == 12
    assert people.skeleton == COCO17 and people.annotations == str(annotations) and people.skipped == []
    assert len(Coco(annotations, images, boxes=boxes)) == 118
    assert len(Coco(annotations, images, boxes=boxes, box_score_threshold=0.3)) == 33


def test_samples_of_the_reference(fixture_files):
    people = {sample.id: sample for sample in Coco(*fixture_files[:2])}
    sample = people[442619]
    assert sample.image.endswith("000000000785.jpg") and sample.image_id == 785
    np.testing.assert_allclose(sample.box, [280.79, 44.73, 280.79 + 218.7, 44.73 + 346.68], rtol=1e-6)
    np.testing.assert_array_equal(sample.keypoints[[0, 16]], [[367, 81], [396, 341]])
    assert sample.visible.sum() == 17 and sample.area == pytest.approx(27789.11055)
    assert sample.box_score == 1 and sample.head_size is None
    assert {number: people[number].visible.sum() for number in (198196, 1717641, 543117)} == {
        198196: 14,
        1717641: 12,
        543117: 13,
    }
    for sample in people.values():
        assert sample.box.dtype == sample.keypoints.dtype == sample.visible.dtype == np.float32
        assert set(sample.visible) <= {0, 1}


def test_detections_of_the_reference(fixture_files):
    annotations, images, boxes = fixture_files
    people = Coco(annotations, images, boxes=boxes)
    np.testing.assert_allclose(people[0].box, [277.1183167, 45.6996689, 502.2095947, 379.2599487], rtol=1e-6)
    assert people[0].box_score == pytest.approx(0.99997318) and people[0].image_id == 785
    assert people.annotations == str(annotations)
    assert [sample.id for sample in people] == list(range(118))
    assert not any(sample.visible.any() or sample.keypoints.any() for sample in people)
    # Boxes are not clipped.
    raw = json.loads(boxes.read_text())
    for sample, record in zip(people, raw, strict=True):
        x, y, width, height = record["bbox"]
        np.testing.assert_allclose(sample.box, [x, y, x + width, y + height], atol=1e-3)


def test_small_coco(shared_data):
    folder = shared_data / "coco_mini"
    counts = {}
    for split in ("train", "val"):
        annotations = folder / "annotations" / f"person_keypoints_{split}2017.json"
        people = Coco(annotations, folder / f"{split}2017")
        counts[split] = len(people), people.skipped
        records = json.loads(annotations.read_text())["annotations"]
        assert {sample.id for sample in people} == {
            record["id"] for record in records if record["num_keypoints"] and not record["iscrowd"]
        }
    assert counts == {"train": (86, []), "val": (68, [])}


def test_it_is_a_sequence(tmp_path):
    people = Coco(write(tmp_path, [person(7), person(8), person(9)]), tmp_path)
    assert [sample.id for sample in people] == [7, 8, 9]
    assert people[-1].id == 9 and [sample.id for sample in people[1:]] == [8, 9]
    assert people[np.int64(1)].id == 8
    with pytest.raises(IndexError):
        people[3]


def test_samples_are_in_the_order_of_the_images(tmp_path):
    people = Coco(write(tmp_path, [person(7, 3), person(8, 1), person(9, 3), person(10, 2)]), tmp_path)
    assert [(sample.image_id, sample.id) for sample in people] == [(1, 8), (2, 10), (3, 7), (3, 9)]


def test_rules(tmp_path):
    zeros = [0.0] * 51
    kept = [
        person(1, bbox=[-5, -6, 40, 30]),
        person(2, bbox=[90, 70, 40, 30]),
        without(person(3), "area"),
        without(without(person(4), "num_keypoints"), "iscrowd"),
    ]
    left_out = [
        person(5, iscrowd=1),
        without(person(6, iscrowd=1), "keypoints"),
        person(7, num_keypoints=0, keypoints=zeros),
        person(8, keypoints=zeros),
        person(9, num_keypoints=0, bbox=[0, 0, 0, 0]),
    ]
    people = Coco(write(tmp_path, kept + left_out), tmp_path)
    assert [sample.id for sample in people] == [1, 2, 3, 4] and people.skipped == []
    np.testing.assert_array_equal(people[0].box, [0, 0, 35, 24])
    np.testing.assert_array_equal(people[1].box, [90, 70, 99, 79])
    assert people[0].area == 700 and people[2].area == pytest.approx(0.53 * 40 * 30)
    np.testing.assert_array_equal(people[0].visible, [1, 1, 1] + [0] * 14)


def test_other_skeletons(tmp_path):
    triangle = Skeleton("triangle", ("a", "b", "c"))
    keypoints = [1, 2, 2, 30, 40, 1, 0, 0, 0]
    path = write(tmp_path, [person(keypoints=keypoints)])
    people = Coco(path, tmp_path, skeleton=triangle)
    assert people.skeleton is triangle
    np.testing.assert_array_equal(people[0].keypoints, [[1, 2], [30, 40], [0, 0]])
    np.testing.assert_array_equal(people[0].visible, [1, 1, 0])
    with pytest.raises(ValueError, match="annotation 1: it has 9 keypoint numbers, 'coco17' needs 51"):
        Coco(path, tmp_path)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([{"image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]))
    assert Coco(path, tmp_path, boxes=boxes, skeleton=MPII16)[0].keypoints.shape == (16, 2)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (without(person(99, keypoints=[1, 1, 2] + [0] * 48), "bbox"), "labelled, too few for a box"),
        (without(person(99), "keypoints"), "it has no field 'keypoints'"),
        (without(person(99), "image_id"), "it has no field 'image_id'"),
        (person(99, keypoints=[1, 2, 2]), "it has 3 keypoint numbers"),
        (person(99, keypoints=[float("nan"), 1, 2] * 17), "list of keypoints has values that are not finite"),
        (person(99, keypoints=["left", 1, 2] * 17), "list of keypoints is not made of numbers"),
        (person(99, bbox=[float("nan"), 0, 5, 5]), "box has values that are not finite"),
        (person(99, bbox=[1, 2, 3]), "box has 3 numbers, expected 4"),
        (person(99, bbox=[10, 10, 0, 5]), "has no size inside the image"),
        (person(99, bbox=[10, 10, 5, -5]), "has no size inside the image"),
        (person(99, bbox=[200, 10, 5, 5]), "has no size inside the image"),
        (person(99, area=float("nan")), "its area nan is not a number of square pixels"),
        (person(99, area=-5), "its area -5.0 is not a number of square pixels"),
        (person(99, area=10**400), "it is not made as expected"),
        (person(99, keypoints=[1e20, 1, 2] * 17), "list of keypoints has values beyond 10,000,000"),
        (person(99, keypoints=[10**400, 1, 2] * 17), "list of keypoints is not made of numbers"),
        (person(99, bbox=[10**400, 1, 2, 5]), "box is not made of numbers"),
        (person(99, bbox=[1e20, 1, 2, 5]), "box has values beyond 10,000,000"),
        (person(99, 55), "its image 55 is not listed with width and height"),
    ],
)
def test_one_broken_record_is_skipped_and_named(tmp_path, broken, why):
    path = write(tmp_path, [broken] + [person(number) for number in range(1, 11)])
    people = Coco(path, tmp_path)
    assert len(people) == 10
    ((what, reason),) = people.skipped
    assert what == "annotation 99" and why in reason
    with pytest.raises(
        ValueError, match="1 of 11 records in .*annotations.json cannot be used.*first is annotation 99"
    ):
        Coco(path, tmp_path, max_skipped_share=0.05)
    with pytest.raises(ValueError, match="1 of 1 records"):
        Coco(write(tmp_path, [broken], name="one.json"), tmp_path)


def test_records_that_are_not_even_objects(tmp_path):
    people = Coco(write(tmp_path, ["what?", *(person(number) for number in range(10))]), tmp_path)
    assert len(people) == 10 and people.skipped[0][0] == "annotation at position 0"


def test_an_image_without_a_size(tmp_path):
    path = write(tmp_path, [person()], images=[{"id": 1, "file_name": "1.jpg"}])
    with pytest.raises(ValueError, match="its image 1.jpg is not listed with width and height"):
        Coco(path, tmp_path)


def test_files_that_cannot_be_used(tmp_path):
    good = write(tmp_path, [person()])
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nowhere\.json"):
        Coco(tmp_path / "nowhere.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*nowhere.* holds the images"):
        Coco(good, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"There is no file .*boxes\.json"):
        Coco(good, tmp_path, boxes=tmp_path / "boxes.json")
    for name, text, message in (
        ("cut.json", good.read_text()[:100], r"cut\.json is not valid JSON"),
        ("list.json", "[]", "not in COCO's format: it has no list of 'images'"),
        ("images.json", '{"images": [], "annotations": []}', "has no images with 'id' and 'file_name'"),
        ("number.json", '{"images": 7}', "not in COCO's format: it has no list of 'images'"),
        ("id.json", '{"images": [{"id": [1], "file_name": "a"}]}', r"a 'id' in its 'images' is \[1\]"),
        ("info.json", '{"images": [{"id": 1, "file_name": "a"}]}', "has no list of 'annotations'"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            Coco(tmp_path / name, tmp_path)
    with pytest.raises(ValueError, match="None of the 1 annotations in .* is a person with labelled keypoints"):
        Coco(write(tmp_path, [person(num_keypoints=0)]), tmp_path)


def test_detections_that_cannot_be_used(tmp_path):
    annotations = tmp_path / "info.json"
    annotations.write_text('{"images": [{"id": 1, "file_name": "a.jpg"}]}')  # a test set: no annotations, no sizes
    boxes = tmp_path / "boxes.json"

    def read(*records, **options):
        boxes.write_text(json.dumps(records))
        return Coco(annotations, tmp_path, boxes=boxes, **options)

    good = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.25}
    assert len(read(good, {**good, "image_id": 2}, {**good, "category_id": 3})) == 1
    assert len(read(good, box_score_threshold=0.25)) == 1
    people = read({**good, "bbox": [1, 2, 0, 4]}, *[good] * 10)
    assert len(people) == 10 and people[0].id == 1
    assert people.skipped == [
        ("detection at position 0", "its box [1, 2, 0, 4] has no size, or its score 0.25 is not a number")
    ]
    for records, message in (
        ([], "None of the 0 detections"),
        ([{**good, "image_id": 2}], "None of the 1 detections in .*boxes.json is a person in an image of .*info.json"),
        ([without(good, "score")], "detection at position 0: it has no field 'score'"),
        ([{**good, "score": float("nan")}], "its score nan is not a number"),
        ([{**good, "bbox": [1, 2, float("inf"), 4]}], "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            read(*records)
    with pytest.raises(ValueError, match="with a score of at least 0.3"):
        read(good, box_score_threshold=0.3)
    boxes.write_text('{"annotations": []}')
    with pytest.raises(ValueError, match="not a COCO detections file: it holds dict, expected a list"):
        Coco(annotations, tmp_path, boxes=boxes)


def test_a_category_that_is_a_list(tmp_path):
    path = write(tmp_path, [person(99, category_id=[1])] + [person(number) for number in range(1, 11)])
    people = Coco(path, tmp_path)
    assert len(people) == 10 and people.skipped[0][0] == "annotation 99"
