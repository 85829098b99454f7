"""Presets of the Hub when something goes wrong: the right sentence, in seconds, and never a torn cache."""

import hashlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hub_server import OWNER_TOKEN, STRANGER_TOKEN
from huggingface_hub import constants

from keras_regpose import from_preset
from keras_regpose.hub import download
from keras_regpose.hub.download import hub_preset as open_hub_preset
from keras_regpose.hub.preset_files import PresetError

REPO = "org/pose"
FORK = multiprocessing.get_context("fork")  # a child that only downloads; it need not import TensorFlow again


def hub_preset(*arguments, **options):
    """Returns the path of the folder."""
    return open_hub_preset(*arguments, **options).path


@pytest.fixture
def published(hub, preset_bytes):
    hub.upload(REPO, preset_bytes)
    return hub


def assert_equal_files(folder, expected):
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in expected}
    assert found == expected


def assert_same(model, other):
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def incomplete(cache):
    return list(cache.rglob("*.incomplete"))


def test_the_first_load_downloads_and_the_next_ones_make_no_request(published, preset_bytes, model):
    assert_same(from_preset(f"hf://{REPO}"), model)
    fetched = [path for method, path, _ in published.log if method == "GET" and "/api/" not in path]
    assert len(fetched) == len(preset_bytes)
    log = published.work()
    assert_same(from_preset(f"hf://{REPO}"), model)
    assert log == []
    folder = hub_preset(REPO)
    assert hub_preset(REPO, folder.name) == folder and log == []


def test_revisions(published, preset_bytes, caches):
    first = published.repositories[REPO].branches["main"]
    published.repositories[REPO].tags["v1"] = first
    old = hub_preset(REPO)
    second = published.upload(REPO, {"README.md": b"# second"})
    assert old.name == hub_preset(REPO).name == hub_preset(REPO, "v1").name == first
    assert hub_preset(REPO, second).name == second
    assert hub_preset(REPO).name == first
    assert hub_preset(REPO, refresh=True).name == hub_preset(REPO).name == second


@pytest.mark.parametrize(
    ("token", "revision", "kind", "message"),
    [
        (None, "v9", FileNotFoundError, "org/pose on .* has no revision 'v9'. There are those of"),
        (OWNER_TOKEN, None, FileNotFoundError, "There is no org/absent on .*. Check the name"),
        (None, None, PermissionError, r"org/absent on .* is not shown to you \(401\): .*HF_TOKEN"),
    ],
)
def test_absent_revisions_and_repositories(published, token, revision, kind, message, monkeypatch):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    address = f"hf://{REPO}@{revision}" if revision else "hf://org/absent"
    with pytest.raises(kind, match=message) as error:
        from_preset(address)
    assert "\n" not in str(error.value)


def test_private_repositories(published, monkeypatch):
    published.repositories[REPO].private = True
    with pytest.raises(PermissionError, match="private, or there is none. Check the name, and run `hf auth login`"):
        hub_preset(REPO)
    monkeypatch.setenv("HF_TOKEN", STRANGER_TOKEN)
    with pytest.raises(FileNotFoundError, match="if it is private, log in"):
        hub_preset(REPO)
    monkeypatch.setenv("HF_TOKEN", OWNER_TOKEN)
    assert hub_preset(REPO).is_dir()


def test_a_repository_of_something_else(published):
    published.upload("org/other", {"config.json": b"{}", "model.safetensors": b""})
    with pytest.raises(PresetError, match="is not a preset: it has no preset.json.*keras.saving.load_model"):
        hub_preset("org/other")


def test_a_newer_format_asks_for_an_upgrade_also_offline(published, preset_bytes):
    description = json.loads(preset_bytes["preset.json"]) | {"format": 2}
    published.upload(REPO, {"preset.json": json.dumps(description).encode()})
    for _ in range(2):
        with pytest.raises(PresetError, match="has preset format 2, this version reads 1. Upgrade keras-regpose"):
            hub_preset(REPO)
        published.fail("", status=500)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 500}, r"failed for org/pose \(500\). Try again later"),
        ({"status": 503}, r"failed for org/pose \(503\). Try again later"),
        ({"status": 429, "headers": {"Retry-After": "30"}}, r"too many requests .*429.* in 30 seconds"),
        ({"status": 429}, "too many requests .* in some minutes"),
        ({"cut_after": 10}, r"cannot be reached for org/pose \(.+\). Check the connection, proxies and HF_ENDPOINT"),
        ({"delay": 3}, r"cannot be reached for org/pose \(.*timed out.*\)"),
    ],
)
def test_a_hub_that_fails_is_told_at_once(published, fault, message, monkeypatch, caches):
    monkeypatch.setattr(download, "_TIMEOUT", 0.5)
    log = published.fail("/api/models", **fault)
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=message) as error:
        from_preset(f"hf://{REPO}")
    assert time.monotonic() - start < 2 and "\n" not in str(error.value)
    assert len([path for _, path, _ in log if path == f"/api/models/{REPO}"]) == 1
    published.work()
    hub_preset(REPO)


