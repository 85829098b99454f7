"""Keypoint files as labelling tools write them: perfect predictions score 1.0, or one sentence says what is wrong."""

import codecs
import json
import logging

import cv2
import numpy as np
import PIL.Image
import pytest

from keras_regpose.data.coco import Coco
from keras_regpose.data.coco_file import ImageFolder
from keras_regpose.data.crops import CropLoader
from keras_regpose.evaluation.coco import coco_keypoints
from keras_regpose.evaluation.evaluate import score_predictions
from keras_regpose.images import ImageError
from keras_regpose.inference.poses import Poses
from keras_regpose.skeleton import COCO17, Skeleton

NAMES = ["head", "r_wrist", "l_wrist", "r_hip", "l_hip", "r_foot", "l_foot"]
CLIMBER = {"id": 3, "name": "climber", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3], [4, 6], [5, 7]]}
BELAYER = {"id": 5, "name": "belayer", "keypoints": NAMES, "skeleton": []}
HOLD = {"id": 2, "name": "hold", "supercategory": "wall"}
BOLT = {"id": 8, "name": "bolt", "keypoints": ["top", "bottom"], "skeleton": [[1, 2]]}
SIZE = (160, 120)


def climber(number, image_id, left, category=3, **changes):
    """Someone of 50 × 70 pixels, whose last keypoint is not labelled."""
    place = np.array([[25, 0], [0, 10], [50, 12], [15, 40], [35, 41], [12, 70], [0, 0]])
    points = np.column_stack([place + [left, 20], [2, 2, 1, 2, 2, 2, 0]])
    points[-1] = 0
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "bbox": [left - 2, 18, 54, 74],
        "area": 2100.0,
        "iscrowd": 0,
        "num_keypoints": 6,
        "keypoints": points.ravel().tolist(),
        **changes,
    }


def contents(**changes):
    """Two pictures, with two climbers in the first and one in the second."""
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": SIZE[0], "height": SIZE[1]} for i in (1, 2)],
        "annotations": [climber(1, 1, 10), climber(2, 1, 90), climber(3, 2, 50)],
        "categories": [CLIMBER],
        **changes,
    }


@pytest.fixture
def wall(tmp_path):
    """Writes a file and its pictures, and returns the paths of the file and the pictures' folder."""
    folder = tmp_path / "pictures"

    def write(values, names=("1.png", "2.png")):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / name), np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))
        (tmp_path / "wall.json").write_text(json.dumps(values))
        return tmp_path / "wall.json", folder

    return write


def without(record, *fields):
    return {key: value for key, value in record.items() if key not in fields}


def labels_as_predictions(people):
    columns = {name: np.stack([getattr(sample, name) for sample in people]) for name in ("keypoints", "box")}
    scores = np.ones(columns["keypoints"].shape[:2], np.float32)
    return Poses(columns["keypoints"], scores, columns["box"], np.ones(len(people), np.float32), people.skeleton)


def check_perfect(people, count=3):
    """Predictions that are the labels score AP 1.0, PCK 1.0 and error 0; crops can be cut and hold the targets."""
    assert len(people) == count and people.skipped == []
    scores = score_predictions(labels_as_predictions(people), np.arange(count), people, (64, 48))
    assert scores["AP"] == pytest.approx(1, abs=1e-12) and (scores["PCK"], scores["error"]) == (1.0, 0.0)
    crops, targets = CropLoader(people, people.skeleton, (64, 48)).load_batch(0, range(count))
    assert crops.shape == (count, 64, 48, 3) and crops.max() == 90
    np.testing.assert_array_equal(targets[..., 2], [sample.visible for sample in people])


@pytest.mark.parametrize("number", [0, 1, 3, 7, 90])
def test_any_number_of_the_category(wall, number):
    annotations = [climber(i, image, left, number) for i, image, left in ((1, 1, 10), (2, 1, 90), (3, 2, 50))]
    file, pictures = wall(contents(annotations=annotations, categories=[CLIMBER | {"id": number}]))
    people = Coco(file, pictures)
    check_perfect(people)
    assert {sample.category_id for sample in people} == {number}
    # Scored against the file itself, predictions that name no category are of its only one.
    predictions = [
        {"image_id": one.image_id, "keypoints": one.keypoints, "scores": np.ones(7), "box_score": 1.0, "id": one.id}
        for one in people
    ]
    assert coco_keypoints(predictions, file, sigmas=people.skeleton.sigmas)["AP"] == 1.0


