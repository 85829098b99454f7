"""What a keypoint set is: names, edges, left-right pairs, OKS sigmas, body halves."""

import json
import logging
import os
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path

import numpy as np
from jaxtyping import Int

from keras_regpose.files import read_json

_log = logging.getLogger(__name__)


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

        ends = [[name for pair in pairs for name in pair] for pairs in (self.edges, self.flip_pairs)]
        for name in [*ends[0], *ends[1], *self.upper_body, *self.lower_body]:
            self.index(name)
        if repeated := _repeated(self.keypoints):
            raise ValueError(f"Skeleton keypoint names must be unique. Repeated: {', '.join(repeated)}")
        if _repeated(ends[1]):
            raise ValueError(f"A keypoint may stand in one flip pair only. Received: {self.flip_pairs}")
        if set(self.upper_body) & set(self.lower_body):
            raise ValueError("A keypoint cannot belong to both the upper and the lower body")
        if len(self.sigmas) != len(self) or not all(np.isfinite(s) and s > 0 for s in self.sigmas):
            raise ValueError(f"Skeleton {self.name!r} needs {len(self)} positive sigmas. Received: {self.sigmas}")

    def __len__(self) -> int:
        return len(self.keypoints)

    def index(self, keypoint: str) -> int:
        """Returns the position of a keypoint's name."""
        if keypoint not in self._places:
            raise ValueError(f"Skeleton {self.name!r} has no {keypoint!r}. It has: {', '.join(self.keypoints):.2000}")
        return self._places[keypoint]

    @cached_property
    def _places(self):
        return {name: place for place, name in enumerate(self.keypoints)}

    @property
    def flip_permutation(self) -> Int[np.ndarray, " keypoints"]:
        """(K,) int array: entry k is the keypoint that stands at k after mirroring."""
        partners = dict(self.flip_pairs) | {second: first for first, second in self.flip_pairs}
        return np.array([self.index(partners.get(name, name)) for name in self.keypoints])

    @property
    def edge_indices(self) -> tuple[tuple[int, int], ...]:
        """The edges as pairs of keypoint positions."""
        return tuple((self.index(first), self.index(second)) for first, second in self.edges)

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

    @property
    def is_human(self) -> bool:
        """Whether it has both shoulders, elbows, wrists, hips, knees and ankles, by names: whom a people finder finds.

        >>> COCO17.is_human, Skeleton("hook", ("tip", "end")).is_human
        (True, False)
        """
        return _HUMAN <= set(sides_and_joints(self.keypoints))

    @classmethod
    def from_category(cls, category: dict) -> "Skeleton":
        """Builds the skeleton that a category of a COCO keypoint file describes: names, and edges counted from 1.

        Flip pairs are those that `write_coco` writes, or inferred from the names, see `flip_pairs_of`. Keypoints that
        are those of a built-in skeleton, in any order and under any names that `sides_and_joints` understands, have its
        sigmas and body halves.

        Args:
            category: dict with `keypoints` (names), and optionally `name`, and `skeleton` and `flip_pairs` (pairs of
                positions, from 1).

        Raises:
            ValueError: If the names are not strings, or not unique.

        Example:

        >>> hook = Skeleton.from_category({"name": "hook", "keypoints": ["tip", "lEnd", "rEnd"], "skeleton": [[1, 2]]})
        >>> hook.edges, hook.flip_pairs
        ((('tip', 'lEnd'),), (('lEnd', 'rEnd'),))
        """
        names = tuple(category["keypoints"])
        name = str(category.get("name") or "keypoints")
        plain = cls(name, names)  # checks the names
        alike = [one for one in SKELETONS.values() if same_keypoints(names, one.keypoints)]
        for one in alike:
            if one.keypoints == names:
                return one
        pairs = _pairs(category.get("skeleton"))
        first = 0 if any(0 in pair for pair in pairs) else 1  # some tools count from 0
        there = range(first, first + len(names))
        edges = tuple((names[a - first], names[b - first]) for a, b in pairs if a != b and a in there and b in there)
        given = _pairs(category.get("flip_pairs"))
        if not {one for pair in given for one in pair} <= set(range(1, len(names) + 1)):
            raise ValueError(f"The flip_pairs of {name!r} must count its keypoints from 1 to {len(names)}: {given}")
        given = tuple((names[one - 1], names[other - 1]) for one, other in given)
        fields = {"edges": edges, "flip_pairs": given or flip_pairs_of(names)}
        if alike:
            known = alike[0]
            places = matched_keypoints(known.keypoints, names)
            called = {keypoint: names[places[k]] for k, keypoint in enumerate(known.keypoints)}
            ours = matched_keypoints(names, known.keypoints)
            fields["edges"] = edges or tuple((called[one], called[other]) for one, other in known.edges)
            fields["sigmas"] = tuple(known.sigmas[ours[k]] for k in range(len(names)))
            fields |= {half: tuple(map(called.get, getattr(known, half))) for half in ("upper_body", "lower_body")}
        said = ", ".join(f"{left} and {right}" for left, right in fields["flip_pairs"]) or "none"
        how = "as the file says" if given else "by their names"
        _log.info("Keypoints of %r: %d; pairs of left and right %s: %s", name, len(plain), how, said)
        return cls(name, names, **fields)

    @classmethod
    def from_coco(cls, file: str | os.PathLike, category: int | str | None = None) -> "Skeleton":
        """Builds the skeleton that a COCO keypoint file describes; see `from_category`.

        Args:
            file: str or path.
            category: int or str. Number or name of a category. None takes the one that has keypoints.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it names no keypoints, or several categories have different ones and none is chosen.

        Example:

        >>> hook = {"id": 1, "name": "hook", "keypoints": ["tip", "end"]}
        >>> _ = Path("hooks.json").write_text(json.dumps({"categories": [hook]}))
        >>> Skeleton.from_coco("hooks.json").keypoints
        ('tip', 'end')
        """
        described = keypoint_categories(read_json(file), category, os.fspath(file))
        if not described:
            raise ValueError(f"{os.fspath(file)} names no keypoints in its categories: build a Skeleton of their names")
        return cls.from_category(described[0])


