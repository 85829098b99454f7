"""An annotation file of one's own, from the shell: training, evaluation, prediction, export, publishing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from own_data import write_own_data
from tiny_model import tiny_model

import keras_regpose as rp
from keras_regpose.cli import main
from keras_regpose.images import save_picture


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Options that name the people, and the folder of a preset of their keypoints."""
    folder = tmp_path_factory.mktemp("own")
    labels, pictures = write_own_data(folder)
    skeleton = rp.data.Coco(labels, pictures).skeleton
    tiny_model().with_skeleton(skeleton).save_to_preset(folder / "preset")
    return ["--annotations", labels, "--images", pictures], str(folder / "preset")


@pytest.fixture(scope="module")
def lsp(tmp_path_factory):
    """A preset of other keypoints."""
    folder = tmp_path_factory.mktemp("lsp") / "preset"
    tiny_model().with_skeleton(rp.LSP14).save_to_preset(folder)
    return str(folder)


def sentence(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("keras-regpose")]
    assert len(lines) == 1
    return lines[0]


SHORT = ["--epochs", "1", "--batch-size", "4", "--validate-every", "1"]


def test_a_share_of_the_pictures_is_held_out_and_written(own, lsp, tmp_path, capsys):
    data, _ = own
    run = tmp_path / "run"
    train = ["train", *data, "--val-share", "0.25", "--preset", lsp, *SHORT, "--output", str(run)]
    assert main(train) == 0
    people = rp.data.Coco(data[1], data[3])
    learn, held_out = people.split(0.25)
    printed = capsys.readouterr().out
    assert f"{len(learn)} people to learn from, {len(held_out)} to validate on" in printed
    assert rp.from_preset(run / "best").skeleton.keypoints == rp.data.Coco(data[1], data[3]).skeleton.keypoints
    written = rp.data.Coco(run / "validation.json", data[3])
    assert list(written.field("id")) == list(held_out.field("id"))
    assert main(["evaluate", str(run / "best"), "--annotations", str(run / "validation.json"), *data[2:]]) == 0
    logged = (run / "history.csv").read_text().splitlines()
    figures = dict(zip(logged[0].split(","), logged[1].split(","), strict=True))
    assert f"AP {float(figures['val_AP']):.4f}" in capsys.readouterr().out


def test_validation_of_a_file_of_its_own(own, tmp_path, capsys):
    data, preset = own
    labels, pictures = write_own_data(tmp_path / "other", people=6, seed=5)
    train = ["train", *data, "--preset", preset, *SHORT]
    validate = ["--val-annotations", labels, "--val-images", pictures]
    assert main([*train, *validate, "--output", str(tmp_path / "run")]) == 0
    captured = capsys.readouterr()
    assert "24 people to learn from, 6 to validate on" in captured.out and "both learned from" not in captured.err
    # Without --val-images the pictures are those of --images: here of the same names, and learned from.
    assert main([*train, *validate[:2], "--output", str(tmp_path / "same")]) == 0
    assert "pictures are both learned from and validated on" in capsys.readouterr().err

    content = json.loads(Path(labels).read_text())
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation.get("keypoints", [])[:-3]
    for category in content["categories"]:
        category["keypoints"] = category.get("keypoints", [])[:-1]
    Path(labels).write_text(json.dumps(content))
    assert main([*train, *validate, "--output", str(tmp_path / "fewer")]) == 2
    assert "keypoint" in sentence(capsys)
    assert not (tmp_path / "fewer").exists()


