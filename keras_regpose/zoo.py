"""What the zoo has: its rows, and the files in which everything about them stands.

The folder of a row holds `facts.toml` (what is known about the model), `recipe.toml` (how it is trained),
`results.json` (what this project measured) and `README.md` (the card, made of the three). What rows share is in
`zoo.toml` and `citations.bib`.
"""

import difflib
import functools
import json
import os
import re
import tomllib
from pathlib import Path

from keras_regpose.codec import METHODS, checked_size
from keras_regpose.skeleton import SKELETONS, Skeleton

_PACKAGE = Path(__file__).parent
ORGANISATION = "keras-regpose"  # of the zoo, on the Hub
# The figures that stand for a model in the table; each row has those of its data set.
HEADLINE_METRICS = ("AP", "AR", "PCKh@0.5", "PCKh@0.1", "NME", "PCK@0.2", "AUC", "EPE")
_OVERVIEW = "† MMPose's overview table prints this figure, the document of the checkpoint file the one before it."
CARD, RESULTS, PICTURE = "README.md", "results.json", "keypoints.jpg"
_NEEDED = ("data", "people", "boxes", "flip_test", "metrics")


def zoo_folder() -> Path:
    """Returns the zoo's folder: `keras_regpose/rows` where the package is installed, `zoo` in a clone.

    Example:

    >>> (zoo_folder() / "resnet50_rle_coco" / "recipe.toml").is_file()
    True
    """
    installed = _PACKAGE / "rows"
    return installed if installed.is_dir() else _PACKAGE.parent / "zoo"


def model_facts(description: dict) -> tuple[Skeleton, str, tuple[int, int]]:
    """Returns skeleton, method and input size of what describes a model, a preset.json or the sidecar of an export.

    Raises:
        ValueError, LookupError, TypeError: If they are missing or not as they should be.
    """
    skeleton, method = Skeleton.from_dict(description["skeleton"]), description["method"]
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, not {method!r:.80}")
    return skeleton, method, checked_size(description["input_size"])


def list_presets() -> list[str]:
    """Returns the names of the presets.

    Example:

    >>> list_presets()[:2]
    ['resnet152_rle_coco', 'resnet101_rle_coco']
    """
    return list(shared_facts()["presets"])


def preset_info(name: str) -> dict:
    """Returns what is known about a preset.

    Args:
        name: str. One of `list_presets()`.

    Returns:
        dict with `backbone`, `method`, `head`, `skeleton` (its name), `input_size` [H, W] in pixels, `dataset`,
        `params` (backbone and head, without the flow, which only training needs), `gmacs` (10⁹ multiply-accumulates of
        one crop; twice as many with flip test), `metrics` as published or, for this package's own models, as measured
        (NME in percent, EPE in pixels, others in [0, 1]), `overview` (those of them for which MMPose's overview table
        prints another figure), `source` (MMPose 1.3.2's page of them, or a result file), `evaluation` (how they were
        measured), `caveats` (list of str), `license` and `checkpoint` (`url`, `sha256_prefix`, `format`: the MMPose
        version whose names it uses; None for this package's own models). A copy: changing it changes nothing.

    Raises:
        ValueError: If there is no preset of that name.

    Example:

    >>> info = preset_info("resnet50_rle_coco")
    >>> info["input_size"], info["metrics"]["AP"]
    ([256, 192], 0.706)
    """
    if name not in list_presets():
        close = difflib.get_close_matches(str(name), list_presets(), n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(list_presets())}"
        raise ValueError(f"There is no preset {name!r}. {hint}")
    recipe, facts = read_toml(name, "recipe.toml"), read_toml(name, "facts.toml")
    info = {key: recipe[key] for key in ("backbone", "method", "input_size", "dataset")}
    info |= {"head": recipe.get("head", "pooled"), **facts}
    info["evaluation"] = shared_facts()["datasets"][info["dataset"]]["evaluation"]
    url = info.get("checkpoint")
    if url:
        digits = re.findall(r"-([0-9a-f]{8})_\d{8}\.pth$", url)[0]
        info["checkpoint"] = {"url": url, "sha256_prefix": digits, "format": "1.x" if "/v1/" in url else "0.x"}
    info = {"caveats": [], "overview": {}, "checkpoint": None} | info
    if url is None:
        info["metrics"] = _measured(name, info["evaluation"])
    return info


def shared_facts() -> dict:
    """Returns what the rows share: `presets` in their order, `datasets` by name, and `starts` of recipes by name."""
    return read_toml("zoo.toml")


def read_toml(*names: str) -> dict:
    """Returns the contents of a TOML file of the zoo's folder, as a copy: changing it changes nothing."""
    return tomllib.loads(_text(zoo_folder().joinpath(*names)))


def citation(key: str) -> str:
    """Returns the BibTeX entry of a key in `citations.bib`."""
    return re.findall(rf"@\w+{{{key},.*?\n}}", _text(zoo_folder() / "citations.bib"), re.S)[0]


@functools.cache
def _text(path):
    return path.read_text(encoding="utf-8")


def preset_table(markdown: bool = False) -> str:
    """Returns the zoo as a table to print.

    Args:
        markdown: bool. Whether to write a Markdown table instead of plain text.

    Example:

    >>> print(preset_table().splitlines()[2])
    resnet101_rle_coco            256×192  42.6 M   7.64  AP .722  AR .768
    """
    rows = [["preset", "input", "params", "GMACs", "published", "measured here"]]
    for name in list_presets():
        info = preset_info(name)
        published = info["metrics"] if info["checkpoint"] is not None else {}
        other = {metric: f" ({figure(value)}†)" for metric, value in info["overview"].items()}
        figures = [
            "  ".join(f"{metric} {figure(value)}{marks.get(metric, '')}" for metric, value in headline(metrics).items())
            for metrics, marks in ((published, other), (_measured(name, info["evaluation"]), {}))
        ]
        height, width = info["input_size"]
        rows.append([name, f"{height}×{width}", f"{info['params'] / 1e6:4.1f} M", f"{info['gmacs']:5.2f}", *figures])
    if markdown:
        rows = [[*map(str.strip, row), f"[card](zoo/{row[0]}/README.md)"] for row in rows]
        rows[0][-1] = "card"
        rows.insert(1, ["---", "---", "---:", "---:", "---", "---", "---"])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{_OVERVIEW}"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows] + [_OVERVIEW])


def _measured(name, protocol):
    """Returns the figures that stand for a model: those measured with the boxes and flip test of the protocol."""
    measured = {}
    for evaluation in read_results(zoo_folder() / name).get("evaluations", []):
        if protocol["boxes"].startswith(evaluation["boxes"]) and evaluation["flip_test"] == protocol["flip_test"]:
            measured = evaluation["metrics"]
    return headline(measured)


def headline(metrics: dict[str, float]) -> dict[str, float]:
    """Returns those of a model's figures that stand for it."""
    return {name: metrics[name] for name in HEADLINE_METRICS if name in metrics}


def figure(value: float) -> str:
    """Returns a figure as tables show it: .706 for 0.7061, 4.88 for 4.8812."""
    return f"{value:.3f}".removeprefix("0") if value < 2 else f"{value:.2f}"


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
