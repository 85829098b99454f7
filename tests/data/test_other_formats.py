"""Files of other tools, written by hand and by sleap-io, become people with the right skeleton and coordinates."""

import json
import logging
import sys

import cv2
import numpy as np
import pytest

from keras_regpose import COCO17
from keras_regpose.data import Coco, read, write_coco
from keras_regpose.evaluation.coco import coco_keypoints
from keras_regpose.images import read_image
from keras_regpose.skeleton import Skeleton

HANDS = ("nose", "left_hand", "right_hand")


def pictures(folder, *names, size=(48, 64)):
    """Writes pictures of (height, width), each in a colour of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full((*size, 3), (20 * number, 90, 200), np.uint8))
    return [str(folder / name) for name in names]


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def points(sample):
    """Returns the labelled keypoints by their position."""
    return {int(k): sample.keypoints[k].tolist() for k in np.flatnonzero(sample.visible)}


@pytest.fixture
def yolo(tmp_path):
    """A folder as Ultralytics lays it out, with pictures of 200 × 100 pixels."""
    pictures(tmp_path / "images" / "train", "a.png", "b.png", size=(100, 200))
    pictures(tmp_path / "images" / "val", "c.png", size=(100, 200))
    text(
        tmp_path / "labels" / "train" / "a.txt",
        "0 0.5 0.5 0.6 0.4 0.25 0.4 2 0.6875 0.5 1 0 0 0\n1 .2 .2 .1 .1\n\n"
        "1 0.5 0.5 1 0.5 0.5 0.25 2.0 0 0 0 0.125 0.75 2\n",
    )
    text(tmp_path / "labels" / "val" / "c.txt", "0 0.5 0.5 0.5 0.5 0.375 0.5 2 0.5 0.625 2 0.625 0.5 2\n")
    return text(
        tmp_path / "data.yaml",
        "path: somewhere/else\ntrain: images/train\nval: images/val\ntest: images/test\nkpt_shape: [3, 3]\n"
        "flip_idx: [0, 2, 1]\nnames: {0: person, 1: doll}\nkpt_names: {0: [nose, left_hand, right_hand]}\n",
    )


def test_a_yolo_folder(yolo, caplog):
    people = read(yolo.parent, category="person")
    assert people.skeleton.keypoints == HANDS and people.skeleton.flip_pairs == (("left_hand", "right_hand"),)
    assert "images/test" in caplog.text
    assert [str(sample.image).rsplit("/", 2)[1:] for sample in people] == [["train", "a.png"], ["val", "c.png"]]
    assert points(people[0]) == {0: [50, 40], 1: [137.5, 50]}
    assert points(people[1]) == {0: [75, 50], 1: [100, 62.5], 2: [125, 50]}
    np.testing.assert_allclose(people[0].box, [40, 30, 160, 70], atol=1e-5)
    doll = read(yolo, category="doll")
    assert [(sample.category_id, points(sample)) for sample in doll] == [(2, {0: [100, 25], 2: [25, 75]})]


def test_one_split_of_a_yolo_folder(yolo):
    people = read(yolo, images=yolo.parent / "images" / "val")
    assert [points(sample) for sample in people] == [{0: [75, 50], 1: [100, 62.5], 2: [125, 50]}]


def test_a_yolo_folder_without_names(tmp_path, caplog):
    # As Roboflow lays it out, with two numbers for a keypoint and a list of pictures for a split.
    pictures(tmp_path / "train" / "images", "a.jpg", size=(100, 200))
    pictures(tmp_path / "valid" / "images", "b.jpg", size=(100, 200))
    text(tmp_path / "train" / "labels" / "a.txt", "0 .5 .5 .5 .5 .25 .25 .75 .75 0 0\n")
    text(tmp_path / "valid" / "labels" / "b.txt", "0 .5 .5 .5 .5 .25 .25 -1 -1 .5 .5\n")
    text(tmp_path / "valid.txt", "./valid/images/b.jpg\n")
    content = "train: ../train/images\nval: [valid.txt]\nkpt_shape: [3, 2]\nnc: 1\nnames: ['arm']\n"
    path = text(tmp_path / "data.yaml", content)
    people = read(path)
    assert people.skeleton.keypoints == ("keypoint_0", "keypoint_1", "keypoint_2") and people.skeleton.flip_pairs == ()
    assert "names no keypoints, so skeleton= is to; until then they are keypoint_0, keypoint_1" in caplog.text
    assert [points(sample) for sample in people] == [{0: [50, 25], 1: [150, 75]}, {0: [50, 25], 2: [100, 50]}]
    path.write_text(content + "flip_idx: [1, 0, 2]\n")
    assert read(path).skeleton.flip_pairs == (("keypoint_0", "keypoint_1"),)
    named = Skeleton("arm", ("shoulder", "elbow", "wrist"))
    assert read(path, skeleton=named).skeleton == named


def test_a_yolo_folder_of_coco(tmp_path):
    pictures(tmp_path / "images", "a.png")
    text(tmp_path / "labels" / "a.txt", "0 .5 .5 .5 .5" + " .25 .25 2 .5 .5 2" * 8 + " 0 0 0\n")
    flip = COCO17.flip_permutation.tolist()
    text(tmp_path / "data.yaml", f"train: images\nkpt_shape: [17, 3]\nflip_idx: {flip}\nnames: [person]\n")
    assert read(tmp_path).skeleton.keypoints == COCO17.keypoints
    assert {frozenset(pair) for pair in read(tmp_path).skeleton.flip_pairs} == set(map(frozenset, COCO17.flip_pairs))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "0 .5 .5 .5 .5 .1 .1",
            r"data.yaml cannot be read: its line '0 .5 .5 .5 .5 .1 .1' in .*c\.txt has 7 numbers, exp",
        ),
        ("x" + " 1" * 13, r"its line 'x 1 .*' in .*c\.txt is not made of numbers"),
        ("2" + " 1" * 13, "it has no field 2"),
    ],
)
def test_a_wrong_line_of_yolo_is_named(yolo, line, message):
    text(yolo.parent / "labels" / "val" / "c.txt", line + "\n")
    with pytest.raises(ValueError, match=message):
        read(yolo)


@pytest.fixture
def dlc(tmp_path):
    """A DeepLabCut project with two videos, as versions with one column and with three columns of names write it."""
    pictures(tmp_path / "labeled-data" / "walk", "img1.png", "img2.png")
    pictures(tmp_path / "labeled-data" / "run", "img1.png")
    text(
        tmp_path / "labeled-data" / "walk" / "CollectedData_me.csv",
        "scorer,,,me,me,me,me,me,me\nbodyparts,,,nose,nose,left_hand,left_hand,right_hand,right_hand\n"
        "coords,,,x,y,x,y,x,y\nlabeled-data,walk,img1.png,10.25,20.5,1,2,,\n"
        "labeled-data,walk,img2.png,11.125,12,30.5,40.75,5,6\n",
    )
    text(
        tmp_path / "labeled-data" / "run" / "CollectedData_me.csv",
        "scorer,me,me,me,me,me,me\nbodyparts,nose,nose,left_hand,left_hand,right_hand,right_hand\n"
        "coords,x,y,x,y,x,y\nlabeled-data\\run\\img1.png,1,1,9,9,,\n",
    )
    return text(
        tmp_path / "config.yaml",
        "Task: hands\nscorer: me\nbodyparts: [nose, left_hand, right_hand]\nskeleton:\n- [nose, left_hand]\n"
        "- [nose, tail]\nvideo_sets:\n  /videos/walk.mp4: {crop: 0, 64, 0, 48}\n",
    )


def test_a_deeplabcut_project(dlc):
    people = read(dlc.parent)
    assert people.skeleton.keypoints == HANDS and people.skeleton.edges == (("nose", "left_hand"),)
    assert people.skeleton.flip_pairs == (("left_hand", "right_hand"),)
    assert {"/".join(str(sample.image).rsplit("/", 2)[1:]): points(sample) for sample in people} == {
        "run/img1.png": {0: [1, 1], 1: [9, 9]},
        "walk/img1.png": {0: [10.25, 20.5], 1: [1, 2]},
        "walk/img2.png": {0: [11.125, 12], 1: [30.5, 40.75], 2: [5, 6]},
    }
    one = dlc.parent / "labeled-data" / "walk" / "CollectedData_me"
    for suffix in (".csv", ".h5"):  # the same labels twice
        one.with_suffix(".h5").touch()
        assert [points(sample)[0] for sample in read(one.with_suffix(suffix))] == [[10.25, 20.5], [11.125, 12]]
    assert read(one.with_suffix(".csv")).skeleton == people.skeleton
    renamed = one.with_name("labels.csv")
    one.with_suffix(".csv").rename(renamed)
    assert len(read(renamed)) == 2
    renamed.write_text(renamed.read_text().replace("30.5", "?"))
    with pytest.raises(ValueError, match=r"its row .*img2.png.* in .*labels.csv is not made of numbers"):
        read(renamed)


def test_several_animals_of_deeplabcut(tmp_path):
    folder = tmp_path / "labeled-data" / "two"
    pictures(folder, "img1.png")
    path = text(
        folder / "CollectedData_me.csv",
        "scorer,,,me,me,me,me,me,me,me,me,me,me\nindividuals,,,a,a,a,a,b,b,b,b,single,single\n"
        "bodyparts,,,nose,nose,tail,tail,nose,nose,tail,tail,corner,corner\ncoords,,,x,y,x,y,x,y,x,y,x,y\n"
        "labeled-data,two,img1.png,1,2,3,4,5,6,7,8,9,9\n",
    )
    people = read(path)
    assert people.skeleton.keypoints == ("nose", "tail") and len(set(people.field("image"))) == 1
    assert [points(sample) for sample in people] == [{0: [1, 2], 1: [3, 4]}, {0: [5, 6], 1: [7, 8]}]


def keypoint(number, name, x, y, **more):
    value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [name]}
    size = {"original_width": 64, "original_height": 48, "image_rotation": 0}
    return {"id": number, "type": "keypointlabels", "value": value, "to_name": "img", **size, **more}


def rectangle(number, x, y, width, height, label="person"):
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label]}
    return {"id": number, "type": "rectanglelabels", "value": value, "original_width": 64, "original_height": 48}


def task(number, image, *results):
    annotations = [{"result": [], "was_cancelled": True}, {"result": list(results), "was_cancelled": False}]
    return {"id": number, "data": {"img": image, "note": "x"}, "annotations": annotations}


@pytest.fixture
def exported(tmp_path):
    """Writes the export of Label Studio's tasks."""
    pictures(tmp_path, "a.png", "b.png", "c.png")
    return lambda *tasks: text(tmp_path / "export.json", json.dumps(tasks))


