"""Which pictures to label next: those of which the model expects large errors, and which are unlike each other."""

from collections.abc import Sequence

import numpy as np

from keras_regpose.data.people import People
from keras_regpose.data.sample import Sample
from keras_regpose.inspection.features import crop_features
from keras_regpose.progress import progress_bar

METHODS = ("error and diversity", "diversity", "error")
_CANDIDATES = 3  # people with large expected errors of whom the unlike ones are taken, for each that is wanted


def suggest(
    samples: Sequence[Sample],
    model,
    count: int,
    labelled: Sequence[Sample] = (),
    method: str = METHODS[0],
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses people to label next. Their keypoints are not looked at.

    "diversity" takes again and again the person whose features are farthest from those of everybody chosen or labelled
    so far (k-centre: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach",
    ICLR 2018). "error" takes those with the largest mean σ, in units of the crop. "error and diversity" takes by
    diversity among three times as many as are wanted, those with the largest σ.

    Args:
        samples: `People`, or a list of `Sample`, with the keypoints of the model.
        model: `PoseRegressor` with σ.
        count: int. Number of people to choose.
        labelled: sequence of `Sample`. People who are labelled already.
        method: str. One of `METHODS`.

    Returns:
        (count,) int positions of the people chosen, the most wanted first, and their (count,) mean σ in units of the
        crop. Nobody is chosen whose picture cannot be read.

    Raises:
        ValueError: If the model has no σ, or there is no such method.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> positions, expected = suggest(rp.data.Synthetic(8, seed=0), model, 3)
    >>> len(set(positions.tolist())), expected.shape
    (3, (3,))
    """
    if model.method != "rle":
        raise ValueError("Only a model trained by RLE expects errors. Received one without σ")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}. Received: {method!r}")
    people, known = People.of(samples, model.skeleton), People.of(labelled, model.skeleton)
    with progress_bar(total=len(people) + len(known), unit=" people", delay=2) as bar:
        features = crop_features(model, [*known, *people] if len(known) else people, bar.update)
    is_new = features.positions >= len(known)
    expected, pooled = features.outputs[is_new][..., 2:].mean((1, 2, 3)), features.pooled
    chosen = choose(expected, pooled[is_new], count, pooled[~is_new], method)
    return features.positions[is_new][chosen] - len(known), expected[chosen]


def choose(expected: np.ndarray, features: np.ndarray, count: int, known: np.ndarray, method: str) -> np.ndarray:
    """Chooses among N people by what is expected of them; see `suggest`.

    Args:
        expected: (N,) array of expected errors.
        features: (N, F) array.
        count: int. Number of people to choose.
        known: (M, F) array. Features of the people who are labelled already.
        method: str. One of `METHODS`.

    Returns:
        (count,) int array of positions, the most wanted first.

    Example:

    >>> choose(np.array([0.1, 0.3, 0.2]), np.eye(3), 2, np.empty((0, 3)), "error").tolist()
    [1, 2]
    """
    largest = np.argsort(-expected, kind="stable")
    if method == "error":
        return largest[:count]
    candidates = largest[: _CANDIDATES * count] if method == METHODS[0] else np.arange(len(expected))
    deviation = np.concatenate([features, known]).std(0) + 1e-6
    return candidates[k_centre(features[candidates] / deviation, count, known / deviation)]


def k_centre(features: np.ndarray, count: int, known: np.ndarray | None = None) -> np.ndarray:
    """Chooses rows that are far from each other, one by one.

    Args:
        features: (N, F) array.
        count: int. Number of rows to choose; all where there are fewer.
        known: (M, F) array or None. Rows to keep away from as well. Without, the first is the one nearest to the mean.

    Returns:
        (count,) int array of positions.

    Example:

    >>> k_centre(np.array([[0.0], [1.0], [2.0], [9.0]]), 3).tolist()
    [2, 3, 0]
    """
    count = min(count, len(features))
    if known is None or not len(known):
        chosen = [int(np.square(features - features.mean(0)).sum(1).argmin())] if count else []
        known = features[chosen]
    else:
        chosen = []
    distance = np.full(len(features), np.inf)
    for row in known:
        distance = np.minimum(distance, np.square(features - row).sum(1))
    while len(chosen) < count:
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.square(features - features[chosen[-1]]).sum(1))
    return np.array(chosen, int)
