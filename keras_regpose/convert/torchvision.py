"""torchvision's ImageNet weights → the backbone of a `PoseRegressor`. PyTorch is not needed."""

import os

from keras_regpose.convert.mmpose import read_state_dict, without_counters
from keras_regpose.convert.weights import assign_tensors, backbone_targets
from keras_regpose.models.mobilenet_v2 import STAGES
from keras_regpose.models.regressor import PoseRegressor

_CLASSIFIERS = ("fc.", "classifier.")


def load_torchvision_backbone(model: PoseRegressor, path_or_state_dict: str | os.PathLike | dict) -> None:
    """Loads ImageNet weights into a model's backbone, in place; the head and the flow stay as they are.

    Args:
        model: `PoseRegressor` with the backbone `"resnet18"` … `"resnet152"` or `"mobilenetv2"`.
        path_or_state_dict: path of torchvision's .pth file, such as `resnet50-0676ba61.pth` or
            `mobilenet_v2-b0353104.pth`, or a dict of its names to arrays. A file is compared with the checksum in its
            name.

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
    tensors = {
        _mmpose_name(str(name)): tensor
        for name, tensor in without_counters(tensors).items()
        if not str(name).startswith(_CLASSIFIERS)
    }
    assign_tensors(backbone_targets(model), tensors, source)


def _mmpose_name(name):
    """Returns MMPose's name of a tensor; only MobileNetV2's differ."""
    module, _, parameter = name.rpartition(".")
    return f"{_MOBILENET_MODULES.get(module, module)}.{parameter}"


def _mobilenet_modules():
    """torchvision's module names to MMPose's.

    torchvision counts `features` through: the first convolution, the blocks, the last convolution. A block's projection
    and its batch normalisation are members of their own, where the other convolutions come in pairs.
    """
    modules = {"features.0.0": "conv1.conv", "features.0.1": "conv1.bn"}
    feature = 1
    for stage, (expansion, _, block_count, _) in enumerate(STAGES, start=1):
        projection = 1 if expansion == 1 else 2
        for block in range(block_count):
            for convolution in range(projection):
                modules[f"features.{feature}.conv.{convolution}.0"] = f"layer{stage}.{block}.conv.{convolution}.conv"
                modules[f"features.{feature}.conv.{convolution}.1"] = f"layer{stage}.{block}.conv.{convolution}.bn"
            modules[f"features.{feature}.conv.{projection}"] = f"layer{stage}.{block}.conv.{projection}.conv"
            modules[f"features.{feature}.conv.{projection + 1}"] = f"layer{stage}.{block}.conv.{projection}.bn"
            feature += 1
    return modules | {f"features.{feature}.0": "conv2.conv", f"features.{feature}.1": "conv2.bn"}


_MOBILENET_MODULES = _mobilenet_modules()
