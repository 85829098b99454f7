"""`from_preset`: a name, an address of the Hugging Face Hub or a directory → a model."""

import json
import logging
import os
import re
import shutil
import zipfile
from pathlib import Path

import keras

from keras_regpose.convert.mmpose import from_mmpose
from keras_regpose.hub.download import (
    ANOTHER_DISK,
    cache_home,
    cached_hub_preset,
    download_file,
    hub_preset,
    intact_preset,
)
from keras_regpose.hub.preset_files import (
    FLOW_FILE,
    NewerFormatError,
    PresetError,
    PresetFolder,
    check_weights,
    damage_explained,
    flow_model,
    is_preset,
    refuse_code,
    save_preset,
)
from keras_regpose.regressor import PoseRegressor
from keras_regpose.skeleton import SKELETONS, Skeleton
from keras_regpose.zoo import ORGANISATION, preset_info

_log = logging.getLogger(__name__)
BUNDLED = Path(__file__).parent / "bundled_presets"
CHECKPOINTS = "https://download.openmmlab.com/mmpose/"


def from_preset(
    name: str | os.PathLike,
    load_weights: bool = True,
    skeleton: Skeleton | None = None,
    refresh: bool = False,
    dtype: str | None = None,
) -> PoseRegressor:
    """Loads a model by the name of its preset, from the Hugging Face Hub, or from a directory.

    What is bundled with the package or was loaded before needs no network. Otherwise a name is looked for on the Hub
    (`keras-regpose/<name>`), and a published row that is not there is built from its official checkpoint, which is
    downloaded, converted, and kept as a preset.

    The Hub's client is that of `huggingface_hub`, with its cache, its token (`hf auth login`) and its environment
    variables: HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, HF_TOKEN. KERAS_REGPOSE_HOME is the folder of the presets built
    here, `~/.cache/keras_regpose` by default. KERAS_REGPOSE_CHECKPOINTS is the address of a mirror of
    https://download.openmmlab.com/mmpose/.

    Args:
        name: str or path. A name of `list_presets()`, "hf://org/name" or "hf://org/name@revision" (a branch, tag or
            commit), a directory that `save_to_preset` wrote, or a file that `model.save("m.keras")` wrote.
        load_weights: bool. False builds the architecture with random weights; a name of the zoo needs no network then.
        skeleton: `Skeleton` or None. Another one than the preset's keeps the backbone and, in the head, the keypoints
            that both have by name; the log says which. See `PoseRegressor.with_skeleton`.
        refresh: bool. Whether to ask the Hub for a newer version of what was downloaded before.
        dtype: str or None. What the layers compute in: a Keras dtype policy such as "mixed_bfloat16", or None for what
            the preset was saved with, which is float32 for all of the zoo.

    Returns:
        `PoseRegressor`.

    Raises:
        ValueError: If there is no preset of that name, or its files are damaged, hold code, or are of a newer format.
        ConnectionError: If it is not on this machine and cannot be downloaded.
        PermissionError: If the Hub does not show it to this user.
        FileNotFoundError: If there is no such directory, repository or revision.

    Example:

    >>> from_preset("mobilenetv2_rle_lspet").input_size
    (160, 160)
    """
    model = _load(name, load_weights, refresh)
    if dtype is not None:
        model = model.with_dtype(dtype)
    if skeleton is None or skeleton == model.skeleton:
        return model
    return model.with_skeleton(skeleton)


def load_preset(
    folder: str | os.PathLike | PresetFolder, load_weights: bool = True, verify: bool = True
) -> PoseRegressor:
    """Reads a preset directory.

    Args:
        folder: str, path or `PresetFolder`.
        load_weights: bool. False leaves the weights random.
        verify: bool. Whether the files are compared with the checksums in `preset.json`, where it has them.

    Returns:
        `PoseRegressor`.

    Raises:
        FileNotFoundError: If there is no preset there.
        PresetError: If it is incomplete, damaged, of a newer format, or holds code.
    """
    if not isinstance(folder, PresetFolder):
        folder = PresetFolder.open(folder)
    if verify:
        folder.verify()
    path, skeleton, method = folder.path, folder.skeleton, folder.method
    with damage_explained(path):
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        refuse_code(config, path)
        if not load_weights:
            graph = keras.saving.deserialize_keras_object(config, safe_mode=True)
            return PoseRegressor.from_keras(graph, skeleton, method)
        for name in ("model.weights.h5", FLOW_FILE) if method == "rle" else ("model.weights.h5",):
            check_weights(path / name)
        graph = keras.saving.load_model(path, compile=False, safe_mode=True)
        model = PoseRegressor.from_keras(graph, skeleton, method)
        if model.flow is not None:
            flow_model(model.flow).load_weights(path / FLOW_FILE)
            # It is 0 where training kept the flow out till the best epoch; plain `fit` would never let it in.
            model.flow.strength.assign(1.0)
        return model


