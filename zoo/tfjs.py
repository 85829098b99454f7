"""Reads TensorFlow.js graph models (a .json and its .bin) as nodes and arrays, without TensorFlow and without trusting
them: nothing of them is run."""

import json
import math
import os
from pathlib import Path

import numpy as np

from keras_regpose.files import require_file

_DTYPES = {"float32": "<f4", "int32": "<i4", "bool": "u1", "float16": "<f2", "uint8": "u1", "uint16": "<u2"}


def read_tfjs(path: str | os.PathLike) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Reads a graph model of TensorFlow.js.

    Args:
        path: str or path of the .json file; its files of weights lie beside it.

    Returns:
        list of dict: the graph's nodes as the file has them, with `name`, `op`, `input` and `attr`.
        dict of arrays by name: the weights, float32 where they are quantized.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If it is not a graph model of TensorFlow.js, or its weights are cut short.

    Example:

    >>> nodes, weights = read_tfjs("movenet-lightning.json")  # doctest: +SKIP
    >>> sum(node["op"] == "_FusedConv2D" for node in nodes)  # doctest: +SKIP
    50
    """
    require_file(path)
    try:
        model = json.loads(Path(path).read_bytes())
        nodes = model["modelTopology"]["node"]
        weights = {}
        for group in model["weightsManifest"]:
            files = [Path(path).parent / Path(name).name for name in group["paths"]]
            for file in files:
                require_file(file)
            content = b"".join(file.read_bytes() for file in files)
            position = 0
            for entry in group["weights"]:
                array, position = _weight(entry, content, position)
                weights[entry["name"]] = array
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{os.fspath(path)} is not a graph model of TensorFlow.js with its weights: {type(error).__name__}: {error}"
        ) from None
    return nodes, weights


def _weight(entry, content, position):
    """Returns the array of an entry of the manifest, which begins at a position of the content, and where it ends."""
    count, quantized = math.prod(entry["shape"]), entry.get("quantization") or {}
    array = np.frombuffer(content, _DTYPES[quantized.get("dtype", entry["dtype"])], count, position)
    position += array.nbytes
    if "scale" in quantized:
        array = array.astype(np.float32) * np.float32(quantized["scale"]) + np.float32(quantized["min"])
    wanted = {"bool": np.bool_, "int32": np.int32}.get(entry["dtype"], np.float32)
    return array.astype(wanted).reshape(entry["shape"]), position