def test_training_without_validation_and_from_settings(own, tmp_path, capsys):
    data, _ = own
    new = ["--backbone", "mobilenetv2_0.25", "--input-size", "64x48"]
    run = tmp_path / "run"
    assert main(["train", *data, "--val-share", "0", *new, *SHORT, "--output", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "24 people to learn from, 0 to validate on" in printed and f"The last model: {run}/best" in printed
    assert rp.from_preset(run / "best").skeleton.keypoints == rp.data.Coco(data[1], data[3]).skeleton.keypoints


def test_a_finished_run_goes_on_with_more_epochs(own, tmp_path, capsys):
    data, preset = own
    run = tmp_path / "run"
    train = ["train", *data, "--val-share", "0.25", "--preset", preset, *SHORT, "--output", str(run)]
    assert main(train) == 0
    assert main([*train, "--epochs", "2"]) == 2
    assert "holds a run. Add --resume" in sentence(capsys)
    assert main([*train, "--epochs", "2", "--resume"]) == 0
    captured = capsys.readouterr()
    assert "2 epochs; this sitting" in captured.out and "Going on to epoch 2, not 1" in captured.err
    assert main([*train, "--epochs", "2", "--resume", "--rotation", "10"]) == 2
    assert "The run to resume has augmentation = " in sentence(capsys)


def test_results_join_the_annotation_file(own, tmp_path, capsys):
    data, preset = own
    assert (
        main(["predict", "--preset", preset, *data, "--format", "coco", "json", "--output", str(tmp_path / "poses")])
        == 0
    )
    people = rp.data.Coco(data[1], data[3])
    pictures = len(np.unique(people.photographs))
    assert f"{pictures} of {pictures} images" in capsys.readouterr().out
    results = json.loads((tmp_path / "poses" / "coco.json").read_text())
    assert sorted(result["id"] for result in results) == sorted(people.field("id"))
    samples = {sample.id: sample for sample in people}
    for result in results:
        sample = samples[result["id"]]
        assert (result["image_id"], result["category_id"]) == (sample.image_id, sample.category_id)
        left, top, width, height = result["bbox"]
        np.testing.assert_allclose([left, top, left + width, top + height], sample.box, atol=1e-3)
    # Sources choose some of its pictures.
    chosen = sorted({sample.image for sample in people})[:2]
    some = ["predict", "--preset", preset, *chosen, *data, "--format", "coco", "--output", str(tmp_path / "some")]
    assert main(some) == 0
    expected = [result for result in results if samples[result["id"]].image in chosen]
    got = json.loads((tmp_path / "some" / "coco.json").read_text())
    assert [result["id"] for result in got] == [result["id"] for result in expected]


def test_labels_as_predictions_score_one_in_pycocotools(own, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    labels, pictures = write_own_data(tmp_path)
    people = rp.data.Coco(labels, pictures)
    content = json.loads(Path(labels).read_text())
    for annotation in content["annotations"]:  # pycocotools computes with all of them
        unlabelled = 3 * len(people.skeleton) * [0]
        annotation["keypoints"] = [number or 0 for number in annotation.get("keypoints", unlabelled)]
        annotation.setdefault("num_keypoints", 0)
    Path(labels).write_text(json.dumps(content))
    with rp.ResultsWriter(tmp_path / "poses", "coco", people) as writer:
        for number in range(people.photographs.max() + 1):
            those = [people[place] for place in np.flatnonzero(people.photographs == number)]
            columns = [[getattr(one, name) for one in those] for name in ("keypoints", "visible", "box", "box_score")]
            writer.write(rp.Poses(*columns, people.skeleton, source=those[0].image))
    truth = coco.COCO(labels)
    evaluation = cocoeval.COCOeval(truth, truth.loadRes(str(tmp_path / "poses" / "coco.json")), "keypoints")
    evaluation.params.kpt_oks_sigmas = np.full(len(people.skeleton), 0.05)
    evaluation.params.catIds = [people[0].category_id]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_detected_boxes_and_pictures_without_any(own, tmp_path, capsys):
    data, preset = own
    people = rp.data.Coco(data[1], data[3])
    detections = [
        {"image_id": image_id, "category_id": people[0].category_id, "bbox": [10, 20, 60, 90], "score": score}
        for image_id, score in ((people[0].image_id, 0.9), (people[0].image_id, 0.2), (people[-1].image_id, 0.8))
    ]
    (tmp_path / "detections.json").write_text(json.dumps(detections))
    boxes = ["--boxes", str(tmp_path / "detections.json"), "--format", "coco", "--output", str(tmp_path / "poses")]
    assert main(["predict", "--preset", preset, *data, *boxes, "--score-threshold", "0.5"]) == 0
    results = json.loads((tmp_path / "poses" / "coco.json").read_text())
    found = [(result["image_id"], result["category_id"]) for result in results]
    assert found == [(one.image_id, people[0].category_id) for one in (people[0], people[-1])]
    # Their image_ids say nothing of files without the annotation file.
    capsys.readouterr()
    assert main(["predict", "--preset", preset, people[0].image, people[1].image, *boxes]) == 0
    captured = capsys.readouterr()
    assert f"{people[0].image} has no box in {tmp_path / 'detections.json'}" in captured.err
    assert "No box is given for" in captured.out


def test_int8_is_calibrated_on_ones_own_people(own, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    data, preset = own
    assert main(["export", preset, str(tmp_path / "pose.onnx"), "--precision", "int8", *data, "--people", "8"]) == 0
    assert (
        rp.load_exported(tmp_path / "pose.onnx").skeleton.keypoints == rp.data.Coco(data[1], data[3]).skeleton.keypoints
    )
    assert main(["export", preset, str(tmp_path / "pose.onnx"), "--precision", "int8"]) == 2
    assert "int8 is calibrated on people: give --annotations and --images, or --dataset" in sentence(capsys)


def test_mistakes_get_one_sentence(own, lsp, tmp_path, capsys):
    data, preset = own
    output = ["--output", str(tmp_path / "o")]
    photo = str(tmp_path / "photo.png")
    save_picture(photo, np.zeros((64, 64, 3), np.uint8))
    cases = {
        "--annotations goes with --images, which is missing": ["evaluate", preset, *data[:2]],
        "--images goes with --annotations, which is missing": ["predict", "--preset", preset, *data[2:], *output],
        "--category goes with --annotations, which is missing": ["export", preset, "x.onnx", "--category", "climber"],
        "Say whose people: --annotations FILE": ["evaluate", preset],
        "both name people": ["evaluate", preset, *data, "--dataset", "synthetic"],
        "Say what to learn from": ["train", *output],
        "Say whom to validate on": ["train", *data, "--preset", preset, *output],
        "--val-annotations FILE, perhaps": ["train", *data, "--val-images", "x", "--preset", preset, *output],
        "--val-share goes with --annotations, which is missing": [
            "train",
            "--dataset",
            "synthetic",
            "--val-share",
            "0.1",
            *output,
        ],
        "must be between 0 and 1. Received: 1.5": ["train", *data, "--val-share", "1.5", "--preset", preset, *output],
        "Say what to look at": ["predict", "--preset", preset, *output],
        "The annotations have nobody in": [
            *("predict", "--preset", preset, photo, *data, "--box", "1,1,9,9", "--format", "coco", *output)
        ],
        "COCO results do not fit": ["predict", "--preset", lsp, *data, "--format", "coco", *output],
    }
    for expected, arguments in cases.items():
        assert main(arguments) == 2, arguments
        assert expected in sentence(capsys), arguments


def test_sources_may_stand_anywhere(own, tmp_path):
    data, preset = own
    photo = shutil.copy(rp.data.Coco(data[1], data[3])[0].image, tmp_path / "photo.png")
    for place, arguments in enumerate(([photo, "--box", "1,1,9,9"], ["--box", "1,1,9,9", photo])):
        output = tmp_path / str(place)
        assert (
            main(["predict", "--preset", preset, *map(str, arguments), "--format", "json", "--output", str(output)])
            == 0
        )
        assert (output / "photo.json").is_file()


def test_inspect_says_what_the_file_holds_and_who_is_too_few_to_judge(own, tmp_path, capsys):
    data, preset = own
    inspect = ["inspect", *data, "--output", str(tmp_path / "report")]
    assert main(inspect) == 0
    assert "24 people in" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "report" / "report.json").read_text())
    assert numbers["people"] == 24 and numbers["keypoints"]["l_wrist"]["labelled"] > 0
    assert main([*inspect, "--preset", preset]) == 2
    assert "10 people for each. Received: 24 people, 5 folds" in sentence(capsys)
    assert main(["inspect", "--output", str(tmp_path / "none")]) == 2
    assert "Say whose labels: --annotations FILE --images DIR" in sentence(capsys)