def test_label_studio(exported):
    related = {"type": "relation", "from_id": "k2", "to_id": "r2", "direction": "right"}
    path = exported(
        task(1, "/data/upload/3/1a2b3c4d-a.png", keypoint("k1", "nose", 25, 50), keypoint("k2", "left_hand", 12.5, 75)),
        task(
            2,
            "/data/local-files/?d=photos%2Fb.png",
            rectangle("r1", 0, 0, 50, 50),
            rectangle("r2", 25, 25, 50, 50),
            keypoint("k1", "nose", 37.5, 37.5, parentID="r1"),
            keypoint("k2", "nose", 31.25, 31.25),
            keypoint("k3", "right_hand", 75, 75),
            keypoint("k4", "right_hand", 6.25, 6.25),
            related,
            {"type": "relation", "from_id": "k1", "to_id": "k4"},  # a line between two keypoints
        ),
        {"id": 3, "data": {"img": "c.png"}, "annotations": []},
    )
    people = read(path)
    assert people.skeleton.keypoints == ("left_hand", "nose", "right_hand")
    assert people.skeleton.flip_pairs == (("left_hand", "right_hand"),)
    assert [str(sample.image).rsplit("/", 1)[1] for sample in people] == ["a.png", "b.png", "b.png"]
    found = [points(sample) for sample in people]
    assert found[0] == {1: [16, 24], 0: [8, 36]}
    assert found[1:] == [{1: [24, 18], 2: [4, 3]}, {1: [20, 15], 2: [48, 36]}]
    assert people[1].box.tolist() == [0, 0, 32, 24] and people[2].box.tolist() == [16, 12, 48, 36]


