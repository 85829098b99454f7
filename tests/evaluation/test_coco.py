import copy
import functools
import json
import operator

import numpy as np
import pytest

from keras_regpose.metrics import coco_keypoints, coco_results, instance_score
from keras_regpose.skeleton import MPII16

NAMES = ["AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"]
NMS = {"oks_nms": "oks", "soft_oks_nms": "soft_oks", "none": None}


def figures(result):
    assert list(result) == NAMES
    return np.array(list(result.values()))


@pytest.fixture
def truth():
    """Two images, five persons: the first has id 0, the last has no labelled keypoint."""
    annotations = []
    persons = [(1, 100, 80, 4.0), (1, 300, 90, 5.0), (2, 60, 70, 9.0), (2, 260, 40, 12.0), (2, 70, 260, 2.0)]
    k = np.arange(17)
    for number, (image, left, top, size) in enumerate(persons):
        visible = np.zeros(17) if number == 4 else 2 - (k + number) % 3
        annotation = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 300.0 * size**2}
        annotation["bbox"] = [left, top, 16 * size, 32 * size]
        annotation["keypoints"] = (
            np.stack([left + size * (k * 5 % 17), top + 2 * size * k, visible], -1).ravel().tolist()
        )
        annotations.append(annotation)
    categories = [{"id": 1, "name": "person"}]
    return {"images": [{"id": 1}, {"id": 2}], "annotations": annotations, "categories": categories}


@pytest.fixture
def predictions(truth):
    """Perturbed truth with duplicates: of poses, of an id, and one without any positive keypoint score."""
    # Annotation, size of the errors, box score, growth of the box, id.
    rows = [(0, 0.2, 0.9, 1.0, 4), (0, 0.25, 0.95, 1.1, 3), (1, 0.9, 0.8, 0.9, 7), (1, 0.5, 0.7, 1.2, 9)]
    rows += [(2, 0.6, 0.6, 1.0, 2), (3, 1.4, 0.9, 1.0, 1), (3, 0.3, 0.5, 1.3, 1), (4, 0.3, 0.4, 1.0, 8)]
    rows += [(2, 3, 1.0, 1.0, 6), (0, 0.1, 1.0, 1.0, 11)]
    k = np.arange(17)
    found = []
    for number, (index, error, box_score, growth, identity) in enumerate(rows):
        annotation = truth["annotations"][index]
        left, top, width, height = (value * growth for value in annotation["bbox"])
        shift = error * annotation["bbox"][2] / 16 * np.stack([np.cos(k * k + number), np.sin(k * k + 2 * number)], -1)
        found.append(
            {
                "id": identity,
                "image_id": annotation["image_id"],
                "keypoints": np.reshape(annotation["keypoints"], (17, 3))[:, :2] + shift,
                "scores": 0.5 + 0.45 * np.cos(k + number) - (2 if number == 9 else 0),
                "box_score": box_score,
                "area": width * height * 1.25**2,
                "box": [left, top, left + width, top + height],
            }
        )
    return found


# Made with MMPose 1.3.2 from the persons above, with and without boxes attached to the predictions.
@pytest.mark.parametrize(
    "mode, nms, threshold, box, expected",
    [
        ("bbox", "oks", 0.9, True, [0.40198, 0.564356, 0.564356, 0.40396, 0.458911, 0.6, 0.75, 0.75, 0.4, 0.8]),
        ("bbox", "oks", 0.6, True, [0.219142, 0.336634, 0.336634, 0.40396, 0.151485, 0.35, 0.5, 0.5, 0.4, 0.3]),
        ("bbox", None, 0.9, False, [0.492107, 0.592928, 0.592928, 0.834983, 0.350495, 0.9, 1, 1, 1, 0.8]),
        ("keypoint", "oks", 0.9, True, [0.825743, 1, 1, 1, 0.70099, 0.9, 1, 1, 1, 0.8]),
        (
            "bbox_keypoint",
            "oks",
            0.6,
            False,
            [0.406271, 0.564356, 0.564356, 0.90099, 0.151485, 0.6, 0.75, 0.75, 0.9, 0.3],
        ),
        ("bbox_rle", "oks", 0.9, True, [0.610693, 0.8, 0.8, 0.90099, 0.458911, 0.85, 1, 1, 0.9, 0.8]),
        ("bbox_rle", "soft_oks", 0.9, False, [0.50495, 0.626591, 0.626591, 0.834983, 0.350495, 0.9, 1, 1, 1, 0.8]),
        ("bbox_rle", "soft_oks", 0.9, True, [0.50495, 0.626591, 0.626591, 1, 0.310693, 0.9, 1, 1, 1, 0.8]),
    ],
)
def test_figures_of_the_reference(predictions, truth, mode, nms, threshold, box, expected):
    if not box:
        for prediction in predictions:
            del prediction["box"]
    result = coco_keypoints(predictions, truth, score_mode=mode, nms=nms, nms_threshold=threshold)
    np.testing.assert_allclose(figures(result), expected, atol=1e-6)


