"""Servers on 127.0.0.1 in place of the Hugging Face Hub and of the official checkpoints, and caches of their own."""

import pytest
from hub_server import OWNER_TOKEN, FileServer, HubServer
from huggingface_hub import constants

SIZE = (32, 32)


@pytest.fixture(scope="session")
def model():
    from keras_regpose import COCO17, PoseRegressor

    return PoseRegressor("mobilenetv2_0.25", COCO17, SIZE)


@pytest.fixture(scope="session")
def preset_bytes(model, tmp_path_factory):
    """The files of a preset by name."""
    folder = tmp_path_factory.mktemp("saved") / "preset"
    model.save_to_preset(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def preset(preset_bytes, tmp_path):
    """A preset directory that a test may damage."""
    folder = tmp_path / "preset"
    folder.mkdir()
    for name, content in preset_bytes.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def servers():
    with HubServer() as hub, FileServer() as files:
        yield hub, files


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Empty caches, which only this test uses, and nobody logged in."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "huggingface" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "huggingface" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("KERAS_REGPOSE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path


@pytest.fixture
def hub(servers, caches, monkeypatch):
    """The Hub that huggingface_hub speaks to; empty, and working."""
    hub = servers[0]
    hub.repositories.clear()
    hub.work()
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    return hub


@pytest.fixture
def files(servers, caches, monkeypatch):
    """The server of official checkpoints; empty, and working."""
    files = servers[1]
    files.files.clear()
    files.work()
    monkeypatch.setenv("KERAS_REGPOSE_CHECKPOINTS", f"{files.url}/mmpose")
    return files


@pytest.fixture
def owner(monkeypatch):
    """Logs the owner of the repositories in."""
    monkeypatch.setenv("HF_TOKEN", OWNER_TOKEN)
