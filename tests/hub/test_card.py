"""Model cards: accepted by the Hub's validators, their figures from files, their snippets in other tests."""

import json
import re

import pytest
from card_rules import card_errors
from huggingface_hub import EvalResult, HfApi, ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from keras_regpose import PoseRegressor, Skeleton, list_presets, preset_info
from keras_regpose.hub.card import preset_card, zoo_card
from keras_regpose.hub.preset_files import save_preset
from keras_regpose.hub.publish import publish_preset
from keras_regpose.skeleton import SKELETONS
from keras_regpose.zoo import picture_of, read_results, zoo_folder

EVALUATION = {
    "data": "COCO val2017",
    "images": 5000,
    "people": 104125,
    "boxes": "detections of boxes.json",
    "flip_test": True,
    "metrics": {"AP": 0.7051, "AP50": 0.8877, "AR": 0.7523},
}


def figures_shown(card):
    """The numbers in the cells of a card's tables of accuracy."""
    return {float(f"0{cell}") for cell in re.findall(r"\| (\d*\.\d{2,3})(?= \|)", card)}


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    """The preset of somebody's own skeleton."""
    skeleton = Skeleton("arm", ("left_shoulder", "left_elbow", "left_wrist"), edges=(("left_shoulder", "left_elbow"),))
    folder = tmp_path_factory.mktemp("arm") / "preset"
    PoseRegressor("mobilenetv2_0.25", skeleton, (32, 32), method="deeppose").save_to_preset(folder)
    return folder


@pytest.mark.parametrize("name", list_presets())
def test_every_card_is_accepted_by_the_validators(name, hub):
    card = ModelCard.load(zoo_folder() / name / "README.md")
    card.validate()
    assert [path for _, path, _ in hub.log] == ["/api/validate-yaml"]
    assert card.data.library_name == "keras" and card.data.pipeline_tag == "keypoint-detection"
    assert (
        card.data.license == ("other" if name == "mobilenetv2_rle_people" else "apache-2.0")
        and "keras-regpose" in card.data.tags
    )
    info = preset_info(name)
    assert card.data.datasets == [info["dataset"]]
    _, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert results == card.data.eval_results and all(isinstance(result, EvalResult) for result in results)
    published = {entry.metric_type: entry for entry in results if entry.source_name == "MMPose 1.3.2"}
    expected = info["metrics"] if info["checkpoint"] else {}
    assert {metric: entry.metric_value for metric, entry in published.items()} == expected
    for entry in results:
        assert entry.source_url.endswith((info["source"], f"{name}/blob/main/results.json"))
        assert "flip test; boxes: " in entry.dataset_config


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("license: apache-2.0", "license: apache2", "'license' must be one of"),
        ("pipeline_tag: keypoint-detection", "pipeline_tag: keypoints", "'pipeline_tag' must be one of"),
        ("datasets:\n- coco", "datasets:\n- 1", "'datasets' must be a list of strings"),
        ("      type: coco", "      config: coco", "model-index lacks dataset.type"),
        ("value: 0.541", "value: high", "the value of AP must be a number"),
        ("library_name: keras", "library_name: keras: 3", "the front matter is not valid YAML"),
    ],
)
def test_the_validator_refuses(right, wrong, message, hub):
    text = zoo_card("resnet50_coco")
    assert text.count(right) >= 1
    (error,) = card_errors(text.replace(right, wrong, 1))
    assert error.startswith(message)
    with pytest.raises(ValueError, match=message):
        HfApi(endpoint=hub.url)._validate_yaml(text.replace(right, wrong, 1))


@pytest.mark.parametrize("name", list_presets())
def test_no_figure_without_a_file(name):
    info, card = preset_info(name), (zoo_folder() / name / "README.md").read_text(encoding="utf-8")
    evaluations = read_results(zoo_folder() / name).get("evaluations", [])
    known = {round(value, 3) for value in info["metrics"].values()}
    known |= {round(value, 3) for entry in evaluations for value in entry["metrics"].values()}
    assert figures_shown(card) == known
    measured = card.split("### Measured by this project")[1]
    assert ("Not measured yet" in measured) == (not evaluations)
    assert ("### Published" in card) == (info["checkpoint"] is not None)
    for caveat in info["caveats"]:
        assert caveat in card


def test_published_and_measured_figures_are_kept_apart():
    card = zoo_card("resnet50_rle_coco", {"evaluations": [EVALUATION]})
    published, measured = card.split("### Published")[1].split("### Measured by this project")
    assert figures_shown(published) == {0.706, 0.888, 0.776, 0.753, 0.924}
    assert figures_shown(measured) == {0.705, 0.888, 0.752}
    assert "with flip test" in published and "human AP 56.4" in published
    row = "| COCO val2017: 104,125 people in 5,000 images | detections of boxes.json | yes | .705 | .888 | .752 |"
    assert row in measured and "Not measured yet" not in measured
    values = [(r.metric_type, r.metric_value, r.source_name) for r in ModelCard(card).data.eval_results]
    assert ("AP", 0.706, "MMPose 1.3.2") in values and ("AP", 0.7051, "results.json") in values
    assert ("AP50", 0.8877, "results.json") not in values  # only those that stand for a model


