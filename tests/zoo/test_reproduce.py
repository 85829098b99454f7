"""`zoo/reproduce.py`: rows scored on made-up validation sets, beside what was published."""

import json

import cv2
import numpy as np
import pytest
import reproduce
from golden_weights import golden_image, golden_tensor

from keras_regpose import RHD21, from_preset, preset_info
from keras_regpose.convert import from_mmpose
from keras_regpose.data import Coco, Synthetic, write_coco
from keras_regpose.datasets import DETECTIONS
from keras_regpose.evaluation.evaluate import evaluate


@pytest.fixture
def coco(tmp_path):
    """COCO's layout with drawn people, and a detector's boxes a little beside theirs."""
    drawn, root = Synthetic(12, seed=5), tmp_path / "coco"
    write_coco(drawn, root / "annotations" / "person_keypoints_val2017.json", images=root / "val2017")
    contents = json.loads((root / "annotations" / "person_keypoints_val2017.json").read_text())
    for image in contents["images"]:
        image["file_name"] = image["file_name"].rsplit("/", 1)[-1]
    (root / "annotations" / "person_keypoints_val2017.json").write_text(json.dumps(contents))
    boxes = [
        {"image_id": one["image_id"], "category_id": 1, "bbox": [one["bbox"][0] + 3, *one["bbox"][1:]], "score": 0.9}
        for one in contents["annotations"]
    ]
    (root / DETECTIONS).parent.mkdir()
    (root / DETECTIONS).write_text(json.dumps(boxes))
    return root


def test_a_row_of_coco_is_scored_on_the_detectors_boxes(coco, tmp_path, capsys):
    preset, file = "mobilenetv2_rle_people", tmp_path / "result.json"
    command = ["mobilenetv2_rle_coco", "--data", str(coco), "--preset", preset]
    assert reproduce.main([*command, "--json", str(file)]) == 0
    result, printed = json.loads(file.read_text()), capsys.readouterr().out
    samples = Coco(coco / "annotations" / "person_keypoints_val2017.json", coco / "val2017", coco / DETECTIONS)
    expected = evaluate(from_preset(preset), samples, flip_test=True)
    published = preset_info("mobilenetv2_rle_coco")["metrics"]
    assert list(result["figures"]) == list(published) == ["AP", "AP50", "AP75", "AR", "AR50"]
    for name, one in result["figures"].items():
        assert one["value"] == pytest.approx(expected[name], abs=1e-9) and one["published"] == published[name]
        assert one["difference"] == pytest.approx(one["value"] - published[name])
    one = result["figures"]["AP"]
    assert [one["low"], one["high"]] == pytest.approx(list(expected.intervals["AP"][1:])) and one["low"] <= one["high"]
    assert result["people"] == 12 and result["boxes"].startswith("detections of COCO_val2017") and result["flip_test"]
    assert f"AP {one['value']:.4f} (95 % interval {one['low']:.4f} … {one['high']:.4f}); published 0.593" in printed

    assert reproduce.main([*command, "--annotated-boxes"]) == 0
    assert "12 people, boxes annotated, with flip test" in capsys.readouterr().out
    (coco / DETECTIONS).unlink()
    assert reproduce.main(command) == 2
    assert "or pass --annotated-boxes, whose figures are higher" in capsys.readouterr().err


def test_a_row_of_hands_is_as_far_from_the_truth_as_mmpose(golden, tmp_path, capsys):
    row, root = "resnet50_rhd2d", tmp_path / "rhd"
    family, recorded = json.loads((golden / "family.json").read_text())[row], np.load(golden / "family.npz")
    contents = family["annotations"]
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "rhd_test.json").write_text(json.dumps(contents))
    for number, image in enumerate(contents["images"]):
        picture = golden_image(number, image["height"], image["width"])
        cv2.imwrite(str(root / image["file_name"]), picture[..., ::-1])
    shapes = json.loads((golden / "models.json").read_text())["resnet50_mpii"]["state_dict"]
    shapes |= family["shapes_unlike_resnet50_mpii"]
    model = from_mmpose({name: golden_tensor(name, tuple(shape)) for name, shape in shapes.items()}, row)
    model.save_to_preset(tmp_path / "preset")
    result = reproduce.reproduce(row, root, tmp_path / "preset")
    truth = np.array([one["keypoints"] for one in contents["annotations"]])
    distances = np.linalg.norm(recorded[f"{row}/flip"] - truth[..., :2], axis=-1)[truth[..., 2] > 0]
    assert truth.shape[1] == len(RHD21)
    one = result["figures"]["EPE"]
    assert one["value"] == pytest.approx(distances.mean(), rel=1e-5) and one["low"] <= one["value"] <= one["high"]
    assert f"EPE {one['value']:.4f} (95 % interval {one['low']:.4f}" in reproduce.told(result)
    assert "published 3.32" in reproduce.told(result) and "which is OUTSIDE the interval" in reproduce.told(result)

    (root / "0.png").write_bytes(b"no picture")  # a figure of a part of the set is not that of the set
    assert reproduce.main([row, "--data", str(root), "--preset", str(tmp_path / "preset")]) == 2
    assert "zoo/reproduce.py:" in capsys.readouterr().err


def test_two_published_figures_are_both_told():
    one = {"value": 0.75, "low": 0.749, "high": 0.76, "published": 0.753, "difference": -0.003, "overview": 0.768}
    result = {"preset": "a", "people": 5, "boxes": "annotated", "flip_test": True, "figures": {"AR": one}}
    assert reproduce.told(result).splitlines()[1].strip() == (
        "AR 0.7500 (95 % interval 0.7490 … 0.7600); published 0.753, -0.0030 from it, which is inside the interval "
        "(MMPose's overview table: 0.768, -0.0180 from it)"
    )


def test_what_cannot_be_reproduced_is_refused(tmp_path, capsys):
    assert reproduce.main(["mobilenetv2_rle_people", "--data", str(tmp_path)]) == 2
    assert "is not a published row" in capsys.readouterr().err
    assert reproduce.main(["resnet50_mpii", "--data", str(tmp_path)]) == 2
    assert "mpii_val.json" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        reproduce.main(["--help"])
    assert "python zoo/reproduce.py resnet50_rle_coco --data" in capsys.readouterr().out
