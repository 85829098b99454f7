"""The published rows by name: from the caches, the Hub, or built from stand-ins of the official checkpoints."""

import hashlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hub_server import FileServer
from huggingface_hub import constants
from stand_ins import change_facts, publish, stand_in

from keras_regpose import from_preset, preset_info, presets
from keras_regpose.cli import main
from keras_regpose.convert import from_mmpose
from keras_regpose.hub import download
from keras_regpose.hub.card import preset_card, zoo_card
from keras_regpose.hub.preset_files import PresetError
from keras_regpose.zoo import list_presets

NAME = "mobilenetv2_rle_coco"
OTHERS = [name for name in list_presets() if preset_info(name)["checkpoint"] and name not in (NAME, "resnet50_coco")]


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    return stand_in(NAME, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def expected(mobilenet):
    return from_mmpose(mobilenet[0], NAME)


@pytest.fixture
def row(hub, files, mobilenet, monkeypatch):
    return publish(monkeypatch, files, NAME, mobilenet)


@pytest.fixture(scope="module")
def built(expected, tmp_path_factory):
    """The files of the preset that is built of the stand-in."""
    folder = tmp_path_factory.mktemp("built") / NAME
    expected.save_to_preset(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def path_of(name=NAME, refresh=False):
    return presets._published(name, preset_info(name), refresh).path


def assert_same(model, other):
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_every_published_row_has_its_test():
    assert len(OTHERS) + 2 == 18


def test_a_row_is_built_once_and_then_makes_no_request(row, hub, files, expected, caches, caplog):
    with caplog.at_level(logging.WARNING):
        assert_same(from_preset(NAME), expected)
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("keras_regpose")]
    assert line.startswith(f"Building {NAME} from the official checkpoint {files.url}/mmpose/")
    assert [path for _, path, _ in hub.log if "/api/models" in path] == [f"/api/models/keras-regpose/{NAME}"]
    assert len(files.log) == 1
    description = json.loads((path_of() / "preset.json").read_text())
    assert description["preset"] == NAME and description["license"] == "Apache-2.0"
    assert not list(caches.rglob("*.pth*"))
    hub_log, files_log = hub.work(), files.work()
    caplog.clear()
    assert_same(from_preset(NAME), expected)
    assert hub_log == files_log == [] and caplog.text == ""


def test_the_official_file_converted_by_hand_gets_the_card_of_its_row(row, tmp_path, mobilenet):
    for name, file in (("official", row), ("own", stand_in(NAME, tmp_path, lambda _, shape: np.ones(shape, "f4"))[0])):
        assert main(["convert", "mmpose", str(file), "--preset", NAME, "--out", str(tmp_path / name)]) == 0
    assert preset_card(tmp_path / "official", f"me/{NAME}").startswith(zoo_card(NAME, {}, "me").split("## ")[0])
    assert "published" not in preset_card(tmp_path / "own", f"me/{NAME}").lower()


@pytest.mark.parametrize("name", ["resnet50_coco", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_all_rows_are_built(hub, files, name, tmp_path, monkeypatch):
    path = publish(monkeypatch, files, name, stand_in(name, tmp_path))
    model = from_preset(name)
    head = model.get_layer("coordinates").kernel
    assert (np.asarray(head) >= 0.01).all() and (np.asarray(head) <= 0.1).all()
    assert model.input_size == tuple(preset_info(name)["input_size"]) and path.is_file()
    hub_log, files_log = hub.work(), files.work()
    path_of(name)
    assert hub_log == files_log == []


def test_the_hub_comes_before_the_checkpoint(row, hub, files, built):
    hub.upload(f"keras-regpose/{NAME}", built)
    path = path_of()
    assert (path / "model.weights.h5").read_bytes() == built["model.weights.h5"]
    assert files.log == []
    log = hub.work()
    assert path_of() == path and log == []


def test_a_pinned_commit(row, hub, files, built, preset_bytes, monkeypatch):
    commit = hub.upload("org/renamed", built)
    hub.upload("org/renamed", preset_bytes)
    digest = hashlib.sha256(built["preset.json"]).hexdigest()
    address = f'checkpoint = "{preset_info(NAME)["checkpoint"]["url"]}"'
    pin = f'\nhub = {{ repo = "org/renamed", revision = "{commit}", sha256 = "{digest}" }}'
    change_facts(monkeypatch, address, address + pin)
    assert (path_of() / "model.weights.h5").read_bytes() == built["model.weights.h5"]
    assert path_of().name == commit and files.log == []
    change_facts(monkeypatch, digest, "0" * 64)
    with pytest.raises(PresetError, match="differs from its checksums"):
        path_of()


def test_weights_of_another_model_are_refused(row, hub, preset_bytes):
    hub.upload(f"keras-regpose/{NAME}", preset_bytes)
    with pytest.raises(PresetError, match=f"The weights found for {NAME} are of another model"):
        from_preset(NAME)


def test_a_hub_that_fails_does_not_stop_a_row(row, hub, built):
    hub.fail("", status=500)
    assert (path_of() / "config.json").is_file()


def test_no_network_at_all(caches, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("KERAS_REGPOSE_CHECKPOINTS", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(ConnectionError) as error:
        from_preset(NAME)
    assert time.monotonic() - start < 3
    message = str(error.value)
    assert re.search(
        r"From the Hub: http://127.0.0.1:9 cannot be reached .*From the official checkpoint: http", message
    )
    assert f"keras-regpose convert mmpose CHECKPOINT.pth --preset {NAME}" in message
    assert f"Or download {preset_info(NAME)['checkpoint']['url']} on another machine" in message
    assert "\n" not in message


def test_a_network_that_swallows_everything(caches, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: time.sleep(20))
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.example")
    start = time.monotonic()
    with pytest.raises(ConnectionError, match="From the Hub: .*no answer in 1 s.* official checkpoint: .*no answer in"):
        from_preset(NAME)
    assert time.monotonic() - start < 4


def test_offline_by_choice(row, hub, files, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        from_preset(NAME)
    assert hub.log == files.log == []


def test_a_damaged_build_is_made_again(row, hub, files):
    weights = path_of() / "model.weights.h5"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    killed = weights.parent.with_name(f".{weights.parent.name}-xyz")
    killed.mkdir()
    assert (path_of() / "model.weights.h5").stat().st_size == len(whole)
    assert len(files.log) == 2 and not killed.exists()


def test_wrong_bytes_of_a_checkpoint_leave_nothing(row, files, caches, built):
    files.fail("", flip=True)
    with pytest.raises(PresetError, match="is damaged or was exchanged: its SHA-256 begins with"):
        from_preset(NAME)
    assert not [path for path in (caches / "home").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_disk_that_fills_up_while_the_preset_is_written(row, caches, monkeypatch, built):
    small = caches / "small"
    small.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=14m", "tmpfs", small], capture_output=True)
    if mount.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        monkeypatch.setenv("KERAS_REGPOSE_HOME", str(small))
        with pytest.raises(OSError, match="The disk of .*small.* is full. Free some space, or set KERAS_REGPOSE_HOME"):
            from_preset(NAME)
        assert [path.name for path in (small / "presets").iterdir() if path.suffix != ".lock"] == []
    finally:
        subprocess.run(["umount", small], check=True)


LOAD = """
import sys
sys.path[:0] = [{tests!r}]
import types
import keras_regpose as rp
from stand_ins import change_facts
change_facts(types.SimpleNamespace(setattr=setattr), rp.preset_info("{name}")["checkpoint"]["url"], "{url}")
print("ready", flush=True)
sys.stdin.readline()
print(sum(float(abs(weight).sum()) for weight in rp.from_preset("{name}").get_weights()))
"""


@pytest.mark.slow
def test_a_killed_process_and_then_two_at_once(mobilenet, expected, tmp_path):
    path, url = mobilenet
    script = LOAD.format(name=NAME, url=url, tests=str(Path(__file__).parents[1]))
    with FileServer({url.removeprefix("https://download.openmmlab.com/"): path}) as files:
        environment = os.environ | {
            "KERAS_REGPOSE_HOME": str(tmp_path / "home"),
            "KERAS_REGPOSE_CHECKPOINTS": f"{files.url}/mmpose",
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "HF_HOME": str(tmp_path / "huggingface"),
        }

        def start():
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = subprocess.Popen([sys.executable, "-c", script], env=environment, **pipes)
            assert process.stdout.readline() == "ready\n"
            return process

        files.fail("", rate=2_000_000)
        killed = start()
        killed.stdin.write("\n")
        killed.stdin.flush()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            arrived = sum(part.stat().st_size for part in tmp_path.rglob("*.part"))
            if arrived > 1_000_000:
                break
            time.sleep(0.02)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        arrived = sum(part.stat().st_size for part in tmp_path.rglob("*.part"))
        assert 1_000_000 < arrived < path.stat().st_size and not list(tmp_path.rglob("preset.json"))

        files.work()
        processes = [start(), start()]
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        sums = [float(process.communicate(timeout=120)[0]) for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        assert [span for _, _, span in files.log] == [f"bytes={arrived}-"]
    total = sum(float(abs(weight).sum()) for weight in expected.get_weights())
    assert sums == [total, total]
    assert [file for file in Path(tmp_path / "home" / "checkpoints").iterdir()] == []