def test_a_dead_network_costs_no_time(caches, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:9 cannot be reached .*refused"):
        from_preset(f"hf://{REPO}")
    assert time.monotonic() - start < 3


def test_a_dead_hub_does_not_matter_once_it_is_cached(published, monkeypatch):
    folder = hub_preset(REPO)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    assert hub_preset(REPO) == folder
    assert time.monotonic() - start < 1
    with pytest.raises(ConnectionError, match="cannot be reached"):
        hub_preset(REPO, refresh=True)
    assert hub_preset(REPO) == folder


def test_offline_by_choice(published, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set, and org/pose@v1 is not in the cache .* Unset it"):
        from_preset(f"hf://{REPO}@v1")
    assert published.log == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    folder = hub_preset(REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    log = published.work()
    assert hub_preset(REPO) == folder and log == []


def test_a_connection_cut_in_mid_file_resumes(published, preset_bytes, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    blob = hashlib.sha256(preset_bytes["model.weights.h5"]).hexdigest()
    log = published.fail(f"GET /cdn/{blob}", cut_after=900_010, times=1)
    assert_equal_files(hub_preset(REPO), preset_bytes)
    assert [span for _, path, span in log if path.startswith("/cdn/") and span] == ["bytes=900000-"]


@pytest.mark.parametrize("name", ["model.weights.h5", "flow.weights.h5", "config.json", "preset.json", "metadata.json"])
def test_wrong_bytes_are_never_used_and_never_kept(published, preset_bytes, name, caches):
    content = preset_bytes[name]
    (blob,) = [blob for blob, stored in published.blobs.items() if stored == content]
    published.fail(f"GET /cdn/{blob}|GET .*/{name}$", flip=True)
    with pytest.raises(PresetError, match="org/pose at .* is damaged: .* removed. Try again; .* tell the owner"):
        hub_preset(REPO)
    published.work()
    assert_equal_files(hub_preset(REPO), preset_bytes)


def test_a_published_file_with_the_wrong_checksum(published, preset_bytes):
    published.upload(REPO, {"model.weights.h5": preset_bytes["model.weights.h5"][:-8] + bytes(8)})
    with pytest.raises(PresetError, match="differs from its checksums"):
        from_preset(f"hf://{REPO}")


def test_a_cache_that_rots_is_downloaded_again(published, preset_bytes):
    path = (hub_preset(REPO) / "model.weights.h5").resolve()
    path.write_bytes(path.read_bytes()[:-100])
    log = published.work()
    assert_equal_files(hub_preset(REPO), preset_bytes)
    assert log


def test_another_preset_than_the_pinned_one_is_refused(published, preset_bytes):
    with pytest.raises(PresetError, match="differs from its checksums"):
        hub_preset(REPO, expected="0" * 64)
    assert hub_preset(REPO, expected=download.sha256(hub_preset(REPO) / "preset.json"))


def test_a_full_disk(published, caches, monkeypatch, preset_bytes):
    small = caches / "small"
    small.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], capture_output=True)
    if mount.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with monkeypatch.context() as patch:
            patch.setattr(constants, "HF_HUB_CACHE", str(small / "hub"))
            with pytest.raises(OSError, match="The disk of .*small/hub is full. .*HF_HOME"):
                hub_preset(REPO)
            assert incomplete(small) == []
            assert download.cached_hub_preset(REPO) is None
    finally:
        subprocess.run(["umount", small], check=True)
    assert_equal_files(hub_preset(REPO), preset_bytes)


def test_two_processes_at_once_download_once(published, preset_bytes):
    published.fail("GET /cdn/", rate=1_500_000)
    published.log.clear()
    processes = [FORK.Process(target=hub_preset, args=(REPO,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    large = [path for method, path, _ in published.log if method == "GET" and path.startswith("/cdn/")]
    assert len(large) == len(set(large)) == 2
    log = published.work()
    assert_equal_files(hub_preset(REPO), preset_bytes)
    assert log == []


def test_a_process_killed_in_mid_download_leaves_nothing_that_is_used(published, preset_bytes, caches, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    published.fail("GET /cdn/", rate=500_000)
    process = FORK.Process(target=hub_preset, args=(REPO,))
    process.start()
    deadline = time.monotonic() + 20
    while not any(path.stat().st_size > 0 for path in incomplete(caches)) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL and incomplete(caches)
    published.work()
    assert download.cached_hub_preset(REPO) is None
    assert_equal_files(hub_preset(REPO), preset_bytes)


def test_addresses():
    for address in ("hf://org", "hf://a/b/c", "hf://org/name@", "hf://org/na me"):
        with pytest.raises(ValueError, match=f"hf://org/name@revision. Received: '{re.escape(address)}'"):
            from_preset(address)


LOAD = """
import json, sys
from keras_regpose.hub.download import hub_preset
print(hub_preset("org/pose", sys.argv[1]).path)
"""


@pytest.mark.slow
def test_the_environment_variables_of_huggingface_hub(published, caches, preset_bytes):
    published.repositories[REPO].private = True
    published.repositories[REPO].tags["v1"] = published.repositories[REPO].branches["main"]
    environment = os.environ | {
        "HF_ENDPOINT": published.url,
        "HF_HOME": str(caches / "mine"),
        "HF_TOKEN": OWNER_TOKEN,
        "HF_HUB_DISABLE_XET": "1",
    }

    def load(**more):
        command = [sys.executable, "-c", LOAD, "v1"]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True)

    assert "HF_HUB_OFFLINE is set" in load(HF_HUB_OFFLINE="1").stderr and published.log == []
    folder = Path(load().stdout.strip())
    assert folder.is_relative_to(caches / "mine") and published.log
    assert_equal_files(folder, preset_bytes)
    log = published.work()
    assert load(HF_TOKEN="").stdout == load(HF_HUB_OFFLINE="1").stdout == f"{folder}\n"
    assert log == []