@pytest.mark.parametrize(
    "results",
    [
        [keypoint("k1", "nose", 1, 1), keypoint("k2", "nose", 2, 2)],
        [rectangle("r1", 0, 0, 50, 50), rectangle("r2", 0, 0, 60, 60), keypoint("k1", "nose", 9, 9)],
        [rectangle("r1", 0, 0, 50, 50), rectangle("r2", 0, 0, 60, 60), keypoint("k1", "nose", 70, 9)],
    ],
    ids=["twice the same", "in two rectangles", "in none of two"],
)
def test_a_keypoint_of_nobody_knows_whom_is_refused(exported, results):
    with pytest.raises(ValueError, match="whose the keypoint 'nose' of task 7 is, or where, cannot be told"):
        read(exported(task(7, "a.png", *results)))


@pytest.fixture
def labels(tmp_path):
    """What sleap-io holds: three pictures with a person each, the second one with a predicted one besides."""
    sleap_io = pytest.importorskip("sleap_io")
    skeleton = sleap_io.Skeleton(
        nodes=list(HANDS),
        edges=[("nose", "left_hand"), ("nose", "right_hand")],
        symmetries=[("left_hand", "right_hand")],
        name="hands",
    )
    video = sleap_io.Video.from_filename(pictures(tmp_path / "photos", "a.png", "b.png", "c.png"))
    frames = []
    for number in range(3):
        person = np.array([[10.25 + number, 12.5], [20, 30.75], [np.nan, np.nan]])
        people = [sleap_io.Instance.from_numpy(person, skeleton=skeleton)]
        if number == 1:
            people.append(sleap_io.PredictedInstance.from_numpy(person + 1, skeleton=skeleton))
        frames.append(sleap_io.LabeledFrame(video=video, frame_idx=number, instances=people))
    return sleap_io.Labels(frames)


