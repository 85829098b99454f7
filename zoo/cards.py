"""Writes what the zoo's folder and the README show, made from data: result files, cards, tables.

Run it in a clone after a recipe, a fact or a benchmark's result has changed:

    python zoo/cards.py
    python zoo/cards.py --results presets  # a folder of zoo/build.py, whose evaluations are taken over
"""

import argparse
import json
import sys
import textwrap
from pathlib import Path

from PIL import Image

from keras_regpose.drawn.people import Synthetic
from keras_regpose.files import write_whole
from keras_regpose.hub.card import zoo_card
from keras_regpose.images import read_image
from keras_regpose.inference.draw import draw_poses
from keras_regpose.skeleton import SKELETONS
from keras_regpose.zoo import CARD, RESULTS, list_presets, preset_info, preset_table, read_results, zoo_folder

BEGIN, END = "<!-- made by: python zoo/cards.py -->", "<!-- end of what is made -->"
BEGIN_SPEED, END_SPEED = "<!-- speed, made by: python zoo/cards.py -->", "<!-- end of speed -->"
SPEED = "inference_speed.json"


def zoo_results(clone: Path, built: Path | None = None) -> dict[Path, str]:
    """Returns the result files of all rows: what benchmarks recorded, and evaluations, of a build or as they were."""
    texts = {}
    for name in list_presets():
        known = read_results(zoo_folder() / name)
        if built is not None:
            known |= read_results(built / name)
        gathered = {
            "agreement": _agreement(clone, name),
            "evaluations": known.get("evaluations", []),
            "training": None,
            "speed": _speed(clone, name),
        }
        if preset_info(name)["dataset"] == "lspet":
            gathered |= _lspet(clone, name)
        kept = {key: value for key, value in gathered.items() if value is not None}
        texts[zoo_folder() / name / RESULTS] = to_json(kept)
    return texts


def zoo_texts(clone: Path) -> dict[Path, str]:
    """Returns the cards of all rows and the README with its tables, as result files and benchmarks say."""
    texts = {}
    for name in list_presets():
        picture = f"../pictures/{preset_info(name)['skeleton']}.jpg"
        texts[zoo_folder() / name / CARD] = zoo_card(name, picture=picture)
    readme = (clone / "README.md").read_text(encoding="utf-8")
    readme = _between(readme, BEGIN, END, f"{preset_table(markdown=True)}\n\n{_bundled()}")
    texts[clone / "README.md"] = _between(readme, BEGIN_SPEED, END_SPEED, _speed_table(_recorded(clone, SPEED)))
    return texts


def to_json(value: dict) -> str:
    """Returns the text of a results file."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _between(text, begin, end, made):
    if begin not in text or end not in text:
        raise ValueError(f"README.md has no place for what is made of data: it goes between {begin} and {end}")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}"


def _speed_table(recorded):
    """Returns milliseconds per person, and how often MMPose's speed that is, of all that was compared."""
    rows, columns, moved = {}, {}, {}
    for row in recorded.get("comparisons", []):
        if row["task"].startswith("folder"):
            continue  # the cards have it
        column = f"{row['model']}, {row['task']}"
        columns[column] = None
        cell = f"{row['ms_per_person']:.3g} ms, ×{row['median_ratio_to_mmpose']:.1f}"
        rows.setdefault(row["label"], {})[column] = cell
        if row["deviation"]:
            moved.setdefault(row["label"], {})[row["model"]] = f"{row['deviation']['median']:.2f}"
    lines = ["| | " + " | ".join(columns) + " | moved by |", "| --- |" + " ---: |" * (len(columns) + 1)]
    for label, cells in rows.items():
        pixels = " / ".join(moved[label].values()) + " px" if label in moved else ""
        lines.append(f"| {label} | " + " | ".join(cells.get(column, "") for column in columns) + f" | {pixels} |")
    if not rows:
        return "Not measured."
    environment = recorded["environment"]
    machine = f"{environment['cores']} cores of an {environment['processor']}, {environment['date']}"
    return "\n".join(lines) + f"\n\nMedians, on {machine}; the cards also have a folder of 1,000 people."


