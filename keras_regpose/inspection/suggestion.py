"""Which people to label next: those who stand for many others."""

from collections.abc import Sequence

import numpy as np

from keras_regpose.data.sample import Sample
from keras_regpose.inspection.features import crop_features
from keras_regpose.progress import progress_bar

_SOME = 2000  # people who stand for all
_WIDTH = 0.25  # of the kernel, as a share of the median of squared distances


def suggest(
    samples: Sequence[Sample], model, count: int, labelled: Sequence[Sample] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses people to label next. Their own keypoints are not looked at.

    One after the other, so that what the backbone sees in the labelled and the chosen is as often there as it is in
    all (Chen, Welling and Smola, "Super-Samples from Kernel Herding", UAI 2010, section 3). Of the ways measured in
    `benchmarks/which_next.py` this is the best one; on those photographs it equals a choice at random.

    Args:
        samples: `People`, or a list of `Sample` with the keypoints of the model.
        model: `PoseRegressor` with σ.
        count: int. Number of people to choose.
        labelled: sequence of `Sample`. People who are labelled already.

    Returns:
        (count,) int positions of the people chosen, the most wanted first, and their (count,) mean σ in units of the
        crop. Nobody is chosen whose picture cannot be read.

    Raises:
        ValueError: If the model has no σ.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> positions, expected = suggest(rp.data.Synthetic(8, seed=0), model, 3)
    >>> len(set(positions.tolist())), expected.shape
    (3, (3,))
    """
    if model.method != "rle":
        raise ValueError("Only a model trained by RLE expects errors. Received one without σ")
    people, known = list(samples), list(labelled)
    with progress_bar(total=len(known) + len(people), unit=" people", delay=2) as bar:
        features = crop_features(model, known + people, bar.update)
    is_new = features.positions >= len(known)
    seen = features.maps[-1][:, 0].astype(np.float32).mean((1, 2))
    expected = features.outputs[is_new, 0, :, 2:].mean((1, 2))
    chosen = choose(seen[is_new], count, seen[~is_new])
    return features.positions[is_new][chosen] - len(known), expected[chosen]


def choose(features: np.ndarray, count: int, known: np.ndarray) -> np.ndarray:
    """Chooses among N people; see `suggest`.

    Args:
        features: (N, F) array.
        count: int. Number of people to choose; all where there are fewer.
        known: (M, F) array. Features of the people who are labelled already.

    Returns:
        (count,) int array of positions, the most wanted first.

    Example:

    >>> choose(np.array([[0.0], [5.0], [5.1]]), 1, np.empty((0, 1))).tolist()
    [1]
    """
    deviation = features.std(0) + 1e-6
    features, known = (features / deviation).astype(np.float32), (known / deviation).astype(np.float32)
    lengths = np.square(features).sum(1)
    some = np.random.default_rng(0).permutation(len(features))[:_SOME]
    width = np.mean([np.median(np.square(features[some] - row).sum(1)) for row in features[some[:100]]]) * _WIDTH + 1e-9

    def alike(rows):
        return np.exp((2 * features @ rows.T - lengths[:, None] - np.square(rows).sum(1)) / width)

    def density(rows):
        return np.sum([alike(part).sum(1) for part in np.array_split(rows, 50)], axis=0)

    wanted, there, chosen = density(features[some]) / len(some), density(known), []
    for number in range(min(count, len(features))):
        gain = wanted - there / (len(known) + number + 1)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        there = there + alike(features[chosen[-1:]])[:, 0]
    return np.array(chosen)
