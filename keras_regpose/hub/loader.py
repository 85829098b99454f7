"""`from_preset`: a name or a directory → a model."""

import logging
import os
from pathlib import Path

from keras_regpose.hub.preset_files import is_preset, load_preset
from keras_regpose.hub.presets import list_presets, preset_info
from keras_regpose.models.regressor import PoseRegressor
from keras_regpose.skeleton import SKELETONS, Skeleton

_log = logging.getLogger(__name__)
BUNDLED = Path(__file__).parent.parent / "bundled_presets"


def from_preset(name: str | os.PathLike, load_weights: bool = True, skeleton: Skeleton | None = None) -> PoseRegressor:
    """Loads a model by the name of its preset, or from a directory that `save_to_preset` wrote.

    Args:
        name: str or path. See `list_presets()` for the names.
        load_weights: bool. False builds a published preset's architecture with random weights.
        skeleton: `Skeleton` or None. Another one than the preset's keeps the backbone and makes a new, untrained head
            and flow, and says so.

    Returns:
        `PoseRegressor`.

    Raises:
        ValueError: If there is no preset of that name, or its files are damaged.
        FileNotFoundError: If its weights are not on this machine.
    """
    model = _load(name, load_weights)
    if skeleton is None or skeleton == model.skeleton:
        return model
    _log.warning(
        "Kept the backbone of %s; the head and the flow for the %d keypoints of %r are new and untrained",
        name,
        len(skeleton),
        skeleton.name,
    )
    return model.with_skeleton(skeleton)


def _load(name, load_weights):
    if is_preset(name):
        return load_preset(name)
    if isinstance(name, os.PathLike) or os.sep in name:
        raise FileNotFoundError(f"There is no preset at {name}: a preset directory holds a preset.json")
    info = preset_info(name)
    if not load_weights:
        skeleton, input_size = SKELETONS[info["skeleton"]], tuple(info["input_size"])
        return PoseRegressor(info["backbone"], skeleton, input_size, method=info["method"])
    if is_preset(BUNDLED / name):
        return load_preset(BUNDLED / name)
    bundled = ", ".join(preset for preset in list_presets() if is_preset(BUNDLED / preset))
    raise FileNotFoundError(
        f"The weights of {name} are not on this machine. Download {info['checkpoint']['url']} and convert it with "
        f"`keras-regpose convert mmpose CHECKPOINT.pth --preset {name} --out DIR`, then load that directory. "
        f"Bundled with the package: {bundled}"
    )
