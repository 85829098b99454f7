"""The table of presets against the reference dossier and the networks it describes."""

import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_regpose import list_presets, preset_info
from keras_regpose.hub import preset_table
from keras_regpose.presets import from_preset
from keras_regpose.skeleton import SKELETONS

ROOT = "https://download.openmmlab.com/mmpose/"
# name: published figures (reference dossier, §1.1 and §1.3), GMAC, checksum of the file
PUBLISHED = {
    "resnet152_rle_coco": ((0.731, 0.897, 0.805, 0.777, 0.933), 11.277, "c05bdccf"),
    "resnet101_rle_coco": ((0.722, 0.894, 0.794, 0.768, 0.930), 7.640, "16c3d461"),
    "resnet50_rle_coco": ((0.706, 0.888, 0.776, 0.753, 0.924), 4.004, "d37efd64"),
    "mobilenetv2_rle_coco": ((0.593, 0.836, 0.660, 0.644, 0.877), 0.2935, "39b73bd5"),
    "resnet152_coco": ((0.584, 0.842, 0.659, 0.688, 0.907), 11.277, "7df89a88"),
    "resnet101_coco": ((0.562, 0.831, 0.629, 0.670, 0.900), 7.640, "2f247111"),
    "resnet50_coco": ((0.541, 0.824, 0.601, 0.649, 0.893), 4.004, "72ef04f3"),
    "resnet50_rle_mpii": ((0.861, 0.277), 5.338, "5f92a619"),
    "resnet152_mpii": ((0.850, 0.208), 15.036, "15f5e6f9"),
    "resnet101_mpii": ((0.841, 0.200), 10.187, "87516a90"),
    "resnet50_mpii": ((0.826, 0.180), 5.338, "c63cd0b6"),
    "resnet50_rle_pretrained_coco": ((0.719, 0.891, 0.788, 0.764, 0.925), 4.004, "2cb494ee"),
    "resnet152_rle_coco_384x288": ((0.749, 0.901, 0.815, 0.793, 0.935), 25.373, "b77c4c37"),
    "resnet50_wflw": ((4.88,), 5.339, "92d0ba7f"),
    "resnet50_wing_wflw": ((4.67,), 5.339, "f82a5e53"),
    "resnet50_softwing_wflw": ((4.44,), 5.339, "4d34f22a"),
    "resnet50_onehand10k": ((0.990, 0.485, 34.21), 5.338, "cbddf43a"),
    "resnet50_rhd2d": ((0.988, 0.865, 3.32), 5.338, "37f1c4d3"),
}
METRICS = {"coco": ("AP", "AP50", "AP75", "AR", "AR50"), "mpii": ("PCKh@0.5", "PCKh@0.1"), "wflw": ("NME",)}
METRICS |= dict.fromkeys(("onehand10k", "rhd2d"), ("PCK@0.2", "AUC", "EPE"))
PARTS = {"wflw": ("wflw98", "face"), "onehand10k": ("hand21", "hand"), "rhd2d": ("rhd21", "hand")}
PARTS |= {"coco": ("coco17", "body"), "mpii": ("mpii16", "body")}


def test_the_published_figures():
    assert set(PUBLISHED) <= set(list_presets())
    for name, (figures, gmacs, digits) in PUBLISHED.items():
        info = preset_info(name)
        assert info["metrics"] == dict(zip(METRICS[info["dataset"]], figures, strict=True)), name
        assert info["gmacs"] == gmacs
        checkpoint = info["checkpoint"]
        assert re.fullmatch(rf"{re.escape(ROOT)}\S+-{digits}_20\d{{6}}\.pth", checkpoint["url"]), name
        assert checkpoint["sha256_prefix"] == digits
        assert checkpoint["format"] == ("1.x" if "/v1/" in checkpoint["url"] else "0.x")
        assert info["evaluation"]["flip_test"] is True


def test_each_row_describes_its_own_model():
    for name in PUBLISHED:
        info = preset_info(name)
        assert info["backbone"] == name.split("_")[0]
        assert info["method"] == ("rle" if "_rle" in name else "deeppose")
        skeleton, part = PARTS[info["dataset"]]
        assert info["skeleton"] == skeleton and skeleton in SKELETONS and info["dataset"] in name
        size = [384, 288] if "384x288" in name else [256, 192] if "coco" in name else [256, 256]
        assert info["input_size"] == size
        stem = info["checkpoint"]["url"].rsplit("/", 1)[1]
        assert info["dataset"] in stem and ("rle" in stem) == (info["method"] == "rle")
        depth = info["backbone"].removeprefix("resnet")
        assert (f"res{depth}_" in stem or info["backbone"] in stem) and f"{size[0]}x{size[1]}" in stem
        assert info["source"].startswith(f"configs/{part}_2d_keypoint/topdown_regression/{info['dataset']}/")


