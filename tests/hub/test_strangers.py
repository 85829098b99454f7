"""Servers and folders of strangers: one sentence for whatever they answer, in time, and nothing else is sent."""

import http.server
import json
import os
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
from hub_server import FileServer

from keras_regpose import from_preset
from keras_regpose.hub import download
from keras_regpose.hub.download import cache_home, download_file, hub_preset
from keras_regpose.hub.publish import publish_preset
from keras_regpose.images import ImageError
from keras_regpose.inference import sources


@pytest.mark.parametrize(
    "answer", [b"<html>Sign in to the network</html>", b"[]", b"{}", b"5", b'{"siblings": 5}', b'{"id": "org/pose"}']
)
def test_a_hub_that_answers_something_else(hub, preset_bytes, answer, monkeypatch):
    hub.upload("org/pose", preset_bytes)
    monkeypatch.setattr(type(hub), "answer", lambda self, request: request.send(answer))
    with pytest.raises((ConnectionError, ValueError), match="org/pose") as told:
        hub_preset("org/pose")
    assert "\n" not in str(told.value) and "Traceback" not in str(told.value)


def test_a_sign_in_page_leaves_the_official_checkpoint_to_be_tried(hub, files, monkeypatch):
    monkeypatch.setattr(type(hub), "answer", lambda self, request: request.send(b"<html>Sign in</html>"))
    with pytest.raises(ConnectionError, match="From the Hub: .*From the official checkpoint: There is no http"):
        from_preset("resnet50_rle_coco")


def test_a_storm_of_errors_ends(hub, preset_bytes):
    """Every second request is answered with 503."""
    hub.upload("org/pose", preset_bytes)
    answers, answer = [], type(hub).answer

    def stormy(self, request):
        answers.append(request)
        return request.send(b"{}", 503) if len(answers) % 2 else answer(self, request)

    type(hub).answer = stormy
    try:
        start = time.monotonic()
        with pytest.raises(ConnectionError, match=r"failed for org/pose \(503\). Try again later"):
            hub_preset("org/pose")
        assert time.monotonic() - start < 20
    finally:
        type(hub).answer = answer
    assert hub_preset("org/pose").method == "rle"


def test_a_server_that_sends_a_byte_a_second(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_LONGEST", 1)
    monkeypatch.setattr(download, "_PATIENCE", 0.5)
    with FileServer({"a.png": bytes(5000), "a.pth": bytes(5000)}) as server:
        server.fail("GET", rate=20)
        start = time.monotonic()
        with pytest.raises(ImageError, match="a.png cannot be reached: it takes longer than 1 seconds"):
            sources.read_picture(f"{server.url}/a.png")
        with pytest.raises(ConnectionError, match=r"a.pth broke off \(it sends less than 2000 bytes a second\)"):
            download_file(f"{server.url}/a.pth", tmp_path / "a.pth", "0" * 8, "a")
        assert time.monotonic() - start < 20


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"])
def test_a_server_that_does_not_speak_http(answer):
    class Handler(http.server.BaseHTTPRequestHandler):
        def handle(self):
            self.rfile.readline()
            self.wfile.write(answer)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/a.png"
        with pytest.raises(ImageError, match=url):
            sources.read_picture(url)
        server.shutdown()


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="has no user numbers")
def test_nobody_has_no_home(monkeypatch):
    for name in ("HOME", "KERAS_REGPOSE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(OSError, match="no folder for the cache: set HOME or KERAS_REGPOSE_HOME"):
        cache_home()


def test_links_that_leave_the_folder_are_not_sent(preset, tmp_path):
    (tmp_path / "secret").write_text("secret")
    picture = tmp_path / "secret.png"
    cv2.imwrite(str(picture), np.zeros((4, 4, 3), np.uint8))
    for name, target in (("x.png", picture), ("README.md", tmp_path / "secret"), ("results.json", tmp_path / "secret")):
        (preset / name).symlink_to(target)
        with pytest.raises(ValueError, match=f"{name} is a link that leaves .*preset, so nothing is sent"):
            publish_preset(preset, "org/pose", dry_run=True)
        (preset / name).unlink()
    (preset / "x.png").write_text("secret")
    with pytest.raises(ImageError, match="x.png cannot be read"):
        publish_preset(preset, "org/pose", dry_run=True)


def test_a_folder_that_is_called_like_a_preset_of_the_zoo(preset, monkeypatch, caplog):
    monkeypatch.chdir(preset.parent)
    preset.rename("mobilenetv2_rle_people")
    assert from_preset("mobilenetv2_rle_people").input_size == (192, 192)
    assert "mobilenetv2_rle_people is the preset of the zoo; the folder here is ./mobilenetv2_rle_people" in caplog.text
    assert from_preset("./mobilenetv2_rle_people").input_size == (32, 32)


def test_a_terminal_without_greek(tmp_path):
    script = "from keras_regpose.cli import main; print('σ ×'); raise SystemExit(main(['predict', 'σ.jpg']))"
    script = script.replace("print('σ ×'); ", "")
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert ran.returncode == 2 and "Traceback" not in ran.stderr and r"\u03c3.jpg" in ran.stderr, ran.stderr
    assert json.dumps("σ.jpg")[1:-1] in ran.stderr
