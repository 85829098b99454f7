"""The people of a data set: a sequence of samples that says what is known of them."""

import array
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, SupportsIndex, overload

import numpy as np

from keras_regpose.data.sample import Sample
from keras_regpose.files import read_json
from keras_regpose.skeleton import Skeleton


class People(Sequence[Sample]):
    """The people of a data set, one `Sample` each. Photographs stay on disk until they are needed.

    All readers are `People`, and a slice of `People` is, too. Functions that take samples also take a list of `Sample`.

    Args:
        samples: sequence of `Sample`. A list is packed into columns; any other sequence is asked for one sample at a
            time.
        skeleton: `Skeleton` of their keypoints.
        annotations: str, path, mapping or None. The COCO file, or its content, against which predictions are scored by
            COCO's evaluation; None for data that is scored by PCK or PCKh.
        skipped: sequence of (what, why). The records of the file that could not be used.
        detected: bool. Whether the boxes are a detector's, so that the keypoints are not labelled.

    Attributes:
        skeleton, annotations, skipped, detected: As above.

    Example:

    >>> from keras_regpose.skeleton import COCO17
    >>> points, box = np.zeros((17, 2), np.float32), np.array([0, 0, 9, 9], np.float32)
    >>> mine = [Sample(f"{n}.jpg", box, points, np.ones(17, np.float32), n, n) for n in range(3)]
    >>> people = People(mine, COCO17)
    >>> len(people), people[1].image, people[1:].photographs.tolist()
    (3, '1.jpg', [0, 1])
    """

    def __init__(
        self,
        samples: Sequence,
        skeleton: Skeleton,
        annotations: str | os.PathLike | Mapping | None = None,
        skipped: Sequence[tuple[str, str]] = (),
        detected: bool = False,
    ):
        self.skeleton = skeleton
        self.skipped = list(skipped)
        self.detected = detected
        self._annotations = annotations
        self._samples = _Columns(samples) if isinstance(samples, (list, tuple)) else samples

    @classmethod
    def of(cls, samples: Sequence[Sample], skeleton: Skeleton) -> "People":
        """Returns samples as `People`, after a check that they have the keypoints of a model.

        Args:
            samples: `People`, a list of `Sample`, or another sequence of them.
            skeleton: `Skeleton` of the model.

        Raises:
            ValueError: If the samples are no sequence, or have another number of keypoints.
        """
        if not (hasattr(samples, "__len__") and hasattr(samples, "__getitem__")):
            kind = type(samples).__name__
            raise ValueError(f"Samples must be a list of Sample, or those of a reader such as Coco. Received: {kind}")
        people = samples if isinstance(samples, People) else People(samples, skeleton)
        if len(people) and len(people[0].keypoints) != len(skeleton):
            needed = f"the skeleton {skeleton.name!r} of the model has {len(skeleton)}"
            advice = "Use from_preset(name, skeleton=...) for a model with other keypoints"
            raise ValueError(f"The samples have {len(people[0].keypoints)} keypoints, {needed}. {advice}")
        return people

    @property
    def annotations(self) -> str | os.PathLike | Mapping | None:
        return self._annotations

    def truth(self) -> Mapping | None:
        """Returns the content of `annotations`, by the rules of the reader, to score predictions against."""
        annotations = self.annotations
        return annotations if annotations is None or isinstance(annotations, Mapping) else read_json(annotations)

    @property
    def photographs(self) -> np.ndarray:
        """(N,) int array: the number of each person's photograph, from 0 in the order in which they first come.

        Photographs are told apart by their path, or as arrays by being the same object. Samples that are made one at a
        time have a photograph each, since looking at all of them would draw or decode every picture; only drawn people
        know of theirs without that.
        """
        if not isinstance(self._samples, _Columns):
            return np.arange(len(self))
        return _numbered([image if isinstance(image, str) else id(image) for image in self.field("image")])

    @cached_property
    def by_picture(self) -> dict[str, list[int]]:
        """The positions of the people in each picture, by its absolute path; an error where a picture is no file."""
        places: dict[str, list[int]] = {}
        for place, image in enumerate(self.field("image")):
            if not isinstance(image, str):
                raise ValueError("People are found by the path of their picture. Received: pictures that are arrays")
            places.setdefault(os.path.abspath(image), []).append(place)
        return places

    def split(self, share: float, seed: int = 0) -> "tuple[Subset, Subset]":
        """Splits people in two, to learn from and to validate on: all people of a picture are on the same side.

        Args:
            share: float. Share of the pictures whose people are held out, between 0 and 1; at least one picture is.
            seed: int. Equal seeds hold out the same pictures.

        Returns:
            `People` to learn from, and held-out `People`, both in the order that they had.

        Raises:
            ValueError: If the share is out of range, or there are fewer than two pictures.

        Example:

        >>> import keras_regpose as rp
        >>> learn, held_out = rp.data.Synthetic(10, seed=0).split(0.3)
        >>> len(learn), len(held_out), set(learn.field("image_id")) & set(held_out.field("image_id"))
        (7, 3, set())
        """
        if not 0 < share < 1:
            raise ValueError(f"The share of pictures to hold out must be between 0 and 1. Received: {share}")
        numbers = self.photographs
        count = len(np.unique(numbers))
        if count < 2:
            raise ValueError(f"The people are in {count} pictures, and a split needs at least 2")
        wanted = min(max(round(share * count), 1), count - 1)
        held_out = np.isin(numbers, np.random.default_rng(seed).permutation(count)[:wanted])
        return Subset(self, np.flatnonzero(~held_out)), Subset(self, np.flatnonzero(held_out))

    def field(self, name: str) -> Sequence:
        """Returns one field of all samples, such as "image_id", as a sequence of N values."""
        if isinstance(self._samples, _Columns):
            return self._samples.columns[name]
        return [getattr(sample, name) for sample in self]

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "Subset": ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return Subset(self, range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are {len(self)} samples. Received: {index}")
        return self._sample(index % len(self))

    def _sample(self, position):
        return self._samples[position]


class Subset(People):
    """The people of a data set at the given positions.

    COCO's evaluation counts every annotated person, so `annotations` is that of the chosen people alone; with detected
    boxes, it is that of the images that they are in.

    Args:
        people: `People`.
        positions: iterable of int.

    Example:

    >>> import keras_regpose as rp
    >>> people = rp.data.Synthetic(10, seed=0)
    >>> len(Subset(people, range(3))), len(people[::2].annotations["annotations"])
    (3, 5)
    """

    def __init__(self, people: People, positions: Iterable[int]):
        self.whole = people
        self.positions = np.array(list(positions), int)
        super().__init__(range(len(self.positions)), people.skeleton, skipped=people.skipped, detected=people.detected)

    @cached_property
    def annotations(self) -> Mapping | None:
        contents = self.whole.truth()
        if contents is None:
            return None
        name = "image_id" if self.detected else "id"
        chosen = set(self.field(name))
        kept = [entry for entry in contents["annotations"] if entry[name] in chosen]
        images = {entry["image_id"] for entry in kept}
        return {**contents, "annotations": kept, "images": [one for one in contents["images"] if one["id"] in images]}

    @property
    def photographs(self) -> np.ndarray:
        return _numbered(self.whole.photographs[self.positions].tolist())

    def field(self, name: str) -> Sequence:
        values = self.whole.field(name)
        return [values[position] for position in self.positions]

    def _sample(self, position):
        return self.whole[int(self.positions[position])]


class _Columns:
    """Samples packed by field: as Python objects, COCO's people would take more than a gigabyte."""

    def __init__(self, samples):
        columns = {field.name: [getattr(sample, field.name) for sample in samples] for field in fields(Sample)}
        self.columns: dict[str, Any] = {name: _column(values) for name, values in columns.items()}

    def __len__(self):
        return len(self.columns["image"])

    def __getitem__(self, index):
        return Sample(**{name: column[index] for name, column in self.columns.items()})


def _column(values):
    kinds = {type(value) for value in values}
    # Pictures have three dimensions, and are not copied.
    if kinds == {np.ndarray} and values[0].ndim < 3 and len({(value.dtype, value.shape) for value in values}) == 1:
        return np.stack(values)
    if kinds == {str}:
        known: dict[str, str] = {}
        return [known.setdefault(value, value) for value in values]
    if kinds == {float} or (kinds == {int} and max(map(abs, values)) < 2**63):
        # Numbers that a JSON file's reader made lie all over the memory it took, none of which could be given back.
        return array.array("d" if kinds == {float} else "q", values)
    return values


def _numbered(keys):
    numbers: dict = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], int)