def _load(name, load_weights, refresh):
    if str(name).startswith("hf:"):
        address = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", str(name))
        if address is None:
            raise ValueError(f"An address of the Hub is hf://org/name or hf://org/name@revision. Received: {name!r}")
        return load_preset(hub_preset(address[1], address[2], refresh), load_weights, verify=False)
    if str(name).endswith(".keras"):
        if not load_weights:
            raise ValueError(
                f"{name} always loads with its weights. Received: load_weights=False; save a preset instead"
            )
        return _load_keras_file(Path(name))
    if is_preset(name):
        return load_preset(name, load_weights)
    if isinstance(name, os.PathLike) or os.sep in name:
        hint = f". One of the Hub is written hf://{name}" if re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)) else ""
        raise FileNotFoundError(f"There is no preset at {name}: a preset directory holds a preset.json{hint}")
    info = preset_info(name)
    if not load_weights:
        skeleton, input_size = SKELETONS[info["skeleton"]], tuple(info["input_size"])
        return PoseRegressor(info["backbone"], skeleton, input_size, method=info["method"])
    if is_preset(BUNDLED / name):
        return load_preset(BUNDLED / name)
    model = load_preset(_published(name, info, refresh), verify=False)
    found = (model.method, list(model.input_size), model.skeleton.name)
    if found != (info["method"], info["input_size"], info["skeleton"]):
        raise PresetError(f"The weights found for {name} are of another model. Upgrade keras-regpose")
    return model


def _load_keras_file(path):
    """Opens what `model.save("m.keras")` wrote, with its optimizer."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}")
    with damage_explained(path, "It must be a file that model.save wrote: save it again"):
        with zipfile.ZipFile(path) as archive:
            refuse_code(json.loads(archive.read("config.json")), path)
        model = keras.saving.load_model(path, safe_mode=True)
    if not isinstance(model, PoseRegressor):
        raise PresetError(f"{path} holds a {type(model).__name__}, not a PoseRegressor: open it with keras.saving")
    return model


def _published(name, info, refresh):
    """Returns the `PresetFolder` of a published row: from the caches, else the Hub, else built from its checkpoint."""
    hub = info.get("hub") or {"repo": f"{ORGANISATION}/{name}"}
    pinned = {"repo_id": hub["repo"], "revision": hub.get("revision"), "expected": hub.get("sha256")}
    built = cache_home() / "presets" / f"{name}-{info['checkpoint']['sha256_prefix']}"
    if not refresh:
        folder = cached_hub_preset(**pinned) or _built_preset(built)
        if folder is not None:
            return folder
    try:
        return hub_preset(**pinned, refresh=refresh)
    except OSError as error:
        if error.errno is not None:  # of this machine, such as a full disk
            raise
        hub_error = error
    try:
        return build_from_checkpoint(name, built)
    except OSError as error:
        if error.errno is not None:
            raise
        url = info["checkpoint"]["url"]
        raise ConnectionError(
            f"The weights of {name} are not on this machine and could not be fetched. From the Hub: {hub_error}. From "
            f"the official checkpoint: {error}. Or download {'it' if url in str(error) else url} on another machine, "
            f"convert it with `keras-regpose convert mmpose CHECKPOINT.pth --preset {name} --out DIR`, and load DIR"
        ) from error


def _built_preset(path):
    try:
        return intact_preset(path)
    except NewerFormatError:  # it is built again
        return None


def build_from_checkpoint(name: str, folder: Path) -> PresetFolder:
    """Makes a preset of a row's official checkpoint, once, even if several processes ask for it at the same time.

    Args:
        name: str. A published row.
        folder: Path. The preset directory to write; an intact preset that is there is left as it is.

    Returns:
        `PresetFolder`.

    Raises:
        ConnectionError, FileNotFoundError: If the checkpoint cannot be fetched.
        PresetError: If it is damaged.
        OSError: If the preset cannot be written; `errno` is ENOSPC if the disk is full.
    """
    from filelock import FileLock
    from huggingface_hub import constants

    info = preset_info(name)
    url = info["checkpoint"]["url"]
    base = os.environ.get("KERAS_REGPOSE_CHECKPOINTS")
    if base:
        url = f"{base.rstrip('/')}/{url.removeprefix(CHECKPOINTS)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (intact := _built_preset(folder)) is not None:
            return intact
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("HF_HUB_OFFLINE is set")
        _log.warning("Building %s from the official checkpoint %s, once", name, url)
        checkpoint = cache_home() / "checkpoints" / url.rsplit("/", 1)[1]
        download_file(url, checkpoint, info["checkpoint"]["sha256_prefix"], name)
        for old in (folder, *folder.parent.glob(f".{folder.name}-*")):  # damaged, or of a process that was killed
            shutil.rmtree(old, ignore_errors=True)
        model = from_mmpose(checkpoint, name)
        save_preset(model, folder, advice=ANOTHER_DISK, preset=name, license=info["license"], origin=info["checkpoint"])
        checkpoint.unlink()
        return PresetFolder.open(folder)
