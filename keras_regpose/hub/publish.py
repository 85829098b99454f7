"""Publishes presets on the Hugging Face Hub."""

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub

from keras_regpose.files import sha256
from keras_regpose.hub.card import preset_card
from keras_regpose.hub.download import hub_access
from keras_regpose.hub.preset_files import PRESET_FILES, PresetFolder, save_preset
from keras_regpose.images import image_size
from keras_regpose.zoo import CARD, PICTURE, RESULTS, picture_of

_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Publication:
    """What is, or would be, published. As a string it lists all of it.

    Attributes:
        repo_id: str. "org/name".
        private: bool. Whether a new repository is visible to its owners only.
        tag: str or None. Name of this version. None: the next free of v1, v2, …, known once it is published.
        sizes: dict of file name to bytes.
        card: str. The model card.
        commit: str or None. The commit; None where nothing was sent.
    """

    repo_id: str
    private: bool
    tag: str | None
    sizes: dict
    card: str
    commit: str | None = None

    @property
    def address(self) -> str:
        """What `from_preset` takes, such as "hf://org/name@v1"."""
        return f"hf://{self.repo_id}" + (f"@{self.tag}" if self.tag else "")

    def __str__(self):
        sent = f"commit {self.commit[:10]}" if self.commit else "nothing was sent"
        lines = [f"repository  {self.repo_id} ({'private' if self.private else 'public'})"]
        lines += [f"tag         {self.tag or 'the next free of v1, v2, …'}", f"files       {sent}"]
        lines += [f"  {name:<18}{size:>14,} bytes" for name, size in self.sizes.items()]
        return "\n".join([*lines, f"{CARD}:", *(f"  {line}".rstrip() for line in self.card.splitlines())])


def push_model(
    model,
    repo_id: str,
    private: bool = False,
    tag: str | None = None,
    replace: bool = False,
    dry_run: bool = False,
    **facts,
) -> Publication:
    """Publishes a model as a preset on the Hugging Face Hub: one commit, with a tag and a model card.

    `from_preset("hf://org/name")` loads it, and so does plain `keras.saving.load_model("hf://org/name")`. The token
    is that of `hf auth login`, or the environment variable HF_TOKEN.

    Args:
        model: `PoseRegressor`.
        repo_id: str. "org/name"; the repository is made where there is none.
        private: bool. Whether a new repository is visible to its owners only.
        tag: str or None. A name for this version. None takes the next free of v1, v2, …
        replace: bool. Whether a model of another skeleton, or one that is not a preset, may be replaced.
        dry_run: bool. Whether to send nothing, and make no request: what is returned says what would be sent.
        **facts: JSON-ready values that go into `preset.json` (metrics, licence, data).

    Returns:
        `hub.publish.Publication`. Printed, it shows the files, their sizes and the card.

    Raises:
        ValueError: If an argument is not as above, or something else stands in the way of publishing.
        OSError: If the Hub cannot be reached, or refuses. Nothing is published then.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> model.push_to_hub("me/my_pose_model", dry_run=True).address
    'hf://me/my_pose_model'
    """
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "preset"
        save_preset(model, directory, **facts)
        return publish_preset(directory, repo_id, private, tag, replace, dry_run)