def test_recorded_predictions_in_all_twelve_settings(golden, shared_data):
    recorded = json.loads((golden / "coco_metric.json").read_text())
    found = [
        {
            "image_id": entry["image_id"],
            "keypoints": entry["keypoints"],
            "scores": entry["keypoint_scores"],
            "box_score": entry["bbox_score"],
            "area": entry["area"],
        }
        for entry in recorded["predictions"]
    ]
    assert len(recorded["results"]) == 12
    for setting, expected in recorded["results"].items():
        mode, nms = setting.split("/")
        result = coco_keypoints(found, shared_data / "mmpose_testdata/coco/test_coco.json", mode, NMS[nms])
        np.testing.assert_allclose(figures(result), list(expected.values()), atol=1e-6, err_msg=setting)


def from_annotations(path, factors=(1, 1, 1), box_score=1.0, identity=lambda number: number):
    """The annotations as predictions, with x, y and visibility (as the score) multiplied; float32 as a network's."""
    found = []
    for annotation in json.loads(path.read_text())["annotations"]:
        number = len(found)
        x, y, v = factors(number) if callable(factors) else factors
        points = np.array(annotation["keypoints"], np.float32).reshape(-1, 3) * np.float32([x, y, v])
        found.append(
            {
                "id": identity(annotation["id"]),
                "image_id": annotation["image_id"],
                "keypoints": points[:, :2],
                "scores": points[:, 2],
                "box_score": np.float32(box_score(number) if callable(box_score) else box_score),
                "area": annotation["bbox"][2] * annotation["bbox"][3] * 1.25**2,
            }
        )
    return found


@pytest.mark.parametrize("mode, nms", [("bbox", None), ("bbox_keypoint", "oks"), ("bbox_rle", "soft_oks")])
def test_the_truth_itself_scores_one(shared_data, mode, nms):
    path = shared_data / "mmpose_testdata/coco/test_coco.json"
    np.testing.assert_allclose(figures(coco_keypoints(from_annotations(path), path, mode, nms)), 1, atol=1e-9)


# Figures of the reference's own unit tests.
ALIGNMENT_RECALL = [0.5833333333333333, 0.9166666666666666, 0.5833333333333334, 0.44, 0.6857142857142857]


@pytest.mark.parametrize(
    "mode, precision",
    [
        (
            "bbox_keypoint",
            [0.5287458745874587, 0.9042904290429042, 0.5009900990099009, 0.42475247524752474, 0.6219554455445544],
        ),
        (
            "bbox_rle",
            [0.5004950495049505, 0.8836633663366337, 0.4679867986798679, 0.42475247524752474, 0.5814108910891089],
        ),
    ],
)
def test_alignment_with_the_reference(shared_data, mode, precision):
    path = shared_data / "mmpose_testdata/coco/test_coco.json"
    found = from_annotations(path, (0.98, 1.02, 0.8), 0.98)
    np.testing.assert_allclose(figures(coco_keypoints(found, path, mode)), precision + ALIGNMENT_RECALL, atol=1e-9)


def test_soft_nms_with_two_predictions_per_person(shared_data):
    path = shared_data / "mmpose_testdata/coco/test_coco.json"
    found = from_annotations(path, lambda i: (1 - i / 100, 1 + i / 100, 1 - i / 100), identity=lambda i: 2 * i)
    found += from_annotations(
        path,
        lambda i: (1 + i / 100, 1 - i / 100, 1 - 2 * i / 100),
        lambda i: 1 - 2 * i / 100,
        identity=lambda i: 2 * i + 1,
    )
    expected = [0.17073707370737073, 0.25055005500550054, 0.10671067106710669, 0, 0.29315181518151806]
    expected += [0.2416666666666666, 0.3333333333333333, 0.16666666666666666, 0, 0.41428571428571426]
    result = coco_keypoints(found, path, "bbox_keypoint", "soft_oks")
    np.testing.assert_allclose(figures(result), expected, atol=1e-9)


