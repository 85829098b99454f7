"""The command line: what each command prints and writes, and one sentence with exit status 2 for bad input."""

import json

import cv2
import keras
import numpy as np
import pytest
from tiny_model import tiny_model

from keras_regpose import LSP14, from_preset
from keras_regpose.cli import main
from keras_regpose.data import Synthetic

COMMANDS = ("demo", "list", "predict", "train", "evaluate", "convert")


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "preset"
    tiny_model().save_to_preset(folder)
    return str(folder)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), Synthetic(1, seed=0)[0].image[..., ::-1])
    return str(path)


def sentence(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("keras-regpose")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([command, "--help"])
    assert exit_info.value.code == 0
    assert f"example: keras-regpose {command}" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["--version"])
    assert exit_info.value.code == 0 and capsys.readouterr().out == "0.1.0\n"


def test_list(capsys):
    assert main(["list"]) == 0
    assert "resnet50_rle_coco" in capsys.readouterr().out
    assert main(["list", "--markdown"]) == 0
    assert "| resnet50_rle_coco |" in capsys.readouterr().out


def test_predict_writes_picture_and_numbers(preset, photo, tmp_path, capsys):
    output = tmp_path / "poses"
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    arguments = ["predict", "--preset", preset, photo, str(broken), "--box", "10,20,110,220", "--box", "5,5,60,90"]
    assert main([*arguments, "--flip-test", "--output", str(output)]) == 1
    captured = capsys.readouterr()
    assert "1 of 2 images" in captured.out and "broken.jpg" in captured.err
    values = json.loads((output / "photo.json").read_text())
    assert values["boxes"] == [[10, 20, 110, 220], [5, 5, 60, 90]]
    assert cv2.imread(str(output / "photo.png")).shape == cv2.imread(photo).shape


def test_train_then_evaluate(tmp_path, preset, capsys):
    data = ["--dataset", "synthetic", "--count", "8"]
    run = tmp_path / "run"
    train = ["train", *data, "--preset", preset, "--epochs", "1"]
    assert main([*train, "--batch-size", "4", "--output", str(run)]) == 0
    assert "8 people to learn from" in capsys.readouterr().out
    figures, picture = tmp_path / "figures.json", tmp_path / "sheet.png"
    evaluate = ["evaluate", str(run / "best"), *data, "--limit", "5", "--flip-test", "--nms", "none"]
    assert main([*evaluate, "--json", str(figures), "--pictures", str(picture)]) == 0
    printed = capsys.readouterr().out
    values = json.loads(figures.read_text())
    assert f"{values['AP']:.4f}" in printed
    coco = {"AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"}
    assert set(values) == coco | {"made_by", "PCK", "error", "measure", "intervals", "errors"}
    assert cv2.imread(str(picture)).shape[1] > 5 * 224


def test_a_preset_is_trained_in_the_precision_asked_for(tmp_path, preset):
    train = ["train", "--dataset", "synthetic", "--count", "8", "--batch-size", "4", "--epochs", "1"]
    policy = keras.config.dtype_policy()
    try:
        half = ["--precision", "mixed_bfloat16", "--output", str(tmp_path / "run")]
        assert main([*train, "--preset", preset, *half]) == 0
    finally:
        keras.config.set_dtype_policy(policy)
    best = from_preset(tmp_path / "run" / "best")
    convolutions = [layer for layer in best.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.compute_dtype for layer in convolutions] == ["bfloat16", "bfloat16"]
    assert best.get_layer("coordinates").compute_dtype == "float32"


@pytest.mark.slow
def test_train_then_evaluate_on_coco(shared_data, tmp_path, capsys):
    data = ["--dataset", "coco", "--data", str(shared_data / "coco_mini"), "--limit", "12"]
    run = str(tmp_path / "run")
    train = ["train", *data, "--backbone", "mobilenetv2_0.25", "--input-size", "64x48", "--epochs", "1"]
    assert main([*train, "--batch-size", "4", "--output", run]) == 0
    assert "12 people to learn from, 12 to validate on" in capsys.readouterr().out
    assert main(["evaluate", f"{run}/best", *data, "--flip-test"]) == 0
    table = dict(line.split()[:2] for line in capsys.readouterr().out.splitlines()[:12])
    assert list(table) == ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL", "PCK", "error"]
    assert all(0 <= float(value) <= 1 for name, value in table.items() if name != "error")