def publish_preset(
    directory: str | os.PathLike,
    repo_id: str,
    private: bool = False,
    tag: str | None = None,
    replace: bool = False,
    dry_run: bool = False,
    license_name: str | None = None,
) -> Publication:
    """Publishes a preset directory: one commit with all its files, or nothing, and a tag.

    The preset's files, its card, results.json and pictures (.png, .jpg) are sent, nothing else that lies in the
    directory. A directory without a README.md gets a card made from the preset, with a picture of its keypoints.

    Args:
        directory: str or path. What `save_to_preset` wrote.
        repo_id: str. "org/name"; the repository is made where there is none.
        private: bool. Whether a new repository is visible to its owners only.
        tag: str or None. A name for this version. None takes the next free of v1, v2, …
        replace: bool. Whether a model of another skeleton, or one that is not a preset, may be replaced.
        dry_run: bool. Whether to make no request and send nothing.
        license_name: str or None. The Hub's name of a licence, such as "apache-2.0", for a card that is made.

    Returns:
        `Publication`.

    Raises:
        ValueError: If an argument is not as above, the preset is damaged, the repository holds something else, is
            public and should be private, or has the tag already.
        OSError: If the Hub cannot be reached, or refuses. Nothing is published then, unless the tag alone failed,
            which the message says.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise ValueError(f"A repository of the Hub is named org/name. Received: {repo_id!r}")
    if tag is not None and not re.fullmatch(r"[\w][\w.-]*", tag):
        raise ValueError(f"A tag consists of letters, digits, dots and hyphens, such as v1. Received: {tag!r}")
    folder = PresetFolder.open(directory)
    folder.verify()
    files = _files(folder, repo_id, license_name)
    card = files[CARD]
    card = card.decode("utf-8") if isinstance(card, bytes) else card.read_text(encoding="utf-8")
    sizes = {name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in files.items()}
    plan = Publication(repo_id, private, tag, sizes, card)
    return plan if dry_run else _publish(plan, files, folder.description, replace)


def _files(folder, repo_id, license_name):
    """Returns what is sent: paths, and the bytes of what is not in the directory."""
    path, needed = folder.path, {"preset.json", *folder.needed_files}
    optional = ("metadata.json", CARD, RESULTS)
    files = {name: path / name for name in PRESET_FILES if name in needed}
    files |= {name: path / name for name in optional if (path / name).is_file()}
    if not folder.description["checksums"]:  # of an earlier version of this package
        listed = {"checksums": {name: sha256(files[name]) for name in PRESET_FILES[1:] if name in files}}
        files["preset.json"] = (json.dumps(folder.description | listed, indent=1) + "\n").encode("utf-8")
    if CARD not in files:
        files[CARD] = preset_card(folder, repo_id, license_name).encode("utf-8")
        if (picture := picture_of(folder.skeleton)) is not None:
            files[PICTURE] = picture
    pictures = (file for file in sorted(path.iterdir()) if file.suffix.lower() in _PICTURES and file.is_file())
    pictures = {picture.name: picture for picture in pictures}
    for picture in pictures.values():
        image_size(picture)
    for name, file in (files | pictures).items():
        if isinstance(file, Path) and file.parent == path and not file.resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{path / name} is a link that leaves {path}, so nothing is sent: copy the file there")
    return files | pictures


def _publish(plan, files, description, replace):
    api = huggingface_hub.HfApi(library_name="keras_regpose")
    with hub_access(plan.repo_id, writing=True):
        try:
            remote = api.model_info(plan.repo_id, timeout=10)
        except huggingface_hub.errors.RepositoryNotFoundError:  # or it is not shown: then it cannot be made either
            api.create_repo(plan.repo_id, private=plan.private)
            remote = api.model_info(plan.repo_id)
        _check_remote(plan, remote, description, replace)
        tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(plan.repo_id).tags}
        if plan.tag in tags:
            raise ValueError(f"{plan.repo_id} has the tag {plan.tag} already. Choose another, or let it be numbered")
        theirs = {file.rfilename for file in remote.siblings or ()}
        stale = sorted((theirs & set(PRESET_FILES)) - set(files))
        operations: list = [huggingface_hub.CommitOperationDelete(name) for name in stale]
        for name, file in files.items():
            content = file if isinstance(file, bytes) else str(file)
            operations.append(huggingface_hub.CommitOperationAdd(name, content))
        skeleton = description["skeleton"]
        message = f"Pose model of {len(skeleton['keypoints'])} keypoints ({skeleton['name']})"
        commit = api.create_commit(plan.repo_id, operations, commit_message=message, parent_commit=remote.sha)
    # A commit that changes nothing is not made, and keeps its name.
    numbers = [int(name[1:]) for name in tags if re.fullmatch(r"v\d+", name)]
    unchanged = (name for name, target in tags.items() if target == commit.oid)
    tag = plan.tag or next(unchanged, f"v{max(numbers, default=0) + 1}")
    if tag not in tags:
        try:
            with hub_access(plan.repo_id, writing=True):
                api.create_tag(plan.repo_id, tag=tag, revision=commit.oid)
        except OSError as error:
            what = f"{plan.repo_id} is published (commit {commit.oid[:10]}), but without its tag {tag}"
            raise ConnectionError(f"{what}. Publish it again to make it") from error
    return Publication(plan.repo_id, bool(remote.private), tag, plan.sizes, plan.card, commit.oid)


def _check_remote(plan, remote, description, replace):
    if plan.private and not remote.private:
        raise ValueError(f"{plan.repo_id} is public, so nothing was sent. Make it private, or choose another name")
    names = {file.rfilename for file in remote.siblings}
    if replace or not names - {".gitattributes", CARD}:
        return
    advice = "Choose another name, or say that it may be replaced (replace=True, --replace)"
    if "preset.json" not in names:
        raise ValueError(f"{plan.repo_id} is not a preset: it has {', '.join(sorted(names)[:5])}. {advice}")
    theirs, ours = _remote_skeleton(plan.repo_id, remote.sha), description["skeleton"]
    if theirs.get("keypoints") != ours["keypoints"]:
        found = f"the skeleton {theirs.get('name')!r} with {len(theirs.get('keypoints', []))} keypoints"
        this = f"{ours['name']!r} with {len(ours['keypoints'])}"
        raise ValueError(f"{plan.repo_id} holds a model of {found}, this one is of {this}. {advice}")


def _remote_skeleton(repo_id, revision):
    path = huggingface_hub.hf_hub_download(repo_id, "preset.json", revision=revision)
    try:
        return dict(json.loads(Path(path).read_text(encoding="utf-8"))["skeleton"])
    except (ValueError, KeyError, TypeError):
        return {}
