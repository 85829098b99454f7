"""Weights of keras.applications, of torchvision, or of a heatmap model of MMPose → the backbone of a `PoseRegressor`.

Those of PyTorch without PyTorch.
"""

import os

from keras_regpose.convert.weights import assign_tensors, backbone_targets, read_state_dict
from keras_regpose.models.backbones import BACKBONES, backbone_of
from keras_regpose.models.rewrite import is_scaling
from keras_regpose.regressor import PoseRegressor


def load_imagenet_backbone(model: PoseRegressor, weights: str | os.PathLike = "imagenet") -> None:
    """Loads ImageNet weights into a model's backbone, in place; the head and the flow stay as they are.

    Args:
        model: `PoseRegressor` with the backbone `"efficientnetb0"`. For ResNets and MobileNetV2 there are torchvision's
            weights, see `load_torchvision_backbone`.
        weights: "imagenet", which downloads them once into Keras' own cache (~/.keras), or the path of a file of
            weights of the same model without its top, such as `efficientnetb0_notop.h5`.

    Raises:
        ValueError: If there are no such weights for this backbone, or the file is of another model.
        FileNotFoundError: If there is no such file.
        ConnectionError: If the weights cannot be downloaded.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("efficientnetb0", rp.COCO17)  # doctest: +SKIP
    >>> load_imagenet_backbone(model)  # doctest: +SKIP
    """
    weights = str(weights)
    backbone = backbone_of(model)
    if backbone is None or backbone.imagenet is None:
        known = ", ".join(name for entry in BACKBONES if entry.imagenet for name in entry.examples)
        advice = "For a ResNet or MobileNetV2, download torchvision's .pth file from pytorch.org and load that"
        raise ValueError(f"keras.applications has ImageNet weights for: {known}. {advice}")
    if weights != "imagenet" and not os.path.isfile(weights):
        raise FileNotFoundError(f"There is no file of weights {weights}")
    try:
        trained = backbone.imagenet(include_top=False, weights=weights, input_shape=(*model.input_size, 3))
    except Exception as error:  # Keras does not say what it raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if weights != "imagenet":
            raise ValueError(f"{weights} does not hold weights of {backbone.imagenet.__name__} ({reason})") from error
        what = f"The ImageNet weights of {backbone.imagenet.__name__} could not be downloaded ({reason})"
        raise ConnectionError(f"{what}. Download that file on another machine and give its path") from error
    values = {layer.name: layer.get_weights() for layer in trained.layers}
    layers = [layer for layer in model.backbone.layers if layer.weights and not is_scaling(layer)]
    for layer in layers:
        if [value.shape for value in values.get(layer.name, ())] != [weight.shape for weight in layer.weights]:
            raise ValueError(f"The model's backbone is not {backbone.imagenet.__name__}: {layer.name} is another layer")
    for layer in layers:
        layer.set_weights(values[layer.name])


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
