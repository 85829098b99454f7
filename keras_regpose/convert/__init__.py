"""Weights trained in PyTorch → Keras, without PyTorch."""

from keras_regpose.convert.mmpose import from_mmpose
from keras_regpose.convert.pth import read_checkpoint, verify_checksum
from keras_regpose.convert.restricted_pickle import CheckpointError
from keras_regpose.convert.torchvision import load_torchvision_backbone

__all__ = ["CheckpointError", "from_mmpose", "load_torchvision_backbone", "read_checkpoint", "verify_checksum"]
