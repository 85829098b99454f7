"""Every example in a docstring, in the README or in a guide runs."""

import asyncio
import doctest
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow
from conftest import GOLDEN
from own_data import write_own_data

import keras_regpose
from keras_regpose.cli import main
from keras_regpose.data import Synthetic
from keras_regpose.images import save_picture

MODULES = [module.name for module in pkgutil.walk_packages(keras_regpose.__path__, "keras_regpose.")]
README = Path(__file__).parents[1] / "README.md"
GUIDE = README.parent / "docs" / "own_keypoints.md"
DEPLOY = README.parent / "docs" / "deploy.md"
VIDEO = README.parent / "docs" / "video.md"


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    # To compile a step of training takes longer than to run the few steps of an example; `recalibrate` takes hundreds.
    few_steps = name.startswith("keras_regpose.training") and not name.endswith("recalibrate")
    tensorflow.config.run_functions_eagerly(few_steps)
    try:
        results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    finally:
        tensorflow.config.run_functions_eagerly(False)
    assert results.failed == 0


def test_readme_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_picture("photo.jpg", Synthetic(1, seed=0)[0].image)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 6
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    for written in ("poses.png", "people.json", "pose.onnx", "my_pose_model/preset.json"):
        assert (tmp_path / written).exists()


@pytest.mark.parametrize("language", ["bash", "python"])
def test_the_guide_of_own_keypoints(language, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    write_own_data(tmp_path)
    block = blocks_of_the_guide(language)[0]
    assert len([line for line in block.splitlines() if line]) <= 12
    block = re.sub(r"epochs( |=)40", r"epochs\g<1>1", block)
    block = re.sub(r"(batch.size[ =])16", r"\g<1>8", block)
    if language == "bash":
        for line in block.replace("\\\n", "").strip().splitlines():
            command, *arguments = shlex.split(line)
            assert command == "keras-regpose" and main(arguments) == 0, capsys.readouterr().err
        written = (
            "report/report.html",
            "runs/mine/best/preset.json",
            "runs/mine/validation.json",
            "poses/coco.json",
            "pose.onnx",
        )
    else:
        exec(compile(block, str(GUIDE), "exec"), {})
        written = (
            "python_report/report.html",
            "runs/python/best/preset.json",
            "python_poses/coco.json",
            "python_pose.onnx",
        )
    for path in written:
        assert (tmp_path / path).is_file()


@pytest.mark.parametrize("requests", [128, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_server_answers_sixteen_clients_as_one(requests, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("supervision")
    pictures = []
    for person in Synthetic(8, seed=0):
        save_picture("photo.jpg", person.image)
        pictures.append((tmp_path / "photo.jpg").read_bytes())
    pictures.append(b"no picture")
    everything, server, sigma = blocks_of_the_guide("python", DEPLOY)
    assert len([line for line in server.splitlines() if line.strip()]) <= 24
    names = {}
    for block in (everything, server, sigma):
        exec(compile(block, str(DEPLOY), "exec"), names)
    assert (tmp_path / "poses.png").is_file() and (tmp_path / "people.csv").is_file()

    async def ask(picture):
        sent, halves = [], [picture[:100], picture[100:]]

        async def receive():
            return {"type": "http.request", "body": halves.pop(0), "more_body": bool(halves)}

        async def send(message):
            sent.append(message)

        await names["app"]({"type": "http"}, receive, send)
        return sent[0]["status"], sent[1]["body"].decode()

    async def client(number):
        return [(one, await ask(pictures[one % 9])) for one in range(number, requests, 16)]

    async def clients():
        return await asyncio.gather(*map(client, range(16)))

    alone = [names["answer"](picture) for picture in pictures]
    assert [status for status, _ in alone] == [200] * 8 + [400] and "image" in alone[8][1]
    answers = dict(pair for pairs in asyncio.run(clients()) for pair in pairs)
    assert len(answers) == requests
    for number, (status, text) in answers.items():
        assert status == alone[number % 9][0]
        if status == 200:
            ours, theirs = (keras_regpose.Poses.from_json(one) for one in (text, alone[number % 9][1]))
            np.testing.assert_allclose(ours.keypoints, theirs.keypoints, atol=1e-3)


def blocks_of_the_guide(language, guide=GUIDE):
    return re.findall(rf"```{language}\n(.*?)```", guide.read_text(encoding="utf-8"), re.S)


def test_the_guide_of_videos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    people = cv2.imread(str(GOLDEN / "people.png"))
    writer = cv2.VideoWriter("dance.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, people.shape[1::-1])
    for _ in range(6):
        writer.write(people)
    writer.release()
    names = {}
    for block in blocks_of_the_guide("python", VIDEO):
        exec(compile(block, str(VIDEO), "exec"), names)
    for written in ("poses/dance.mp4", "poses/dance.json", "poses/dance.csv", "dance.slp"):
        assert (tmp_path / written).is_file()


def test_the_guide_of_another_tools_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_picture("project/images/train/a.png", Synthetic(1, seed=0)[0].image)  # 320 × 256
    (tmp_path / "project" / "labels" / "train").mkdir(parents=True)
    (tmp_path / "project" / "labels" / "train" / "a.txt").write_text("0 .5 .5 .5 .5 .25 .5 2 .75 .5 2 0 0 0")
    config = (
        "path: .\ntrain: images/train\nkpt_shape: [3, 3]\nkpt_names: {0: [l_hand, r_hand, nose]}\nnames: [person]\n"
    )
    (tmp_path / "project" / "data.yaml").write_text(config)
    exec(compile(blocks_of_the_guide("python")[1], str(GUIDE), "exec"), {})
    (person,) = keras_regpose.data.Coco("project/labels.json", "project")
    assert person.keypoints.tolist() == [[80, 128], [240, 128], [0, 0]] and person.visible.tolist() == [1, 1, 0]


def test_the_readme_table_is_the_table_of_presets():
    table = keras_regpose.hub.preset_table(markdown=True)
    assert table in README.read_text(encoding="utf-8")
