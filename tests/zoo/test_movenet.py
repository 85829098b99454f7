"""`load_movenet` against the network that TensorFlow.js runs."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from movenet import load_movenet, main
from tfjs import read_tfjs

import keras_regpose as rp
from keras_regpose.data.crops import CropLoader


@pytest.fixture(scope="module")
def movenet(shared_data):
    path = shared_data.parent / "models/movenet/movenet-lightning.json"
    if not path.exists():
        pytest.skip("needs ../shared/models beside the checkout")
    return path


@pytest.fixture(scope="module")
def crops(shared_data):
    people = rp.data.Lsp(shared_data / "lspet", split="val")
    return CropLoader(people, people.skeleton, (192, 192)).load_batch(0, np.arange(8))[0]


@pytest.fixture(scope="module")
def model(movenet, crops):
    model = rp.PoseRegressor("mobilenetv2", rp.COCO17, input_size=(192, 192), head="integral")
    load_movenet(model, movenet, crops)
    return model


def first_layers(path, image):
    """MoveNet's features after its first three strides, by TensorFlow's operations on its own weights."""
    nodes, weights = read_tfjs(path)
    values = {}
    for node in nodes:
        name, given = node["name"], [one.split(":")[0] for one in node.get("input", ())]
        if name.endswith("sub_1"):
            values[name] = tf.constant(image[None] / np.float32(127.5) - 1)
        elif given and given[0] in values and "/model_1/model/" in name:
            x = values[given[0]]
            if node["op"] == "AddV2":
                values[name] = x + values[given[1]]
            else:
                kernel, bias = (weights[one] for one in given[1:3])
                stride = [int(one) for one in node["attr"]["strides"]["list"]["i"]]
                if "Depthwise" in node["op"]:
                    x = tf.nn.depthwise_conv2d(x, kernel, stride, "SAME")
                else:
                    x = tf.nn.conv2d(x, kernel, stride, "SAME")
                x = x + bias
                values[name] = x if "project" in name else tf.nn.relu6(x)
        if name.endswith("block_5_add/add"):
            return [values[one].numpy()[0] for one in values if one.endswith(("Conv1_relu/Relu6", "_2_add/add", name))]
    raise AssertionError("MoveNet's graph has no block 5")


def test_features_are_movenets_of_the_moved_picture(model, movenet, crops):
    layers = ("conv1_relu", "layer2_1_add", "layer3_2_add")
    ours = keras.Model(model.inputs[0], [model.get_layer(name).output for name in layers])
    for place, (moved, edge) in enumerate([(1, 4), (3, 8), (7, 10)]):
        picture = np.zeros_like(crops[0])
        picture[moved:, moved:] = crops[0, :-moved, :-moved]
        expected = first_layers(movenet, picture)[place]
        found = ours.predict(crops[:1], verbose=0)[place][0]
        inside = slice(edge, -edge)
        np.testing.assert_allclose(found[inside, inside], expected[inside, inside], atol=2e-3)


def test_normalisation_is_as_in_training(model, crops):
    """Batch statistics in place of the measured ones change little, on the crops that they were measured on."""
    network = keras.Model(model.inputs[0], model.get_layer("pool").output)
    still, training = (np.asarray(network(crops.astype(np.float32), training=mode)) for mode in (False, True))
    assert np.corrcoef(still.ravel(), training.ravel())[0, 1] > 0.95


def test_kernels_are_of_even_size(model, crops):
    """Adam moves every weight by the same step, which MoveNet's smallest kernels, of some thousandths, do not bear."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    sizes = {layer.name: np.sqrt(np.mean(np.square(layer.kernel))) for layer in layers}
    assert 0.005 < min(sizes.values()) and max(sizes.values()) < 10, sizes
    names = ("pyramid16_sum", "pyramid8_sum", "pyramid4_sum", "pyramid_relu")
    features = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names]).predict(crops, verbose=0)
    for feature in features:
        assert 0.9 < np.mean(np.square(feature)) < 1.1


def test_its_maps_find_people(model, shared_data):
    """Right without any training, if not as often as MoveNet itself, which looks for the middle of one person first."""
    people = rp.data.Lsp(shared_data / "lspet", split="val")[:32]
    crops, targets = CropLoader(people, people.skeleton, (192, 192)).load_batch(0, np.arange(32))
    names = [name for name in people.skeleton.keypoints if name in rp.COCO17.keypoints]
    ours = [rp.COCO17.keypoints.index(name) for name in names]
    theirs = [people.skeleton.keypoints.index(name) for name in names]
    away = np.linalg.norm(model.predict(crops, verbose=0)[:, ours, :2] - targets[:, theirs, :2], axis=-1)
    assert np.median(away[targets[:, theirs, 2] > 0]) < 0.1


def test_the_script_writes_a_preset_to_train_from(movenet, crops, shared_data, tmp_path):
    rp.data.write_coco(rp.data.Lsp(shared_data / "lspet", split="val")[:8], tmp_path / "people.json")
    options = ["--annotations", tmp_path / "people.json", "--images", shared_data / "lspet" / "images"]
    main([str(option) for option in (movenet, *options, "--output", tmp_path / "preset")])
    written = rp.from_preset(tmp_path / "preset")
    assert (written.skeleton.keypoints, written.head) == (rp.LSP14.keypoints, "integral")
    expected = rp.PoseRegressor("mobilenetv2", written.skeleton, input_size=(192, 192), head="integral")
    load_movenet(expected, movenet, crops)
    for name in ("layer3_2_add", "maps"):
        found, wanted = (
            keras.Model(model.inputs[0], model.get_layer(name).output).predict(crops, verbose=0)
            for model in (written, expected)
        )
        # MoveNet has no neck and no head_top, LSP's last two, whose maps are random.
        found, wanted = (values if name != "maps" else values[..., :12] for values in (found, wanted))
        np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())


def test_other_networks_are_refused(movenet, crops):
    model = rp.PoseRegressor("mobilenetv2_0.5", rp.COCO17, input_size=(192, 192))
    with pytest.raises(ValueError, match="fits the backbone mobilenetv2 alone"):
        load_movenet(model, movenet, crops)
    with pytest.raises(ValueError, match="measured on crops"):
        load_movenet(model, movenet, crops[:0])
