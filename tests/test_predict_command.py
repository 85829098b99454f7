"""`keras-regpose predict`: pictures, videos, JSON and COCO results, whatever happens on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from conftest import GOLDEN
from tiny_model import tiny_model
from video_files import damage_frame, video_facts, write_photo, write_video

from keras_regpose import Poses, from_preset, write_results
from keras_regpose.cli import main
from keras_regpose.inference.sources import open_source


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict") / "preset"
    tiny_model().save_to_preset(folder)
    return str(folder)


def test_the_command_writes_what_the_library_writes(preset, tmp_path, capsys):
    video, output = write_video(tmp_path / "dance.avi", 40), tmp_path / "poses"
    arguments = [
        "predict",
        "--preset",
        preset,
        video,
        "--box",
        "10,5,60,60",
        "--box",
        "40,5,90,60",
        "--output",
        str(output),
    ]
    assert main([*arguments, "--format", "picture", "json", "coco"]) == 0
    assert "40 of 40 images" in capsys.readouterr().out
    assert {path.name for path in output.iterdir()} == {"dance.mp4", "dance.json", "dance.coco.json"}
    results = from_preset(preset, runtime="auto").estimate(video, [[10, 5, 60, 60], [40, 5, 90, 60]])
    write_results(results, tmp_path / "python", ("picture", "json", "coco"))
    for path in output.glob("*.json"):
        assert path.read_bytes() == (tmp_path / "python" / path.name).read_bytes()
    frames, expected = (list(open_source(folder / "dance.mp4")) for folder in (output, tmp_path / "python"))
    assert [frame.time for frame in frames] == [frame.time for frame in expected] and len(frames) == 40
    # x264 writes other bytes for the same pictures now and then.
    for one, other in zip(frames, expected, strict=True):
        assert np.abs(one.image.astype(int) - other.image).mean() < 2


def test_subfolders_are_looked_through(preset, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("photos/a.png", "photos/mia/b.png", "photos/mia/a.png", "photos/.thumbnails/c.png"):
        write_photo(tmp_path / path)
    for _ in range(2):  # the second time, the results of the first lie in the folder
        assert main(["predict", "--preset", preset, "photos", "--output", "photos/poses"]) == 0
        assert "3 of 3 images" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "photos" / "poses").glob("*.png")} == {"a.png", "a_2.png", "b.png"}


def test_runtimes_differ_by_rounding_alone(preset, tmp_path):
    photo, found = write_photo(tmp_path / "photo.png"), {}
    for runtime in ("keras", "onnx", "openvino"):
        arguments = ["--runtime", runtime, "--box", "-5.5,-3,40,50", "--format", "json", "--output", str(tmp_path)]
        assert main(["predict", "--preset", preset, photo, *arguments]) == 0
        found[runtime] = Poses.from_json((tmp_path / "photo.json").read_text())
    assert found["keras"].boxes.tolist() == [[-5.5, -3, 40, 50]]
    for runtime in ("onnx", "openvino"):
        np.testing.assert_allclose(found[runtime].keypoints, found["keras"].keypoints, atol=1e-2)


def test_a_preset_among_the_sources_is_said(preset, tmp_path, capsys):
    for name in (preset, "mobilenetv2_rle_lspet"):
        assert main(["predict", name, write_photo(tmp_path / "photo.png")]) == 2
        assert f"{name} is a preset, not a picture: write --preset {name}" in capsys.readouterr().err


def test_tensorflow_is_silent(preset, tmp_path):
    photo = write_photo(tmp_path / "photo.png")
    command = [sys.executable, "-m", "keras_regpose.cli", "predict", photo, "--runtime", "keras"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    process = subprocess.run(
        [*command, "--preset", preset, "--output", str(tmp_path / "o")], env=environment, capture_output=True, text=True
    )
    assert (process.returncode, process.stderr) == (0, "")


def test_folders_patterns_and_coco_results(preset, tmp_path, capsys):
    for number in (785, 1000):
        write_photo(tmp_path / "photos" / f"{number:012}.png", number)
    other = write_photo(tmp_path / "others" / "000000000785.png")
    (tmp_path / "photos" / "zero.jpg").touch()
    detections = tmp_path / "detections.json"
    entries = [(785, 0.9), (785, 0.2), (1000, 0.8)]
    detections.write_text(
        json.dumps([{"image_id": i, "category_id": 1, "bbox": [5, 6, 30, 40], "score": s} for i, s in entries])
    )
    output = tmp_path / "poses"
    sources = [str(tmp_path / "photos"), str(tmp_path / "oth*" / "*.png"), str(tmp_path / "gone.mp4")]
    options = ["--boxes", str(detections), "--score-threshold", "0.5", "--format", "coco", "json"]
    assert main(["predict", "--preset", preset, *sources, *options, "--output", str(output)]) == 1
    captured = capsys.readouterr()
    assert f"3 of 5 images are in {output}; 2 were skipped" in captured.out
    assert captured.err.count("Skipped: ") == 2
    assert "zero.jpg is empty" in captured.err and "There is no video file at" in captured.err
    results = json.loads((output / "coco.json").read_text())
    assert [result["image_id"] for result in results] == [785, 1000, 785]
    assert results[0]["bbox"] == [5, 6, 30, 40] and len(results[0]["keypoints"]) == 51
    names = {"coco.json", "000000000785.json", "000000000785_2.json", "000000001000.json"}
    assert {path.name for path in output.iterdir()} == names
    assert json.loads((output / "000000000785_2.json").read_text())["source"] == other


def test_a_source_is_never_replaced(preset, tmp_path, capsys):
    photo = write_photo(tmp_path / "photo.png")
    before = (tmp_path / "photo.png").read_bytes()
    assert main(["predict", "--preset", preset, photo, "--output", str(tmp_path)]) == 2
    assert "would replace the image" in capsys.readouterr().err
    assert (tmp_path / "photo.png").read_bytes() == before


@pytest.fixture
def nothing_computed(monkeypatch):
    """No model is opened."""
    monkeypatch.setattr("keras_regpose.commands.predict.from_preset", lambda *_, **__: pytest.fail("opened"))


@pytest.mark.parametrize("name", ["a.png", "a.json", "dance.mp4", "dance.json", "b_2.json"])
def test_what_others_made_is_not_replaced(tmp_path, capsys, nothing_computed, name):
    folder = tmp_path / "in"
    for photo in ("a.jpg", "b.jpg", "b.webp"):
        write_photo(folder / photo)
    write_video(folder / "dance.avi", 3)
    write_photo(folder / "other.png")
    os.replace(folder / "other.png", folder / name)  # "another photograph and an annotation"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    sources = [str(folder / one) for one in ("a.jpg", "b.jpg", "b.webp", "dance.avi")]
    assert main(["predict", *sources, "--output", str(folder)]) == 2
    error = capsys.readouterr().err
    assert f"{name} is there, and keras_regpose did not write it. Choose another place, or overwrite it" in error
    assert len(error.splitlines()) == 1
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_with_overwrite_it_is_replaced_but_never_a_source(preset, tmp_path, capsys):
    photo = write_photo(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text("mine")
    arguments = ["predict", "--preset", preset, "--boxes", "image", "--output", str(tmp_path)]
    assert main([*arguments, photo, "--overwrite"]) == 0
    assert Poses.from_json((tmp_path / "a.json").read_text()).source == photo
    other = write_photo(tmp_path / "b.png")
    assert main([*arguments, other, "--overwrite"]) == 2
    assert "would replace the image" in capsys.readouterr().err


def test_the_same_command_runs_again_beside_its_sources(preset, tmp_path, capsys):
    for name in ("a.jpg", "mia/b.jpg"):
        write_photo(tmp_path / name)
    write_photo(tmp_path / "poses_of_others.png")
    found = []
    for _ in range(2):  # the second time, results lie among the pictures
        arguments = ["--preset", preset, "--boxes", "image", "--format", "picture", "coco", "csv"]
        assert main(["predict", str(tmp_path), *arguments, "--output", str(tmp_path / "mia")]) == 0
        assert "3 of 3 images" in capsys.readouterr().out
        found.append(sorted(path.name for path in (tmp_path / "mia").iterdir()))
    assert found[0] == found[1] and len(found[0]) == 3 * 2 + 2


def test_odd_names_among_others_and_what_cannot_be_read_is_skipped(preset, tmp_path, capsys):
    photo, folder = write_photo(tmp_path / "photo.jpg"), tmp_path / "in"
    folder.mkdir()
    for stem in (os.fsdecode(b"caf\xe9"), "東" * 82, "a\nb", "plain"):
        shutil.copy(photo, folder / f"{stem}.jpg")
    urls = ["http://127.0.0.1:9/a b.jpg", "http://[::1", "http://127.0.0.1:x/a.jpg"]
    boxes = ["--box", "1,1,60,60", "--format", "json", "coco"]
    output = tmp_path / "poses"
    assert main(["predict", str(folder), *urls, "--preset", preset, *boxes, "--output", str(output)]) == 1
    captured = capsys.readouterr()
    assert f"4 of 7 images are in {output}; 3 were skipped" in captured.out
    assert captured.err.count("Skipped: http://") == 3
    assert len(list(output.iterdir())) == 5 and len(json.loads((output / "coco.json").read_text())) == 4


def test_a_box_outside_of_one_picture_skips_that_picture(preset, tmp_path, capsys):
    photo, small = write_photo(tmp_path / "a.jpg"), tmp_path / "b.png"
    cv2.imwrite(str(small), np.zeros((20, 20, 3), np.uint8))
    arguments = ["--preset", preset, "--box", "30,30,60,60", "--format", "json", "--output", str(tmp_path / "poses")]
    assert main(["predict", photo, str(small), *arguments]) == 1
    captured = capsys.readouterr()
    assert "1 of 2 images are in" in captured.out
    assert f"Skipped: {small}: Box 0 lies outside of the image, which has 20 × 20 pixels" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.mp4"], "none of the images could be read"),
        (["97"], "none of the images could be read"),
        (["missing.jpg", "--boxes", "nowhere.json"], "There is no file nowhere.json: check the path"),
    ],
)
def test_nothing_to_do_is_one_sentence(preset, tmp_path, capsys, arguments, message):
    assert main(["predict", "--preset", preset, *arguments, "--output", str(tmp_path / "o")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("keras-regpose")] == [f"keras-regpose predict: {message}"]


def test_box_and_boxes_exclude_each_other(preset, capsys):
    with pytest.raises(SystemExit):
        main(["predict", "--preset", preset, "a.jpg", "--box", "1,2,3,4", "--boxes", "b.json"])
    assert "not allowed with" in capsys.readouterr().err


def test_a_broken_frame_is_told_and_the_rest_is_there(preset, tmp_path, capsys):
    broken = damage_frame(write_video(tmp_path / "v.avi", 30), 12, tmp_path / "broken.avi")
    output = tmp_path / "poses"
    assert main(["predict", "--preset", preset, broken, "--boxes", "image", "--output", str(output)]) == 1
    captured = capsys.readouterr()
    assert "Skipped: 1 of the 30 frames" in captured.err
    assert f"29 of 30 images are in {output}; 1 were skipped" in captured.out
    assert video_facts(output / "broken.mp4")[0] == len(json.loads((output / "broken.json").read_text())) == 29


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, id="int", marks=pytest.mark.slow), pytest.param(signal.SIGTERM, id="term")]
)
def test_interrupted_what_was_done_is_there_and_valid(preset, tmp_path, number):
    video, output = write_video(tmp_path / "long.avi", 6_000, size=(64, 48)), tmp_path / "poses"
    command = [sys.executable, "-m", "keras_regpose.cli", "predict", "--preset", preset, video, "--boxes", "image"]
    command += ["--output", str(output)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 120
    while sum(file.stat().st_size for file in output.glob(".long.json-*/long.json")) < 50_000:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "images done before the interruption are in" in errors and "Traceback" not in errors
    frames = json.loads((output / "long.json").read_text())
    assert 10 <= len(frames) < 6_000
    assert [frame["frame"] for frame in frames] == list(range(len(frames)))
    assert video_facts(output / "long.mp4")[0] == len(frames)
    assert {path.name for path in output.iterdir()} == {"long.json", "long.mp4"}


def test_where_no_window_can_be_one_sentence_says_so(preset, tmp_path, capsys, monkeypatch):
    arguments = ["predict", "--preset", preset, write_photo(tmp_path / "photo.png"), "--show"]
    monkeypatch.delenv("DISPLAY", raising=False)
    if sys.platform == "linux":
        assert main(arguments) == 2
        assert "--show needs a screen, and DISPLAY names none" in capsys.readouterr().err
    if "GUI:                           NONE" in cv2.getBuildInformation():
        monkeypatch.setenv("DISPLAY", ":0")
        assert main(arguments) == 2
        assert "--show needs an OpenCV that has windows: pip uninstall" in capsys.readouterr().err


@pytest.mark.skipif(
    "GUI:                           NONE" in cv2.getBuildInformation() or not shutil.which("Xvfb"),
    reason="needs Xvfb, and an OpenCV that has windows",
)
def test_a_window_shows_frames_while_they_are_written(preset, tmp_path):
    read, write = os.pipe()
    screen = subprocess.Popen(["Xvfb", "-displayfd", str(write)], pass_fds=[write], stderr=subprocess.DEVNULL)
    try:
        environment = {**os.environ, "DISPLAY": f":{os.read(read, 10).decode().strip()}", "QT_QPA_PLATFORM": "xcb"}
        command = [sys.executable, "-m", "keras_regpose.cli", "predict", write_video(tmp_path / "v.avi", 20)]
        command += [
            "--preset",
            preset,
            "--boxes",
            "image",
            "--show",
            "--format",
            "json",
            "--output",
            str(tmp_path / "o"),
        ]
        process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    finally:
        screen.terminate()
        screen.wait()
    assert process.returncode == 0 and "20 of 20 images" in process.stdout, process.stderr


def test_people_are_found_and_pictures_without_any_are_counted(preset, tmp_path, capsys):
    black, output = tmp_path / "black.png", tmp_path / "poses"
    cv2.imwrite(str(black), np.zeros((120, 100, 3), np.uint8))
    arguments = ["predict", "--preset", preset, str(GOLDEN / "people.png"), str(black), "--output", str(output)]
    assert main(arguments) == 0
    captured = capsys.readouterr().out
    assert "2 of 2 images are in" in captured and "Nobody was found in 1 of them" in captured
    assert {path.name for path in output.iterdir()} == {"people.png", "people.json", "black.png", "black.json"}
    found = {name: len(Poses.from_json((output / f"{name}.json").read_text())) for name in ("people", "black")}
    assert found == {"people": 4, "black": 0}
    assert main([*arguments, "--boxes", "image", "--pose-threshold", "0.99", "--format", "json"]) == 0
    assert len(Poses.from_json((output / "people.json").read_text())) == 0  # untrained: nobody is so sure
