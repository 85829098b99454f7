"""Which people to label next: those of whom the model expects large errors, and who stand for many others."""

from collections.abc import Sequence

import cv2
import numpy as np

from keras_regpose.data.sample import Sample
from keras_regpose.inspection.features import crop_features
from keras_regpose.progress import progress_bar

WAYS = ("error and diversity", "diversity", "error")


def suggest(
    samples: Sequence[Sample], model, count: int, labelled: Sequence[Sample] = (), by: str = WAYS[0]
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses people to label next. Their own keypoints are not looked at.

    Args:
        samples: `People`, or a list of `Sample` with the keypoints of the model.
        model: `PoseRegressor` with σ.
        count: int. Number of people to choose.
        labelled: sequence of `Sample`. People who are labelled already.
        by: str. "diversity" groups people by what the backbone sees in them, and takes the most typical of each group
            that holds nobody labelled, the largest group first (Hacohen et al., "Active Learning on a Budget", ICML
            2022, section 3). "error" takes those with the largest mean σ, in units of the crop. "error and diversity"
            groups the half of the people with the larger σ.

    Returns:
        (count,) int positions of the people chosen, the most wanted first, and their (count,) mean σ in units of the
        crop. Nobody is chosen whose picture cannot be read.

    Raises:
        ValueError: If the model has no σ, or there is no such way to choose.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> positions, expected = suggest(rp.data.Synthetic(8, seed=0), model, 3)
    >>> len(set(positions.tolist())), expected.shape
    (3, (3,))
    """
    if model.method != "rle":
        raise ValueError("Only a model trained by RLE expects errors. Received one without σ")
    if by not in WAYS:
        raise ValueError(f"by must be one of {', '.join(WAYS)}. Received: {by!r}")
    people, known = list(samples), list(labelled)
    with progress_bar(total=len(known) + len(people), unit=" people", delay=2) as bar:
        features = crop_features(model, known + people, bar.update)
    is_new = features.positions >= len(known)
    seen = features.maps[-1][:, 0].astype(np.float32).mean((1, 2))
    expected = features.outputs[is_new, 0, :, 2:].mean((1, 2))
    chosen = choose(expected, seen[is_new], count, seen[~is_new], by)
    return features.positions[is_new][chosen] - len(known), expected[chosen]


def choose(expected: np.ndarray, features: np.ndarray, count: int, known: np.ndarray, by: str) -> np.ndarray:
    """Chooses among N people by what is expected of them; see `suggest`.

    Args:
        expected: (N,) array of expected errors.
        features: (N, F) array.
        count: int. Number of people to choose; all where there are fewer.
        known: (M, F) array. Features of the people who are labelled already.
        by: str. One of `WAYS`.

    Returns:
        (count,) int array of positions, the most wanted first.

    Example:

    >>> choose(np.array([0.1, 0.3, 0.2]), np.eye(3), 2, np.empty((0, 3)), "error").tolist()
    [1, 2]
    """
    largest = np.argsort(-expected, kind="stable")
    if by == "error" or count >= len(largest):
        return largest[:count]
    candidates = largest[: max(len(largest) // 2, count)] if by == WAYS[0] else largest
    every = np.concatenate([features[candidates], known]).astype(np.float32)
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, 20, 0)
    groups = min(count + len(known), len(every))
    _, group, centres = cv2.kmeans(every, groups, None, criteria, 1, cv2.KMEANS_PP_CENTERS)  # pyright: ignore
    group = group.ravel()
    distance = np.linalg.norm(every - centres[group], axis=1)
    new = group[: len(candidates)]
    free = np.setdiff1d(new, group[len(candidates) :])
    sizes = np.bincount(new, minlength=groups)
    order = free[np.argsort(-sizes[free], kind="stable")][:count]
    typical = [int(np.where(new == one, distance[: len(new)], np.inf).argmin()) for one in order]
    return candidates[typical]