EXPECTED = [{0: [10.25 + number, 12.5], 1: [20, 30.75]} for number in range(3)]


def test_sleap(labels, tmp_path):
    labels.save(str(tmp_path / "labels.slp"), verbose=False)
    people = read(tmp_path / "labels.slp")
    assert people.skeleton.keypoints == HANDS and people.skeleton.flip_pairs == (("left_hand", "right_hand"),)
    assert people.skeleton.edges == (("nose", "left_hand"), ("nose", "right_hand"))
    assert [points(sample) for sample in people] == EXPECTED
    assert [str(sample.image).rsplit("/", 1)[1] for sample in people] == ["a.png", "b.png", "c.png"]


def test_sleap_with_pictures_inside(labels, tmp_path):
    path = tmp_path / "labels.pkg.slp"
    labels.save(str(path), embed=True, verbose=False)
    with pytest.raises(ValueError, match="pass images=, a folder into which they are written"):
        read(path)
    people = read(path, images=tmp_path / "frames")
    assert [points(sample) for sample in people] == EXPECTED
    for sample, name in zip(people, "abc", strict=True):
        np.testing.assert_array_equal(read_image(sample.image), read_image(tmp_path / "photos" / f"{name}.png"))


def test_sleap_with_a_video(labels, tmp_path):
    sleap_io = pytest.importorskip("sleap_io")
    colors = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.array([30, 10, 0], np.uint8)
    (tmp_path / "first").mkdir()
    sleap_io.save_video(np.broadcast_to(colors, (8, 48, 64, 3)), str(tmp_path / "first" / "v.mp4"))
    video = sleap_io.load_video(str(tmp_path / "first" / "v.mp4"))
    frame = sleap_io.LabeledFrame(video=video, frame_idx=5, instances=labels[0].instances)
    sleap_io.Labels([frame]).save(str(tmp_path / "first" / "v.slp"), verbose=False)
    (tmp_path / "first").rename(tmp_path / "moved")
    people = read(tmp_path / "moved" / "v.slp", images=tmp_path / "frames")
    assert [points(sample) for sample in people] == EXPECTED[:1]
    # The video's codec keeps colours nearly.
    np.testing.assert_allclose(read_image(people[0].image).mean(axis=(0, 1)), [150, 50, 0], atol=6)
    (tmp_path / "moved" / "v.mp4").unlink()
    with pytest.raises(FileNotFoundError, match="Video does not exist or cannot be opened for reading: .*v.mp4"):
        read(tmp_path / "moved" / "v.slp", images=tmp_path / "frames")


