"""Model cards, made from data: the table of presets, recipes, and result files. No figure without a file behind it."""

import os
import re
from pathlib import Path

from keras_regpose.hub.citations import DATA, DEEPPOSE, MMPOSE, RLE, STARTS, TERMS
from keras_regpose.hub.preset_files import read_description
from keras_regpose.skeleton import SKELETONS, Skeleton
from keras_regpose.zoo import (
    HEADLINE_METRICS,
    ORGANISATION,
    PICTURE,
    RESULTS,
    list_presets,
    picture_of,
    preset_info,
    read_recipe,
    read_results,
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
    info = preset_info(name)
    results = read_results(zoo_folder() / name) if results is None else results
    skeleton = SKELETONS[info["skeleton"]]
    repo_id = f"{organisation}/{name}"
    address = name if organisation == ORGANISATION else f"hf://{repo_id}"
    sections = [
        _front_matter(info["license"], info["method"], repo_id, info["dataset"], _eval_results(info, results, repo_id)),
        f"# {name}",
        _zoo_purpose(name, info, skeleton),
        _picture(picture, skeleton),
        *_use(address, repo_id, skeleton, tuple(info["input_size"]), info["method"]),
        "## Results",
        *_published(info),
        *_measured(name, info, results),
        *_speed(results),
        *_recipe(name, info, results),
        *_data(name, info),
        *_limits(info["method"]),
        *_citations(info["method"], info["dataset"], info["checkpoint"] is not None),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def preset_card(directory: str | os.PathLike, repo_id: str, license_name: str | None = None) -> str:
    """Returns the card of a preset directory: that of its row where it is one of the zoo's, else one of its own.

    Args:
        directory: str or path. A `results.json` in it, as the zoo's are, gives the card its figures.
        repo_id: str. "org/name" on the Hub.
        license_name: str or None. The Hub's name of a licence; None is that in the preset's description, if any.

    Returns:
        Markdown with front matter for the Hub.

    Raises:
        ValueError: If the name of the licence is not one of the Hub's.
    """
    if license_name and not re.fullmatch(r"[a-z0-9.-]+", license_name.lower()):
        raise ValueError(f"The licence must be the Hub's name of one, such as cc-by-4.0. Received: {license_name!r}")
    description = read_description(directory)
    organisation, name = repo_id.split("/")
    results, row = read_results(directory), description.get("preset")
    if row == name and row in list_presets() and description.get("origin") == preset_info(row)["checkpoint"]:
        return zoo_card(row, read_results(zoo_folder() / row) | results, organisation)
    skeleton, method = Skeleton.from_dict(description["skeleton"]), description["method"]
    size = tuple(description["input_size"])
    shown = picture_of(skeleton) is not None or (Path(directory) / PICTURE).is_file()
    sections = [
        _front_matter(
            license_name or description.get("license"), method, repo_id, None, _own_eval_results(results, repo_id)
        ),
        f"# {name}",
        f"Finds the {len(skeleton)} keypoints of {skeleton.name!r} of each person in an image{_with_sigma(method)}. "
        f"Direct regression from crops of {size[0]}×{size[1]} pixels, {_trained_with(method)}; made with "
        "keras_regpose.",
        _picture(PICTURE, skeleton) if shown else "",
        *_use(f"hf://{repo_id}", repo_id, skeleton, size, method),
        *(["## Results", *_evaluations(results)] if results.get("evaluations") else []),
        *_limits(method),
        *_citations(method, None, False),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(license_name, method, repo_id, dataset, eval_results):
    from huggingface_hub import ModelCardData

    known = re.fullmatch(r"[a-z0-9.-]+", str(license_name).lower()) if license_name else None
    data = ModelCardData(
        license=known and known[0],
        library_name="keras",
        pipeline_tag="keypoint-detection",
        tags=["keras-regpose", "pose-estimation", "human-pose-estimation", "regression"]
        + (["rle", "uncertainty"] if method == "rle" else []),
        datasets=[dataset] if dataset else None,
        model_name=repo_id.split("/")[1] if eval_results else None,
        eval_results=eval_results or None,
    )
    return f"---\n{data.to_yaml(line_break=chr(10))}\n---"


def _eval_results(info, results, repo_id):
    protocol = info["evaluation"]
    published = []
    if info["checkpoint"] is not None:
        published = _as_eval_results(
            info["dataset"],
            protocol["data"],
            f"published by MMPose 1.3.2; flip test; boxes: {protocol['boxes']}",
            info["metrics"],
            "MMPose 1.3.2",
            _SOURCES + info["source"],
        )
    return published + _own_eval_results(results, repo_id, info["dataset"])


def _own_eval_results(results, repo_id, dataset="own"):
    found = []
    for entry in results.get("evaluations", []):
        flip = "flip test" if entry["flip_test"] else "no flip test"
        found += _as_eval_results(
            dataset,
            entry["data"],
            f"measured with keras_regpose; {flip}; boxes: {entry['boxes']}",
            {name: value for name, value in entry["metrics"].items() if name in HEADLINE_METRICS},
            RESULTS,
            f"https://huggingface.co/{repo_id}/blob/main/{RESULTS}",
        )
    return found


def _as_eval_results(dataset, data, protocol, metrics, source, url):
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="keypoint-detection",
            dataset_type=dataset,
            dataset_name=data,
            dataset_config=protocol,
            metric_type=metric,
            metric_value=round(value, 4),
            source_name=source,
            source_url=url,
        )
        for metric, value in metrics.items()
    ]


def _zoo_purpose(name, info, skeleton):
    height, width = info["input_size"]
    text = (
        f"Finds the {len(skeleton)} {_NAMES[skeleton.name]} keypoints of each person in an image"
        f"{_with_sigma(info['method'])}: {info['backbone'].replace('_', ' ×').replace('resnet', 'ResNet-')} and direct "
        f"regression, {_trained_with(info['method'])}. Crops of {height}×{width} pixels, {info['params'] / 1e6:.1f} M "
        f"parameters, {info['gmacs']:.2f} GMACs per person.\n"
    ).replace("mobilenetv2", "MobileNetV2")
    if info["checkpoint"] is None:
        return text + " ".join(["Ships with the package, so that it works offline.", *info["caveats"]])
    file = info["checkpoint"]["url"].rsplit("/", 1)[1]
    return text + f"Converted from MMPose's official checkpoint [`{file}`]({info['checkpoint']['url']})."


def _with_sigma(method):
    return ", each with its uncertainty (σ) in pixels" if method == "rle" else ""


def _trained_with(method):
    return "trained with residual log-likelihood estimation (RLE)" if method == "rle" else "trained with smooth L1"


def _picture(address, skeleton):
    return f"![The {len(skeleton)} keypoints, on a drawn person as it was drawn: not a prediction]({address})"


def _use(address, repo_id, skeleton, size, method):
    (height, width), count = size, len(skeleton)
    sigmas = f"(N, {count}, 2) in pixels" if method == "rle" else "None: this model has no σ"
    channels = 4 if method == "rle" else 2
    order = ", ".join(f"{index} {name}" for index, name in enumerate(skeleton.keypoints))
    meaning = (
        f"Output: `(N, {count}, 4)`: x, y, σx, σy of each keypoint. x and y are fractions of the crop's width and "
        "height from its top left corner, and may lie outside of 0–1; σx and σy are in the same units, between 0 and "
        "1. The keypoint's score is 1 − (σx + σy) / 2."
        if method == "rle"
        else f"Output: `(N, {count}, 2)`: x, y of each keypoint as fractions of the crop's width and height from its "
        "top left corner; they may lie outside of 0–1. There are no scores."
    )
    yield "## Use it"
    yield f"""```python
import keras_regpose as rp

model = rp.from_preset("{address}")
person = rp.data.Synthetic(1, seed=0)[0]  # a drawn one; a photograph's path and boxes (x1, y1, x2, y2) do as well
people = model.estimate(person.image, boxes=[person.box], flip_test=True)
people.keypoints, people.scores  # (N, {count}, 2) in pixels of the image, (N, {count})
people.sigmas  # {sigmas}
people.plot(person.image).save("people.png")
```"""
    yield "## Use it in plain Keras"
    yield f"""```python
import keras
import numpy as np

network = keras.saving.load_model("hf://{repo_id}")
crops = np.zeros((1, {height}, {width}, 3), "uint8")
output = network.predict(crops)  # (1, {count}, {channels})
```"""
    yield (
        "Neither keras_regpose nor KerasCV nor TensorFlow Probability is needed for this, and the folder that "
        "`model.save_to_preset(folder)` writes opens in the same way."
    )
    yield (
        f"Input: `(N, {height}, {width}, 3)`, RGB from 0 to 255, uint8 or float, normalised inside: one upright person "
        f"per crop. A crop has the centre of the person's box; the box's width and height times 1.25, of which the "
        f"shorter grows until width : height is {width} : {height}; and black where it leaves the image.\n{meaning}\n"
        f"Keypoints: {order}."
    )


def _published(info):
    if info["checkpoint"] is None:
        return
    evaluation = info["evaluation"]
    yield "### Published"
    yield (
        f"By MMPose 1.3.2 for this checkpoint ([source]({_SOURCES}{info['source']})): {evaluation['data']}, boxes: "
        f"{evaluation['boxes']}, with flip test."
    )
    yield _table([info["metrics"]])
    yield f"{_meaning(info['metrics'])}."
    if info["caveats"]:
        yield "\n".join(f"- {caveat}" for caveat in info["caveats"])


def _measured(name, info, results):
    yield "### Measured by this project"
    yield from _evaluations(results)
    agreement = results.get("agreement")
    if agreement:
        yield (
            f"Given the same weights, the network's output differs from that of MMPose {agreement['mmpose']} by at "
            f"most {agreement['largest_deviation']:.1e} of the {agreement['unit']} ({agreement['crops']} recorded "
            f"crops, weights made by a rule; `{agreement['source']}`)."
        )
    if info["checkpoint"] is not None and not results.get("evaluations"):
        yield (
            f"Not measured yet: the accuracy of these weights with this package on the whole of "
            f"{info['evaluation']['data']}. It is measured by "
            f"`keras-regpose zoo build --presets {name} --{info['dataset']} DIR --output OUT`."
        )


def _evaluations(results):
    entries = results.get("evaluations", [])
    if not entries:
        return
    rows, notes = [], []
    for entry in entries:
        people = f"{entry['people']:,} people" + (f" in {entry['images']:,} images" if entry.get("images") else "")
        people += f"; {entry['left_out']} without a labelled torso are left out" if entry.get("left_out") else ""
        setting = {
            "data": f"{entry['data']}: {people}",
            "boxes": entry["boxes"],
            "flip test": "yes" if entry["flip_test"] else "no",
        }
        rows.append(setting | entry["metrics"])
        for metric, value in entry.get("baseline", {}).items():
            notes.append(f"always answering the training people's mean pose gives {metric} {_figure(value)}")
        if calibration := entry.get("calibration"):
            notes.append(
                f"σ against the errors of {calibration['count']:,} coordinates, without flip test: mean |error| / σ "
                f"{_figure(calibration['factor'])} (ideal 1); shares of errors within intervals of σ differ by "
                f"{_figure(calibration['coverage_error'])} from what they should be (ideal 0); rank "
                f"correlation {_figure(calibration['rank_correlation'])} (chance 0)"
            )
    yield _table(rows)
    sources = sorted({f"`{entry['source']}`" for entry in entries if entry.get("source")})
    notes = [
        _meaning(entries[0]["metrics"]),
        *dict.fromkeys(notes),
        f"source: {', '.join(sources)}" if sources else None,
    ]
    yield "".join(f"- {note}\n" for note in notes if note).rstrip()


def _speed(results):
    speed = results.get("speed")
    if not speed:
        return
    yield "## Speed"
    rows = speed["milliseconds_per_person"].items()
    yield _table(
        [{"ms per person": label} | {task: f"{ms:.1f}" for task, ms in cells.items()} for label, cells in rows]
    )
    environment = speed["environment"]
    yield (
        f"Medians, from image and boxes to keypoints, without flip test, on {environment['cores']} cores of an "
        f"{environment['processor']} ({environment['date']}; `{speed['source']}`, which also says how far "
        "each format's keypoints are from those of Keras). Keras' figures are those from the 33rd run on, when weights "
        "have become constants."
    )


def _recipe(name, info, results):
    text, _ = read_recipe(name)
    training = results.get("training")
    yield "## Training"
    if training:
        yield (
            f"On {training['people']:,} people, {training['epochs']} epochs (`{training['source']}`): "
            f"{training['command']}."
        )
    elif info["checkpoint"] is not None:
        yield (
            "These weights were trained by MMPose's authors; no run of this project made them. The recipe, as this "
            f"package would follow it (`keras-regpose train --recipe {name} --data DIR --start WEIGHTS --output RUN`):"
        )
    if text:
        yield f"```toml\n{text.strip()}\n```"


def _data(name, info):
    _, recipe = read_recipe(name)
    yield "## Data and licences"
    owner = "this project" if info["checkpoint"] is None else "MMPose"
    lines = [f"Weights: {info['license']}, from {owner}.", f"Learned from {TERMS[info['dataset']]}."]
    if recipe.get("start") in STARTS:
        lines.append(f"{STARTS[recipe['start']]}.")
    yield "\n".join(f"- {line}" for line in lines)


def _limits(method):
    yield "## Limits"
    lines = [
        "Someone else has to find the people: one box per person goes in, and a poor box gives a poor pose.",
        "Small, crowded, covered, or unusual poses are harder than the average of the data; keypoints that cannot be "
        "seen are guessed.",
        "What it learned is as the data is. Accuracy was not measured by age, gender, skin colour, or disability.",
        "σ is what the model learned to expect, not a guarantee: `keras-regpose evaluate --calibration` compares it "
        "with actual errors on your data."
        if method == "rle"
        else "It has no σ, and its scores are all 1: take a model trained with RLE where uncertainty matters.",
    ]
    yield "\n".join(f"- {line}" for line in lines)
    yield (
        "Do not use it to identify or watch people, to infer health, intent or emotion, or where an error can hurt "
        "someone, such as in medicine or the control of machines."
    )


def _citations(method, dataset, converted):
    yield "## Citation"
    entries = [
        RLE if method == "rle" else DEEPPOSE,
        *([MMPOSE] if converted else []),
        *([DATA[dataset]] if dataset else []),
    ]
    yield "```bibtex\n" + "\n\n".join(entries) + "\n```"


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
