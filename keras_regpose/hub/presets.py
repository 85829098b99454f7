"""The table of the zoo. Its facts are in `presets.json`: architecture, published figures and their origin, files."""

import copy
import difflib
import functools
import json
from importlib import resources

# The figures that stand for a model in the table; each row has those of its data set.
_HEADLINE_METRICS = ("AP", "AR", "PCKh@0.5", "PCKh@0.1", "PCK@0.2")


def list_presets() -> list[str]:
    """Returns the names of the presets.

    Example:

    >>> list_presets()[:2]
    ['resnet152_rle_coco', 'resnet101_rle_coco']
    """
    return list(_table()["presets"])


def preset_info(name: str) -> dict:
    """Returns what is known about a preset.

    Args:
        name: str. One of `list_presets()`.

    Returns:
        dict with `backbone`, `method`, `skeleton` (its name), `input_size` [H, W] in pixels, `dataset`, `params`
        (backbone and head, without the flow, which only training needs), `gmacs` (10⁹ multiply-accumulates of one
        crop; twice as many with flip test), `metrics` as published, in [0, 1], `source` (MMPose 1.3.2's page of
        them), `evaluation` (how they were measured), `caveats` (list of str), `license` and `checkpoint` (`url`,
        `sha256_prefix`, `format`: the MMPose version whose names it uses; None for this package's own models). A copy:
        changing it changes nothing.

    Raises:
        ValueError: If there is no preset of that name.

    Example:

    >>> info = preset_info("resnet50_rle_coco")
    >>> info["input_size"], info["metrics"]["AP"]
    ([256, 192], 0.706)
    """
    rows = _table()["presets"]
    if name not in rows:
        close = difflib.get_close_matches(str(name), rows, n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(rows)}"
        raise ValueError(f"There is no preset {name!r}. {hint}")
    info = copy.deepcopy(rows[name])
    info["evaluation"] = dict(_table()["evaluations"][info["dataset"]])
    return info


def preset_table(markdown: bool = False) -> str:
    """Returns the zoo as a table to print.

    Args:
        markdown: bool. Whether to write a Markdown table instead of plain text.

    Example:

    >>> print(preset_table().splitlines()[1])
    resnet152_rle_coco            256×192  58.3 M  11.28  AP .731  AR .777
    """
    header = ("preset", "input", "params", "GMACs", "published")
    rows = [header] + [_table_row(name) for name in list_presets()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    if markdown:
        rows.insert(1, ("---", "---", "---:", "---:", "---"))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)
    lines = []
    for name, size, params, gmacs, published in rows:
        numbers = f"{params.rjust(widths[2])}  {gmacs.rjust(widths[3])}"
        lines.append(f"{name.ljust(widths[0])}  {size.ljust(widths[1])}  {numbers}  {published}".rstrip())
    return "\n".join(lines)


def _table_row(name):
    info = preset_info(name)
    figures = [
        f"{metric} {info['metrics'][metric]:.3f}".replace(" 0.", " .")
        for metric in _HEADLINE_METRICS
        if metric in info["metrics"]
    ]
    height, width = info["input_size"]
    return name, f"{height}×{width}", f"{info['params'] / 1e6:.1f} M", f"{info['gmacs']:.2f}", "  ".join(figures)


@functools.cache
def _table():
    return json.loads(resources.files("keras_regpose.hub").joinpath("presets.json").read_text(encoding="utf-8"))