def test_predicted_people_are_not_labels(labels, tmp_path):
    sleap_io = pytest.importorskip("sleap_io")
    frame = sleap_io.LabeledFrame(video=labels.videos[0], frame_idx=1, instances=labels[1].instances[1:])
    sleap_io.Labels([frame]).save(str(tmp_path / "predicted.slp"), verbose=False)
    with pytest.raises(ValueError, match="predicted.slp cannot be read: it labels nobody"):
        read(tmp_path / "predicted.slp")


def test_two_skeletons_of_sleap(labels, tmp_path):
    sleap_io = pytest.importorskip("sleap_io")
    ball = sleap_io.Skeleton(nodes=["top", "bottom"], name="ball")
    labels[0].instances.append(sleap_io.Instance.from_numpy(np.array([[1, 2], [3, 4.5]]), skeleton=ball))
    sleap_io.Labels(labels.labeled_frames).save(str(tmp_path / "two.slp"), verbose=False)
    with pytest.raises(ValueError, match=r"choose one with category=, of hands \(1\), ball \(2\)"):
        read(tmp_path / "two.slp")
    people = read(tmp_path / "two.slp", category="ball")
    assert [points(sample) for sample in people] == [{0: [1, 2], 1: [3, 4.5]}] and people[0].category_id == 2


def test_yolo_and_label_studio_of_sleap_io(labels, tmp_path):
    sleap_io = pytest.importorskip("sleap_io")
    sleap_io.save_ultralytics(labels, str(tmp_path / "yolo"), split_ratios={"train": 1.0}, verbose=False)
    people = read(tmp_path / "yolo")
    assert people.skeleton.keypoints == HANDS and people.skeleton.edges == (
        ("nose", "left_hand"),
        ("nose", "right_hand"),
    )
    # Its `flip_idx` pairs nothing, whatever the skeleton says.
    assert people.skeleton.flip_pairs == (("left_hand", "right_hand"),)
    assert len(people) == 4  # it writes predicted people, too
    np.testing.assert_allclose(people[0].keypoints, [[10.25, 12.5], [20, 30.75], [0, 0]], atol=1e-4)

    sleap_io.save_labelstudio(labels, str(tmp_path / "studio.json"))
    people = read(tmp_path / "studio.json")
    assert people.skeleton.keypoints == ("left_hand", "nose")
    np.testing.assert_allclose(people[0].keypoints, [[20, 30.75], [10.25, 12.5]], atol=1e-5)
    np.testing.assert_allclose(people[0].box, [10.25, 12.5, 20, 30.75], atol=1e-5)


