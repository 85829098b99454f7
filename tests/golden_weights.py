"""The rule that fills any network with weights made from tensor names; see the README of the recorded vectors."""

import zlib

import numpy as np


def golden_tensor(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Returns the float32 value of a checkpoint tensor under the rule."""
    random = np.random.default_rng([zlib.crc32(name.encode()), seed])
    if name.endswith("num_batches_tracked") or name.endswith("flow_model.loc"):
        value = np.zeros(shape)
    elif name.endswith("flow_model.mask"):
        value = np.array([[0, 1], [1, 0]] * 3)
    elif name.endswith("flow_model.cov"):
        value = np.eye(2)
    elif name.endswith("running_mean"):
        value = 0.1 * random.standard_normal(shape)
    elif name.endswith("running_var"):
        value = random.uniform(0.5, 1.5, shape)
    elif len(shape) == 4:
        value = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif len(shape) == 2:
        value = random.standard_normal(shape) * np.sqrt(1 / shape[1]) * (0.5 if "fc" in name else 1)
    elif name.endswith(".weight") and len(shape) == 1:
        low, high = (0.1, 0.3) if "bn3." in name or ".conv.2.bn." in name else (0.5, 1.0)
        value = random.uniform(low, high, shape)
    else:
        value = 0.1 * random.standard_normal(shape)
    return np.asarray(value, np.float32)
