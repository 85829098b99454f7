"""MMPose's checkpoints of top-down regression → `PoseRegressor`. PyTorch is not needed."""

import os

import numpy as np

from keras_regpose.convert.pth import read_checkpoint, verify_checksum
from keras_regpose.convert.restricted_pickle import CheckpointError
from keras_regpose.convert.weights import Target, assign_tensors, backbone_targets, whole
from keras_regpose.regressor import PoseRegressor
from keras_regpose.skeleton import SKELETONS
from keras_regpose.zoo import preset_info

# Buffers of MMPose's flow, which never change: what they say is in the structure of ours.
_FLOW = "head.loss_module.flow_model"
_FLOW_CONSTANTS = {
    f"{_FLOW}.loc": np.zeros(2),
    f"{_FLOW}.cov": np.eye(2),
    f"{_FLOW}.mask": np.array([[0, 1], [1, 0]] * 3),
}


def from_mmpose(path_or_state_dict: str | os.PathLike | dict, preset: str) -> PoseRegressor:
    """Builds a published preset with the weights of its MMPose checkpoint, the flow included.

    Args:
        path_or_state_dict: path of a .pth file, written by MMPose 0.x or 1.x, or its content, or its `state_dict`: a
            dict of names to arrays. A file is compared with the checksum in its name.
        preset: str. The row of the zoo, see `keras_regpose.list_presets()`.

    Returns:
        `PoseRegressor`.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, or not the checkpoint of this preset; a `ValueError`.
        ValueError: If there is no such preset.

    Example:

    >>> model = from_mmpose(  # doctest: +SKIP
    ...     "td-reg_res50_rle-8xb64-210e_coco-256x192-d37efd64_20220913.pth", "resnet50_rle_coco"
    ... )
    """
    info = preset_info(preset)
    source, tensors = read_state_dict(path_or_state_dict)
    tensors = _current_names(tensors, source)
    model = PoseRegressor(
        info["backbone"], SKELETONS[info["skeleton"]], tuple(info["input_size"]), method=info["method"]
    )
    targets = {f"backbone.{name}": target for name, target in backbone_targets(model, "mmpose").items()}
    targets |= _head_targets(model)
    if model.flow is not None:
        targets |= _flow_targets(model.flow)
    assign_tensors(targets, tensors, source)
    return model


def read_state_dict(path_or_state_dict: str | os.PathLike | dict) -> tuple[str, dict]:
    """Returns a name for errors, and the tensors by name, of a path, a checkpoint or a state_dict."""
    source, content = "The state_dict", path_or_state_dict
    if isinstance(content, str | os.PathLike):
        source = str(content)
        verify_checksum(source)
        content = read_checkpoint(source)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not any(isinstance(value, np.ndarray) for value in content.values()):
        raise CheckpointError(f"{source} holds no state_dict: expected a dict of names to tensors")
    return source, content


def without_counters(tensors: dict) -> dict:
    """Leaves out batch normalisation's counters of batches, which only PyTorch uses."""
    return {name: tensor for name, tensor in tensors.items() if not str(name).endswith(".num_batches_tracked")}


def _current_names(tensors, source):
    """Returns tensors under the names of MMPose 1.x, without those that carry nothing learned."""
    renamed = {}
    for old_name, tensor in without_counters(tensors).items():
        name = str(old_name).removeprefix("module.")
        # The renamings with which MMPose 1.x itself opens files of 0.x.
        name = name.replace("keypoint_head.", "head.").replace("head.loss.", "head.loss_module.")
        if name.startswith("data_preprocessor."):
            continue
        if name in _FLOW_CONSTANTS:
            if not np.array_equal(tensor, _FLOW_CONSTANTS[name]):
                raise CheckpointError(f"{source}: {name} is not that of MMPose's flow, to which these weights belong")
            continue
        if name in renamed:
            raise CheckpointError(f"{source} has {name} twice, under its names of MMPose 0.x and 1.x")
        renamed[name] = tensor
    return renamed


def _head_targets(model):
    """MMPose's single matrix has the rows x, y, σx, σy of keypoint 0, then those of keypoint 1."""
    layers = [model.get_layer("coordinates")]
    if model.method == "rle":
        layers.append(model.get_layer("sigma"))
    channels = layers[0].kernel.shape[0]
    keypoints, columns = len(model.skeleton), 2 * len(layers)

    def rows(position):
        def take(tensor):
            by_keypoint = tensor.reshape(keypoints, columns, -1)[:, 2 * position : 2 * position + 2]
            return by_keypoint.reshape(2 * keypoints, -1).T

        return take

    def entries(position):
        return lambda tensor: rows(position)(tensor)[0]

    return {
        "head.fc.weight": Target(
            (columns * keypoints, channels),
            tuple((layer.kernel, rows(position)) for position, layer in enumerate(layers)),
        ),
        "head.fc.bias": Target(
            (columns * keypoints,), tuple((layer.bias, entries(position)) for position, layer in enumerate(layers))
        ),
    }


def _flow_targets(flow):
    """MMPose masks the inputs and outputs of 2 → 64 → 64 → 2 networks; ours have those that count, 1 → 64 → 64 → 1."""
    targets = {}
    for letter, networks in (("s", flow.scale_networks), ("t", flow.translation_networks)):
        for coupling, network in enumerate(networks):
            first, second = slice(0, 1), slice(1, 2)
            kept, changed = (second, first) if coupling % 2 == 0 else (first, second)
            targets |= _network_targets(f"{_FLOW}.{letter}.{coupling}", network, kept, changed)
    return targets


def _network_targets(name, network, kept, changed):
    (kernel_in, bias_in), (kernel, bias), (kernel_out, bias_out) = network
    units = kernel.shape[0]
    return {
        f"{name}.0.weight": Target((units, 2), ((kernel_in, lambda tensor: tensor[:, kept].T),)),
        f"{name}.0.bias": whole(bias_in),
        f"{name}.2.weight": Target((units, units), ((kernel, np.transpose),)),
        f"{name}.2.bias": whole(bias),
        f"{name}.4.weight": Target((2, units), ((kernel_out, lambda tensor: tensor[changed].T),)),
        f"{name}.4.bias": Target((2,), ((bias_out, lambda tensor: tensor[changed]),)),
    }
