"""The zoo's folder: for each row its recipe, the results that were measured, and the card made from them."""

import json
import os
import tomllib
from pathlib import Path

import keras_regpose
from keras_regpose.skeleton import SKELETONS, Skeleton

CARD, RESULTS, RECIPE, PICTURE = "README.md", "results.json", "recipe.toml", "keypoints.jpg"
_NEEDED = ("data", "people", "boxes", "flip_test", "metrics")


def zoo_folder() -> Path:
    """Returns the zoo's folder: `keras_regpose/zoo` where the package is installed, `zoo` in a clone.

    Example:

    >>> zoo_folder().name
    'zoo'
    """
    package = Path(keras_regpose.__file__).parent
    installed = package / "zoo"
    return installed if installed.is_dir() else package.parent / "zoo"


def picture_of(skeleton: Skeleton) -> Path | None:
    """Returns the picture of a skeleton's keypoints, None for one that is not this package's."""
    if SKELETONS.get(skeleton.name) != skeleton:
        return None
    return zoo_folder() / "pictures" / f"{skeleton.name}.jpg"


def read_results(folder: str | os.PathLike) -> dict:
    """Returns the `results.json` of a folder, {} if there is none. Each of its keys may be missing.

    - `agreement`: with MMPose, given the same weights: `mmpose` (version), `largest_deviation` and its `unit`,
      `crops`, `source`, `environment`.
    - `evaluations`: list of `data`, `images`, `people`, `left_out`, `boxes`, `flip_test`, `metrics` (in [0, 1]),
      `baseline` (the same metrics of always answering the mean pose), `source`, `environment`. The first is by the
      protocol of the published figures.
    - `training`: of this project's own models: `command`, `people`, `epochs`, `source`, `environment`.
    - `speed`: `milliseconds_per_person` by variant and task, `source`, `environment`.

    Raises:
        ValueError: If the file is not of this form.
    """
    path = Path(folder) / RESULTS
    if not path.is_file():
        return {}
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        lacking = [key for entry in results.get("evaluations", []) for key in _NEEDED if key not in entry]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no file of results: {error}") from error
    if lacking:
        raise ValueError(f"{path} has an evaluation without {lacking[0]!r}; each has {', '.join(_NEEDED)}")
    return results


def read_recipe(name: str) -> tuple[str, dict]:
    """Returns the text of a row's recipe and its settings; an empty text if it has none."""
    path = zoo_folder() / name / RECIPE
    if not path.is_file():
        return "", {}
    text = path.read_text(encoding="utf-8")
    return text, tomllib.loads(text)


def to_json(value: dict) -> str:
    """Returns the text of a results file."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Writes a text file, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
