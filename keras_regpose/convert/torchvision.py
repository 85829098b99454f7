"""Weights of torchvision, or of a heatmap model of MMPose → the backbone of a `PoseRegressor`, without PyTorch."""

import os

from keras_regpose.convert.weights import assign_tensors, backbone_targets, read_state_dict
from keras_regpose.regressor import PoseRegressor


def load_torchvision_backbone(model: PoseRegressor, path_or_state_dict: str | os.PathLike | dict) -> None:
    """Loads a PyTorch file's weights into a model's backbone, in place; the head and the flow stay as they are.

    Args:
        model: `PoseRegressor` with the backbone `"resnet18"` … `"resnet152"` or `"mobilenetv2"`.
        path_or_state_dict: path of torchvision's .pth file, such as `resnet50-0676ba61.pth` or
            `mobilenet_v2-b0353104.pth`, or a dict of its names to arrays. A file is compared with the checksum in its
            name. MobileNetV2 may also have the names of github.com/tonylins/pytorch-mobilenet-v2. Of a checkpoint of
            MMPose, such as that of a heatmap model, the backbone is taken.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, or not the weights of this backbone; a `ValueError`. The model is unchanged.
        ValueError: If the backbone is not one of ours.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("resnet50", rp.COCO17)  # doctest: +SKIP
    >>> load_torchvision_backbone(model, "resnet50-0676ba61.pth")  # doctest: +SKIP
    """
    heads = ("fc.", "classifier.", "head.", "keypoint_head.", "data_preprocessor.")
    source, tensors = read_state_dict(path_or_state_dict, heads, lambda name: name.removeprefix("backbone."))
    mmpose = "layer1.0.conv.0.conv.weight" in tensors
    library = "mmpose" if mmpose else "tonylins" if "features.1.conv.0.weight" in tensors else "torchvision"
    assign_tensors(backbone_targets(model, library), tensors, source)
