"""Folders of TF SavedModels."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_regpose.optional import import_optional

SUFFIX = ""
PRECISIONS = ("float32",)


def write(frozen, path: Path, precision: str, calibration: np.ndarray | None) -> None:
    """Writes a frozen function as a folder that TensorFlow loads."""
    import tensorflow as tf

    def serve(image):
        return dict(zip(frozen.output_names, frozen(image), strict=True))

    module: Any = tf.Module()
    image = tf.TensorSpec(frozen.inputs[0].shape, tf.uint8, name="image")
    module.serve = tf.function(serve, input_signature=[image])
    # An export is not trained, and gradients of one's own, as swish has, could not be saved.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(path), signatures=module.serve, options=options)


def open_export(path: Path, precision: str, threads: int) -> Callable[[np.ndarray], Mapping[str, Any]]:
    """Returns a function from (B, H, W, 3) uint8 crops to the outputs by name."""
    tensorflow = import_optional("tensorflow", "A TF SavedModel")
    # TensorFlow has one pool of threads per process, which its own settings size.
    loaded = tensorflow.saved_model.load(str(path))
    # By its name, since a signature alone does not keep alive what it belongs to.
    return lambda crops: loaded.signatures["serving_default"](image=tensorflow.constant(crops))
