"""A teacher's labels: where they go, what they weigh, what they leave as it is."""

import dataclasses

import numpy as np
import pytest

import keras_regpose as rp
from keras_regpose.cli import main
from keras_regpose.data.coco_writer import write_coco
from keras_regpose.images import save_picture
from keras_regpose.training import taught

ARM = rp.Skeleton("arm", ("r_wrist", "tip", "nose"))


@pytest.fixture(scope="module")
def teacher():
    return rp.from_preset("mobilenetv2_rle_people", runtime="onnx")


@pytest.fixture(scope="module")
def people():
    """Drawn people of three keypoints, of which the first person has a labelled nose and the others nothing."""
    samples = []
    for number, person in enumerate(rp.data.Synthetic(3, seed=0)):
        visible = np.array([0, 0, number == 0], np.float32)
        keypoints = np.where(visible[:, None], person.keypoints[0] + 40, 0).astype(np.float32)
        samples.append(dataclasses.replace(person, keypoints=keypoints, visible=visible, id=number, image_id=number))
    return rp.data.People(samples, ARM)


def test_only_unlabelled_keypoints_are_filled_in_and_weigh_less(people, teacher):
    seen = []
    learned = taught(people, teacher, progress=seen.append)
    assert sum(seen) == 3 and learned.skeleton == ARM
    for before, after in zip(people, learned, strict=True):
        poses = teacher.estimate(before.image, boxes=[before.box])
        sure = poses.expected_oks()[0, [10, 0]]
        wrist, tip, nose = after.visible
        assert tip == 0 and wrist == pytest.approx(sure[0] if sure[0] >= 0.3 else 0, abs=1e-4)
        if wrist:
            np.testing.assert_allclose(after.keypoints[0], poses["right_wrist"][0], atol=1e-2)
        if before.visible[2]:
            assert nose == 1 and (after.keypoints[2] == before.keypoints[2]).all()
        else:
            assert nose == pytest.approx(sure[1] if sure[1] >= 0.3 else 0, abs=1e-4)
    assert 0 < max(sample.visible[0] for sample in learned) < 1


def test_pictures_without_annotations_add_their_people(people, teacher, tmp_path):
    photograph = rp.data.Synthetic(1, seed=3)[0].image
    save_picture(tmp_path / "one.png", photograph)
    # Whoever it is not sure of is left out.
    expected = [person for person in teacher.estimate(photograph) if (person.expected_oks()[0, [10, 0]] >= 0.3).any()]
    learned, others = taught(people, teacher, tmp_path), taught(people, teacher)
    assert len(learned) == len(others) + len(expected) and expected
    for person, sample in zip(expected, list(learned)[len(others) :], strict=True):
        np.testing.assert_allclose(sample.box, person.boxes[0], atol=0.1)
        assert sample.image == str(tmp_path / "one.png")


def test_teachers_that_do_not_fit(people, teacher):
    other = rp.data.People([people[0]], rp.Skeleton("machine", ("bolt", "nut", "gear")))
    with pytest.raises(ValueError, match="no keypoint of 'machine'"):
        taught(other, teacher)


def test_the_shell_learns_from_a_teacher(tmp_path, capsys):
    for number, person in enumerate(people := list(rp.data.Synthetic(4, seed=0))):
        save_picture(tmp_path / f"{number}.png", person.image)
        nose = np.arange(len(person.visible)) == 0
        people[number] = dataclasses.replace(
            person, image=str(tmp_path / f"{number}.png"), visible=person.visible * nose, image_id=number, id=number
        )
    write_coco(rp.data.People(people, rp.COCO17), tmp_path / "noses.json")
    command = ["train", "--annotations", str(tmp_path / "noses.json"), "--images", str(tmp_path)]
    command += ["--val-share", "0", "--backbone", "mobilenetv2_0.25", "--input-size", "64x48", "--epochs", "1"]
    command += ["--batch-size", "2", "--from-random", "--output", str(tmp_path / "run")]
    assert main([*command, "--unlabelled", str(tmp_path)]) == 2
    assert "--unlabelled takes a --teacher" in capsys.readouterr().err
    assert main([*command, "--teacher", "mobilenetv2_rle_people", "--unlabelled", str(tmp_path)]) == 0
    found = int(capsys.readouterr().out.split(" people to learn from")[0].split()[-1])
    assert found > 4  # those that it finds in the pictures come in addition
    assert rp.from_preset(tmp_path / "run" / "best").skeleton == rp.COCO17
