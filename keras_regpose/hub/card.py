"""Model cards: facts gathered from files and put into `card.md`. Each figure in a card has a file behind it."""

import os
import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from keras_regpose import zoo
from keras_regpose.hub.preset_files import PresetFolder
from keras_regpose.skeleton import SKELETONS

_SOURCES = "https://github.com/open-mmlab/mmpose/blob/v1.3.2/"
_LICENCE = "[a-z0-9.-]+"  # the Hub's name of one


def zoo_card(
    name: str, results: dict | None = None, organisation: str = zoo.ORGANISATION, picture: str = zoo.PICTURE
) -> str:
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
    row = zoo.preset_info(name)
    results = zoo.read_results(zoo.zoo_folder() / name) if results is None else results
    return _card(f"{organisation}/{name}", SKELETONS[row["skeleton"]], row, results, row["license"], picture, row)


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
    if license_name and not re.fullmatch(_LICENCE, license_name.lower()):
        raise ValueError(f"The licence must be the Hub's name of one, such as cc-by-4.0. Received: {license_name!r}")
    folder = directory if isinstance(directory, PresetFolder) else PresetFolder.open(directory)
    description, results = folder.description, zoo.read_results(folder.path)
    organisation, name = repo_id.split("/")
    if name == description.get("preset") and name in zoo.list_presets():
        if description.get("origin") == zoo.preset_info(name)["checkpoint"]:
            return zoo_card(name, zoo.read_results(zoo.zoo_folder() / name) | results, organisation)
    shown = zoo.picture_of(folder.skeleton) is not None or (folder.path / zoo.PICTURE).is_file()
    license_name = license_name or description.get("license")
    return _card(repo_id, folder.skeleton, description, results, license_name, zoo.PICTURE if shown else None)


def _card(repo_id, skeleton, description, results, license_name, picture, row=None):
    """Returns a card; what a row of the zoo is known for stands in it where `row` is that, as `preset_info` has it."""
    name = repo_id.split("/")[1]
    sigma = description["method"] == "rle"
    licence = re.fullmatch(_LICENCE, str(license_name).lower()) if license_name else None
    eval_results = _eval_results(repo_id, results.get("evaluations", []), row)
    subject = zoo.shared_facts()["datasets"][row["dataset"]].get("subject", "person") if row else "person"
    kind = {"face": "facial-landmark-detection", "hand": "hand-pose-estimation"}.get(subject, "human-pose-estimation")
    tags = ["keras-regpose", "pose-estimation", kind, "regression"]
    front_matter = ModelCardData(
        license=licence and licence[0],
        library_name="keras",
        pipeline_tag="keypoint-detection",
        tags=tags + (["rle", "uncertainty"] if sigma else []),
        datasets=[row["dataset"]] if row else None,
        model_name=name if eval_results else None,
        eval_results=eval_results or None,
    )
    facts = {"name": name, "repo_id": repo_id, "skeleton": skeleton, "subject": subject, "sigma": sigma}
    facts |= {"results": results, "picture": picture, "row": row, "sources": _SOURCES, "shared": zoo.shared_facts()}
    facts |= {"front_matter": front_matter.to_yaml(line_break="\n"), "citation": zoo.citation}
    facts |= {"address": name if row and repo_id == f"{zoo.ORGANISATION}/{name}" else f"hf://{repo_id}"}
    facts |= {"input_size": description["input_size"], "recipe": row and zoo.read_toml(name, "recipe.toml")}
    facts |= {"recipe_text": row and (zoo.zoo_folder() / name / "recipe.toml").read_text(encoding="utf-8").strip()}
    return render(Path(__file__).with_name("card.md"), **facts)


def render(template: Path, **facts) -> str:
    """Returns what a template of Jinja gives, with one newline at its end; `| figure` writes numbers as tables do."""
    import jinja2

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["figure"] = zoo.figure
    return environment.from_string(template.read_text(encoding="utf-8")).render(facts).rstrip() + "\n"


def _eval_results(repo_id, evaluations, row):
    """Returns what the Hub shows beside a card: published figures, and those measured here that stand for the model."""
    url = f"https://huggingface.co/{repo_id}/blob/main/{zoo.RESULTS}"
    measured = "measured with keras_regpose", zoo.RESULTS, url
    found: list[tuple] = [(entry, zoo.headline(entry["metrics"]), *measured) for entry in evaluations]
    if row and row["checkpoint"]:
        peer = "MMPose 1.3.2"
        found.insert(0, (row["evaluation"], row["metrics"], f"published by {peer}", peer, _SOURCES + row["source"]))
    return [
        EvalResult(
            task_type="keypoint-detection",
            dataset_type=row["dataset"] if row else "own",
            dataset_name=entry["data"],
            dataset_config=f"{by}; {'flip test' if entry['flip_test'] else 'no flip test'}; boxes: {entry['boxes']}",
            metric_type=metric,
            metric_value=round(value, 4),
            source_name=source,
            source_url=url,
        )
        for entry, metrics, by, source, url in found
        for metric, value in metrics.items()
    ]
