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


def golden_image(seed: int, height: int, width: int) -> np.ndarray:
    """Returns an (H, W, 3) uint8 RGB picture of coloured squares; height and width are multiples of 16."""
    colours = np.random.default_rng([seed, height, width]).integers(0, 256, (height // 16, width // 16, 3))
    return np.kron(colours, np.ones((16, 16, 1), int)).astype(np.uint8)


def golden_people(count: int, keypoints: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns true keypoints (N, K, 2), which of them are labelled (N, K), boxes (N, 4) and predictions near them."""
    random = np.random.default_rng([seed, keypoints])
    corner, size = random.uniform(0, 300, (count, 1, 2)), random.uniform(40, 200, (count, 1, 2))
    truth = corner + size * random.uniform(0, 1, (count, keypoints, 2))
    visible = (random.uniform(0, 1, (count, keypoints)) > 0.2).astype(np.float32)
    visible[:, [60 % keypoints, 72 % keypoints]] = 1  # the corners of the eyes, which are the size of a face
    pred = truth + size * random.standard_normal((count, keypoints, 2)) * random.choice([0.02, 0.1, 0.3], (count, 1, 1))
    boxes = np.concatenate([corner, corner + size], -1)[:, 0]
    return {"truth": truth.round(2), "visible": visible, "boxes": boxes.round(2), "pred": pred.round(2)}


def golden_differences(scale: float) -> dict[str, np.ndarray]:
    """Returns predictions (4, 21, 2), targets and weights (4, 21, 1) in crop units times a factor, for losses."""
    random = np.random.default_rng(21)
    pred, target = scale * random.uniform(0, 1, (2, 4, 21, 2))
    weight = random.choice([0.0, 0.5, 1.0], (4, 21, 1), p=[0.2, 0.2, 0.6])
    return {"pred": np.float32(pred), "target": np.float32(target), "weight": np.float32(weight)}
