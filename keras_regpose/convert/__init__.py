"""Weights trained elsewhere → a `PoseRegressor`; those of PyTorch without PyTorch."""

from keras_regpose.convert.backbones import load_imagenet_backbone, load_torchvision_backbone
from keras_regpose.convert.mmpose import from_mmpose
from keras_regpose.convert.pth import read_checkpoint, verify_checksum
from keras_regpose.convert.restricted_pickle import CheckpointError

__all__ = ["from_mmpose", "load_imagenet_backbone", "load_torchvision_backbone"]
__all__ += ["CheckpointError", "read_checkpoint", "verify_checksum"]