def test_two_categories_with_the_same_keypoints(wall):
    annotations = [climber(1, 1, 10), climber(2, 1, 90, 5), climber(3, 2, 50, 5)]
    file, pictures = wall(contents(annotations=annotations, categories=[CLIMBER, BELAYER]))
    check_perfect(Coco(file, pictures))
    assert [sample.category_id for sample in Coco(file, pictures)] == [3, 5, 5]
    for category in (5, "5", "belayer"):
        check_perfect(Coco(file, pictures, category=category), 2)


def test_categories_that_name_the_same_keypoints_in_another_order(wall):
    order = [6, 5, 4, 3, 2, 1, 0]
    turned = np.reshape(climber(3, 2, 50)["keypoints"], (7, 3))[order]
    annotations = [climber(1, 1, 10), climber(2, 1, 90), climber(3, 2, 50, 5, keypoints=turned.ravel().tolist())]
    names = [NAMES[place].replace("r_", "Right").replace("l_", "Left") for place in order]
    file, pictures = wall(contents(annotations=annotations, categories=[CLIMBER, BELAYER | {"keypoints": names}]))
    people = Coco(file, pictures)
    check_perfect(people)
    np.testing.assert_array_equal(people[2].keypoints[:6] - [40, 0], people[0].keypoints[:6])


@pytest.mark.parametrize(
    "other",
    [
        {"id": 9, "image_id": 1, "category_id": 2, "bbox": [1, 2, 30, 40]},
        {"id": 9, "image_id": 1, "category_id": 2, "bbox": [1, 2, 30, 40], "keypoints": [], "num_keypoints": 0},
        {"id": 9, "image_id": 2, "category_id": 2, "bbox": [1, 2, 30, 40], "keypoints": None},
    ],
)
def test_other_things_are_left_out_and_counted(wall, other, caplog):
    annotations = [*contents()["annotations"], *({**other, "id": number} for number in range(10, 40))]
    file, pictures = wall(contents(annotations=annotations, categories=[HOLD, CLIMBER]))
    with caplog.at_level(logging.INFO):
        check_perfect(Coco(file, pictures))
    assert "30 of hold" in caplog.text


def test_things_with_other_keypoints_need_a_choice(wall):
    bolt = {"id": 9, "image_id": 1, "category_id": 8, "bbox": [1, 2, 9, 9], "keypoints": [2, 3, 2, 9, 9, 2]}
    file, pictures = wall(contents(annotations=[*contents()["annotations"], bolt], categories=[BOLT, CLIMBER]))
    with pytest.raises(ValueError, match=r"choose one with category=, of bolt \(8\), climber \(3\)"):
        Coco(file, pictures)
    check_perfect(Coco(file, pictures, category="climber"))
    check_perfect(Coco(file, pictures, category="bolt"), 1)
    check_perfect(Coco(file, pictures, skeleton=Skeleton("mine", tuple(NAMES))))
    with pytest.raises(ValueError, match="no category 'boulder'"):
        Coco(file, pictures, category="boulder")


def test_a_file_that_names_no_keypoints_is_read_by_their_number(wall, caplog):
    holds = [{"id": number, "image_id": 1, "category_id": 2, "bbox": [1, 2, 30, 40]} for number in range(10, 40)]
    bare = [without(CLIMBER, "keypoints", "skeleton"), HOLD]
    file, pictures = wall(contents(annotations=[*contents()["annotations"], *holds], categories=bare))
    with caplog.at_level(logging.INFO):
        check_perfect(Coco(file, pictures, skeleton=Skeleton("mine", tuple(NAMES))))
    assert "30 of hold" in caplog.text
    with pytest.raises(ValueError, match="21 keypoint numbers, 'coco17' needs 51"):
        Coco(file, pictures)


def test_a_person_with_a_box_alone_is_nobody_to_learn_from(wall):
    annotations = [*contents()["annotations"], without(climber(4, 2, 90), "keypoints", "num_keypoints")]
    check_perfect(Coco(*wall(contents(annotations=annotations))))


def test_the_skeleton_comes_from_the_file(wall, caplog):
    with caplog.at_level(logging.INFO):
        people = Coco(*wall(contents()))
    assert people.skeleton.keypoints == tuple(NAMES) and people.skeleton.name == "climber"
    assert people.skeleton.edges == (("head", "r_wrist"), ("head", "l_wrist"), ("r_hip", "r_foot"), ("l_hip", "l_foot"))
    assert people.skeleton.flip_pairs == (("l_wrist", "r_wrist"), ("l_hip", "r_hip"), ("l_foot", "r_foot"))
    assert people.skeleton.flip_permutation.tolist() == [0, 2, 1, 4, 3, 6, 5]
    assert "pairs of left and right by their names: l_wrist and r_wrist, l_hip and r_hip" in caplog.text
    assert Skeleton.from_coco(wall(contents())[0]) == people.skeleton


