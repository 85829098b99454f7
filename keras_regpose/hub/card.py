"""Model cards: facts gathered from files and put into `card.md`. Each figure in a card has a file behind it."""

import os
import re
from pathlib import Path

from keras_regpose.hub.preset_files import PresetFolder
from keras_regpose.skeleton import SKELETONS
from keras_regpose.zoo import (
    HEADLINE_METRICS,
    ORGANISATION,
    PICTURE,
    RESULTS,
    citation,
    list_presets,
    picture_of,
    preset_info,
    read_results,
    read_toml,
    shared_facts,
    zoo_folder,
)

_SOURCES = "https://github.com/open-mmlab/mmpose/blob/v1.3.2/"
# What a figure is, by the beginning of its name.
_MEANINGS = {
    "AP": "AP, AR: COCO's average precision and recall of keypoints, by object keypoint similarity",
    "PCKh": "PCKh@0.5, @0.1: share of joints nearer to the truth than 0.5, 0.1 of the head's size",
    "PCK@": "PCK@0.2: share of joints nearer to the truth than 0.2 of the torso's length",
}
_NAMES = {"coco17": "COCO", "mpii16": "MPII", "lsp14": "LSP"}


def zoo_card(name: str, results: dict | None = None, organisation: str = ORGANISATION, picture: str = PICTURE) -> str:
    """Returns the card of a row of the zoo.

    Args:
        name: str. One of `list_presets()`.
        results: dict or None. As `read_results` returns them; None reads those in the zoo's folder.
        organisation: str. Where on the Hub the row is, or will be.
        picture: str. Address of the picture, seen from the card.

    Example:

    >>> [line for line in zoo_card("resnet50_rle_coco").splitlines() if line.startswith("license")]
    ['license: apache-2.0']
    """
    row, repo_id = preset_info(name), f"{organisation}/{name}"
    results = read_results(zoo_folder() / name) if results is None else results
    dataset = shared_facts()["datasets"][row["dataset"]]
    row["network"] = row["backbone"].replace("_", " ×").replace("resnet", "ResNet-").replace("mobilenet", "MobileNet")
    row["network"] = row["network"].replace("Netv", "NetV")
    row["keypoints_of"] = _NAMES[row["skeleton"]]
    url = _SOURCES + row["source"]
    return _render(
        name=name,
        repo_id=repo_id,
        address=name if organisation == ORGANISATION else f"hf://{repo_id}",
        skeleton=SKELETONS[row["skeleton"]],
        input_size=row["input_size"],
        method=row["method"],
        license_name=row["license"],
        results=results,
        picture=picture,
        row=row,
        eval_results=_published_eval_results(row, url) + _own_eval_results(results, repo_id, row["dataset"]),
        source_url=url,
        recipe=(zoo_folder() / name / "recipe.toml").read_text(encoding="utf-8").strip(),
        terms=dataset["terms"],
        start=shared_facts()["starts"].get(read_toml(name, "recipe.toml").get("start")),
        cited=[*(["mmpose2020"] if row["checkpoint"] else []), dataset["citation"]],
    )


def preset_card(directory: str | os.PathLike | PresetFolder, repo_id: str, license_name: str | None = None) -> str:
    """Returns the card of a preset directory: that of its row where it is one of the zoo's, else one of its own.

    Args:
        directory: str, path or `PresetFolder`. A `results.json` in it, as the zoo's are, gives the card its figures.
        repo_id: str. "org/name" on the Hub.
        license_name: str or None. The Hub's name of a licence; None is that in the preset's description, if any.

    Returns:
        Markdown with front matter for the Hub.

    Raises:
        ValueError: If the name of the licence is not one of the Hub's.
    """
    if license_name and not re.fullmatch(r"[a-z0-9.-]+", license_name.lower()):
        raise ValueError(f"The licence must be the Hub's name of one, such as cc-by-4.0. Received: {license_name!r}")
    folder = directory if isinstance(directory, PresetFolder) else PresetFolder.open(directory)
    description = folder.description
    organisation, name = repo_id.split("/")
    results, row = read_results(folder.path), description.get("preset")
    if row == name and row in list_presets() and description.get("origin") == preset_info(row)["checkpoint"]:
        return zoo_card(row, read_results(zoo_folder() / row) | results, organisation)
    shown = picture_of(folder.skeleton) is not None or (folder.path / PICTURE).is_file()
    return _render(
        name=name,
        repo_id=repo_id,
        address=f"hf://{repo_id}",
        skeleton=folder.skeleton,
        input_size=description["input_size"],
        method=folder.method,
        license_name=license_name or description.get("license"),
        results=results,
        picture=PICTURE if shown else None,
        row=None,
        eval_results=_own_eval_results(results, repo_id),
        cited=[],
    )


