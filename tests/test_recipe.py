"""The zoo's recipes are the published ones; settings can be changed in proportion and on the command line."""

import argparse
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from keras_regpose import COCO17, PoseRegressor, geometry, list_presets, preset_info
from keras_regpose.cli import COMMANDS, main
from keras_regpose.commands import train as train_command
from keras_regpose.data import Augmentation, Synthetic
from keras_regpose.data.batches import PoseBatches
from keras_regpose.datasets import DETECTIONS
from keras_regpose.training import Recipe, list_recipes, train
from keras_regpose.training.optimizer import make_schedule
from keras_regpose.zoo import zoo_folder

PROTOCOL = json.loads((Path(__file__).parent / "golden" / "protocol.json").read_text())
DATASETS = {"CocoDataset": "coco", "MpiiDataset": "mpii", "WFLWDataset": "wflw"}
DATASETS |= {"OneHand10KDataset": "onehand10k", "Rhd2DDataset": "rhd2d"}
LOSSES = {"RLELoss": None, "SmoothL1Loss": None, "WingLoss": "wing", "SoftWingLoss": "soft_wing"}


@pytest.mark.parametrize("name", PROTOCOL)
def test_a_recipe_is_that_of_mmposes_config(name):
    config = PROTOCOL[name]
    (kind, depth), (optimizer, rate), (start_factor, warmup, by_epoch) = (
        config[key] for key in ("backbone", "optimizer", "warmup")
    )
    assert (optimizer, start_factor, by_epoch, config["padding"]) == ("Adam", 0.001, False, geometry.BOX_PADDING)
    (drops, factor), (shift, shift_probability) = config["drops"], config["shift"]
    assert factor == 0.1 and config["batch_size"] == 8 * config["batch_per_device"] == 512
    assert Recipe.of(name) == Recipe(
        backbone=f"{kind.lower()}{depth or ''}",
        input_size=tuple(config["input_size_wh"][::-1]),
        method="rle" if config["loss"] == "RLELoss" else "deeppose",
        loss=LOSSES[config["loss"]],
        dataset=DATASETS[config["dataset"]],
        start="torchvision" if config["start"].startswith("torchvision") else "heatmap",
        head_bias=0.0,
        epochs=config["epochs"],
        batch_size=config["batch_size"],
        learning_rate=rate,
        schedule="steps",
        drops=tuple(drops),
        warmup=warmup,
        clip_norm=None,
        accumulate=1,
        average_decay=None,
        frozen_stages=-1,
        delay_flow=0,
        precision="float32",
        validate_every=config["validate_every"],
        flip_test=config["flip_test"],
        detected_boxes=config["validation_boxes"] is not None,
        patience=None,
        augmentation=Augmentation(
            config["flip_probability"],
            config["half_body_probability"],
            shift,
            shift_probability,
            tuple(config["scale"][0]),
            config["scale"][1],
            config["rotation"][0],
            config["rotation"][1],
        ),
    )
    text = (zoo_folder() / name / "recipe.toml").read_text(encoding="utf-8")
    assert text.splitlines()[0] == f"# MMPose 1.3.2: {Path(config['config']).name}"
    assert f"over the {config['batch_per_device']} crops of each of 8 devices" in text
    assert config["start"].startswith("torchvision") or config["start"] in text


@pytest.mark.parametrize("name", PROTOCOL)
def test_validation_is_that_of_mmposes_config(name):
    config, info = PROTOCOL[name], preset_info(name)
    evaluation = info["evaluation"]
    assert evaluation["flip_test"] is config["flip_test"] and evaluation["shift_coords"] is config["shift_coords"]
    assert (config["validation_boxes"] or "annotated") in evaluation["boxes"]
    assert config["validation_boxes"] in (None, Path(DETECTIONS).name)
    best = {"coco/AP": "AP", "PCK": "PCKh@0.5", "NME": "NME", "AUC": "AUC"}[config["best"]]
    assert best in info["metrics"]
    mode = "bbox_rle" if info["method"] == "rle" else None  # None is "bbox_keypoint"
    assert info["dataset"] != "coco" or config["evaluators"][0].get("score_mode") == mode
    thresholds = [one["thr"] for one in config["evaluators"] if "thr" in one]
    assert thresholds == ([0.2] if "PCK@0.2" in info["metrics"] else [])