@pytest.mark.parametrize(
    "names",
    [
        ["head", "right_wrist", "left_wrist", "right_hip", "left_hip", "right_foot", "left_foot"],
        ["Head", "RWrist", "LWrist", "RHip", "LHip", "RFoot", "LFoot"],
        ["head", "wrist_right", "wrist_left", "hip_right", "hip_left", "foot_right", "foot_left"],
        ["head", "wrist.r", "wrist.l", "hip.r", "hip.l", "foot.r", "foot.l"],
        ["HEAD", "rwrist", "lwrist", "rhip", "lhip", "rfoot", "lfoot"],
    ],
)
def test_a_given_skeleton_is_matched_by_side_and_joint(wall, names):
    order = [3, 1, 2, 0, 6, 5, 4]
    mine = Skeleton("mine", tuple(names[place] for place in order))
    people = Coco(*wall(contents()), skeleton=mine)
    check_perfect(people)
    assert people.skeleton == mine
    plain = Coco(*wall(contents()))
    np.testing.assert_array_equal(people[0].keypoints, plain[0].keypoints[order])
    np.testing.assert_array_equal(people[0].visible, plain[0].visible[order])


def test_another_set_of_keypoints_is_refused(wall):
    with pytest.raises(ValueError, match="lacks right_elbow, left_knee and has r_wrist, r_foot"):
        Coco(*wall(contents()), skeleton=Skeleton("x", ("right_elbow", "left_knee", "head", *NAMES[2:5], "l_foot")))
    with pytest.raises(ValueError, match="other keypoints than the skeleton 'coco17'"):
        Coco(*wall(contents()), skeleton=COCO17)


def test_a_side_without_counterpart_is_a_warning(wall, caplog):
    names = ["head", "r_wrist", "l_wrist", "r_hip", "hip", "r_foot", "l_foot"]
    people = Coco(*wall(contents(categories=[CLIMBER | {"keypoints": names}])))
    assert people.skeleton.flip_pairs == (("l_wrist", "r_wrist"), ("l_foot", "r_foot"))
    assert "Without a counterpart" in caplog.text and "r_hip" in caplog.text


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_coordinates_that_are_null_where_nothing_is_labelled(wall, nothing):
    annotations = contents()["annotations"]
    for annotation in annotations:
        annotation["keypoints"][18:] = [nothing, nothing, 0]
    people = Coco(*wall(contents(annotations=annotations)))
    check_perfect(people)
    assert people[0].keypoints[6].tolist() == [0, 0]
    annotations[0]["keypoints"][0] = nothing
    with pytest.raises(ValueError, match="not finite where v says that they are labelled"):
        Coco(*wall(contents(annotations=annotations)))


@pytest.mark.parametrize(
    "missing", [["area"], ["num_keypoints"], ["iscrowd"], ["bbox"], ["area", "num_keypoints", "iscrowd", "bbox", "id"]]
)
def test_fields_that_are_missing_follow_from_the_others(wall, missing):
    annotations = [without(annotation, *missing) for annotation in contents()["annotations"]]
    people = Coco(*wall(contents(annotations=annotations)))
    check_perfect(people)
    box = [10, 20, 60, 90] if "bbox" in missing else [8, 18, 62, 92]
    assert people[0].box.tolist() == box
    area = 0.53 * (box[2] - box[0]) * (box[3] - box[1]) if "area" in missing else 2100
    assert people[0].area == pytest.approx(area)


def test_null_area_and_unlisted_sizes(wall):
    images = [{"id": 1, "file_name": "1.png"}, {"id": 2, "file_name": "2.png", "width": None, "height": 0}]
    annotations = [climber(1, 1, 10, area=None), climber(2, 1, 90, area=0), climber(3, 2, 50)]
    people = Coco(*wall(contents(images=images, annotations=annotations)))
    check_perfect(people)
    assert people[0].area == pytest.approx(0.53 * 54 * 74) == people[1].area and people[0].image_size == SIZE


def test_merged_files(wall, caplog):
    annotations = [climber(1, 1, 10), climber(2, 1, 90), climber(1, 2, 50)]
    with caplog.at_level(logging.INFO):
        people = Coco(*wall(contents(annotations=annotations)))
    check_perfect(people)
    assert [sample.id for sample in people] == [1, 2, 3] and "repeated or missing" in caplog.text
    images = [*contents()["images"], {"id": 1, "file_name": "other.png", "width": 9, "height": 9}]
    with pytest.raises(ValueError, match="lists the image id 1 twice, for 1.png and other.png"):
        Coco(*wall(contents(images=images)))
    # The same picture listed twice is one picture.
    check_perfect(Coco(*wall(contents(images=contents()["images"] * 2))))


