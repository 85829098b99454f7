"""Which tensor of a PyTorch checkpoint belongs to which Keras variable, and how its axes lie.

Axes: kernels (out, in, h, w) → (h, w, in, out); depthwise (channels, 1, h, w) → (h, w, channels, 1); dense
(out, in) → (in, out).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from keras_regpose.convert.pth import read_checkpoint, verify_checksum
from keras_regpose.convert.restricted_pickle import CheckpointError, Stub
from keras_regpose.models.backbones import BACKBONES, backbone_of
from keras_regpose.regressor import PoseRegressor

_NAMES_IN_AN_ERROR = 5


@dataclass(frozen=True)
class Target:
    """Where one tensor of a checkpoint goes.

    Args:
        shape: tuple of int. The tensor's shape in PyTorch.
        parts: tuple of (variable, function). Each variable takes the function's value of the tensor.
    """

    shape: tuple[int, ...]
    parts: tuple[tuple[keras.Variable, Callable[[np.ndarray], np.ndarray]], ...]


def backbone_targets(model: PoseRegressor, library: str) -> dict[str, Target]:
    """Returns the target of every tensor of a model's backbone by its name, such as `layer1.0.conv1.weight`.

    Args:
        model: `PoseRegressor`.
        library: str. Whose names: "mmpose", "torchvision", "tonylins"; see `models/backbones.py`.

    Raises:
        ValueError: If the backbone has no names in PyTorch.
    """
    backbone = backbone_of(model)
    if backbone is None or backbone.torch_module is None:
        fitting = ", ".join(name for entry in BACKBONES if entry.torch_module for name in entry.examples)
        raise ValueError(f"PyTorch's weights fit a backbone made by name: {fitting}. Received another model")
    targets = {}
    for layer in model.backbone.layers:
        for parameter, target in _layer_targets(layer).items():
            targets[f"{backbone.torch_module(layer.name, library)}.{parameter}"] = target
    return targets


def read_state_dict(
    path_or_state_dict: str | os.PathLike | dict, unused: tuple[str, ...], rename: Callable[[str], str]
) -> tuple[str, dict]:
    """Returns a name for errors, and the tensors by name, of a path, a checkpoint or a state_dict.

    The counters of batches, which only PyTorch's batch normalisation uses, are left out.

    Args:
        path_or_state_dict: path of a .pth file, or its content, or its `state_dict`: a dict of names to arrays.
        unused: tuple of str. Tensors whose names begin with one of these are left out.
        rename: callable. Makes the name of a tensor the one to return it by.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, is no state_dict, or has two tensors of one name.
    """
    source, content = "The state_dict", path_or_state_dict
    if isinstance(content, str | os.PathLike):
        source = str(content)
        verify_checksum(source)
        content = read_checkpoint(source)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not any(isinstance(value, np.ndarray) for value in content.values()):
        raise CheckpointError(f"{source} holds no state_dict: expected a dict of names to tensors")
    tensors = {}
    for old_name, tensor in content.items():
        name = rename(str(old_name).removeprefix("module."))
        if not name.startswith(unused) and not name.endswith(".num_batches_tracked"):
            if name in tensors:
                raise CheckpointError(f"{source} has {name} twice, the second time as {old_name}")
            tensors[name] = tensor
    return source, tensors


def assign_tensors(targets: dict[str, Target], tensors: dict, source: str) -> None:
    """Assigns every tensor to its variables, after all names and shapes have been checked.

    Args:
        targets: dict of names to `Target`.
        tensors: dict of names to arrays.
        source: str. What the tensors come from, for the error.

    Raises:
        CheckpointError: If tensors are missing, unexpected, of another shape or no floating-point numbers. Nothing is
            assigned then.
    """
    missing = [name for name in targets if name not in tensors]
    unexpected = [str(name) for name in tensors if name not in targets]
    if missing or unexpected:
        found = [f"{kind} {_enumerate(names)}" for kind, names in (("lacks", missing), ("has", unexpected)) if names]
        unknown = ", which the network does not know" if unexpected else ""
        misfit = f"does not fit the network: it {', and '.join(found)}{unknown}"
        raise CheckpointError(f"{source} {misfit}. Is it the checkpoint of another model?")
    for name, target in targets.items():
        tensor = tensors[name]
        if isinstance(tensor, Stub) or not np.issubdtype(getattr(tensor, "dtype", None) or object, np.floating):
            raise CheckpointError(f"{source}: {name} is not a tensor of floating-point numbers")
        if tensor.shape != target.shape:
            raise CheckpointError(f"{source}: {name} has shape {tensor.shape}, the network needs {target.shape}")
        if not np.isfinite(tensor).all():
            raise CheckpointError(f"{source}: {name} has values that are not finite. Take an earlier checkpoint")
    for name, target in targets.items():
        for variable, value in target.parts:
            variable.assign(np.ascontiguousarray(value(tensors[name]), np.float32))


def whole(variable: keras.Variable) -> Target:
    """Returns the target of a tensor that lies in Keras as in PyTorch."""
    return Target(tuple(variable.shape), ((variable, lambda tensor: tensor),))


def _layer_targets(layer):
    if isinstance(layer, keras.layers.BatchNormalization):
        names = ("weight", "bias", "running_mean", "running_var")
        variables = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
        return dict(zip(names, map(whole, variables), strict=True))
    if not isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
        return {}
    # PyTorch's (outputs, inputs, height, width); of depthwise kernels the inputs come first.
    order = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (3, 2, 0, 1)
    shape = tuple(layer.kernel.shape[axis] for axis in order)
    return {"weight": Target(shape, ((layer.kernel, lambda tensor: tensor.transpose(np.argsort(order))),))}


def _enumerate(names):
    shown = ", ".join(name if len(name) <= 80 else name[:77] + "..." for name in map(repr, names[:_NAMES_IN_AN_ERROR]))
    return shown + (f" and {len(names) - _NAMES_IN_AN_ERROR} more" if len(names) > _NAMES_IN_AN_ERROR else "")
