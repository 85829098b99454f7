"""The model that a recipe starts from."""

import os
from pathlib import Path

from keras_regpose.convert.backbones import load_imagenet_backbone, load_torchvision_backbone
from keras_regpose.loading import load_preset
from keras_regpose.recipe import Recipe
from keras_regpose.regressor import PoseRegressor
from keras_regpose.skeleton import Skeleton

_STARTS = {  # by the recipe's `start`
    "torchvision": "torchvision's ImageNet weights of {0}: pass their .pth file from pytorch.org with --start FILE",
    "heatmap": "the backbone of MMPose's heatmap model: pass the .pth file of td-hm_{1}_8xb64-210e_coco-256x192 from "
    "MMPose's model zoo with --start FILE",
    "movenet": "MoveNet Lightning: pass the preset that zoo/movenet.py makes of it with --preset FOLDER",
}


def starting_model(recipe: Recipe, skeleton: Skeleton, start: str | os.PathLike | None = None) -> PoseRegressor:
    """Builds a recipe's model with the weights that it starts from.

    Args:
        recipe: `Recipe`.
        skeleton: `Skeleton` of the data.
        start: str, path or None. Where the starting weights are: torchvision's .pth file, or that of MMPose's
            heatmap model of the same backbone; a preset directory whose backbone is taken; "imagenet" for those of
            keras.applications, which are downloaded, or their .h5 file. A recipe that starts from random weights needs
            none, and takes one that is given all the same.

    Returns:
        `PoseRegressor`, not compiled.

    Raises:
        ValueError: If the recipe needs starting weights and none are given, or they do not fit.
        FileNotFoundError: If there are none at that place.
    """
    model = PoseRegressor(recipe.backbone, skeleton, recipe.input_size, method=recipe.method, head=recipe.head)
    if recipe.head == "pooled":
        head = model.get_layer("coordinates")
        head.bias.assign(head.bias * 0 + recipe.head_bias)
    if start is None:
        if recipe.start in _STARTS:
            what = _STARTS[recipe.start].format(recipe.backbone, recipe.backbone.replace("resnet", "res"))
            raise ValueError(f"This recipe starts from {what}, or pass --from-random")
        return model
    if Path(start).is_dir():
        taken, wanted = load_preset(start).backbone.weights, model.backbone.weights
        if [(w.name, w.shape) for w in taken] != [(w.name, w.shape) for w in wanted]:
            found = f"The recipe's backbone has {len(wanted)} weights, that of {start} {len(taken)}, or of other shapes"
            raise ValueError(f"{found}. Pass --start with weights of the same backbone")
        model.backbone.set_weights(taken)
    elif str(start) == "imagenet" or str(start).endswith(".h5"):
        load_imagenet_backbone(model, start)
    else:
        load_torchvision_backbone(model, start)
    return model
