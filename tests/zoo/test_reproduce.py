"""`zoo/reproduce.py`: rows scored on made-up validation sets, beside what was published."""

import json

import keras
import numpy as np
import pytest
import reproduce
from golden_weights import golden_tensor
from validation_sets import write_validation_set

from keras_regpose import MPII16, RHD21, PoseRegressor, from_preset, preset_info
from keras_regpose.convert import from_mmpose
from keras_regpose.data import Coco
from keras_regpose.datasets import DETECTIONS, open_dataset
from keras_regpose.evaluation.evaluate import evaluate, predict_samples
from keras_regpose.skeleton import SKELETONS


def test_a_row_of_coco_is_scored_on_the_detectors_boxes(tmp_path, capsys):
    coco = write_validation_set("mobilenetv2_rle_coco", tmp_path / "coco").parents[1]
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
    assert (
        result["people"] == 12
        and result["left_out"] == []
        and "left out" not in printed
        and result["boxes"].startswith("detections of COCO_val2017")
        and result["flip_test"]
    )
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
    write_validation_set(row, root)
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


@pytest.mark.parametrize("row", ["resnet50_mpii", "resnet50_wflw"])
def test_rows_of_mpii_and_wflw_are_scored_without_broken_records(row, tmp_path, capsys):
    """Twelve people, of whom the sixth has no size."""
    file, info = write_validation_set(row, tmp_path / "data"), preset_info(row)
    contents = json.loads(file.read_text())
    if row == "resnet50_wflw":
        contents["annotations"] = [{**one, "id": number} for number, one in enumerate(4 * contents["annotations"])]
    (contents if row == "resnet50_mpii" else contents["annotations"])[5]["scale"] = 0
    file.write_text(json.dumps(contents))
    keras.utils.set_random_seed(0)
    model = PoseRegressor("mobilenetv2_0.25", SKELETONS[info["skeleton"]], (64, 64), method="deeppose")
    model.save_to_preset(tmp_path / "preset")
    command = [row, "--data", str(tmp_path / "data"), "--preset", str(tmp_path / "preset")]
    assert reproduce.main([*command, "--json", str(tmp_path / "result.json")]) == 0
    result, printed = json.loads((tmp_path / "result.json").read_text()), capsys.readouterr().out
    assert (result["people"], result["boxes"], result["flip_test"]) == (11, "annotated", True)
    place = "person at position 5" if row == "resnet50_mpii" else "annotation 5"
    why = f"{place}: its scale must be above 0, received 0.0"
    assert result["left_out"] == [why] and f"are no part of it: 1; the first: {why}\n" in printed

    samples = open_dataset(info["dataset"], tmp_path / "data", "val")
    poses, positions = predict_samples(from_preset(tmp_path / "preset"), samples, flip_test=True)
    truth, visible = np.array(samples.field("keypoints"))[positions], np.array(samples.field("visible"))[positions] > 0
    distances = np.linalg.norm(poses.keypoints - truth, axis=-1)
    if row == "resnet50_mpii":
        # Heads are 40 by 30 pixels; the pelvis and the thorax do not count, and joints have the same weight as a whole.
        counted = [joint for joint, name in enumerate(MPII16.keypoints) if name not in ("pelvis", "thorax")]
        expected = {
            name: (distances[:, counted] < part * 0.6 * 50)[visible[:, counted]].mean()
            for name, part in (("PCKh@0.5", 0.5), ("PCKh@0.1", 0.1))
        }
    else:
        eyes = np.linalg.norm(truth[:, 60] - truth[:, 72], axis=-1, keepdims=True)
        expected = {"NME": 100 * (distances / eyes)[visible].mean()}
    assert list(result["figures"]) == list(info["metrics"]) == list(expected)
    for name, one in result["figures"].items():
        assert one["value"] == pytest.approx(expected[name], rel=1e-5) and one["low"] <= one["value"] <= one["high"]
        assert one["published"] == info["metrics"][name] and one["difference"] == one["value"] - one["published"]
        assert f"{name} {one['value']:.4f} (95 % interval {one['low']:.4f}" in printed


def test_two_published_figures_are_both_told():
    one = {"value": 0.75, "low": 0.749, "high": 0.76, "published": 0.753, "difference": -0.003, "overview": 0.768}
    result = {"preset": "a", "people": 5, "left_out": [], "boxes": "annotated", "flip_test": True}
    result["figures"] = {"AR": one}
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
