"""Recipes: everything that a training run depends on, apart from the data's folder and the machine.

Each row of the zoo has one in `zoo/<preset>/recipe.toml`.
"""

import dataclasses
import os
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path

from keras_regpose.codec import HEADS, METHODS
from keras_regpose.data.augment import Augmentation
from keras_regpose.zoo import zoo_folder

CHOICES = {
    "method": METHODS,
    "head": HEADS,
    "loss": ("smooth_l1", "wing", "soft_wing"),
    "start": ("random", "torchvision", "heatmap", "movenet"),
    "schedule": ("steps", "cosine"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
}
_CALLED = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "whole numbers"}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Args:
        backbone: str. A name that `PoseRegressor` knows.
        input_size: (height, width) of the crops in pixels.
        method: "rle" or "deeppose".
        head: "pooled" or "integral"; see `PoseRegressor`.
        loss: str or None. Of "deeppose": "smooth_l1", "wing" or "soft_wing"; None is the method's own.
        unit_errors: bool. Whether the RLE loss's flow sees errors of mean size 1; see `RLE`.
        dataset: str. Layout of the data, one of `datasets.DATASETS`.
        start: "random"; "torchvision": ImageNet weights; "heatmap": the backbone of MMPose's heatmap model of the
            same data; "movenet": a preset that `zoo/movenet.py` makes of MoveNet Lightning.
        head_bias: float. Where predictions start, in crop units: 0.5 is the crop's centre, 0 its corner as in MMPose.
        epochs: int. Passes over the training people.
        batch_size: int. People per step, over all devices and hosts; the learning rate follows it.
        learning_rate: float. Adam's, at this `batch_size` times `accumulate`, after the warm-up.
        schedule: "steps" (divided by ten at each of `drops`) or "cosine".
        drops: sequence of int or None. Epochs of the "steps"; None is 170/210 and 200/210 of the epochs.
        warmup: int. Steps of linear warm-up; at most a sixth of all steps are used.
        clip_norm: float or None. Largest norm of all gradients together.
        accumulate: int. Steps whose gradients are averaged before the weights move; for a single device.
        average_decay: float or None. Decay of the exponential moving average of the weights; the average is what is
            validated and saved as the best preset.
        frozen_stages: int. Stages of the backbone (with everything before them) that do not train; -1 is none.
        delay_flow: int. Epochs before the RLE loss's flow takes part; for random starts.
        precision: "float32", "mixed_bfloat16" or "mixed_float16".
        validate_every: int. Epochs between validations.
        flip_test: bool. Whether validation averages with the mirrored crop, as published figures do.
        detected_boxes: bool. Whether validation on COCO takes the detector's boxes, as published figures do:
            `person_detection_results/COCO_val2017_detections_AP_H_56_person.json` in the folder of the data.
        patience: int or None. The run ends before its last epoch when the figure of so many validations in a row was
            not above the best one; None never ends it early.
        seed: int. Of weights, order and augmentation.
        augmentation: `Augmentation`.

    Raises:
        ValueError: If a setting is out of range.

    Example:

    >>> recipe = Recipe.of("resnet50_rle_coco")
    >>> recipe.epochs, recipe.drops, recipe.batch_size, recipe.learning_rate
    (210, (170, 200), 512, 0.001)
    >>> smaller = recipe.changed(batch_size=64, epochs=21)
    >>> smaller.drops, smaller.learning_rate
    ((17, 20), 0.000125)
    """

    backbone: str = "resnet50"
    input_size: tuple[int, int] = (256, 192)
    method: str = "rle"
    head: str = "pooled"
    loss: str | None = None
    unit_errors: bool = False
    dataset: str = "coco"
    start: str = "random"
    head_bias: float = 0.5
    epochs: int = 210
    batch_size: int = 64
    learning_rate: float = 1e-3
    schedule: str = "steps"
    drops: tuple[int, ...] | None = None
    warmup: int = 500
    clip_norm: float | None = None
    accumulate: int = 1
    average_decay: float | None = None
    frozen_stages: int = -1
    delay_flow: int = 0
    precision: str = "float32"
    validate_every: int = 10
    flip_test: bool = False
    detected_boxes: bool = False
    patience: int | None = None
    seed: int = 0
    augmentation: Augmentation = Augmentation()

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
            _check_kind(field.name, getattr(self, field.name), field.type)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in (*choices, None):
                raise ValueError(f"{name} must be one of {choices}. Received: {getattr(self, name)!r}")
        if self.loss is not None and self.method == "rle":
            raise ValueError(f"loss is for the method 'deeppose'. Received: {self.loss!r} with 'rle'")
        for name in ("epochs", "batch_size", "accumulate", "validate_every", "patience"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1. Received: {getattr(self, name)}")
        for name in ("learning_rate", "warmup", "delay_flow"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative. Received: {getattr(self, name)}")
        if self.average_decay is not None and not 0 < self.average_decay < 1:
            raise ValueError(f"average_decay must be between 0 and 1. Received: {self.average_decay}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be positive. Received: {self.clip_norm}")

    @classmethod
    def of(cls, name: str) -> "Recipe":
        """Returns the recipe of a row of the zoo.

        Raises:
            ValueError: If there is none of that name.
        """
        path = zoo_folder() / name / "recipe.toml"
        if not path.is_file():
            raise ValueError(f"There is no recipe {name!r}. There are: {', '.join(list_recipes())}")
        return cls.read(path)

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Recipe":
        """Reads a recipe file.

        Raises:
            ValueError: If it is not valid TOML, or has a setting that there is not.
        """
        try:
            settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"The recipe {path} is not valid TOML: {error}") from error
        return cls.from_dict(settings, str(path))

    @classmethod
    def from_dict(cls, settings: dict, source: str = "the recipe") -> "Recipe":
        """Builds a recipe from the settings of a file, or of a checkpoint."""
        settings = dict(settings)
        augmentation = settings.pop("augmentation", {})
        for given, kind in ((settings, cls), (augmentation, Augmentation)):
            if unknown := sorted(given.keys() - _names(kind)):
                raise ValueError(f"{source} has {unknown[0]!r}, which is none of {', '.join(sorted(_names(kind)))}")
        return cls(**settings, augmentation=Augmentation(**augmentation))

    @classmethod
    def with_settings(cls, **settings) -> "Recipe":
        """Returns a recipe of the default settings but those given; settings of the augmentation stand beside others.

        Example:

        >>> Recipe.with_settings(epochs=3, rotation=40.0).augmentation.rotation
        40.0
        """
        return cls().changed(**{"learning_rate": cls.learning_rate} | settings)

    def to_dict(self) -> dict:
        """Returns the settings as JSON-ready values, from which `from_dict` builds the recipe again."""
        return dataclasses.asdict(self)

    def changed(self, **changes) -> "Recipe":
        """Returns the recipe with other settings.

        The learning rate follows the people for each move of the weights (`batch_size` times `accumulate`), the drops
        and the delay of the flow follow the epochs, in proportion, unless they are changed themselves. Source: Goyal
        et al. 2017, "Accurate, Large Minibatch SGD", section 2.1. Settings of the augmentation stand beside the others:
        `recipe.changed(epochs=20, rotation=40.0)`.
        """
        names, of_augmentation = _names(Recipe), _names(Augmentation)
        if unknown := sorted(changes.keys() - names - of_augmentation):
            known = ", ".join(sorted(names | of_augmentation))
            raise ValueError(f"There is no setting {unknown[0]!r}. There are: {known}")
        augmentation = {name: changes.pop(name) for name in of_augmentation & changes.keys()}
        changes["augmentation"] = dataclasses.replace(changes.get("augmentation", self.augmentation), **augmentation)
        changed = dataclasses.replace(self, **changes)
        people = changed.batch_size * changed.accumulate
        longer = changed.epochs / self.epochs
        rate = self.learning_rate * people / (self.batch_size * self.accumulate)
        drops = self.drops and tuple(round(drop * longer) for drop in self.drops)
        in_proportion = {"learning_rate": rate, "drops": drops, "delay_flow": round(self.delay_flow * longer)}
        return dataclasses.replace(changed, **in_proportion | changes)

    def drop_epochs(self) -> tuple[int, ...]:
        """Returns the epochs at which the "steps" schedule divides the learning rate by ten."""
        if self.drops is not None:
            return self.drops
        return tuple(round(self.epochs * share) for share in (170 / 210, 200 / 210))


def _names(kind):
    """Returns the names of a dataclass' settings."""
    return {field.name for field in dataclasses.fields(kind)}


def _check_kind(name, value, kind):
    """Raises a ValueError if a setting is of another kind than its annotation says."""
    if isinstance(kind, types.UnionType):
        if value is None:
            return
        kind = typing.get_args(kind)[0]
    kind = typing.get_origin(kind) or kind
    right = isinstance(value, int | float if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    if not right or kind is tuple and any(type(item) is not int for item in value):
        raise ValueError(f"{name} must be {_CALLED.get(kind, f'of type {kind.__name__}')}. Received: {value!r}")


def list_recipes() -> list[str]:
    """Returns the names of the recipes."""
    return sorted(path.parent.name for path in zoo_folder().glob("*/recipe.toml"))
