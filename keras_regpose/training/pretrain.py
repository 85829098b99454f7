"""Pretraining of a backbone with heatmaps, from which two published rows start.

The deconvolution head is used here alone: what goes on from this is the backbone.
"""

import os
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_regpose.data.sample import Sample
from keras_regpose.models.batch_norm import BatchNormalization
from keras_regpose.recipe import Recipe
from keras_regpose.training.loop import train

SIGMA = 2.0  # pixels of the heatmap
RADIUS = 3 * SIGMA


def pretrain(
    model,
    samples: Sequence[Sample],
    output: str | os.PathLike | None = None,
    recipe: Recipe | None = None,
    **options,
) -> dict[str, list]:
    """Trains the backbone of a model to draw heatmaps of the keypoints, through a head that is thrown away.

    Args:
        model: `PoseRegressor`. Its backbone is trained in place; its own head stays as it is.
        samples: sequence of `Sample` to learn from.
        output: str, path or None. Folder for `best/` (a preset with the last epoch's backbone, since there are no
            keypoints to score), `checkpoints/`, `history.csv` and `tensorboard/`.
        recipe: `Recipe` or None for `Recipe()`.
        **options: Further arguments of `train`, such as `resume`, `verbose`, `callbacks` or `epochs`.

    Returns:
        dict of lists, one value per epoch: loss and learning rate.

    Example:

    >>> import keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    >>> history = pretrain(model, rp.data.Synthetic(8, seed=0), epochs=1, batch_size=4, verbose=0)
    >>> sorted(history)
    ['learning_rate', 'loss']
    """
    network = heatmap_model(model)
    return train(model, samples, None, output, recipe, network=network, loss=HeatmapLoss(), **options)


def heatmap_model(model: keras.Model) -> keras.Model:
    """Puts a deconvolution head on a model's backbone; training it trains that backbone, which both share.

    Three 4×4 deconvolutions of stride 2 with 256 filters, then a heatmap a keypoint. Source: Xiao et al. 2018, "Simple
    Baselines for Human Pose Estimation and Tracking", section 2.

    Args:
        model: `PoseRegressor`.

    Returns:
        keras.Model from (B, H, W, 3) RGB 0–255 to (B, H', W', K) heatmaps, eight times the size of the features.
    """
    backbone = model.backbone
    x = backbone.output
    initializer = keras.initializers.RandomNormal(stddev=0.001)
    for number in range(3):
        x = keras.layers.Conv2DTranspose(
            256,
            4,
            strides=2,
            padding="same",
            use_bias=False,
            kernel_initializer=initializer,
            name=f"deconvolution{number}",
        )(x)
        x = BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"deconvolution{number}_bn")(x)
        x = keras.layers.ReLU(name=f"deconvolution{number}_relu")(x)
    heatmaps = keras.layers.Conv2D(
        len(model.skeleton), 1, kernel_initializer=initializer, dtype="float32", name="heatmaps"
    )(x)
    return keras.Model(backbone.input, heatmaps, name="heatmap_model")


@keras.saving.register_keras_serializable("keras_regpose")
class HeatmapLoss(keras.losses.Loss):
    """Mean squared error to heatmaps drawn from keypoints.

    Source: `MSRAHeatmap` (a Gaussian of σ = 2 around the nearest pixel, cut off at 3σ) and
    `KeypointMSELoss(use_target_weight=True)` of MMPose 1.3.2.
    """

    def call(self, y_true, y_pred):
        heatmaps, weights = draw_heatmaps(y_true, *y_pred.shape[1:3])
        return ops.mean(ops.square((y_pred - heatmaps) * weights[:, None, None, :]), axis=(1, 2, 3))


def draw_heatmaps(target, height: int, width: int):
    """Draws a Gaussian for each keypoint.

    Args:
        target: (B, K, 3) float tensor: x, y in crop units, weight.
        height: int. Of the heatmaps.
        width: int.

    Returns:
        (B, height, width, K) heatmaps, and (B, K) weights: 0 where no part of the Gaussian is inside.

    Example:

    >>> heatmaps, weights = draw_heatmaps(np.array([[[0.5, 0.5, 1.0], [2.0, 0.5, 1.0]]], "float32"), 16, 12)
    >>> [round(float(value), 5) for value in heatmaps[0, 8, 6:9, 0]], [float(value) for value in weights[0]]
    ([1.0, 0.8825, 0.60653], [1.0, 0.0])
    """
    weight = target[..., 2]
    position = ops.where(weight[..., None] > 0, target[..., :2], 0.0)
    shape = np.array([width, height], np.float32)
    center = ops.trunc(position * shape + 0.5)  # towards zero, as the source does
    inside = ops.all(ops.logical_and(center - RADIUS < shape, center + RADIUS + 1 >= 0), axis=-1)
    profiles = []
    for axis, size in ((1, height), (0, width)):
        distance = ops.arange(size, dtype="float32")[None, :, None] - center[:, None, :, axis]
        profile = ops.exp(-ops.square(distance) / (2 * SIGMA**2))
        profiles.append(ops.where(ops.abs(distance) <= RADIUS, profile, 0.0))
    heatmaps = profiles[0][:, :, None, :] * profiles[1][:, None, :, :]
    return heatmaps, weight * ops.cast(inside, weight.dtype)
