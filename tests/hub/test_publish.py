"""Publishing: what is sent, in one commit; what is refused; and the way there and back."""

import json
import os
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from hub_server import OWNER_TOKEN, STRANGER_TOKEN
from huggingface_hub import constants

from keras_regpose import COCO17, LSP14, PoseRegressor, from_preset
from keras_regpose.cli import main
from keras_regpose.hub.download import hub_preset
from keras_regpose.hub.preset_files import PresetError
from keras_regpose.hub.publish import publish_preset

CROPS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")
PLAIN_KERAS = """
import sys
sys.modules["keras_regpose"] = sys.modules["tensorflow_probability"] = sys.modules["keras_cv"] = None
import keras, numpy as np
model = keras.saving.load_model("hf://org/pose")
np.save(sys.argv[2], model.predict(np.load(sys.argv[1]), verbose=0))
"""


@pytest.fixture(scope="module")
def lsp_bytes(tmp_path_factory):
    """A preset of another skeleton and method."""
    folder = tmp_path_factory.mktemp("lsp") / "preset"
    PoseRegressor("mobilenetv2_0.25", LSP14, (32, 32), method="deeppose").save_to_preset(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def lsp(lsp_bytes, tmp_path):
    folder = tmp_path / "lsp"
    folder.mkdir()
    for name, content in lsp_bytes.items():
        (folder / name).write_bytes(content)
    return folder


def predict(model):
    return model.predict(CROPS, verbose=0)


def test_the_way_there_and_back(hub, owner, model, caches):
    first = model.push_to_hub("org/pose", license="Apache-2.0")
    assert first.address == "hf://org/pose@v1"
    assert sorted(hub.files("org/pose")) == sorted([".gitattributes", *first.sizes])
    assert json.loads(hub.files("org/pose")["preset.json"])["license"] == "Apache-2.0"
    assert hub.files("org/pose")["README.md"].decode() == first.card
    mine = from_preset("hf://org/pose")
    np.testing.assert_array_equal(predict(mine), predict(model))
    points = np.asarray([[0.3, -1.2], [0, 2]], "float32")
    np.testing.assert_array_equal(mine.flow.log_prob(points), model.flow.log_prob(points))

    mine.compile("adam", run_eagerly=True)  # one step is sooner done than traced
    mine.train_on_batch(CROPS, np.full((4, 17, 3), 0.4, "float32"))
    mine.run_eagerly = False
    mine.make_predict_function(force=True)
    tuned = predict(mine)
    assert np.abs(tuned - predict(model)).max() > 1e-4
    second = mine.push_to_hub("org/pose")
    assert second.address == "hf://org/pose@v2"
    np.testing.assert_array_equal(predict(from_preset(second.address)), tuned)
    assert hub_preset("org/pose").path.name == first.commit
    assert hub_preset("org/pose", refresh=True).path.name == second.commit
    repository = hub.repositories["org/pose"]
    assert list(repository.tags.items()) == [("v1", first.commit), ("v2", second.commit)]
    assert len(repository.commits) == 3  # the empty one, and one for each publication

    np.save(caches / "crops.npy", CROPS)
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(caches / "theirs"), "HF_HUB_DISABLE_XET": "1"}
    arguments = [caches / "crops.npy", caches / "outputs.npy"]
    subprocess.run([sys.executable, "-c", PLAIN_KERAS, *arguments], env=environment, check=True, cwd=caches)
    found = np.load(caches / "outputs.npy")
    np.testing.assert_array_equal(found, mine.to_keras().predict(CROPS, verbose=0))
    np.testing.assert_allclose(found, tuned, rtol=0, atol=1e-6)  # tuned is of the fused batch normalisation


def test_a_dry_run_shows_all_and_sends_nothing(hub, preset, capsys):
    (preset / "README.md").write_text("---\nlibrary_name: keras\n---\n# A pose model\n")
    arguments = ["publish", str(preset), "org/pose", "--dry-run", "--private", "--tag", "best"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "repository  org/pose (private)",
        "tag         best",
        "files       nothing was sent",
    ]
    shown = {line.split()[0]: int(line.split()[1].replace(",", "")) for line in lines if line.endswith(" bytes")}
    assert shown == {path.name: path.stat().st_size for path in preset.iterdir()}
    assert lines[-6:-1] == ["README.md:", "  ---", "  library_name: keras", "  ---", "  # A pose model"]
    assert lines[-1] == f"The card is {preset / 'README.md'}"
    assert hub.log == []


