"""Part of a data set."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from keras_regpose.data.sample import Sample


class Subset(Sequence):
    """The samples of a data set at the given positions.

    Args:
        samples: sequence of `Sample` with `skeleton` and `annotations`, with annotated boxes.
        positions: iterable of int.

    Example:

    >>> import keras_regpose as rp
    >>> people = rp.data.Synthetic(10, seed=0)
    >>> len(Subset(people, range(3)))
    3
    """

    def __init__(self, samples: Sequence[Sample], positions: Iterable[int]):
        self.samples = samples
        self.positions = list(positions)
        self.skeleton = samples.skeleton
        self.annotations = _annotations_of(samples.annotations, {samples[p].id for p in self.positions})

    @property
    def photographs(self) -> list:
        """The photograph of each sample, as in the whole data set."""
        photographs = getattr(self.samples, "photographs", range(len(self.samples)))
        return [photographs[position] for position in self.positions]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[self.positions[index]]


def _annotations_of(annotations, ids):
    """COCO's evaluation counts every annotated person, so those that were left out must go from the truth as well."""
    if annotations is None:
        return None
    if not isinstance(annotations, dict):
        annotations = json.loads(Path(annotations).read_text(encoding="utf-8"))
    kept = [entry for entry in annotations["annotations"] if entry["id"] in ids]
    images = {entry["image_id"] for entry in kept}
    return {
        **annotations,
        "annotations": kept,
        "images": [image for image in annotations["images"] if image["id"] in images],
    }
