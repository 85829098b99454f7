"""The report of a data set: its numbers on a file with known faults, and that the page stands alone."""

import csv
import json
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from own_data import write_own_data

import keras_regpose as rp
from keras_regpose.inspection.judgement import LabelJudgement
from keras_regpose.inspection.report import crossed_sides, describe, write_report


@pytest.fixture
def faulty(tmp_path):
    """A COCO file of six people with known faults, and the folder of its pictures, of which one is missing."""
    people = rp.data.Synthetic(6, seed=3, people_per_image=1)
    contents = json.loads(json.dumps(people.annotations))
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(contents["images"][:5]):
        cv2.imwrite(str(tmp_path / "pictures" / image["file_name"]), people[number].image)
    annotations = contents["annotations"]
    annotations[0]["keypoints"][:3] = [5000.0, 10.0, 2]  # the nose is outside of its picture
    x, y, flags = np.array(annotations[1]["keypoints"]).reshape(-1, 3).T
    annotations[1]["keypoints"] = np.stack([x / 320, y / 256, flags], -1).ravel().tolist()
    annotations[2]["iscrowd"] = 1
    annotations.append({**annotations[4], "id": 99})
    (tmp_path / "people.json").write_text(json.dumps(contents))
    return rp.data.Coco(tmp_path / "people.json", tmp_path / "pictures"), contents


def test_numbers_of_a_file_with_known_faults(faulty):
    people, contents = faulty
    numbers = describe(people)
    assert (numbers["people"], numbers["pictures"]) == (6, 5)
    assert numbers["outside_picture"] == {"count": 1, "annotation_ids": [1]}
    assert 1 in numbers["outside_box"]["annotation_ids"]
    assert numbers["normalised_coordinates"] == {"count": 1, "annotation_ids": [2]}
    assert numbers["left_out"]["crowds"] == 1
    assert numbers["repeated_boxes"]["count"] == 1
    assert numbers["repeated_ids"]["count"] == 0
    missing = contents["images"][5]["file_name"]
    assert numbers["missing_pictures"]["count"] == 1 and numbers["missing_pictures"]["first"][0].endswith(missing)
    flags = [one["keypoints"][2] for one in contents["annotations"]]
    nose = numbers["keypoints"]["nose"]
    assert (nose["covered"], nose["seen"]) == (flags.count(1), flags.count(2))
    boxes = np.array(people.field("box"))
    sizes = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    assert numbers["sizes"]["percentile_50"] == pytest.approx(np.median(sizes), abs=0.06)


def test_whatever_opens_is_described(tmp_path):
    """Fields are left out or replaced by what does not belong there: the file is refused, or described."""
    odd = [None, "x", -1, 1.5, [], [1], {}, {"a": 1}, [[0, 1], [2, "a"]], True, float("nan"), 1e400, [None] * 21]
    labels, pictures = write_own_data(tmp_path, people=6)
    good, generator, opened = json.loads(Path(labels).read_text()), random.Random(0), 0
    for _ in range(400):
        contents = json.loads(json.dumps(good))
        part = generator.choice(["images", "annotations", "categories"])
        entry = generator.choice(contents[part])
        field = generator.choice([*entry, "flip_pairs", "iscrowd"])
        entry[field] = generator.choice(odd)
        if generator.random() < 0.3:
            del entry[field]
        if generator.random() < 0.1:
            contents[part] = generator.choice([*odd, [*contents[part], generator.choice(odd)]])
        try:
            people = rp.data.Coco(contents, pictures)
        except ValueError:
            continue
        opened += 1
        json.dumps(describe(people))
    assert 200 < opened < 400


def test_keypoints_with_x_and_y_exchanged_are_told():
    box = np.array([100, 10, 160, 200], np.float32)
    points = np.linspace([105, 20], [150, 190], 17, dtype=np.float32)
    samples = [
        rp.data.Sample("a.jpg", box, one, np.ones(17, np.float32), number, number)
        for number, one in enumerate([points, points[:, ::-1].copy()])
    ]
    assert describe(rp.data.People(samples, rp.COCO17))["exchanged_coordinates"]["annotation_ids"] == [1]


def test_shoulders_that_are_exchanged_cross_the_torso():
    straight = np.zeros((1, 17, 2))
    places = {"left_shoulder": (2, 0), "right_shoulder": (0, 0), "left_hip": (2, 4), "right_hip": (0, 4)}
    for name, place in places.items():
        straight[0, rp.COCO17.index(name)] = place
    visible = (straight.any(-1) | np.isin(np.arange(17), rp.COCO17.index("right_shoulder"))).astype(float)
    crossed = straight.copy()
    left, right = (rp.COCO17.index(f"{side}_shoulder") for side in ("left", "right"))
    crossed[0, [left, right]] = crossed[0, [right, left]]
    assert crossed_sides(np.concatenate([straight, crossed]), np.repeat(visible, 2, 0), rp.COCO17).tolist() == [
        False,
        True,
    ]
    visible[0, left] = 0
    assert not crossed_sides(crossed, visible, rp.COCO17).any()


class _Addresses(HTMLParser):
    """Collects what a page refers to, and the tags that it opens and closes."""

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "action", "srcset")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_lists_what_is_suspected(faulty, tmp_path):
    people, _ = faulty
    expected = np.array(people.field("keypoints")) + 1
    scores = np.full((6, 17), -1.0)
    scores[4, 0] = 7
    kinds = ["sides swapped", "another person", *["misplaced"] * 4]
    judgement = LabelJudgement(np.arange(6), np.array([3.0, 2, 0, 0, 9, 0]), kinds, scores, expected)
    numbers = write_report(people, tmp_path / "report", judgement, crops=4, suspects=3, title="<b>mine</b>")
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    parser = _Addresses()
    parser.feed(page)
    assert not parser.open and "<b>mine</b>" not in page and "script" not in page
    assert len(parser.found) == 3 + 2 * 4 and all(one.startswith("data:image/jpeg") for one in parser.found)
    assert not re.search(r"https?://", page)
    written = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert written == {"made_by": "keras_regpose 0.1.0"} | numbers
    with open(tmp_path / "report" / "labels.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == "picture annotation_id keypoint x y expected_x expected_y score kind".split()
    assert (rows[0]["annotation_id"], rows[0]["keypoint"], rows[0]["kind"]) == (str(people[4].id), "nose", "misplaced")
    assert float(rows[0]["expected_x"]) == pytest.approx(float(rows[0]["x"]) + 1, abs=0.11)
    assert {row["keypoint"] for row in rows if row["kind"] == "sides swapped"} <= set(sum(rp.COCO17.flip_pairs, ()))
