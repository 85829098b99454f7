"""The table of backbones: how each is built, which of its layers belong to which stage, and what PyTorch calls them.

Who wants to know something of a backbone asks this table. A new backbone is one entry in `backbones.toml`, its
functions here, and a file with its graph where `keras.applications` does not have it.
"""

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from keras_regpose.models import mobilenet_v2, resnet
from keras_regpose.models.rewrite import applied, is_scaling, without_scaling


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone, or of a family of them that differ in size.

    Attributes:
        stages: sequence of str. Regular expressions of the layers of the stem, of stage 1, of stage 2 and so on.
        rest: str. Regular expression of the layers behind the last stage.
        names: str or None. Regular expression of its names; groups are what `build` takes besides the image. None is a
            backbone that is recognised, but not built by name.
        examples: sequence of str. Names to show to a person.
        build: function. From a Keras tensor, an image (B, H, W, 3) normalised with ImageNet's mean and deviation, and
            the groups of `names` to the features (B, h, w, C) that the head pools.
        torch_module: function or None. From a layer's name and a library, "mmpose", "torchvision" or "tonylins"
            (github.com/tonylins/pytorch-mobilenet-v2), to the name of the module that holds its weights there.
        imagenet: class or None. The model of `keras.applications` whose ImageNet weights fit.
    """

    stages: Sequence[str]
    rest: str = ""
    names: str | None = None
    examples: Sequence[str] = ()
    build: Callable | None = None
    torch_module: Callable[[str, str], str] | None = None
    imagenet: Callable[..., keras.Model] | None = None

    def stage_of(self, layer: str) -> int | None:
        """Returns the stage of a layer, 0 for the stem, or None for those that belong to none."""
        return next((stage for stage, names in enumerate(self.stages) if re.fullmatch(names, layer)), None)

    def has(self, layer: str) -> bool:
        """Whether a layer of this name belongs to this backbone."""
        return self.stage_of(layer) is not None or re.fullmatch(self.rest, layer) is not None


def _efficientnet(image):
    model = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=tuple(image.shape[1:]))
    return applied(without_scaling(model), image)


_FUNCTIONS = {
    "resnet": {
        "build": lambda image, depth: resnet.resnet(image, int(depth))["P5"],
        "torch_module": lambda layer, library: layer.replace("_", "."),
    },
    "mobilenetv2": {
        "build": lambda image, width: mobilenet_v2.mobilenet_v2(image, float(width or 1))["P5"],
        "torch_module": mobilenet_v2.torch_module,
    },
    "efficientnet": {"build": _efficientnet, "imagenet": keras.applications.EfficientNetB0},
}
with open(Path(__file__).with_name("backbones.toml"), "rb") as _file:
    BACKBONES = [Backbone(**known, **_FUNCTIONS.get(name, {})) for name, known in tomllib.load(_file).items()]


def build_backbone(name: str, image):
    """Applies the backbone of a name to a normalised image.

    Args:
        name: str. Such as "resnet50", "mobilenetv2", "mobilenetv2_0.5" (half the width) or "efficientnetb0".
        image: (B, H, W, 3) Keras tensor.

    Returns:
        (B, h, w, C) Keras tensor.

    Raises:
        ValueError: If there is no backbone of this name.
    """
    for backbone in BACKBONES:
        found = re.fullmatch(backbone.names or "", name)
        if found and backbone.build is not None:
            return backbone.build(image, *found.groups())
    known = ", ".join(example for backbone in BACKBONES for example in backbone.examples)
    raise ValueError(f"Unknown backbone {name!r}. Known: {known}. A Keras model with one feature map does as well")


def backbone_of(model: keras.Model) -> Backbone | None:
    """Returns the entry of the table that a model's backbone was made by, or None if it is not in the table.

    It is recognised by the names of its layers, so that saved models and models of `keras.applications` are, too.

    Args:
        model: `PoseRegressor`.
    """
    return backbone_with(model.backbone.layers)


def backbone_with(layers: list[keras.layers.Layer]) -> Backbone | None:
    """Returns the entry of the table whose backbone has these layers, or None."""
    names = [layer.name for layer in layers if layer.weights and not is_scaling(layer)]
    return next((backbone for backbone in BACKBONES if all(map(backbone.has, names))), None)