def coco_folder(folder, damage):
    """Writes 24 drawn people in COCO's layout, the same for both splits, after `damage(annotations, pictures)`."""
    for split in ("train2017", "val2017"):
        (folder / split).mkdir(parents=True)
        images, annotations, pictures = [], [], []
        for number, sample in enumerate(Synthetic(24, seed=0, people_per_image=1), start=1):
            height, width = sample.image.shape[:2]
            x1, y1, x2, y2 = sample.box.tolist()
            keypoints = np.c_[sample.keypoints, 2 * sample.visible]
            images.append({"id": number, "file_name": f"{number}.jpg", "width": width, "height": height})
            annotations.append(
                {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "num_keypoints": 17}
                | {"bbox": [x1, y1, x2 - x1, y2 - y1], "keypoints": keypoints.ravel().tolist()}
                | {"area": (x2 - x1) * (y2 - y1)}
            )
            pictures.append(cv2.imencode(".jpg", sample.image[..., ::-1])[1].tobytes())
        damage(annotations, pictures)
        for image, picture in zip(images, pictures, strict=True):
            if picture is not None:
                (folder / split / image["file_name"]).write_bytes(picture)
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(content))
    return folder


def test_what_is_broken_in_a_data_set_is_named_counted_and_left_out(tmp_path, preset, capsys, caplog):
    def damage(annotations, pictures):
        pictures[3] = pictures[3][: len(pictures[3]) // 2]
        pictures[7] = None
        annotations[10]["keypoints"][0] = float("nan")
        annotations[11]["bbox"][2] = 0
        annotations[12]["keypoints"][:6] = [-900, 20, 2, 5000, 7000, 2]

    data = ["--dataset", "coco", "--data", str(coco_folder(tmp_path / "coco", damage))]
    run = str(tmp_path / "run")
    train = ["train", *data, "--preset", preset, "--epochs", "1"]
    assert main([*train, "--batch-size", "4", "--output", run]) == 0
    captured = capsys.readouterr()
    assert "22 people to learn from, 22 to validate on" in captured.out
    for what in ("annotation 11: its list of keypoints has values that are not finite", "annotation 12: its box"):
        assert f"Left out: {what}" in captured.err
    for picture, why in (("4.jpg is truncated", "train2017"), ("8.jpg", "There is no image file")):
        assert any(picture in message and why in message for message in caplog.messages), picture
    assert "nan" not in captured.out.lower()

    caplog.clear()
    assert main(["evaluate", f"{run}/best", *data]) == 0
    assert "2 of 22 people were skipped, because their images cannot be read" in capsys.readouterr().out
    assert sum("Skipped: " in message for message in caplog.messages) == 2

    def destroy(annotations, pictures):
        pictures[:3] = [b"no picture"] * 3

    data[-1] = str(coco_folder(tmp_path / "worse", destroy))
    assert main(["evaluate", preset, *data]) == 2
    assert "of 24 people's images cannot be read, more than the 10% allowed" in sentence(capsys)


def test_bad_input_gets_one_sentence_and_status_2(preset, photo, tmp_path, capsys):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "person_keypoints_val2017.json").write_text("{ broken")
    (tmp_path / "empty").mkdir()
    lsp = tmp_path / "lsp"
    tiny_model().with_skeleton(LSP14).save_to_preset(lsp)
    evaluate = ["evaluate", preset, "--dataset"]
    cases = {
        "There is no folder": [*evaluate, "coco", "--data", str(tmp_path / "nowhere")],
        "pass --data DIR": [*evaluate, "coco"],
        "person_keypoints_val2017.json": [*evaluate, "coco", "--data", str(tmp_path)],
        "empty": [*evaluate, "lsp", "--data", str(tmp_path / "empty")],
        "no preset 'resnet51'": ["evaluate", "resnet51", "--dataset", "synthetic"],
        "There is no preset at": ["predict", "--preset", str(tmp_path / "missing"), photo],
        "none of the images": [
            "predict",
            "--preset",
            preset,
            str(tmp_path / "missing.jpg"),
            "--output",
            str(tmp_path / "o"),
        ],
        "x2 > x1": ["predict", "--preset", preset, photo, "--box", "90,10,20,50", "--output", str(tmp_path / "o")],
        "keypoints": ["evaluate", str(lsp), "--dataset", "synthetic", "--count", "4"],
        "do not fill one batch": [
            *("train", "--dataset", "synthetic", "--count", "4", "--backbone", "mobilenetv2_0.25"),
            *("--input-size", "64x48", "--output", str(tmp_path / "t")),
        ],
        "epochs must be at least 1. Received: 0": [
            *("train", "--dataset", "synthetic", "--count", "4", "--epochs", "0", "--output", str(tmp_path / "t"))
        ],
        "Unknown backbone": [
            *("train", "--dataset", "synthetic", "--count", "4", "--backbone", "vgg", "--output", str(tmp_path / "t"))
        ],
        "checkpoint.pth": [
            *("convert", "mmpose", str(tmp_path / "checkpoint.pth"), "--preset", "resnet50_rle_coco"),
            *("--out", str(tmp_path / "c")),
        ],
    }
    for expected, arguments in cases.items():
        assert main(arguments) == 2, arguments
        assert expected in sentence(capsys), arguments


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("suggest pictures --preset resnet51 --output {}/next.csv", "next.csv"),
        ("evaluate resnet51 --dataset synthetic --json {}/a.json", "a.json"),
        ("evaluate resnet51 --dataset synthetic --pictures {}/a.png", "a.png"),
        ("evaluate resnet51 --dataset synthetic --calibration {}/a.png", "a.png"),
        ("evaluate resnet51 --dataset synthetic --recalibrated {}", ""),
        ("inspect --annotations a.json --images . --output {}", "report.html"),
        ("inspect --annotations a.json --images . --output {}", "labels.csv"),
        ("demo --output {}", "photograph.png"),
        ("demo --output {}", "predictions.png"),
        ("convert mmpose a.pth --preset resnet50_rle_coco --out {}", ""),
    ],
)
def test_no_command_replaces_what_others_wrote(tmp_path, capsys, arguments, name):
    """They say so before they look at anything else: none of these presets and annotations is there."""
    stranger = tmp_path / (name or "holiday.txt")
    stranger.write_text("mine")
    assert main(arguments.format(tmp_path).split()) == 2
    assert str(stranger if name else tmp_path) in sentence(capsys)
    assert [path.name for path in tmp_path.iterdir()] == [stranger.name] and stranger.read_text() == "mine"


def test_what_a_command_wrote_it_replaces(preset, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    files = [f"--json={tmp_path}/a.json", f"--pictures={tmp_path}/a.jpg", f"--calibration={tmp_path}/b.png"]
    for _ in range(2):
        assert main(["evaluate", preset, "--dataset", "synthetic", "--count", "4", *files]) == 0
    assert json.loads((tmp_path / "a.json").read_text())["made_by"] == "keras_regpose 0.1.0"
    (tmp_path / "a.json").write_text("mine")
    assert main(["evaluate", preset, "--dataset", "synthetic", "--count", "4", *files, "--overwrite"]) == 0
    assert json.loads((tmp_path / "a.json").read_text())["AP"] is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "a.jpg", "--box", "1,2,3"],
        ["train", "--dataset", "coco", "--output", "x", "--input-size", "large"],
        ["predict", "a.jpg", "--batch-size", "0"],
        ["train", "--dataset", "imagenet", "--output", "x"],
        ["nothing"],
    ],
)
def test_arguments_that_do_not_parse_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert "error:" in capsys.readouterr().err
