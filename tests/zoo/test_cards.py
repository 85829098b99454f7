"""Cards, result files and the README's table are what the data says, and a change of the data changes them."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from cards import main, zoo_results, zoo_texts
from test_zoo import multiply_accumulates

from keras_regpose import from_preset, list_presets, preset_info, zoo
from keras_regpose.hub import preset_table
from keras_regpose.zoo import read_results, zoo_folder

ROOT = Path(__file__).parents[2]
BUNDLED, OLD = "mobilenetv2_rle_people", "mobilenetv2_rle_lspet"


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A copy of what the zoo's texts are made from, and of the texts."""
    for folder in ("zoo", "benchmarks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "README.md", tmp_path)
    monkeypatch.setattr(zoo, "_PACKAGE", tmp_path / "keras_regpose")
    return tmp_path


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize("made", [zoo_results, zoo_texts])
def test_what_is_committed_is_what_the_data_says(made, monkeypatch):
    monkeypatch.setattr(zoo, "_PACKAGE", ROOT / "keras_regpose")  # not the copy that is installed, which has no results
    texts = made()
    assert len(texts) >= 14
    stale = [str(path) for path, text in texts.items() if path.read_bytes() != text.encode("utf-8")]
    assert not stale, "run `python zoo/cards.py`"


@pytest.mark.parametrize("name", list_presets())
def test_every_row_has_recipe_results_and_card(name):
    folder = ROOT / "zoo" / name
    assert {path.name for path in folder.iterdir()} >= {"README.md", "results.json"}
    recipe, info, results = folder / "recipe.toml", preset_info(name), read_results(folder)
    if info["checkpoint"]:
        assert "agreement" in results or name in ("resnet50_rle_pretrained_coco", "resnet152_rle_coco_384x288")
        assert results.get("agreement", {}).get("largest_deviation", 0) < 1e-4
    else:
        assert results["training"]["command"]
        assert results["evaluations"][0]["flip_test"] == info["evaluation"]["flip_test"]
    if info["checkpoint"] or recipe.is_file():
        settings = tomllib.loads(recipe.read_text(encoding="utf-8"))
        assert (settings["backbone"], settings["method"]) == (info["backbone"], info["method"])
        assert settings["input_size"] == info["input_size"]


def test_every_folder_is_a_row():
    folders = {path.name for path in (ROOT / "zoo").iterdir() if path.is_dir()} - {"pictures"}
    assert folders == set(list_presets())


def test_new_figures_of_the_bundled_preset_reach_results_card_and_table(clone, capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == "0 files have changed\n"
    recorded = clone / "benchmarks" / "results" / "people.json"
    evaluations = json.loads(recorded.read_text())["evaluations"]
    evaluations[0]["metrics"]["PCK@0.2"] = 0.61749
    rewrite(recorded, evaluations=evaluations)
    assert main([]) == 0
    printed = capsys.readouterr().out.splitlines()
    changed = [f"zoo/{BUNDLED}/results.json", f"zoo/{BUNDLED}/README.md", "README.md"]
    assert printed == [*changed, "3 files have changed"]
    assert read_results(zoo_folder() / BUNDLED)["evaluations"][0]["metrics"]["PCK@0.2"] == 0.61749
    assert preset_info(BUNDLED)["metrics"] == {"PCK@0.2": 0.61749} and "PCK@0.2 .617" in preset_table()
    assert "value: 0.6175" in (clone / "zoo" / BUNDLED / "README.md").read_text()
    assert "| PCK@0.2 .617 |" in (clone / "README.md").read_text()
    assert "it reaches PCK@0.2 .617" in " ".join((clone / "README.md").read_text().split())


def test_a_measured_speed_reaches_the_cards_of_its_models(clone, capsys):
    row = {"model": "resnet50_coco", "task": "8 people", "ms_per_person": 12.34, "median_ratio_to_mmpose": 5.26}
    comparisons = [
        row | {"label": "OpenVINO, int8", "deviation": {"median": 0.807}},
        row | {"label": "MMPose (PyTorch)", "deviation": None},
        row | {"label": "Keras, float32", "deviation": None},
    ]
    result = {"environment": {"cores": 2, "processor": "P", "date": "2026-11-25"}, "comparisons": comparisons}
    (clone / "benchmarks" / "results" / "inference_speed.json").write_text(json.dumps(result))
    assert main([]) == 0
    card = (clone / "zoo" / "resnet50_coco" / "README.md").read_text()
    for label in ("OpenVINO, int8", "MMPose (PyTorch)", "Keras, float32"):
        assert f"| {label} | 12.3 |" in card
    readme = (clone / "README.md").read_text()
    assert "| | resnet50_coco, 8 people | moved by |" in readme
    assert (
        "| OpenVINO, int8 | 12.3 ms, ×5.3 | 0.81 px |" in readme and "| MMPose (PyTorch) | 12.3 ms, ×5.3 |  |" in readme
    )
    assert "## Speed" not in (clone / "zoo" / "resnet101_coco" / "README.md").read_text()


def test_evaluations_of_a_build_are_taken_over(clone, tmp_path, capsys):
    built = tmp_path / "built" / "resnet50_coco"
    built.mkdir(parents=True)
    entry = {
        "data": "COCO val2017",
        "images": 5000,
        "people": 104125,
        "boxes": "detections of COCO_val2017_detections_AP_H_56_person.json",
    }
    entry |= {"flip_test": True, "metrics": {"AP": 0.5408, "AR": 0.6491}}
    (built / "results.json").write_text(json.dumps({"evaluations": [entry]}))
    assert main(["--results", str(built.parent)]) == 0
    assert main([]) == 0  # and they stay
    assert capsys.readouterr().out.endswith("\n0 files have changed\n")
    row = next(line for line in preset_table().splitlines() if line.startswith("resnet50_coco"))
    assert row.split()[5:] == "AP .541 (.528†) AR .649 (.639†) AP .541 AR .649".split()
    assert "104,125 people in 5,000 images" in (clone / "zoo" / "resnet50_coco" / "README.md").read_text()


def test_only_the_published_protocol_stands_in_the_table(clone, tmp_path):
    folder = tmp_path / "built" / "resnet50_coco"
    folder.mkdir(parents=True)
    entry = {"data": "COCO val2017", "images": 5000, "people": 6352, "boxes": "annotated", "flip_test": True}
    (folder / "results.json").write_text(json.dumps({"evaluations": [entry | {"metrics": {"AP": 0.6, "AR": 0.7}}]}))
    assert main(["--results", str(folder.parent)]) == 0
    row = next(line for line in preset_table().splitlines() if line.startswith("resnet50_coco"))
    assert row.split()[5:] == "AP .541 (.528†) AR .649 (.639†)".split()


def test_a_readme_without_a_place_and_an_installed_package(clone, capsys):
    (clone / "README.md").write_text("# Mine\n")
    assert main([]) == 2
    assert "README.md has no place for what is made of data" in capsys.readouterr().err
    shutil.rmtree(clone / "benchmarks")
    assert main([]) == 2
    assert "written in a clone" in capsys.readouterr().err


def test_the_bundled_preset_is_that_of_its_row():
    model, info = from_preset(BUNDLED), preset_info(BUNDLED)
    assert (model.method, list(model.input_size)) == (info["method"], info["input_size"])
    graph = model.to_keras()
    assert sum(weight.shape.num_elements() for weight in graph.trainable_weights) == info["params"]
    assert multiply_accumulates(graph) / 1e9 == pytest.approx(info["gmacs"], abs=6e-5)


@pytest.mark.slow
def test_the_preset_of_athletes_reaches_its_figures(shared_data):
    from keras_regpose.data import Lsp
    from keras_regpose.evaluation.evaluate import evaluate

    samples, model = Lsp(shared_data / "lspet", split="test"), from_preset(OLD)
    for entry in read_results(zoo_folder() / OLD)["evaluations"]:
        figures = evaluate(model, samples, flip_test=entry["flip_test"])
        assert figures["Mean"] == pytest.approx(entry["metrics"]["PCK@0.2"], abs=1e-3)
        assert figures["persons"] == entry["people"]