def test_coco_goes_to_its_own_reader(tmp_path):
    person = {
        "id": 4,
        "image_id": 9,
        "category_id": 3,
        "bbox": [1, 2, 30, 40],
        "area": 5,
        "keypoints": [5, 6, 2, 7, 8, 1],
    }
    content = {
        "images": [{"id": 9, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": [person],
        "categories": [{"id": 3, "name": "arm", "keypoints": ["elbow", "wrist"]}],
    }
    pictures(tmp_path, "a.png")
    path = text(tmp_path / "people.json", json.dumps(content))
    people, direct = read(path), Coco(path, tmp_path)
    assert people.annotations == direct.annotations and people.skeleton == direct.skeleton
    assert [(sample.id, sample.category_id, points(sample)) for sample in people] == [(4, 3, {0: [5, 6], 1: [7, 8]})]


@pytest.mark.parametrize("kind", ["yolo", "dlc", "label studio", "sleap"])
def test_what_was_read_can_be_written_as_coco_and_measured(kind, request, tmp_path):
    if kind == "label studio":
        results = [keypoint("k1", "nose", 25, 50), keypoint("k2", "left_hand", 12.5, 75)]
        path = request.getfixturevalue("exported")(task(1, "a.png", *results, rectangle("r1", 5, 10, 50, 80)))
    elif kind == "sleap":
        path = tmp_path / "labels.slp"
        request.getfixturevalue("labels").save(str(path), verbose=False)
    else:
        path = request.getfixturevalue(kind)
    people = read(path)
    write_coco(people, tmp_path / "people.json")
    again = Coco(tmp_path / "people.json", tmp_path)
    assert again.skeleton == people.skeleton
    assert len(again) == len(people) > 0
    for one, other in zip(people, again, strict=True):
        assert one.image == other.image
        for field in ("id", "image_id", "category_id", "area", "image_size"):
            assert getattr(one, field) == getattr(other, field)
        for field in ("keypoints", "visible", "box"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    found = [
        {
            "image_id": sample.image_id,
            "category_id": sample.category_id,
            "keypoints": sample.keypoints,
            "scores": np.ones(len(people.skeleton)),
            "box_score": 1.0,
            "area": sample.area,
        }
        for sample in people
    ]
    assert coco_keypoints(found, people.truth(), nms=None, sigmas=people.skeleton.sigmas)["AP"] == pytest.approx(1)


def test_a_missing_picture_of_deeplabcut_moves_no_labels(dlc, caplog):
    for number in range(3, 25):
        pictures(dlc.parent / "labeled-data" / "walk", f"img{number}.png")
    rows = "".join(f"labeled-data,walk,img{number}.png,{number},1,{number + 1},2,,\n" for number in range(1, 25))
    path = dlc.parent / "labeled-data" / "walk" / "CollectedData_me.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]) + rows)
    (path.parent / "img2.png").unlink()
    found = {str(sample.image).rsplit("/", 1)[1]: points(sample)[0] for sample in read(path)}
    assert found == {f"img{number}.png": [number, 1] for number in range(1, 25) if number != 2}
    assert "walk/img2.png is not listed with width and height, nor can it be opened" in caplog.text


def test_two_names_of_one_picture_are_refused(exported):
    named = [keypoint("k1", "nose", 25, 50), keypoint("k2", "left_hand", 12.5, 75)]
    path = exported(
        task(1, "/data/upload/1/1a2b3c4d-a.png", *named), task(2, "/data/upload/1/5a2b3c4d-sub/a.png", *named)
    )
    with pytest.raises(ValueError, match="would both be the picture .*a.png"):
        read(path)


def test_labels_of_rectangles_are_categories(exported):
    path = exported(
        task(
            1,
            "a.png",
            rectangle("r1", 0, 0, 50, 50, "climber"),
            rectangle("r2", 50, 50, 50, 50, "dog"),
            keypoint("k1", "nose", 25, 25),
            keypoint("k2", "tail", 75, 75),
        )
    )
    with pytest.raises(ValueError, match=r"category=, of climber \(1\), dog \(2\)"):
        read(path)
    dog = read(path, category="dog")
    assert dog.skeleton.keypoints == ("tail",) and points(dog[0]) == {0: [48, 36]}
    assert dog[0].category_id == 2 and dog[0].box.tolist() == [32, 24, 63, 47]


def test_unknown_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read(tmp_path / "nothing.json")
    with pytest.raises(FileNotFoundError, match="There is no file .*data.yaml or config.yaml"):
        read(tmp_path)
    for name, content in (
        ("a.yaml", "- 1\n"),
        ("b.json", "[1]"),
        ("data.yaml", "kpt_shape: 3\n"),
        ("detection.yaml", "names: [person]\n"),
        ("c.yaml", "kpt_shape: [2, 3]\nkpt_names: {0: [one]}\n"),
        ("d.yaml", "kpt_shape: [3, 3]\nflip_idx: [1, 2, 0]\n"),
        ("e.csv", "scorer,a,a\nbodyparts,b,b\n"),
        ("f.json", '[{"annotations": [{"result": [{"type": "keypointlabels", "id": 1}]}]}]'),
    ):
        with pytest.raises(ValueError, match=f"{name} cannot be read: "):
            read(text(tmp_path / name, content))
    with pytest.raises(ValueError, match="it has no labels in labeled-data"):
        read(text(tmp_path / "config.yaml", "Task: t\nscorer: me\n"))


def test_sleap_io_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sleap_io", None)
    with pytest.raises(ImportError, match=r"needs sleap_io: pip install 'keras-regpose\[formats\]'"):
        read(text(tmp_path / "labels.slp", ""))


def test_a_damaged_file_is_refused(tmp_path, caplog):
    pytest.importorskip("sleap_io")
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(ValueError, match="labels.slp cannot be read: it is in no format that is known"),
    ):
        read(text(tmp_path / "labels.slp", "no HDF5"))