def test_expected_oks_ranks_people():
    pose = np.stack([np.arange(17) * 9.0, np.arange(17) * 12.0], -1)
    sure, unsure = np.full((17, 2), 2.0), np.full((17, 2), 20.0)
    person = {"image_id": 1, "keypoints": pose, "scores": np.full(17, 0.9), "box_score": 0.8, "box": [0, 0, 144, 192]}
    small = {**person, "image_id": 2, "box": [0, 0, 15, 20]}
    people = [{**person, "sigmas": sure}, {**person, "sigmas": unsure, "image_id": 3}, {**small, "sigmas": sure}]
    scores = [result["score"] for result in coco_results(people, "expected_oks", nms=None)]
    assert 0.8 > scores[0] > 0.7 > scores[1] > 0 and scores[2] < scores[0]
    with pytest.raises(ValueError, match="'expected_oks' needs predictions with 'box' and 'sigmas'"):
        coco_results([person], "expected_oks")
    with pytest.raises(ValueError, match="All predictions or none must have 'sigmas'"):
        coco_results([person, people[1]])


def test_instance_scores():
    scores = np.array([[0.1, 0.4, 0.8], [0.1, 0.2, 0.0]])
    boxes = np.array([0.5, 1.0])
    np.testing.assert_allclose(instance_score(boxes, scores, "bbox"), [0.5, 1.0])
    np.testing.assert_allclose(instance_score(boxes, scores, "keypoint"), [1.3 / 3, 0.1])
    np.testing.assert_allclose(instance_score(boxes, scores, "bbox_keypoint"), [0.5 * 0.6, 0.0])
    np.testing.assert_allclose(instance_score(boxes, scores, "bbox_keypoint", 0.0), [0.5 * 1.3 / 3, 0.15])
    np.testing.assert_allclose(instance_score(boxes, scores, "bbox_rle"), [0.5 + 1.3 / 3 + 0.8, 1.3])
    np.testing.assert_allclose(instance_score(boxes, scores, "expected_oks"), [0.5 * 1.3 / 3, 0.1])
    # The reference adds scores one by one; another order of addition would break its ties.
    many = np.random.default_rng(0).uniform(0.3, 1, (50, 17))
    one_by_one = [0.9 * (functools.reduce(operator.add, row) / 17) for row in many.tolist()]
    assert instance_score(np.full(50, 0.9), many, "bbox_keypoint").tolist() == one_by_one
    with pytest.raises(
        ValueError, match="must be one of bbox, keypoint, bbox_keypoint, bbox_rle, expected_oks. Received: 'mean'"
    ):
        instance_score(boxes, scores, "mean")


def test_results_can_be_written_as_json(predictions):
    for prediction in predictions:
        prediction["image_id"] = np.int64(prediction["image_id"])
        prediction["box"] = np.array(prediction["box"], np.float32)
    results = coco_results(predictions, nms_threshold=0.6)
    assert json.loads(json.dumps(results)) == results
    first = results[0]
    assert first["category_id"] == 1 and len(first["keypoints"]) == 51
    np.testing.assert_allclose(first["keypoints"][:3], [*predictions[0]["keypoints"][0], predictions[0]["scores"][0]])
    assert first["bbox"] == [100, 80, 64, 128]
    # The server gets the persons without a positive keypoint score too; the evaluation here drops them.
    assert len(coco_results(predictions, nms=None)) == 9


def test_of_equal_ids_in_an_image_the_first_counts(predictions):
    pair = [dict(predictions[5], id=1), dict(predictions[6], id=1), dict(predictions[0], id=1)]
    assert [result["bbox"][0] for result in coco_results(pair, nms=None)] == [260, 100]
    for prediction in pair:
        del prediction["id"]
    assert len(coco_results(pair, nms=None)) == 3


def test_without_nms_persons_come_by_id(predictions):
    assert [result["bbox"][0] for result in coco_results(predictions[:4], nms=None)] == pytest.approx(
        [110, 100, 270, 360]
    )


def test_area_falls_back_to_the_extent_of_the_keypoints(predictions):
    for prediction in predictions:
        prediction["area"] = np.ptp(prediction["keypoints"], axis=0).prod()
    given = coco_results(predictions, nms_threshold=0.7)
    for prediction in predictions:
        del prediction["area"]
    assert coco_results(predictions, nms_threshold=0.7) == given


def test_no_predictions_score_zero_and_absent_sizes_minus_one(truth):
    assert set(figures(coco_keypoints([], truth))) == {0.0}
    truth["annotations"] = truth["annotations"][2:4]
    result = coco_keypoints([], truth)
    assert result["APM"] == -1 and result["APL"] == 0