@pytest.mark.parametrize("name", PROTOCOL)
def test_epochs_have_as_many_batches_as_mmposes(name):
    recipe, config = Recipe.of(name), PROTOCOL[name]
    loader = SimpleNamespace(samples=range(config["people"]))
    assert PoseBatches(loader, recipe.batch_size, True, True).batches_per_epoch == config["batches_per_epoch"]
    rate = make_schedule(recipe, config["batches_per_epoch"])
    first, last = (config["batches_per_epoch"] * epoch for epoch in recipe.drops)
    expected = {0: 1e-3, 250: 0.001 + 0.999 * 250 / 499, 499: 1, first - 1: 1, first: 0.1, last - 1: 0.1, last: 0.01}
    for step, share in expected.items():
        assert float(rate(step)) == pytest.approx(share * recipe.learning_rate, rel=1e-5), step
    # Two hosts share each batch. What the recipe says of one device has the same rate in the same epochs.
    halves = [PoseBatches(loader, recipe.batch_size, True, True, host=(host, 2)) for host in (0, 1)]
    assert {half.batches_per_epoch for half in halves} == {config["batches_per_epoch"]}
    alone, per_epoch = recipe.changed(batch_size=64, accumulate=8), -(-config["people"] // 64)
    assert alone.learning_rate == recipe.learning_rate and abs(per_epoch / 8 - config["batches_per_epoch"]) < 1
    rate = make_schedule(alone, per_epoch)
    for epoch, before, after in ((recipe.drops[0], 1, 0.1), (recipe.drops[1], 0.1, 0.01)):
        for step, share in ((epoch * per_epoch - 8, before), (epoch * per_epoch + 8, after)):
            assert float(rate(step)) == pytest.approx(share * recipe.learning_rate, rel=1e-5), step
    assert PROTOCOL["resnet50_coco"]["batches_per_epoch"] == 293


def test_every_published_row_has_a_recipe():
    published = {name for name in list_presets() if preset_info(name)["checkpoint"]}
    assert published == set(PROTOCOL) and len(published) == 18 and published <= set(list_recipes())


def test_the_learning_rate_of_each_iteration_is_the_published_one():
    recipe = Recipe.of("resnet50_rle_coco")
    steps = 293  # of an epoch of COCO's 149,813 people
    rate = make_schedule(recipe, steps)
    published = {0: 1e-6, 1: 3.002e-6, 250: 5.01501e-4, 498: 9.97998e-4, 499: 1e-3}
    published |= {170 * steps - 1: 1e-3, 170 * steps: 1e-4, 200 * steps - 1: 1e-4, 200 * steps: 1e-5}
    for step, expected in published.items():
        assert float(rate(step)) == pytest.approx(expected, rel=2e-5), step


def test_a_short_run_is_warmed_up_for_a_sixth_of_it():
    rate = make_schedule(Recipe(epochs=12, drops=(11,), learning_rate=1.0), 5)
    assert [float(rate(step)) for step in (0, 9, 10)] == pytest.approx([1e-3, 1, 1])
    assert float(rate(8)) == pytest.approx(0.001 + 0.999 * 8 / 9)


def test_accumulation_does_not_stretch_the_schedule():
    recipe = Recipe.of("resnet50_rle_coco")
    accumulating = recipe.changed(batch_size=128, accumulate=4)
    assert accumulating.learning_rate == recipe.learning_rate
    large, small = make_schedule(recipe, 293), make_schedule(accumulating, 4 * 293)
    for move in (0, 250, 499, 170 * 293 - 1, 170 * 293):
        for step in range(4 * move, 4 * move + 4):
            assert float(small(step)) == pytest.approx(float(large(move)), rel=1e-6)


def test_the_learning_rate_follows_the_batch_and_the_drops_the_epochs():
    recipe = Recipe.of("resnet50_rle_coco").changed(batch_size=64, epochs=21)
    assert (recipe.learning_rate, recipe.drops, recipe.warmup) == (1.25e-4, (17, 20), 500)
    assert recipe.changed(batch_size=128, learning_rate=3e-4).learning_rate == 3e-4
    assert recipe.changed(epochs=10, drops=(9,)).drops == (9,)


def test_a_recipe_survives_being_written_as_json():
    for name in PROTOCOL:
        recipe = Recipe.of(name)
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def options(*arguments):
    parser = argparse.ArgumentParser()
    train_command.add_options(parser)
    assert train_command in COMMANDS
    return parser.parse_args(["--output", "unused", *arguments])


def test_the_command_line_changes_settings():
    changed = train_command._recipe(
        options(
            *("--recipe", "resnet50_rle_coco", "--batch-size", "128", "--epochs", "42", "--clip-norm", "5"),
            *("--average-decay", "0.999", "--frozen-stages", "1", "--accumulate", "2"),
            *("--rotation", "30", "--scale-range", "0.8", "1.2", "--precision", "mixed_bfloat16", "--seed", "7"),
            *("--schedule", "cosine", "--from-random"),
        )
    )
    assert changed == Recipe.of("resnet50_rle_coco").changed(
        batch_size=128,
        epochs=42,
        drops=(34, 40),
        learning_rate=5e-4,
        clip_norm=5,
        average_decay=0.999,
        frozen_stages=1,
        accumulate=2,
        augmentation=Augmentation(0.5, 0.3, 0.16, 0.3, (0.8, 1.2), 1.0, 30.0, 0.6),
        precision="mixed_bfloat16",
        seed=7,
        schedule="cosine",
        start="random",
    )
    assert train_command._recipe(options("--recipe", "resnet50_mpii")) == Recipe.of("resnet50_mpii")


# Of each setting a value other than the default, as the shell and as Python have it.
SETTINGS = {
    "backbone": ("resnet18", "resnet18"),
    "input_size": ("64x48", (64, 48)),
    "method": ("deeppose", "deeppose"),
    "head": ("integral", "integral"),
    "unit_errors": (None, True),
    "dataset": ("lsp", "lsp"),
    "head_bias": ("0.25", 0.25),
    "epochs": ("3", 3),
    "batch_size": ("4", 4),
    "learning_rate": ("1", 1),
    "schedule": ("cosine", "cosine"),
    "drops": (("2", "3"), (2, 3)),
    "warmup": ("5", 5),
    "clip_norm": ("5", 5),
    "accumulate": ("2", 2),
    "average_decay": ("0.9", 0.9),
    "frozen_stages": ("1", 1),
    "delay_flow": ("1", 1),
    "precision": ("mixed_bfloat16", "mixed_bfloat16"),
    "validate_every": ("2", 2),
    "flip_test": (None, True),
    "detected_boxes": (None, True),
    "patience": ("3", 3),
    "seed": ("7", 7),
    "flip_probability": ("0.25", 0.25),
    "half_body_probability": ("1", 1),
    "shift_factor": ("0.1", 0.1),
    "shift_probability": ("0.1", 0.1),
    "scale_range": (("0.9", "1.1"), (0.9, 1.1)),
    "scale_probability": ("0.1", 0.1),
    "rotation": ("40", 40),
    "rotation_probability": ("0", 0),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_python_has_each_setting_of_the_shell(name):
    shell, python = SETTINGS[name]
    flag = [f"--{name.replace('_', '-')}", *([shell] if isinstance(shell, str) else shell or ())]
    data = [] if name == "dataset" else ["--dataset", "coco"]
    recipe = train_command._recipe(options(*data, *flag))
    assert recipe == Recipe.with_settings(**{name: python})
    assert recipe != Recipe.with_settings()
    holder = recipe if hasattr(recipe, name) else recipe.augmentation
    assert getattr(holder, name) == python


def test_no_setting_is_left_out():
    fields = {field.name for kind in (Recipe, Augmentation) for field in dataclasses.fields(kind)}
    # Two are said by --from-random and --no-augmentation, one goes with one method alone.
    assert set(SETTINGS) == fields - {"start", "augmentation", "loss"}
    chosen = train_command._recipe(options("--dataset", "wflw", "--method", "deeppose", "--loss", "wing"))
    assert chosen == Recipe.with_settings(dataset="wflw", method="deeppose", loss="wing")
    with pytest.raises(ValueError, match="loss is for the method 'deeppose'. Received: 'wing' with 'rle'"):
        Recipe(loss="wing")
    unlike = train_command._recipe(options("--recipe", "resnet50_coco", "--no-flip-test", "--no-detected-boxes"))
    assert unlike == Recipe.of("resnet50_coco").changed(flip_test=False, detected_boxes=False)


def test_train_takes_all_settings_of_the_shell():
    """Those that a model does not bring along, in one run."""
    of_the_model = ("backbone", "input_size", "method", "head", "dataset", "head_bias", "precision")
    given = {name: python for name, (_, python) in SETTINGS.items() if name not in of_the_model}
    history = train(
        *(PoseRegressor("mobilenetv2_0.25", COCO17, (64, 48)), Synthetic(12, seed=0), Synthetic(2, seed=1)),
        verbose=0,
        **given | {"learning_rate": 1e-3},  # at 1 the loss is soon no number
    )
    assert len(history["loss"]) == 3


def test_the_delay_of_the_flow_follows_the_epochs():
    recipe = Recipe(epochs=100, delay_flow=80)
    assert recipe.changed(epochs=10).delay_flow == 8
    assert recipe.changed(epochs=10, delay_flow=3).delay_flow == 3
    assert recipe.changed(batch_size=8).delay_flow == 80
    with pytest.raises(ValueError, match="epochs must be a whole number. Received: '3'"):
        recipe.changed(epochs="3")


def test_what_a_preset_brings_along_is_not_passed_over(tmp_path, capsys):
    train = ["train", "--preset", "mobilenetv2_rle_lspet", "--dataset", "synthetic", "--output", str(tmp_path / "run")]
    for given in (
        *(["--start", "weights.pth"], ["--from-random"], ["--input-size", "64x48"]),
        *(["--method", "deeppose"], ["--backbone", "resnet50"]),
    ):
        assert main([*train, *given]) == 2
        assert f"{given[0]} does not go with --preset" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_ones_own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('backbone = "resnet18"\nbatch_size = 32\n[augmentation]\nrotation = 10.0\n')
    recipe = train_command._recipe(options("--recipe", str(file), "--dataset", "coco"))
    assert recipe == Recipe(backbone="resnet18", batch_size=32, augmentation=Augmentation(rotation=10.0))


def test_mistakes_are_explained(tmp_path):
    file = tmp_path / "mine.toml"
    for text, message in (
        ("epoch = 3", "has 'epoch', which is none of"),
        ("[augmentation]\nturn = 3", "has 'turn', which is none of"),
        ("epochs = ", "is not valid TOML"),
        ("epochs = 0", "epochs must be at least 1"),
        ("average_decay = 1.5", "average_decay must be between 0 and 1"),
        ("clip_norm = -1.0", "clip_norm must be positive"),
        ('start = "imagenet"', "start must be one of"),
        ('epochs = "3"', "epochs must be a whole number. Received: '3'"),
        ('learning_rate = "1e-3"', "learning_rate must be a number. Received: '1e-3'"),
        ("input_size = 256", "input_size must be whole numbers. Received: 256"),
        ("drops = 5", "drops must be whole numbers. Received: 5"),
        ("augmentation = 5", "needs a table of settings in 'augmentation'. Received: 5"),
        ('[augmentation]\nrotation = "a"', "a setting of 'augmentation' that is not made of numbers"),
        ("[augmentation]\nscale_range = 5", "a setting of 'augmentation' that is not made of numbers"),
        ("learning_rate = inf", "learning_rate must be below 4,294,967,296. Received: inf"),
        ("learning_rate = nan", "learning_rate must be below 4,294,967,296. Received: nan"),
        ("drops = [-3]", "drops must be at least 0. Received: -3"),
        ("input_size = [10, 192]", "input_size must be .height, width., each from 32 to 4096 pixels"),
        (f"epochs = {'9' * 400}", "epochs must be below 4,294,967,296. Received: 9{80}$"),
        (f"head_bias = {'9' * 400}", "head_bias must be below 4,294,967,296. Received: 9{80}$"),
        ("a = " + "[" * 100_000, "is not valid TOML"),
        ("seed = -1", "seed must be at least 0"),
        ("backbone = 50", "backbone must be a text. Received: 50"),
        ("warmup = -1", "warmup must be at least 0. Received: -1"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            Recipe.read(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="mine.toml is not valid TOML"):
        Recipe.read(file)
    with pytest.raises(FileNotFoundError, match="There is no file .*absent.toml"):
        Recipe.read(tmp_path / "absent.toml")
    with pytest.raises(ValueError, match="There is no recipe 'resnet51'. There are: mobilenetv2_rle_coco"):
        Recipe.of("resnet51")
