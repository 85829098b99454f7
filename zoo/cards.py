"""Writes what the zoo's folder and the README show, made from data: result files, cards, tables.

Run it in a clone after a recipe, a fact or a benchmark's result has changed:

    python zoo/cards.py
    python zoo/cards.py --results presets  # a folder of zoo/build.py, whose evaluations are taken over
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from keras_regpose.drawn.people import Synthetic
from keras_regpose.files import write_whole
from keras_regpose.hub.card import render, zoo_card
from keras_regpose.images import read_image
from keras_regpose.inference.draw import draw_poses
from keras_regpose.presets import BUNDLED_PRESET, from_preset
from keras_regpose.skeleton import SKELETONS
from keras_regpose.zoo import CARD, RESULTS, list_presets, preset_info, preset_table, read_results, zoo_folder

# A place of the README that a template beside this file fills.
PLACE = r"(<!-- zoo/(\w+\.md), filled by: python zoo/cards.py -->\n).*?(<!-- end of zoo/\2 -->)"


def zoo_results(built: Path | None = None) -> dict[Path, str]:
    """Returns the result files of all rows: what benchmarks recorded, and evaluations, of a build or as they were."""
    agreement, speed = map(_recorded, ("mmpose_agreement.json", "inference_speed.json"))
    texts = {}
    for name in list_presets():
        folder = zoo_folder() / name
        known = read_results(folder) | (read_results(built / name) if built else {})
        results = {"evaluations": known.get("evaluations", [])}
        if name in agreement["rows"]:
            results["agreement"] = agreement["rows"][name] | agreement["about"]
        if preset_info(name)["checkpoint"] is None:
            bundled = _recorded(f"{preset_info(name)['dataset']}.json")
            results["evaluations"] = [entry | bundled["about"] for entry in bundled["evaluations"]]
            results["training"] = bundled["training"] | bundled["about"]
        milliseconds = {}
        for row in speed["comparisons"]:
            if row["model"] == name:
                milliseconds.setdefault(row["label"], {})[row["task"]] = row["ms_per_person"]
        if milliseconds:
            results["speed"] = {"milliseconds_per_person": milliseconds} | speed["about"]
        texts[folder / RESULTS] = to_json(results)
    return texts


def _recorded(file):
    """Returns what a benchmark recorded; `about` are its facts that stay with each of its figures."""
    recorded = json.loads((zoo_folder().parent / "benchmarks" / "results" / file).read_text(encoding="utf-8"))
    about = {key: recorded[key] for key in ("mmpose", "unit", "remark", "environment") if key in recorded}
    return recorded | {"about": about | {"source": f"benchmarks/results/{file}"}}


def zoo_texts() -> dict[Path, str]:
    """Returns the cards of all rows and the README with its tables, as result files and benchmarks say."""
    texts = {}
    for name in list_presets():
        picture = f"../pictures/{preset_info(name)['skeleton']}.jpg"
        texts[zoo_folder() / name / CARD] = zoo_card(name, picture=picture)
    bundled = BUNDLED_PRESET
    facts = read_results(zoo_folder() / bundled) | _recorded("inference_speed.json")
    facts |= {"table": preset_table(markdown=True), "bundled": bundled, "metrics": preset_info(bundled)["metrics"]}
    path = zoo_folder().parent / "README.md"
    text, places = re.subn(
        PLACE,
        lambda place: place[1] + render(zoo_folder() / place[2], **facts) + place[3],
        path.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if places < 2:
        between = "<!-- zoo/NAME.md, filled by: python zoo/cards.py --> and <!-- end of zoo/NAME.md -->"
        raise ValueError(f"README.md has no place for what is made of data: 2 are needed, each between {between}")
    return texts | {path: text}


def to_json(value: dict) -> str:
    """Returns the text of a results file."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def draw_pictures(folder: Path) -> None:
    """Draws a person with the keypoints of each of this package's skeletons, where there is no picture yet."""
    folder.mkdir(exist_ok=True)
    for name, skeleton in SKELETONS.items():
        if not (folder / f"{name}.jpg").is_file():
            if name == "wflw98":
                image, keypoints = np.full((480, 400, 3), 40, np.uint8), _face()
            elif "thumb1" in skeleton.keypoints:
                hand = _hand()
                image, keypoints = np.full((480, 400, 3), 40, np.uint8), np.array([hand[n] for n in skeleton.keypoints])
            else:
                person = Synthetic(1, seed=3, image_size=(400, 480), people_per_image=1, skeleton=skeleton)[0]
                image, keypoints = read_image(person.image), person.keypoints
            picture = draw_poses(image, keypoints[None], skeleton=skeleton)
            Image.fromarray(picture).save(folder / f"{name}.jpg", quality=88)


def _face():
    """Returns where WFLW's 98 keypoints are in a schematic face."""

    def arc(x, y, width, height, angles):
        angles = np.radians(angles)
        return np.stack([x - width * np.cos(angles), y - height * np.sin(angles)], -1)

    def line(start, end, count):
        return np.linspace(start, end, count)

    parts = [arc(200, 190, 150, 220, -np.linspace(0, 180, 33))]
    parts += [arc(130, 165, 52, 28, np.linspace(0, 180, 5)), line((174, 170), (92, 170), 4)]
    parts += [arc(270, 165, 52, 28, np.linspace(0, 180, 5)), line((308, 170), (226, 170), 4)]
    parts += [line((200, 205), (200, 270), 4), arc(200, 282, 34, 10, -np.linspace(0, 180, 5))]
    parts += [arc(x, 205, 34, 14, 45 * np.arange(8)) for x in (130, 270)]
    parts += [arc(200, 345, 68, 30, 30 * np.arange(12)), arc(200, 345, 54, 14, 45 * np.arange(8))]
    return np.concatenate([*parts, [[130, 205], [270, 205]]]).astype(np.float32)


def _hand():
    """Returns where the keypoints of a schematic hand are, by name."""
    fingers = {"thumb": ((135, 385), (50, 265)), "forefinger": ((145, 270), (120, 105))}
    fingers |= {"middle_finger": ((192, 258), (186, 70)), "ring_finger": ((238, 268), (250, 95))}
    fingers["pinky_finger"] = ((280, 295), (318, 160))
    places = {"wrist": np.array([205, 440], np.float32)}
    for name, (first, last) in fingers.items():
        places |= {f"{name}{n + 1}": point.astype(np.float32) for n, point in enumerate(np.linspace(first, last, 4))}
    return places


def draw_photograph(path: Path) -> None:
    """Draws what the bundled preset and the finder see in the bundled photograph, for the README."""
    photograph = next((Path(__file__).parents[1] / "keras_regpose" / "bundled_photograph").glob("*.jpg"))
    from_preset(BUNDLED_PRESET, runtime="onnx").estimate(photograph).save(path)


def _write_changed(texts):
    changed = [path for path, text in texts.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in changed:
        write_whole(path, texts[path])
    return changed


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
        draw_photograph(zoo_folder() / "pictures" / "people.jpg")
        changed = _write_changed(zoo_results(options.results)) + _write_changed(zoo_texts())
    except (ValueError, OSError) as error:
        print(f"zoo/cards.py: {error}", file=sys.stderr)
        return 2
    for path in changed:
        print(path.relative_to(clone))
    print(f"{len(changed)} files have changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
