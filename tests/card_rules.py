"""The Hub's rules for the front matter of a model card, as far as our cards use it.

Source: "modelcard.md" of huggingface/hub-docs, which says which keys are required, and the lists of licences and tasks
of https://huggingface.co/docs/hub/repositories-licenses and https://huggingface.co/tasks.
"""

import re

import yaml

LICENSES = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "openrail", "unlicense", "other"}
TASKS = {"keypoint-detection", "object-detection", "image-classification", "image-feature-extraction"}
LIBRARIES = {"keras", "keras-hub", "tf-keras", "transformers", "timm"}


def card_errors(content: str) -> list[str]:
    """Returns what is wrong with the front matter of a card; a card without one is valid."""
    match = re.match(r"---\r?\n(.*?)\r?\n?---(\r?\n|$)", content, re.S)
    if not match:
        return []
    try:
        data = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        return [f"the front matter is not valid YAML: {error}"]
    if not isinstance(data, dict):
        return ["the front matter is not a mapping"]
    errors = [
        f"{key!r} must be one of {sorted(known)}, not {data[key]!r}"
        for key, known in (("license", LICENSES), ("pipeline_tag", TASKS), ("library_name", LIBRARIES))
        if key in data and data[key] not in known
    ]
    for key in ("tags", "datasets", "metrics"):
        values = data.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
            errors.append(f"{key!r} must be a list of strings")
    return errors + _model_index_errors(data.get("model-index", []))


def _model_index_errors(index):
    errors = []
    for model in index:
        if not isinstance(model.get("name"), str) or not model.get("results"):
            errors.append("each entry of model-index needs a name and results")
        for result in model.get("results", []):
            required = {"task.type": result.get("task", {}).get("type")}
            required |= {f"dataset.{key}": result.get("dataset", {}).get(key) for key in ("type", "name")}
            required["metrics"] = result.get("metrics")
            for metric in result.get("metrics") or []:
                required["metrics.type"] = metric.get("type")
                if not isinstance(metric.get("value"), int | float):
                    errors.append(f"the value of {metric.get('type')} must be a number")
            errors += [f"model-index lacks {key}" for key, value in required.items() if not value]
            if "source" in result and not str(result["source"].get("url")).startswith("https://"):
                errors.append("the source of a result needs a url")
    return errors