def test_only_the_preset_its_card_and_pictures_are_sent(hub, owner, preset, capsys):
    (preset / "secrets.txt").write_text("password")
    (preset / ".env").write_text("HF_TOKEN=1")
    (preset / "events.h5").write_bytes(b"x")
    PIL.Image.new("RGB", (4, 3)).save(preset / "sheet.png")
    (preset / "results.json").write_text("{}")
    (preset / "README.md").write_text("# Mine\n")
    assert main(["publish", str(preset), "org/pose"]) == 0
    assert 'from_preset("hf://org/pose@v1")' in capsys.readouterr().out
    sent = {name: content for name, content in hub.files("org/pose").items() if name != ".gitattributes"}
    kept = {path.name: path.read_bytes() for path in preset.iterdir()}
    assert sent == {name: kept[name] for name in kept if name not in ("secrets.txt", ".env", "events.h5")}


def test_a_preset_without_checksums_gets_them(hub, owner, preset, preset_bytes):
    description = json.loads(preset_bytes["preset.json"])
    checksums = description.pop("checksums")
    (preset / "preset.json").write_text(json.dumps(description))
    publication = publish_preset(preset, "org/pose")
    sent = hub.files("org/pose")["preset.json"]
    assert json.loads(sent) == description | {"checksums": checksums}
    assert publication.sizes["preset.json"] == len(sent)


def test_tags(hub, owner, preset):
    assert publish_preset(preset, "org/pose", tag="paper").address == "hf://org/pose@paper"
    (preset / "README.md").write_text("# Changed\n")
    hub.log.clear()
    with pytest.raises(ValueError, match="org/pose has the tag paper already. Choose another"):
        publish_preset(preset, "org/pose", tag="paper")
    assert not [path for method, path, _ in hub.log if method not in ("GET", "HEAD")]
    second = publish_preset(preset, "org/pose")
    assert second.address == "hf://org/pose@v1"
    assert publish_preset(preset, "org/pose") == second  # nothing has changed
    assert list(hub.repositories["org/pose"].tags) == ["paper", "v1"]


def test_another_skeleton_is_not_overwritten_by_mistake(hub, owner, preset, lsp):
    publish_preset(preset, "org/pose")
    before = hub.files("org/pose")
    message = "model of the skeleton 'coco17' with 17 keypoints, this one is of 'lsp14' with 14. Choose another name"
    with pytest.raises(ValueError, match=message):
        publish_preset(lsp, "org/pose")
    assert hub.files("org/pose") == before
    assert main(["publish", str(lsp), "org/pose"]) == 2
    assert main(["publish", str(lsp), "org/pose", "--replace"]) == 0
    # The flow of the model before does not stay behind.
    assert "flow.weights.h5" not in hub.files("org/pose") and "flow.weights.h5" in hub.files("org/pose", "v1")
    assert json.loads(hub.files("org/pose")["preset.json"])["skeleton"] == LSP14.to_dict()


def test_other_kinds_of_models_are_not_overwritten_by_mistake(hub, owner, preset):
    hub.upload("org/pose", {"config.json": b"{}", "model.safetensors": b"weights"})
    with pytest.raises(ValueError, match=r"is not a preset: it has config.json, model.safetensors"):
        publish_preset(preset, "org/pose")
    publish_preset(preset, "org/pose", replace=True)
    assert json.loads(hub.files("org/pose")["preset.json"])["skeleton"] == COCO17.to_dict()
    hub.upload("org/empty", {"README.md": b"# Soon"})
    publish_preset(preset, "org/empty")