def test_pictures_of_another_size_or_turned(wall):
    for size, what in (((80, 60), "it was resized"), ((120, 160), "it is turned, by its EXIF orientation or not")):
        images = [image | {"width": size[0], "height": size[1]} for image in contents()["images"]]
        annotations = [climber(1, 1, 0, bbox=[0, 0, 50, 50]), climber(3, 2, 0, bbox=[0, 0, 50, 50])]
        people = Coco(*wall(contents(images=images, annotations=annotations)))
        with pytest.raises(ImageError, match=rf"160 × 120 pixels, .* made for {size[0]} × {size[1]}: {what}"):
            CropLoader(people, people.skeleton, (64, 48)).load_batch(0, range(2))


def test_a_photograph_turned_by_exif_is_measured_as_it_is_shown(wall):
    images = [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.png"}]
    file, pictures = wall(contents(images=images, annotations=[climber(1, 1, 10), climber(3, 2, 50)]))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    PIL.Image.new("RGB", (SIZE[1], SIZE[0]), (90, 90, 90)).save(pictures / "1.jpg", exif=exif)
    people = Coco(file, pictures)
    assert people[0].image_size == SIZE
    CropLoader(people, people.skeleton, (64, 48)).load_batch(0, range(2))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings(wall, encoding):
    file, pictures = wall(contents())
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b""
    file.write_bytes(mark + json.dumps(contents()).encode(encoding))
    check_perfect(Coco(file, pictures))


@pytest.mark.parametrize(
    ("listed", "stored"),
    [
        ("train\\{}.png", "train/{}.png"),
        ("pictures/{}.png", "{}.png"),
        ("./{}.png", "{}.png"),
        ("data/pictures/{}.png", "{}.png"),
        ("/somebody/elses/disk/pictures/{}.png", "{}.png"),
        ("C:\\Users\\me\\pictures\\{}.png", "{}.png"),
        ("{}.png", "session 4/left/{}.png"),
        ("train/{}.png", "train/{}.png"),
    ],
)
def test_names_of_pictures(wall, listed, stored, caplog):
    images = [image | {"file_name": listed.format(image["id"])} for image in contents()["images"]]
    file, pictures = wall(contents(images=images), [stored.format(1), stored.format(2)])
    for name in (stored.format(1), stored.format(2)):  # macOS leaves these behind
        (pictures / name).with_name("._" + (pictures / name).name).write_bytes(b"\0\5\26\7")
    check_perfect(Coco(file, pictures))
    assert "are not there" not in caplog.text


def test_missing_pictures_are_said_when_the_file_is_opened(wall, caplog):
    Coco(*wall(contents(), ["1.png"]))
    assert "1 of 2 images" in caplog.text and "2.png" in caplog.text


def test_one_name_in_two_subfolders_is_refused(wall):
    file, pictures = wall(contents(), ["a/1.png", "b/1.png", "a/2.png"])
    with pytest.raises(ValueError, match="its image 1.png may be"):
        Coco(file, pictures)
    folder = ImageFolder(pictures)
    assert folder.path("b/1.png") == str(pictures / "b/1.png") and folder.path("2.png") == str(pictures / "a/2.png")


def test_coordinates_as_shares_of_the_image_are_refused(wall):
    annotations = contents()["annotations"]
    for annotation in annotations:
        points = np.reshape(annotation["keypoints"], (7, 3)) / [*SIZE, 1]
        annotation |= {"keypoints": points.ravel().tolist()}
    with pytest.raises(ValueError, match="are shares of the image, 0 to 1: multiply them"):
        Coco(*wall(contents(annotations=annotations)))


def test_detections_of_other_things_are_not_people(wall, tmp_path):
    """A list of images with COCO's categories and no annotations, as for its test images."""
    categories = [{"id": number, "name": name} for number, name in ((1, "person"), (2, "bicycle"), (3, "car"))]
    file, pictures = wall({"images": contents()["images"], "categories": categories})
    found = [{"image_id": 1, "category_id": n, "bbox": [n, 2, 30, 40], "score": 0.9} for n in (3, 1, 2, 1)]
    (tmp_path / "found.json").write_text(json.dumps(found))
    people = Coco(file, pictures, boxes=tmp_path / "found.json")
    assert [(sample.id, sample.category_id) for sample in people] == [(1, 1), (3, 1)]
    cars = Coco(file, pictures, boxes=tmp_path / "found.json", category="car")
    assert [(sample.id, sample.category_id) for sample in cars] == [(0, 3)]
