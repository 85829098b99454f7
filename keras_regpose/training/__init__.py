"""Training runs: schedules, callbacks, devices."""

from keras_regpose.training.callbacks import DelayFlow, KeypointMetrics, SaveBestPreset
from keras_regpose.training.distribution import device_scope, synchronize_batch_norm
from keras_regpose.training.schedule import WarmupCosine, WarmupSteps
from keras_regpose.training.train import train

__all__ = [
    "DelayFlow",
    "KeypointMetrics",
    "SaveBestPreset",
    "WarmupCosine",
    "WarmupSteps",
    "device_scope",
    "synchronize_batch_norm",
    "train",
]
