"""What a keypoint set is: names, edges, left-right pairs, OKS sigmas, body halves."""

import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class Skeleton:
    """A set of keypoints and how they belong together.

    Args:
        name: str. Short identifier, such as `"coco17"`.
        keypoints: tuple of str. One unique name per keypoint; the order is the order of the model's outputs.
        edges: tuple of (str, str). The limbs to draw.
        flip_pairs: tuple of (str, str). Keypoints that trade places when the image is mirrored.
        sigmas: tuple of float, one per keypoint. The per-keypoint constants of Object Keypoint Similarity (COCO).
            Where they are left out, each is 0.05, a value between COCO's eyes (0.025) and hips (0.107).
        upper_body: tuple of str. Keypoints of the upper half, used by the half-body augmentation.
        lower_body: tuple of str. Keypoints of the lower half. Leave both halves empty to switch it off.

    Raises:
        ValueError: If a name is unknown or repeated, or a count does not match.

    Example:

    >>> hand = Skeleton("pinch", ("wrist", "thumb", "index"), edges=(("wrist", "thumb"), ("wrist", "index")))
    >>> len(hand), hand.flip_permutation.tolist(), hand.edge_indices
    (3, [0, 1, 2], ((0, 1), (0, 2)))
    """

    name: str
    keypoints: tuple[str, ...]
    edges: tuple[tuple[str, str], ...] = ()
    flip_pairs: tuple[tuple[str, str], ...] = ()
    sigmas: tuple[float, ...] = ()
    upper_body: tuple[str, ...] = ()
    lower_body: tuple[str, ...] = ()

    def __post_init__(self):
        if isinstance(self.keypoints, str) or not all(isinstance(name, str) and name for name in self.keypoints):
            raise ValueError(f"Skeleton keypoints must be a sequence of names. Received: {self.keypoints!r}")
        for field in ("keypoints", "upper_body", "lower_body"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if not self.keypoints:
            raise ValueError("A Skeleton needs at least one keypoint. Received: none")
        for field in ("edges", "flip_pairs"):
            object.__setattr__(self, field, tuple(tuple(pair) for pair in getattr(self, field)))
            for pair in getattr(self, field):
                if len(pair) != 2 or pair[0] == pair[1]:
                    raise ValueError(f"Skeleton {field} must join two different keypoints. Received: {pair}")
        object.__setattr__(self, "sigmas", tuple(float(s) for s in self.sigmas or (0.05,) * len(self)))

        for name in [*sum(self.edges + self.flip_pairs, ()), *self.upper_body, *self.lower_body]:
            if name not in self.keypoints:
                raise ValueError(
                    f"Skeleton {self.name!r} has no keypoint {name!r}. It has: {', '.join(self.keypoints)}"
                )
        if repeated := _repeated(self.keypoints):
            raise ValueError(f"Skeleton keypoint names must be unique. Repeated: {', '.join(repeated)}")
        if _repeated(sum(self.flip_pairs, ())):
            raise ValueError(f"A keypoint may stand in one flip pair only. Received: {self.flip_pairs}")
        if set(self.upper_body) & set(self.lower_body):
            raise ValueError("A keypoint cannot belong to both the upper and the lower body")
        if len(self.sigmas) != len(self) or not all(np.isfinite(s) and s > 0 for s in self.sigmas):
            raise ValueError(
                f"Skeleton {self.name!r} needs {len(self)} positive sigmas, one per keypoint. Received: {self.sigmas}"
            )

    def __len__(self) -> int:
        return len(self.keypoints)

    def index(self, keypoint: str) -> int:
        """Returns the position of a keypoint's name."""
        return self.keypoints.index(keypoint)

    @property
    def flip_permutation(self) -> Int[np.ndarray, " keypoints"]:
        """(K,) int array: entry k is the keypoint that stands at k after mirroring."""
        permutation = np.arange(len(self))
        for first, second in self.flip_pairs:
            i, j = self.index(first), self.index(second)
            permutation[i], permutation[j] = j, i
        return permutation

    @property
    def edge_indices(self) -> tuple[tuple[int, int], ...]:
        """The edges as pairs of keypoint positions."""
        return tuple((self.index(first), self.index(second)) for first, second in self.edges)

    @property
    def upper_body_indices(self) -> Int[np.ndarray, " half"]:
        return np.array([self.index(name) for name in self.upper_body], dtype=int)

    @property
    def lower_body_indices(self) -> Int[np.ndarray, " half"]:
        return np.array([self.index(name) for name in self.lower_body], dtype=int)

    def to_dict(self) -> dict:
        """Returns the skeleton as JSON-ready values; `Skeleton.from_dict` is the inverse."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: dict) -> "Skeleton":
        """Builds a skeleton from `to_dict`'s values.

        Raises:
            ValueError: If a field is missing or unknown, or the values are not a valid skeleton.
        """
        known = set(cls.__dataclass_fields__)
        if not isinstance(values, dict) or not {"name", "keypoints"} <= set(values) or set(values) - known:
            got = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"A skeleton needs 'name' and 'keypoints' and may have {sorted(known)}. Received: {got}")
        return cls(**values)


def _repeated(names):
    return sorted({name for name in names if names.count(name) > 1})


with open(Path(__file__).with_name("skeletons.toml"), "rb") as _file:
    SKELETONS = {name: Skeleton(name, **fields) for name, fields in tomllib.load(_file).items()}
COCO17, MPII16, LSP14 = SKELETONS["coco17"], SKELETONS["mpii16"], SKELETONS["lsp14"]