def keypoint_categories(
    contents: dict, category: int | str | None, where: str, skeleton: Skeleton | None = None
) -> list[dict]:
    """Returns the categories of a COCO file that have keypoints; they have the same ones.

    Args:
        contents: dict. The file's.
        category: int or str. Number or name of the only one wanted, or None.
        where: str. The file, for messages.
        skeleton: `Skeleton` or None. Without a category those are returned that have its keypoints, if there are any.

    Raises:
        ValueError: If there is no such category, or they have different keypoints.
    """
    listed = [entry for entry in chosen_categories(contents, category, where) if entry.get("keypoints")]
    if skeleton is not None and category is None:
        return [entry for entry in listed if same_keypoints(entry["keypoints"], skeleton.keypoints)] or listed
    different = [entry for entry in listed if not same_keypoints(entry["keypoints"], listed[0]["keypoints"])]
    if different:
        raise ValueError(f"Categories of {where} differ in keypoints: choose one with category=, of {_listed(listed)}")
    return listed


def chosen_categories(contents: dict, category: int | str | None, where: str) -> list[dict]:
    """Returns the categories of a COCO file with a name, or else a number, or all; ValueError if there is none."""
    listed = listed_entries(contents, "categories", where)
    chosen = [entry for entry in listed if category in (None, entry.get("name"))]
    chosen = chosen or [entry for entry in listed if str(entry["id"]) == str(category)]
    if not chosen and category is not None:
        raise ValueError(f"{where} has no category {category!r}. It has: {_listed(listed) or 'none'}")
    return chosen


def listed_entries(contents: Mapping, part: str, where: str) -> list[dict]:
    """Returns the images or categories of a COCO file that have an id; what breaks the format is a ValueError."""
    entries = (contents.get(part) or []) if isinstance(contents, Mapping) else None
    if not isinstance(entries, list):
        raise ValueError(f"{where} is not in COCO's format: it has no list of {part!r}")
    entries = [entry for entry in entries if isinstance(entry, dict) and "id" in entry]
    for entry in entries:
        for field, wrong in (("id", (list, dict)), ("keypoints", (int, float, str, dict))):
            if isinstance(entry.get(field), wrong):
                raise ValueError(f"{where} is not in COCO's format: a {field!r} in its {part!r} is {entry[field]!r}")
    return entries


def _listed(categories):
    return ", ".join(f"{entry.get('name', 'unnamed')} ({entry['id']})" for entry in categories)


_HUMAN = {(side, joint) for side in ("left", "right") for joint in "shoulder elbow wrist hip knee ankle".split()}
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}


