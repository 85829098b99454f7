"""MMPose's checkpoints of top-down regression → `PoseRegressor`. PyTorch is not needed."""

import os

import numpy as np

from keras_regpose.convert.restricted_pickle import CheckpointError
from keras_regpose.convert.weights import Target, assign_tensors, backbone_targets, read_state_dict, whole
from keras_regpose.regressor import PoseRegressor
from keras_regpose.skeleton import SKELETONS
from keras_regpose.zoo import preset_info

# Buffers of MMPose's flow, which never change: what they say is in the structure of ours.
_FLOW = "head.loss_module.flow_model"
_CONSTANTS = {f"{_FLOW}.loc": np.zeros(2), f"{_FLOW}.cov": np.eye(2), f"{_FLOW}.mask": np.array([[0, 1], [1, 0]] * 3)}


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
    row = preset_info(preset)
    source, tensors = read_state_dict(path_or_state_dict, ("data_preprocessor.",), _current_name)
    for name, constant in _CONSTANTS.items():
        if not np.array_equal(tensors.pop(name, constant), constant):
            raise CheckpointError(f"{source}: {name} is not that of MMPose's flow, to which these weights belong")
    model = PoseRegressor(row["backbone"], SKELETONS[row["skeleton"]], tuple(row["input_size"]), method=row["method"])
    assign_tensors(mmpose_targets(model), tensors, source)
    return model


def mmpose_targets(model: PoseRegressor) -> dict[str, Target]:
    """Returns the target of every tensor of MMPose's checkpoint by its name in MMPose 1.x."""
    targets = {f"backbone.{name}": target for name, target in backbone_targets(model, "mmpose").items()}
    return targets | _head_targets(model) | (_flow_targets(model.flow) if model.flow else {})


def _current_name(name):
    """Makes a name of MMPose 0.x one of MMPose 1.x, as that itself does."""
    return name.replace("keypoint_head.", "head.").replace("head.loss.", "head.loss_module.")


def _head_targets(model):
    """MMPose's single matrix has the rows x, y, σx, σy of keypoint 0, then those of keypoint 1."""
    names = ("coordinates", "sigma") if model.method == "rle" else ("coordinates",)
    layers = [model.get_layer(name) for name in names]
    rows, channels = 2 * len(layers) * len(model.skeleton), layers[0].kernel.shape[0]

    def target(shape, variables):
        def part(position, variable):
            def take(tensor):
                by_keypoint = tensor.reshape(len(model.skeleton), len(layers), 2, -1)[:, position]
                return by_keypoint.reshape(variable.shape[-1], -1).T.reshape(variable.shape)

            return variable, take

        return Target(shape, tuple(part(position, variable) for position, variable in enumerate(variables)))

    kernels, biases = [layer.kernel for layer in layers], [layer.bias for layer in layers]
    return {"head.fc.weight": target((rows, channels), kernels), "head.fc.bias": target((rows,), biases)}


def _flow_targets(flow):
    """MMPose masks the inputs and outputs of 2 → 64 → 64 → 2 networks; ours have those that count, 1 → 64 → 64 → 1."""
    targets = {}
    for letter, networks in (("s", flow.scale_networks), ("t", flow.translation_networks)):
        for coupling, network in enumerate(networks):
            targets |= _network_targets(f"{_FLOW}.{letter}.{coupling}", network, changed=coupling % 2)
    return targets


def _network_targets(name, network, changed):
    (kernel_in, bias_in), (kernel, bias), (kernel_out, bias_out) = network
    units = kernel.shape[0]
    return {
        f"{name}.0.weight": Target((units, 2), ((kernel_in, lambda tensor: tensor[:, [1 - changed]].T),)),
        f"{name}.0.bias": whole(bias_in),
        f"{name}.2.weight": Target((units, units), ((kernel, np.transpose),)),
        f"{name}.2.bias": whole(bias),
        f"{name}.4.weight": Target((2, units), ((kernel_out, lambda tensor: tensor[[changed]].T),)),
        f"{name}.4.bias": Target((2,), ((bias_out, lambda tensor: tensor[[changed]]),)),
    }
