"""ImageNet weights of torchvision → the backbone of a `PoseRegressor`. PyTorch is not needed."""

import os

from keras_regpose.convert.mmpose import read_state_dict, without_counters
from keras_regpose.convert.weights import assign_tensors, backbone_targets
from keras_regpose.models.mobilenet_v2 import STAGES
from keras_regpose.regressor import PoseRegressor

_CLASSIFIERS = ("fc.", "classifier.")


def load_torchvision_backbone(model: PoseRegressor, path_or_state_dict: str | os.PathLike | dict) -> None:
    """Loads ImageNet weights into a model's backbone, in place; the head and the flow stay as they are.

    Args:
        model: `PoseRegressor` with the backbone `"resnet18"` … `"resnet152"` or `"mobilenetv2"`.
        path_or_state_dict: path of torchvision's .pth file, such as `resnet50-0676ba61.pth` or
            `mobilenet_v2-b0353104.pth`, or a dict of its names to arrays. A file is compared with the checksum in its
            name. MobileNetV2 may also have the names of github.com/tonylins/pytorch-mobilenet-v2.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, or not the weights of this backbone; a `ValueError`. The model is unchanged.
        ValueError: If the backbone is not one of ours.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("resnet50", rp.COCO17)  # doctest: +SKIP
    >>> load_torchvision_backbone(model, "resnet50-0676ba61.pth")  # doctest: +SKIP
    """
    source, tensors = read_state_dict(path_or_state_dict)
    tensors = {str(name).removeprefix("module."): tensor for name, tensor in without_counters(tensors).items()}
    modules = _mobilenet_modules(flat="features.1.conv.0.weight" in tensors)
    tensors = {
        _mmpose_name(name, modules): tensor for name, tensor in tensors.items() if not name.startswith(_CLASSIFIERS)
    }
    assign_tensors(backbone_targets(model), tensors, source)


def _mmpose_name(name, modules):
    """Returns MMPose's name of a tensor; only MobileNetV2's differ."""
    module, _, parameter = name.rpartition(".")
    return f"{modules.get(module, module)}.{parameter}"


def _mobilenet_modules(flat):
    """Returns the names of MobileNetV2's modules to MMPose's.

    `features` counts through: the first convolution, the blocks, the last convolution. In a block, torchvision has a
    convolution, its batch normalisation and its activation in one member, but the projection and its normalisation are
    members of their own. With `flat` all of them are members of their own, the activations among them.
    """
    modules = {"features.0.0": "conv1.conv", "features.0.1": "conv1.bn"}
    feature = 1
    for stage, (expansion, _, block_count, _) in enumerate(STAGES, start=1):
        projection = 1 if expansion == 1 else 2
        for block in range(block_count):
            theirs, ours = f"features.{feature}.conv", f"layer{stage}.{block}.conv"
            for convolution in range(projection + 1):
                if flat:
                    pair = (3 * convolution, 3 * convolution + 1)
                elif convolution == projection:
                    pair = (projection, projection + 1)
                else:
                    pair = (f"{convolution}.0", f"{convolution}.1")
                modules[f"{theirs}.{pair[0]}"] = f"{ours}.{convolution}.conv"
                modules[f"{theirs}.{pair[1]}"] = f"{ours}.{convolution}.bn"
            feature += 1
    return modules | {f"features.{feature}.0": "conv2.conv", f"features.{feature}.1": "conv2.bn"}