def _render(name, repo_id, skeleton, input_size, method, license_name, results, row, eval_results, cited, **facts):
    import jinja2
    from huggingface_hub import ModelCardData

    known = re.fullmatch(r"[a-z0-9.-]+", str(license_name).lower()) if license_name else None
    sigma = method == "rle"
    front_matter = ModelCardData(
        license=known and known[0],
        library_name="keras",
        pipeline_tag="keypoint-detection",
        tags=["keras-regpose", "pose-estimation", "human-pose-estimation", "regression"]
        + (["rle", "uncertainty"] if sigma else []),
        datasets=[row["dataset"]] if row else None,
        model_name=name if eval_results else None,
        eval_results=eval_results or None,
    )
    evaluations, speed = results.get("evaluations", []), results.get("speed")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"table": _table, "meaning": _meaning}
    template = environment.from_string(Path(__file__).with_name("card.md").read_text(encoding="utf-8"))
    return (
        template.render(
            front_matter=front_matter.to_yaml(line_break="\n"),
            name=name,
            repo_id=repo_id,
            skeleton=skeleton,
            height=input_size[0],
            width=input_size[1],
            sigma=sigma,
            with_sigma=", each with its uncertainty (σ) in pixels" if sigma else "",
            trained_with="trained with " + ("residual log-likelihood estimation (RLE)" if sigma else "smooth L1"),
            row=row,
            evaluations=evaluations,
            evaluation_rows=[_evaluation_row(entry) for entry in evaluations],
            notes=_notes(evaluations),
            agreement=results.get("agreement"),
            training=results.get("training"),
            speed=speed,
            speed_rows=_speed_rows(speed),
            citations=[citation(key) for key in ("li2021human" if sigma else "toshev2014deeppose", *cited)],
            **facts,
        ).rstrip()
        + "\n"
    )


def _published_eval_results(row, url):
    if row["checkpoint"] is None:
        return []
    protocol = row["evaluation"]
    config = f"published by MMPose 1.3.2; flip test; boxes: {protocol['boxes']}"
    return _eval_results(row["dataset"], protocol["data"], config, row["metrics"], "MMPose 1.3.2", url)


def _own_eval_results(results, repo_id, dataset="own"):
    found = []
    for entry in results.get("evaluations", []):
        flip = "flip test" if entry["flip_test"] else "no flip test"
        config = f"measured with keras_regpose; {flip}; boxes: {entry['boxes']}"
        metrics = {name: value for name, value in entry["metrics"].items() if name in HEADLINE_METRICS}
        url = f"https://huggingface.co/{repo_id}/blob/main/{RESULTS}"
        found += _eval_results(dataset, entry["data"], config, metrics, RESULTS, url)
    return found


def _eval_results(dataset, data, config, metrics, source, url):
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="keypoint-detection",
            dataset_type=dataset,
            dataset_name=data,
            dataset_config=config,
            metric_type=metric,
            metric_value=round(value, 4),
            source_name=source,
            source_url=url,
        )
        for metric, value in metrics.items()
    ]


def _evaluation_row(entry):
    people = f"{entry['people']:,} people" + (f" in {entry['images']:,} images" if entry.get("images") else "")
    people += f"; {entry['left_out']} without a labelled torso are left out" if entry.get("left_out") else ""
    setting = {"data": f"{entry['data']}: {people}", "boxes": entry["boxes"]}
    return setting | {"flip test": "yes" if entry["flip_test"] else "no"} | entry["metrics"]


def _notes(evaluations):
    """Returns what stands below the table of evaluations."""
    notes = [_meaning(entry["metrics"]) for entry in evaluations[:1]]
    for entry in evaluations:
        for metric, value in entry.get("baseline", {}).items():
            notes.append(f"always answering the training people's mean pose gives {metric} {_figure(value)}")
        if calibration := entry.get("calibration"):
            notes.append(
                f"σ against the errors of {calibration['count']:,} coordinates, without flip test: mean |error| / σ "
                f"{_figure(calibration['factor'])} (ideal 1); shares of errors within intervals of σ differ by "
                f"{_figure(calibration['coverage_error'])} from what they should be (ideal 0); rank "
                f"correlation {_figure(calibration['rank_correlation'])} (chance 0)"
            )
    sources = sorted({f"`{entry['source']}`" for entry in evaluations if entry.get("source")})
    notes += [f"source: {', '.join(sources)}"] if sources else []
    return [note for note in dict.fromkeys(notes) if note]


def _speed_rows(speed):
    rows = speed["milliseconds_per_person"].items() if speed else ()
    return [{"ms per person": label} | {task: f"{ms:.1f}" for task, ms in cells.items()} for label, cells in rows]


def _meaning(metrics):
    return next((text for start, text in _MEANINGS.items() if any(name.startswith(start) for name in metrics)), None)


def _table(rows):
    columns = list(dict.fromkeys(name for row in rows for name in row))
    numbers = [all(not isinstance(row.get(name), str) for row in rows) for name in columns]
    lines = [
        f"| {' | '.join(columns)} |",
        f"| {' | '.join('---:' if number else '---' for number in numbers)} |",
    ]
    for row in rows:
        cells = [row.get(name, "") for name in columns]
        lines.append(f"| {' | '.join(cell if isinstance(cell, str) else _figure(cell) for cell in cells)} |")
    return "\n".join(lines)


def _figure(value):
    return f"{value:.3f}".replace("0.", ".", 1) if value < 1 else f"{value:.3f}"
