"""Single files over HTTP: resumed, checked, and never half there."""

import hashlib
import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hub_server import Fault

from keras_regpose.hub import download
from keras_regpose.hub.download import cache_home, download_file
from keras_regpose.hub.preset_files import PresetError

FORK = multiprocessing.get_context("fork")
CONTENT = np.random.default_rng(0).bytes(3_000_000)
PREFIX = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def url(files):
    files.files["mmpose/checkpoint.pth"] = CONTENT
    return f"{files.url}/mmpose/checkpoint.pth"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "checkpoint.pth"


@pytest.fixture
def part(target):
    target.parent.mkdir()
    return target.with_name("checkpoint.pth.part")


def ranges(files):
    return [span for _, _, span in files.log]


def test_a_whole_download(files, url, target):
    download_file(url, target, PREFIX, "checkpoint")
    assert target.read_bytes() == CONTENT and os.listdir(target.parent) == ["checkpoint.pth"]
    log = files.work()
    download_file(url, target, PREFIX, "checkpoint")
    assert log == []


def test_a_part_is_continued(files, url, target, part):
    part.write_bytes(CONTENT[:1_000_000])
    download_file(url, target, PREFIX, "checkpoint")
    assert target.read_bytes() == CONTENT and not part.exists()
    assert ranges(files) == ["bytes=1000000-"]


@pytest.mark.parametrize("wrong", [b"x" * 1000, CONTENT + b"more", b"y" * len(CONTENT)])
def test_a_part_of_another_file_is_replaced(files, url, target, part, wrong):
    part.write_bytes(wrong)
    download_file(url, target, PREFIX, "checkpoint")
    assert target.read_bytes() == CONTENT and not part.exists()
    assert ranges(files)[-1] is None


def test_a_connection_cut_twice_resumes(files, url, target):
    files.fail("GET", cut_after=1_000_000, times=2)
    download_file(url, target, PREFIX, "checkpoint")
    assert target.read_bytes() == CONTENT
    assert ranges(files) == [None, "bytes=1000000-", "bytes=2000000-"]


def test_a_connection_lost_for_good_keeps_what_arrived(files, url, target, monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    files.faults = [Fault("GET", cut_after=2_000_000, times=1), Fault("GET", cut_after=0)]
    with pytest.raises(ConnectionError, match=r"broke off \(.+\). Run it again: it goes on after 2.0 MB"):
        download_file(url, target, PREFIX, "checkpoint")
    assert not target.exists()
    files.work()
    download_file(url, target, PREFIX, "checkpoint")
    assert target.read_bytes() == CONTENT and ranges(files) == ["bytes=2000000-"]


def test_wrong_bytes_are_not_kept(files, url, target):
    files.fail("GET", flip=True)
    with pytest.raises(PresetError, match=f"SHA-256 begins with .* instead of {PREFIX}, so it was removed. Try again"):
        download_file(url, target, PREFIX, "checkpoint")
    assert os.listdir(target.parent) == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 500}, "answered 500 .*Try again later"),
        ({"status": 429, "headers": {"Retry-After": "7"}}, "answered 429 .*Try again in 7 seconds"),
        ({"delay": 2}, r"cannot be reached \(timed out\). Check the connection and proxies"),
        ({"cut_after": 0}, "cannot be reached"),
    ],
)
def test_a_server_that_fails_is_told_at_once(files, url, target, fault, message, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.5)
    log = files.fail("GET", **fault)
    with pytest.raises(ConnectionError, match=message):
        download_file(url, target, PREFIX, "checkpoint")
    assert len(log) == 1 and not target.exists()


def test_a_file_that_is_not_there(files, target):
    with pytest.raises(FileNotFoundError, match=f"There is no {files.url}/mmpose/other.pth"):
        download_file(f"{files.url}/mmpose/other.pth", target, PREFIX, "other")


def test_a_slow_server_is_waited_for(files, url, target, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.5)
    files.fail("GET", rate=3_000_000)
    download_file(url, target, PREFIX, "checkpoint")
    assert target.read_bytes() == CONTENT and ranges(files) == [None]


def test_a_dead_network_costs_no_time(target):
    start = time.monotonic()
    with pytest.raises(ConnectionError, match="http://127.0.0.1:9/x.pth cannot be reached .*refused"):
        download_file("http://127.0.0.1:9/x.pth", target, PREFIX, "x")
    assert time.monotonic() - start < 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(files, url, target, part):
    part.symlink_to("/dev/full")
    with pytest.raises(OSError, match="The disk of .*cache is full. Free some space, or set KERAS_REGPOSE_HOME"):
        download_file(url, target, PREFIX, "checkpoint")
    assert not target.exists()
    part.unlink()
    download_file(url, target, PREFIX, "checkpoint")
    assert target.read_bytes() == CONTENT


def test_a_disk_that_is_too_small_is_told_before_it_is_filled(files, url, target, part, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2_000_000))
    with pytest.raises(OSError, match="is full"):
        download_file(url, target, PREFIX, "checkpoint")
    assert not part.exists()


def test_a_process_killed_in_mid_download_is_resumed(files, url, target):
    files.fail("GET", rate=2_000_000)
    process = FORK.Process(target=download_file, args=(url, target, PREFIX, "checkpoint"))
    process.start()
    part = target.with_name("checkpoint.pth.part")
    deadline = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size > 500_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL and not target.exists()
    arrived = part.stat().st_size
    assert 500_000 < arrived < len(CONTENT)
    files.work()
    download_file(url, target, PREFIX, "checkpoint")
    assert target.read_bytes() == CONTENT and ranges(files) == [f"bytes={arrived}-"]


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_REGPOSE_HOME", str(tmp_path / "mine"))
    assert cache_home() == tmp_path / "mine"
    monkeypatch.delenv("KERAS_REGPOSE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_home() == tmp_path / "keras_regpose"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_home() == tmp_path / "me" / ".cache" / "keras_regpose"