def test_a_file_and_its_content_give_the_same_and_stay_as_they_are(predictions, truth, tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    before = copy.deepcopy((truth, [entry["scores"].tolist() for entry in predictions]))
    assert (
        coco_keypoints(predictions, path)
        == coco_keypoints(predictions, truth)
        == coco_keypoints(predictions, str(path))
    )
    assert (truth, [entry["scores"].tolist() for entry in predictions]) == before


def test_prints_only_when_asked(predictions, truth, capsys):
    coco_keypoints(predictions, truth)
    assert capsys.readouterr().out == ""
    coco_keypoints(predictions, truth, verbose=True)
    assert "Average Precision" in capsys.readouterr().out


def test_sigmas_of_other_keypoint_sets(truth, predictions):
    for annotation in truth["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][:48]
    for prediction in predictions:
        prediction["keypoints"], prediction["scores"] = prediction["keypoints"][:16], prediction["scores"][:16]
    with pytest.raises(ValueError, match="OKS of 16 keypoints needs a sigma for each: pass sigmas=skeleton.sigmas"):
        coco_keypoints(predictions, truth)
    given = coco_keypoints(predictions, truth, sigmas=MPII16.sigmas)
    assert given != coco_keypoints(predictions, truth, sigmas=[0.01] * 16)
    truth["categories"][0]["keypoints"] = list(MPII16.keypoints)
    assert coco_keypoints(predictions, truth) == given


def test_unknown_keypoint_names_never_get_the_sigmas_of_coco(truth, predictions):
    truth["categories"][0]["keypoints"] = [f"paw_{number}" for number in range(17)]
    with pytest.raises(ValueError, match="no built-in skeleton has the 17 keypoints"):
        coco_keypoints(predictions, truth)


def test_errors_about_the_ground_truth(predictions, truth, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file .*missing.json"):
        coco_keypoints(predictions, tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="broken.json is not valid JSON"):
        coco_keypoints(predictions, tmp_path / "broken.json")
    with pytest.raises(ValueError, match="Evaluation needs ground truth"):
        coco_keypoints(predictions, {"images": [{"id": 1}, {"id": 2}]})
    with pytest.raises(ValueError, match="no keypoint is labelled"):
        coco_keypoints(predictions, dict(truth, annotations=truth["annotations"][4:]))
    with pytest.raises(ValueError, match="Annotation 3 of the annotations lacks keypoints: pass a COCO keypoint file"):
        del truth["annotations"][3]["keypoints"]
        coco_keypoints(predictions, truth)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image_id": 99}, "Received image_id 99 unknown"),
        ({"category_id": 3}, "Received category_id 3 unknown"),
        ({"keypoints": np.full((17, 2), np.nan)}, r"Prediction 0 \(image 1\) needs finite 'keypoints'"),
        ({"scores": np.full(17, np.nan)}, "needs finite 'scores'"),
        ({"keypoints": np.zeros((17, 3))}, r"needs 'keypoints' of shape \(17, 2\). Received shape: \(17, 3\)"),
        ({"keypoints": np.zeros((1, 17, 2))}, r"Received shape: \(1, 17, 2\)"),
        ({"keypoints": [[1, 2], [3]]}, "needs numbers in 'keypoints'"),
        ({"box_score": np.ones(2)}, r"'box_score' of shape \(\). Received shape: \(2,\)"),
        ({"area": float("inf")}, "needs finite 'area'"),
        ({"box": [0, 0, 5]}, r"'box' of shape \(4,\)"),
    ],
)
def test_errors_about_a_prediction(predictions, truth, change, message):
    with pytest.raises(ValueError, match=message):
        coco_keypoints([predictions[0] | change], truth)


def test_errors_about_the_predictions_together(predictions, truth):
    without = {key: value for key, value in predictions[1].items() if key != "id"}
    with pytest.raises(ValueError, match="All predictions or none must have 'id'. Received: 1 of 2"):
        coco_keypoints([predictions[0], without], truth)
    with pytest.raises(ValueError, match="Prediction 0 lacks box_score, scores. It has: image_id, keypoints"):
        coco_keypoints([{"image_id": 1, "keypoints": np.zeros((17, 2))}], truth)
    with pytest.raises(ValueError, match="must be a list of dicts"):
        coco_keypoints(predictions[0], truth)
    short = dict(predictions[0], keypoints=np.zeros((3, 2)), scores=np.ones(3))
    with pytest.raises(ValueError, match="the annotations' 17 keypoints. Received: 3"):
        coco_keypoints([short], truth)
    with pytest.raises(ValueError, match="Received: 'hard'"):
        coco_keypoints(predictions, truth, nms="hard")
    with pytest.raises(ValueError, match="Received: 'rle'"):
        coco_keypoints(predictions, truth, score_mode="rle")
