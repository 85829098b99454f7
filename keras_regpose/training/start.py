"""The model that a recipe starts from."""

import os
from pathlib import Path

from keras_regpose.convert.imagenet import load_imagenet_backbone
from keras_regpose.convert.torchvision import load_torchvision_backbone
from keras_regpose.loading import load_preset
from keras_regpose.recipe import Recipe
from keras_regpose.regressor import PoseRegressor
from keras_regpose.skeleton import Skeleton


def starting_model(recipe: Recipe, skeleton: Skeleton, start: str | os.PathLike | None = None) -> PoseRegressor:
    """Builds a recipe's model with the weights that it starts from.

    Args:
        recipe: `Recipe`.
        skeleton: `Skeleton` of the data.
        start: str, path or None. Where the starting weights are: torchvision's .pth file; a preset directory whose
            backbone is taken (the `best` folder of a pretraining run); "imagenet" for those of keras.applications,
            which are downloaded, or their .h5 file. A recipe that starts from random weights needs none, and takes one
            that is given all the same.

    Returns:
        `PoseRegressor`, not compiled.

    Raises:
        ValueError: If the recipe needs starting weights and none are given, or they do not fit.
        FileNotFoundError: If there are none at that place.
    """
    method = "deeppose" if recipe.pretrain else recipe.method  # the head is not used
    model = PoseRegressor(recipe.backbone, skeleton, recipe.input_size, method=method)
    head = model.get_layer("coordinates")
    head.bias.assign(head.bias * 0 + recipe.head_bias)
    if start is None:
        if recipe.start == "torchvision":
            raise ValueError(
                f"This recipe starts from torchvision's ImageNet weights of {recipe.backbone}: download the .pth file "
                "from pytorch.org and pass it with --start FILE, or pass --from-random to start from random weights"
            )
        if recipe.start == "heatmap":
            data = {"lsp": "lspet"}.get(recipe.dataset, recipe.dataset)
            raise ValueError(
                f"This recipe starts from a backbone pretrained with heatmaps: run the recipe "
                f"{recipe.backbone}_heatmap_{data} first and pass its folder with --start FOLDER/best"
            )
        return model
    if Path(start).is_dir():
        taken, wanted = load_preset(start).backbone.weights, model.backbone.weights
        if [(w.name, w.shape) for w in taken] != [(w.name, w.shape) for w in wanted]:
            raise ValueError(
                f"The recipe's backbone has {len(wanted)} weights, that of {start} {len(taken)}, or of other shapes. "
                "Pass --start with weights of the same backbone"
            )
        for from_weight, to_weight in zip(taken, wanted, strict=True):
            to_weight.assign(from_weight)
    elif str(start) == "imagenet" or str(start).endswith(".h5"):
        load_imagenet_backbone(model, start)
    else:
        load_torchvision_backbone(model, start)
    return model