def sides_and_joints(names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns what the names of keypoints say: the side, "left", "right" or "", and the joint in lower-case letters.

    A side is the word left, right, l or r, at any place and set apart by `_`, `-`, `.`, a space or capital letters, as
    in `left_wrist`, `wrist_l`, `LWrist`, `wristRight`. Where the names hold its counterpart as well, it may also be
    the first or last letter of a word: `lwrist` beside `rwrist`, `LF_paw` beside `RF_paw`.

    Example:

    >>> sides_and_joints(["r_wrist", "WristLeft", "lip", "lhip", "rhip"])
    [('right', 'wrist'), ('left', 'wrist'), ('', 'lip'), ('left', 'hip'), ('right', 'hip')]
    """
    split = [re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+", name) for name in names]
    split = [[word.lower() for word in words] for words in split]
    present = {tuple(words) for words in split}
    return [_side_and_joint(words, present) for words in split]


def _side_and_joint(words, present):
    for place in (0, len(words) - 1, *range(1, len(words) - 1)):
        if len(words) > 1 and words[place] in _SIDES:
            return _SIDES[words[place]], "".join(words[:place] + words[place + 1 :])
    mirror = {"l": "r", "r": "l"}
    for place, word in enumerate(words):
        for letter, rest, other in (
            (word[0], word[1:], mirror.get(word[0], "") + word[1:]),
            (word[-1], word[:-1], word[:-1] + mirror.get(word[-1], "")),
        ):
            if letter in mirror and (*words[:place], other, *words[place + 1 :]) in present:
                return _SIDES[letter], "".join([*words[:place], rest, *words[place + 1 :]])
        for side in ("left", "right"):  # leftwrist
            if word.startswith(side) and word != side:
                return side, "".join([*words[:place], word.removeprefix(side), *words[place + 1 :]])
    return "", "".join(words)


def flip_pairs_of(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Returns the pairs of left and right among the names of keypoints, as `sides_and_joints` reads them.

    The log warns of names that have a side and no counterpart.

    Example:

    >>> flip_pairs_of(["nose", "RWrist", "LWrist"])
    (('LWrist', 'RWrist'),)
    """
    read = sides_and_joints(names)
    counts = Counter(read)
    place = {key: name for key, name in zip(read, names, strict=True) if counts[key] == 1}
    left = {joint: name for (side, joint), name in place.items() if side == "left"}
    pairs = tuple((name, place["right", joint]) for joint, name in left.items() if ("right", joint) in place)
    paired = {name for pair in pairs for name in pair}
    alone = [name for (side, _), name in zip(read, names, strict=True) if side and name not in paired]
    if alone:
        listed = ", ".join(alone)
        _log.warning("Without a counterpart, so mirroring leaves them: %s. A Skeleton's flip_pairs add one", listed)
    return pairs


def matched_keypoints(names: Sequence[str], others: Sequence[str]) -> dict[int, int]:
    """Returns which of one list of keypoints are which of another, by side and joint; see `sides_and_joints`.

    Args:
        names, others: sequences of str.

    Returns:
        dict: position in `names` → position in `others`, for those that both have.

    Example:

    >>> matched_keypoints(["nose", "left_wrist", "tail"], ["l_wrist", "nose"])
    {0: 1, 1: 0}
    """
    if list(names) == list(others):
        return {position: position for position in range(len(names))}
    ours, theirs = sides_and_joints(names), sides_and_joints(others)
    places, counts, of_others = {key: place for place, key in enumerate(theirs)}, Counter(ours), Counter(theirs)
    return {k: places[key] for k, key in enumerate(ours) if counts[key] == of_others[key] == 1}


def same_keypoints(names: Sequence[str], others: Sequence[str]) -> bool:
    """Returns whether two lists name the same keypoints, in any order; see `matched_keypoints`."""
    return len(names) == len(others) == len(matched_keypoints(names, others))


def _pairs(values):
    """Returns the pairs of whole numbers among what a file lists."""
    pairs = [pair for pair in values if isinstance(pair, (list, tuple))] if isinstance(values, (list, tuple)) else []
    return [pair for pair in pairs if len(pair) == 2 and all(isinstance(one, Integral) for one in pair)]


def _repeated(names):
    return sorted(name for name, count in Counter(names).items() if count > 1)


with open(Path(__file__).with_name("skeletons.toml"), "rb") as _file:
    SKELETONS = {name: Skeleton(name, **fields) for name, fields in tomllib.load(_file).items()}
COCO17, MPII16, LSP14 = SKELETONS["coco17"], SKELETONS["mpii16"], SKELETONS["lsp14"]
WFLW98, HAND21, RHD21 = SKELETONS["wflw98"], SKELETONS["hand21"], SKELETONS["rhd21"]