def test_sizes_and_inputs_equal_the_recorded_ones(golden):
    for name, row in json.loads((golden / "models.json").read_text()).items():
        info = preset_info(name)
        assert info["input_size"] == row["input_size_wh"][::-1]
        # MMPose counts the flow, which the network does not need to predict.
        assert info["params"] == row["params"] - (53_784 if info["method"] == "rle" else 0)


def multiply_accumulates(model):
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            total += int(np.prod(layer.output.shape[1:3])) * int(np.prod(layer.kernel.shape))
        elif isinstance(layer, keras.layers.Dense):
            total += int(np.prod(layer.kernel.shape))
    return total


@pytest.mark.parametrize("name", PUBLISHED)
def test_params_and_gmacs_are_those_of_the_network(name):
    info, model = preset_info(name), from_preset(name, load_weights=False)
    graph = keras.Model(model.inputs[0], model.outputs[0])
    assert sum(int(np.prod(weight.shape)) for weight in graph.trainable_weights) == info["params"]
    assert multiply_accumulates(graph) / 1e9 == pytest.approx(info["gmacs"], abs=6e-4)


def test_known_disagreements_are_told():
    assert "AR 0.805" in preset_info("resnet152_rle_coco")["caveats"][0]
    assert "AR 0.768" in preset_info("resnet50_rle_coco")["caveats"][0]
    assert "AP 0.528, AR 0.639" in preset_info("resnet50_coco")["caveats"][0]
    old = {"resnet101_coco": "0.668", "resnet152_coco": "0.686", "resnet50_mpii": "0.174", "resnet101_mpii": "0.193"}
    for name, figure in (old | {"resnet152_mpii": "0.198", "resnet50_rle_mpii": "0.263"}).items():
        assert figure in preset_info(name)["caveats"][0]


def test_figures_of_the_overview_stand_beside_those_of_the_document():
    for name, other in {
        "resnet152_rle_coco": {"AR": 0.805},
        "resnet50_rle_coco": {"AR": 0.768},
        "resnet50_coco": {"AP": 0.528, "AR": 0.639},
    }.items():
        info = preset_info(name)
        assert info["overview"] == other
        row = next(line for line in preset_table().splitlines() if line.startswith(f"{name} "))
        for metric, value in other.items():
            assert f"{metric} .{1000 * info['metrics'][metric]:.0f} (.{1000 * value:.0f}†)" in row
            assert f"{metric} {value:.3f}" in info["caveats"][0]
    marked = [line for line in preset_table().splitlines() if "†" in line]
    assert len(marked) == 4 and marked[-1].startswith("† MMPose's overview table prints this figure")


def test_info_is_a_copy():
    preset_info("resnet50_coco")["metrics"]["AP"] = 1
    preset_info("resnet50_coco")["evaluation"]["boxes"] = ""
    preset_info("resnet50_coco")["checkpoint"].clear()
    assert preset_info("resnet50_coco")["metrics"]["AP"] == 0.541
    assert preset_info("resnet50_coco")["evaluation"]["boxes"] and preset_info("resnet50_coco")["checkpoint"]


def test_unknown_names_get_suggestions():
    with pytest.raises(ValueError, match="no preset 'resnet50_coc'. Did you mean resnet50_coco or "):
        preset_info("resnet50_coc")
    with pytest.raises(ValueError, match="no preset 'hrnet'. There are: resnet152_rle_coco, "):
        preset_info("hrnet")


def test_tables():
    lines = preset_table().splitlines()
    assert len(lines) == 2 + len(list_presets())
    assert lines[2].split() == "resnet101_rle_coco 256×192 42.6 M 7.64 AP .722 AR .768".split()
    assert len({line.index(" M ") for line in lines[1:-1]}) == 1  # The columns stand below each other.
    markdown = preset_table(markdown=True).splitlines()
    assert len(markdown) == 4 + len(list_presets()) and {line.count("|") for line in markdown[:-2]} == {8}
    assert "| resnet50_softwing_wflw | 256×256 | 23.9 M | 5.34 | NME 4.44 |" in markdown[-7]
    row = "| resnet50_mpii | 256×256 | 23.6 M | 5.34 | PCKh@0.5 .826  PCKh@0.1 .180 |"
    assert f"{row}  | [card](zoo/resnet50_mpii/README.md) |" in markdown


def test_the_table_needs_no_keras():
    script = "import sys; sys.modules['keras'] = sys.modules['tensorflow'] = None; import keras_regpose as rp; "
    script += "assert len(rp.list_presets()) >= 13; rp.preset_info('resnet50_coco')"
    subprocess.run([sys.executable, "-c", script], check=True)