def _bundled():
    (name,) = (name for name in list_presets() if preset_info(name)["checkpoint"] is None)
    results, info = read_results(zoo_folder() / name), preset_info(name)
    (metric, value), training, evaluation = *info["metrics"].items(), results["training"], results["evaluations"][0]
    return textwrap.fill(
        f"`{name}` ships with the package, so that everything works offline. It was trained on "
        f"{training['people']:,} photographs, from ImageNet weights. Of photographs that it never saw, it reaches "
        f"{metric} {_short(value)} (the mean pose: {_short(evaluation['baseline'][metric])}): "
        f"a starting point for fine-tuning, not a pose "
        f"estimator to rely on. Its [card](zoo/{name}/README.md) has the rest.",
        width=120,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _short(value):
    return f"{value:.3f}".replace("0.", ".", 1)


def _recorded(clone, file):
    path = clone / "benchmarks" / "results" / file
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _agreement(clone, name):
    file = "mmpose_agreement.json"
    recorded = _recorded(clone, file)
    if name not in recorded.get("rows", {}):
        return None
    facts = {key: recorded[key] for key in ("mmpose", "unit", "environment")}
    return recorded["rows"][name] | facts | {"source": f"benchmarks/results/{file}"}


def _speed(clone, name):
    recorded = _recorded(clone, SPEED)
    rows = {}
    for row in recorded.get("comparisons", []):
        if row["model"] == name:
            rows.setdefault(row["label"], {})[row["task"]] = row["ms_per_person"]
    if not rows:
        return None
    facts = {"environment": recorded["environment"], "source": f"benchmarks/results/{SPEED}"}
    facts |= {key: recorded[key] for key in ("remark",) if key in recorded}
    return {"milliseconds_per_person": rows} | facts


def _lspet(clone, name):
    file = "lspet.json"
    recorded = _recorded(clone, file)
    protocol = preset_info(name)["evaluation"]
    source, environment = f"benchmarks/results/{file}", recorded["environment"]
    evaluations = []
    for key, flip_test in (("test_PCK@0.2_torso_flip_test", True), ("test_PCK@0.2_torso", False)):
        figures = recorded[key]
        joints = {name: value for name, value in figures.items() if name not in ("Mean", "persons", "left_out")}
        metrics = {"PCK@0.2": figures["Mean"], **joints}
        evaluations.append(
            {
                "data": protocol["data"],
                "people": figures["persons"],
                "left_out": figures["left_out"],
                "boxes": protocol["boxes"],
                "flip_test": flip_test,
                "metrics": {name: round(value, 6) for name, value in metrics.items()},
                "baseline": {"PCK@0.2": round(recorded["mean_pose_PCK@0.2_torso"], 6)},
                "source": source,
                "environment": environment,
            }
        )
    evaluations[-1]["calibration"] = recorded["test_calibration"]  # without flip test, as `estimate` predicts
    training = {
        "command": recorded["settings"],
        "people": recorded["people"]["train"],
        "epochs": recorded["epochs"],
        "source": source,
        "environment": environment,
    }
    return {"evaluations": evaluations, "training": training}


def write_zoo(clone: Path, built: Path | None = None) -> list[Path]:
    """Writes what `zoo_results` and `zoo_texts` return; returns the files that have changed.

    Args:
        clone: Path of the clone.
        built: Path of a folder of `zoo/build.py`, whose evaluations are taken over, or None.
    """
    changed = _write_changed(zoo_results(clone, built))
    return changed + _write_changed(zoo_texts(clone))


def _write_changed(texts):
    changed = []
    for path, text in texts.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_whole(path, text)
            changed.append(path)
    return changed


def draw_pictures(folder: Path) -> None:
    """Draws a person with the keypoints of each of this package's skeletons, where there is no picture yet."""
    folder.mkdir(exist_ok=True)
    for name, skeleton in SKELETONS.items():
        if not (folder / f"{name}.jpg").is_file():
            person = Synthetic(1, seed=3, image_size=(400, 480), people_per_image=1, skeleton=skeleton)[0]
            picture = draw_poses(read_image(person.image), person.keypoints[None], skeleton=skeleton)
            Image.fromarray(picture).save(folder / f"{name}.jpg", quality=88)


def main(arguments: list[str] | None = None) -> int:
    """Runs the script; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="folder of zoo/build.py, whose evaluations are taken over")
    options = parser.parse_args(arguments)
    clone = zoo_folder().parent
    try:
        if not (clone / "benchmarks").is_dir():
            raise ValueError(f"The cards are written in a clone of the project, and {clone} is none")
        draw_pictures(zoo_folder() / "pictures")
        changed = write_zoo(clone, options.results)
    except (ValueError, OSError) as error:
        print(f"zoo/cards.py: {error}", file=sys.stderr)
        return 2
    for path in changed:
        print(path.relative_to(clone))
    print(f"{len(changed)} files have changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