def test_private_stays_private(hub, preset, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", OWNER_TOKEN)
    assert publish_preset(preset, "org/secret", private=True).private
    assert hub.repositories["org/secret"].private
    (preset / "README.md").write_text("# Second\n")
    assert publish_preset(preset, "org/secret").private  # a repository stays what it is
    publish_preset(preset, "org/open")
    (preset / "README.md").write_text("# Secret\n")
    with pytest.raises(ValueError, match="org/open is public, so nothing was sent. Make it private"):
        publish_preset(preset, "org/open", private=True)
    assert b"# Secret\n" not in hub.files("org/open").values()


@pytest.mark.parametrize(("token", "status"), [(None, 401), (STRANGER_TOKEN, 403)])
@pytest.mark.parametrize("exists", [False, True])
def test_who_may_write(hub, preset, preset_bytes, token, status, exists, monkeypatch):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    if exists:
        hub.upload("org/pose", preset_bytes)
    with pytest.raises(PermissionError, match=f"You may not write to org/pose .*{status}.* HF_TOKEN, with a token"):
        publish_preset(preset, "org/pose")
    assert "README.md" not in (hub.files("org/pose") if exists else {}) and exists == ("org/pose" in hub.repositories)


@pytest.mark.parametrize("step", ["PUT /lfs/", "POST .*/commit/", "POST .*/preupload/", "GET .*/refs"])
def test_all_or_nothing(hub, owner, preset, preset_bytes, step):
    commit = hub.upload("org/pose", preset_bytes)
    (preset / "README.md").write_text("# Second\n")
    weights = (preset / "model.weights.h5").read_bytes()
    hub.blobs.pop(next(blob for blob, content in hub.blobs.items() if content == weights))
    hub.fail(step, status=418)
    with pytest.raises(ConnectionError, match=r"failed for org/pose \(418\). Nothing was published. Try again later"):
        publish_preset(preset, "org/pose")
    assert list(hub.repositories["org/pose"].commits) == [commit] and not hub.repositories["org/pose"].tags
    hub.work()
    publish_preset(preset, "org/pose")
    assert hub.files("org/pose")["README.md"] == b"# Second\n"


def test_a_tag_that_fails_is_made_by_publishing_again(hub, owner, preset):
    hub.fail("POST .*/tag/", status=500)
    with pytest.raises(
        ConnectionError, match="org/pose is published .commit .*, but without its tag v1. Publish it ag"
    ):
        publish_preset(preset, "org/pose")
    commits = list(hub.repositories["org/pose"].commits)
    hub.work()
    assert publish_preset(preset, "org/pose").commit == commits[-1]
    assert hub.repositories["org/pose"].tags == {"v1": commits[-1]}
    assert list(hub.repositories["org/pose"].commits) == commits


def test_no_network(owner, preset, caches, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="http://127.0.0.1:9 cannot be reached for org/pose"):
        publish_preset(preset, "org/pose")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set, so nothing is published"):
        publish_preset(preset, "org/pose")


def test_a_commit_of_somebody_else_in_between_is_not_lost(hub, owner, preset, preset_bytes, monkeypatch):
    hub.upload("org/pose", preset_bytes)
    answer = hub._preupload

    def meanwhile(request, *arguments):
        hub.upload("org/pose", {"theirs.txt": b"theirs"})
        answer(request, *arguments)

    monkeypatch.setattr(hub, "_preupload", meanwhile)
    with pytest.raises(ConnectionError, match=r"\(412\). Nothing was published"):
        publish_preset(preset, "org/pose")
    assert hub.files("org/pose")["theirs.txt"] == b"theirs" and "README.md" not in hub.files("org/pose")


def test_damaged_presets_and_bad_names_send_nothing(hub, owner, preset, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a preset"):
        publish_preset(tmp_path, "org/pose")
    for name in ("pose", "org/pose/x", "org/po se", ""):
        with pytest.raises(ValueError, match="is named org/name"):
            publish_preset(preset, name)
    with pytest.raises(ValueError, match="A tag consists of"):
        publish_preset(preset, "org/pose", tag="v 1")
    (preset / "model.weights.h5").write_bytes(b"x")
    with pytest.raises(PresetError, match="differ from the SHA-256"):
        publish_preset(preset, "org/pose")
    assert hub.log == []