def test_speed_is_shown_where_it_was_measured():
    assert "## Speed" not in zoo_card("resnet50_coco", {})
    rows = {"Keras, float32": {"1 person": 61.26, "8 people": 40.0}, "ONNX, int8": {"8 people": 7.04}}
    environment = {"cores": 2, "processor": "Fast One", "date": "2026-11-25"}
    speed = {"milliseconds_per_person": rows, "environment": environment, "source": "benchmarks/results/speed.json"}
    card = zoo_card("resnet50_coco", {"speed": speed})
    section = card.split("## Speed")[1].split("## ")[0]
    assert "| Keras, float32 | 61.3 | 40.0 |" in section and "| ONNX, int8 |  | 7.0 |" in section
    assert "2 cores of an Fast One (2026-11-25; `benchmarks/results/speed.json`, which" in section


def test_a_card_says_what_goes_in_and_what_comes_out():
    rle, plain = zoo_card("resnet152_rle_coco_384x288"), zoo_card("resnet50_mpii")
    assert "`(N, 384, 288, 3)`, RGB from 0 to 255" in rle and "`(N, 17, 4)`: x, y, σx, σy" in rle
    assert "`(N, 256, 256, 3)`" in plain and "`(N, 16, 2)`: x, y of each" in plain and "scores are all 1" in plain
    assert "0 nose, 1 left_eye" in rle and "15 left_wrist" in plain
    assert "toshev2014deeppose" in plain and "li2021human" not in plain and "andriluka14cvpr" in plain
    assert "li2021human" in rle and "mmpose2020" in rle and "lin2014microsoft" in rle


def test_pictures_are_small_and_there():
    for skeleton in SKELETONS.values():
        path = picture_of(skeleton)
        assert path.read_bytes()[:3] == b"\xff\xd8\xff" and path.stat().st_size < 60_000
    assert picture_of(Skeleton("coco17", ("nose",), edges=())) is None


def test_a_preset_of_ones_own(arm, hub):
    card = preset_card(arm, "me/arm")
    ModelCard(card).validate()
    assert ModelCard(card).data.model_name is None and "license" not in ModelCard(card).data.to_dict()
    assert 'from_preset("hf://me/arm")' in card and 'load_model("hf://me/arm")' in card
    assert "0 left_shoulder, 1 left_elbow, 2 left_wrist" in card
    assert "## Results" not in card and "![" not in card and figures_shown(card) == set()
    (arm / "results.json").write_text(json.dumps({"evaluations": [EVALUATION]}))
    measured = preset_card(arm, "me/arm", license_name="mit")
    (arm / "results.json").unlink()
    assert figures_shown(measured) == {0.705, 0.888, 0.752} and ModelCard(measured).data.license == "mit"
    ModelCard(measured).validate()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "results.json is no file of results: "),
        ("[]", "results.json is no file of results: "),
        ('{"evaluations": [{"data": "mine"}]}', "has an evaluation without 'people'; each has data, people, boxes"),
    ],
)
def test_results_of_another_form_are_named(preset, content, message):
    (preset / "results.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        preset_card(preset, "me/pose")


def test_figures_of_ones_own_metric(preset):
    (preset / "results.json").write_text(json.dumps({"evaluations": [EVALUATION | {"metrics": {"mine": 0.25}}]}))
    assert "| mine |" in preset_card(preset, "me/pose") and figures_shown(preset_card(preset, "me/pose")) == {0.25}


def test_what_a_stranger_writes_stays_text(model, tmp_path, hub):
    save_preset(model, tmp_path / "preset", license="x\n---\n# Injected", preset="resnet50_rle_coco", origin={})
    card = preset_card(tmp_path / "preset", "me/resnet50_rle_coco")
    assert ModelCard(card).data.license is None and "njected" not in card
    assert ".706" not in card  # not made from the official checkpoint, whatever it says
    ModelCard(card).validate()


def test_a_published_preset_brings_its_card_and_picture(arm, preset, hub, owner):
    publish_preset(preset, "org/pose", license_name="mit")
    sent = hub.files("org/pose")
    assert sent["README.md"].decode() == preset_card(preset, "org/pose", "mit")
    assert sent["keypoints.jpg"] == picture_of(SKELETONS["coco17"]).read_bytes()
    publish_preset(arm, "org/arm")
    assert "keypoints.jpg" not in hub.files("org/arm")
    assert [path for method, path, _ in hub.log if method == "POST"].count("/api/validate-yaml") == 2


def test_a_card_that_the_hub_refuses_is_not_sent(preset, hub, owner):
    (preset / "README.md").write_text("---\nlicense: my own\n---\n")
    with pytest.raises(ValueError, match="Invalid metadata in README.md"):
        publish_preset(preset, "org/pose")
    assert "preset.json" not in hub.files("org/pose")
