"""`from_preset`: a name, an address of the Hugging Face Hub or a directory → a model."""

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_regpose.hub.download import built_preset, cache_home, cached_hub_preset, hub_preset
from keras_regpose.hub.preset_files import PresetError, PresetFolder, is_preset
from keras_regpose.runtimes import open_in_runtime
from keras_regpose.skeleton import SKELETONS, Skeleton
from keras_regpose.zoo import ORGANISATION, list_presets, preset_info

if TYPE_CHECKING:
    from keras_regpose.regressor import PoseRegressor

# What needs Keras is imported inside of functions, since other runtimes start ten times faster without.
BUNDLED = Path(__file__).parent / "bundled_presets"
BUNDLED_PRESET = "mobilenetv2_rle_people"
_DEPRECATED = "mobilenetv2_rle_lspet"
_log = logging.getLogger(__name__)


def from_preset(
    name: str | os.PathLike,
    load_weights: bool = True,
    skeleton: Skeleton | None = None,
    refresh: bool = False,
    dtype: str | None = None,
    runtime: str | None = None,
    precision: str | None = None,
    trust: bool = False,
) -> "PoseRegressor | Any":
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
        runtime: str or None. "onnx", "openvino" or "litert" gives the same `estimate` without Keras and faster, from
            the export that comes with the preset, or from one that is made the first time, compared with Keras, and
            kept in the folder KERAS_REGPOSE_HOME. "auto" takes the fastest that is installed, in the best precision
            that keeps keypoints, and logs what it took. None is Keras.
        precision: str or None. That of the export, as in `PoseRegressor.export`, other than int8; None chooses
            bfloat16 where OpenVINO runs on a processor that computes in it, otherwise float32.
        trust: bool. Whether a preset of yours may have layers that run code or open files, such as `Lambda` and
            `TFSMLayer`, or such classes as Keras does not know. Those of strangers could do anything with your files.
            It ends Keras's own safe mode in this process.

    Returns:
        `PoseRegressor`; with `runtime` `export.ExportedPoseRegressor`, as `load_exported` returns it. "auto" returns a
        `PoseRegressor` where there is no export and nothing that makes one.

    Raises:
        ValueError: If there is no preset of that name, or its files are damaged, hold code, or are of a newer format.
        ConnectionError: If it is not on this machine and cannot be downloaded.
        PermissionError: If the Hub does not show it to this user.
        FileNotFoundError: If there is no such directory, repository or revision.

    Example:

    >>> from_preset("mobilenetv2_rle_people").input_size
    (192, 192)
    >>> from_preset("mobilenetv2_rle_people", runtime="onnx")
    <ExportedPoseRegressor onnx float16 coco17 (192, 192)>
    """
    if runtime is not None:
        as_it_is = load_weights and skeleton is None and dtype is None
        return _in_runtime(name, as_it_is, refresh, runtime, precision, trust)
    if precision is not None:
        raise ValueError(f"precision={precision!r} goes with runtime=; what Keras computes in is dtype=")
    model = _load(name, load_weights, refresh, trust)
    if dtype is not None:
        model = model.with_dtype(dtype)
    if skeleton is None or skeleton == model.skeleton:
        return model
    return model.with_skeleton(skeleton)


def _in_runtime(name, as_it_is, refresh, runtime, precision, trust):
    """Returns a preset as a runtime other than Keras runs it."""
    if not as_it_is or str(name).endswith(".keras"):
        raise ValueError("runtime= runs a preset as it is: change it in Keras, save it with save_to_preset, load that")
    folder = _folder(name, refresh)

    def load():
        from keras_regpose.loading import load_preset

        return load_preset(folder, verify=False, trust=trust)

    return open_in_runtime(folder, runtime, precision, load)


def _load(name, load_weights, refresh, trust):
    """Returns the Keras model."""
    from keras_regpose import loading

    if str(name).endswith(".keras"):
        if not load_weights:
            raise ValueError(f"{name} always loads with weights. Received: load_weights=False; save a preset instead")
        return loading.load_keras_file(Path(name), trust)
    row = _row(name)
    if row is not None and not load_weights:
        from keras_regpose.regressor import PoseRegressor

        skeleton, input_size = SKELETONS[row["skeleton"]], tuple(row["input_size"])
        return PoseRegressor(row["backbone"], skeleton, input_size, method=row["method"], head=row["head"])
    return loading.load_preset(_folder(name, refresh), load_weights, verify=False, trust=trust)


def _row(name):
    """Returns what is known about a row of the zoo, or None if this is an address or a directory."""
    if str(name).startswith("hf:"):
        return None
    if is_preset(name):
        if name not in list_presets():
            return None
        _log.warning("%s is the preset of the zoo; the folder here is .%s%s", name, os.sep, name)
    if isinstance(name, os.PathLike) or os.sep in name:
        hint = f". One of the Hub is written hf://{name}" if re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)) else ""
        raise FileNotFoundError(f"There is no preset at {name}: a preset directory holds a preset.json{hint}")
    return preset_info(name)


def _folder(name, refresh):
    """Returns the `PresetFolder` of a name, an address or a directory, whose files were compared with its checksums."""
    if str(name).startswith("hf:"):
        address = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", str(name))
        if address is None:
            raise ValueError(f"An address of the Hub is hf://org/name or hf://org/name@revision. Received: {name!r}")
        return hub_preset(address[1], address[2], refresh)
    row = _row(name)
    if row is None or is_preset(BUNDLED / name):
        if name == _DEPRECATED:
            _log.warning("%s leaves the package with the next release: take %s instead", name, BUNDLED_PRESET)
        folder = PresetFolder.open(name if row is None else BUNDLED / name)
        folder.verify()
        return folder
    folder = _published(name, row, refresh)
    found = (folder.method, folder.description.get("input_size"), folder.skeleton.name)
    if found != (row["method"], row["input_size"], row["skeleton"]):
        raise PresetError(f"The weights found for {name} are of another model. Upgrade keras-regpose")
    return folder


def _published(name, info, refresh):
    """Returns the `PresetFolder` of a published row: from the caches, else the Hub, else built from its checkpoint."""
    hub = info.get("hub") or {"repo": f"{ORGANISATION}/{name}"}
    pinned = {"repo_id": hub["repo"], "revision": hub.get("revision"), "expected": hub.get("sha256")}
    built = cache_home() / "presets" / f"{name}-{info['checkpoint']['sha256_prefix']}"
    if not refresh:
        folder = cached_hub_preset(**pinned) or built_preset(built)
        if folder is not None:
            return folder
    try:
        return hub_preset(**pinned, refresh=refresh)
    except OSError as error:
        if error.errno is not None:  # of this machine, such as a full disk
            raise
        hub_error = error
    from keras_regpose.loading import build_from_checkpoint

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
