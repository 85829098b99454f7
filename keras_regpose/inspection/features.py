"""Samples → what a frozen network sees in their crops."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np

from keras_regpose.data.crops import CropLoader
from keras_regpose.data.people import People
from keras_regpose.data.sample import Sample
from keras_regpose.skeleton import Skeleton

_BATCH = 32
_SOME = 4  # batches of people, from everywhere among them, of whom the principal components are found
_CHANNELS = (48, 80, 64)  # principal components that are kept of each level, the finest first


class CropFeatures(NamedTuple):
    """What a frozen network sees in the crops of N people: as they are, and mirrored.

    Args:
        maps: 3 arrays (N, 2, h, w, C), float16. Principal components of feature maps, the finest first: of the last one
            and of the last ones that have twice and four times its resolution, where there are such.
        outputs: (N, 2, K, 4 or 2) float32 array. The network's own output, for its own keypoints.
        skeleton: `Skeleton` of the network.
        positions: (N,) int array. Which of the samples these are; those whose picture cannot be read are left out.
    """

    maps: tuple[np.ndarray, ...]
    outputs: np.ndarray
    skeleton: Skeleton
    positions: np.ndarray


def crop_features(model, samples: Sequence[Sample], progress: Callable[[int], object] | None = None) -> CropFeatures:
    """Runs a frozen network on the crops of people, and on their mirror images.

    Args:
        model: `PoseRegressor`. Its keypoints may be others than those of the samples.
        samples: `People`, or a list of `Sample` with the keypoints of the model.
        progress: callable or None. Called with the number of people just done.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> features = crop_features(model, rp.data.Synthetic(3, seed=0))
    >>> [one.shape for one in features.maps], features.outputs.shape
    ([(3, 2, 8, 6, 48), (3, 2, 4, 3, 80), (3, 2, 2, 2, 64)], (3, 2, 17, 4))
    """
    people = samples if isinstance(samples, People) else People.of(samples, model.skeleton)
    loader = CropLoader(people, people.skeleton, model.input_size)
    network = keras.Model(model.inputs[0], [*_levels(model), model.outputs[0]])

    def run(chosen):
        crops, _ = loader.load_batch(0, chosen)
        for view in (crops, np.ascontiguousarray(crops[:, :, ::-1])):
            yield [np.asarray(one, np.float32) for one in network.predict_on_batch(view)]

    spread = np.arange(len(people))[:: -(-len(people) // (_SOME * _BATCH))]
    some = [next(run(chosen)) for chosen in np.split(spread, range(_BATCH, len(spread), _BATCH))]
    bases = [_principal(np.concatenate([one[i] for one in some]), count) for i, count in enumerate(_CHANNELS)]
    made, positions = [], []
    for start in range(0, len(people), _BATCH):
        chosen = np.arange(start, min(start + _BATCH, len(people)))
        *maps, outputs = (np.stack(views, 1) for views in zip(*run(chosen), strict=True))
        pairs = zip(maps, bases, strict=True)
        maps = [np.clip((one - mean) @ matrix, -6e4, 6e4).astype(np.float16) for one, (mean, matrix) in pairs]
        failed = loader.unreadable.errors
        readable = [place for place in chosen.tolist() if not failed or str(people[place].image) not in failed]
        made.append([one[np.array(readable, int) - start] for one in (*maps, outputs)])
        positions += readable
        if progress:
            progress(len(chosen))
    *maps, outputs = (np.concatenate(parts) for parts in zip(*made, strict=True))
    return CropFeatures(tuple(maps), outputs, model.skeleton, np.array(positions, int))


def _levels(model):
    """Returns the last feature map, and before it the last ones of about twice and four times its resolution."""
    padded = keras.layers.ZeroPadding2D, keras.layers.InputLayer
    layers = [one for one in model.backbone.layers if not isinstance(one, padded)]
    outputs = [one.output for one in layers if not isinstance(one.output, list)]
    levels = [model.get_layer("pool").input]
    for _ in _CHANNELS[1:]:
        cells = 2 * levels[0].shape[1] * levels[0].shape[2]
        finer = (one for one in reversed(outputs) if len(one.shape) == 4 and one.shape[1] * one.shape[2] >= cells)
        levels.insert(0, next(finer, levels[0]))
    return levels


def _principal(values, count):
    """Returns the mean of (..., C) values, and the matrix to their first principal components, somewhat whitened."""
    values = values.reshape(-1, values.shape[-1]).astype(np.float64)
    mean, deviation = values.mean(0), values.std(0) + 1e-3
    variances, vectors = np.linalg.eigh(np.cov((values - mean) / deviation, rowvar=False).reshape(values.shape[1], -1))
    chosen = np.argsort(-variances)[:count]
    # The fourth root, halfway to white: small components are mostly noise.
    matrix = vectors[:, chosen] / deviation[:, None] / np.maximum(variances[chosen], 1e-6) ** 0.25
    return mean.astype(np.float32), matrix.astype(np.float32)
