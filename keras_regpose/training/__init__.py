"""Training runs: recipes, callbacks, checkpoints, devices."""

from keras_regpose.recipe import Recipe, list_recipes
from keras_regpose.schedules import WarmupCosine, WarmupSteps
from keras_regpose.training.callbacks import DelayFlow, KeypointMetrics, SaveBestPreset
from keras_regpose.training.devices import device_scope, join_hosts, synchronize_batch_norm, this_host
from keras_regpose.training.loop import train
from keras_regpose.training.start import starting_model
from keras_regpose.training.teacher import taught

__all__ = ["Recipe", "list_recipes", "starting_model", "taught", "train"]
__all__ += ["DelayFlow", "KeypointMetrics", "SaveBestPreset", "WarmupCosine", "WarmupSteps"]  # of Keras
__all__ += ["device_scope", "join_hosts", "synchronize_batch_norm", "this_host"]
