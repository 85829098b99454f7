"""Builds the zoo: official checkpoints → presets, checked, evaluated, with cards, published.

Run it in a clone; it goes on where it was stopped, and a row that fails does not stop the others:

    python zoo/build.py --coco ~/coco --mpii ~/mpii --output presets --publish me
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import platform
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
from cards import to_json

from keras_regpose.datasets import DETECTIONS, open_dataset
from keras_regpose.evaluation.evaluate import predict_samples, score_predictions
from keras_regpose.files import draft, sha256, write_whole
from keras_regpose.hub.card import zoo_card
from keras_regpose.hub.preset_files import PresetError
from keras_regpose.hub.publish import publish_preset
from keras_regpose.loading import build_from_checkpoint, load_preset
from keras_regpose.presets import BUNDLED
from keras_regpose.progress import progress_bar
from keras_regpose.zoo import (
    CARD,
    ORGANISATION,
    PICTURE,
    RESULTS,
    list_presets,
    picture_of,
    preset_info,
    read_results,
    zoo_folder,
)

_PACKAGES = ("keras-regpose", "keras", "tensorflow", "numpy", "opencv-python-headless", "pycocotools")


def _open_data(options, datasets):
    """Returns {data set: list of (boxes, samples)}, the boxes of the published figures first."""
    data = {"coco": [], "mpii": []}
    if options.coco and "coco" in datasets:
        usual = Path(options.coco) / DETECTIONS
        if boxes := options.detections or (usual if usual.is_file() else None):
            data["coco"].append((f"detections of {Path(boxes).name}", open_dataset("coco", options.coco, "val", boxes)))
        data["coco"].append(("annotated", open_dataset("coco", options.coco, "val")))
    if options.mpii and "mpii" in datasets:
        data["mpii"].append(("annotated centre and scale", open_dataset("mpii", options.mpii, "val")))
    return data


def _build_row(name, data, options):
    folder = Path(options.output) / name
    info = preset_info(name)
    keras.backend.clear_session()
    model = _make(name, info, folder)
    _check(model, name, info, folder)
    results = read_results(zoo_folder() / name)
    if done := read_results(folder).get("evaluations"):
        results["evaluations"] = done
    for boxes, samples in data.get(info["dataset"], ()):
        _evaluate(model, info, boxes, samples, results, folder)
    write_whole(folder / RESULTS, to_json(results))
    write_whole(folder / CARD, zoo_card(name, results, options.publish or ORGANISATION))
    if (picture := picture_of(model.skeleton)) is not None:
        write_whole(folder / PICTURE, picture.read_bytes())
    if options.publish:
        publication = publish_preset(folder, f"{options.publish}/{name}", private=options.private)
        digest = sha256(folder / "preset.json")
        pin = f'repo = "{publication.repo_id}", revision = "{publication.commit}", sha256 = "{digest}"'
        print(f"  published as {publication.address}; in facts.toml: hub = {{ {pin} }}", flush=True)


def _make(name, info, folder):
    """Returns the model of a row, whose preset is in the folder, made there if it is not."""
    if info["checkpoint"] is not None:
        made = build_from_checkpoint(name, folder)
        if made.description.get("origin") != info["checkpoint"]:
            raise PresetError(f"{folder} was made from another checkpoint. Remove it, or choose another output folder")
        return load_preset(made)
    if not folder.is_dir():
        with draft(folder) as written:
            shutil.copytree(BUNDLED / name, written)
    elif sha256(folder / "preset.json") != sha256(BUNDLED / name / "preset.json"):
        raise PresetError(f"{folder} is of another version of {name}. Remove it, or choose another output folder")
    return load_preset(folder)


def _check(model, name, info, folder):
    """The preset is that of its row, and gives plain Keras the same finite numbers."""
    graph = keras.saving.load_model(folder, compile=False, safe_mode=True)
    params = sum(int(np.prod(weight.shape)) for weight in graph.trainable_weights)
    found = (model.method, model.skeleton.name, list(model.input_size), params)
    wanted = (info["method"], info["skeleton"], info["input_size"], info["params"])
    if found != wanted:
        raise PresetError(f"{folder} is another model than {name}: {found} instead of {wanted}. Remove it")
    crops = np.random.default_rng(0).integers(0, 256, (2, *model.input_size, 3)).astype(np.uint8)
    ours, plain = np.asarray(model.predict_on_batch(crops)), np.asarray(graph.predict_on_batch(crops))
    if not np.isfinite(ours).all():
        raise PresetError(f"{name} gives numbers that are not finite. Its checkpoint is damaged, or of another version")
    deviation = float(np.abs(ours - plain).max())
    if deviation > 1e-4:
        raise PresetError(f"{name} gives other numbers in plain Keras: they differ by {deviation:.1e} of the crop")
    print(f"  checked: {params / 1e6:.1f} M parameters, plain Keras differs by {deviation:.1e} of the crop", flush=True)


def _evaluate(model, info, boxes, samples, results, folder):
    entry = {
        "data": info["evaluation"]["data"].partition(" (")[0],
        "images": len(set(samples.field("image_id"))),
        "people": len(samples),
        "boxes": boxes,
        "flip_test": True,
    }
    evaluations = results.setdefault("evaluations", [])
    if any(entry.items() <= known.items() for known in evaluations):
        return
    environment = _environment()  # before the hours of evaluation: what fails should fail now
    with progress_bar(total=len(samples), unit=" people", delay=2) as bar:
        poses, positions = predict_samples(model, samples, flip_test=True, progress=bar.update)
    if len(poses) < len(samples):
        raise ValueError(f"{len(samples) - len(poses)} people of {entry['data']} have no readable image")
    figures = score_predictions(poses, positions, samples, model.input_size)
    if info["dataset"] == "mpii":
        figures = {"PCKh@0.5": figures["Mean"] / 100, "PCKh@0.1": figures["Mean@0.1"] / 100}
    entry["metrics"] = {name: round(float(value), 6) for name, value in figures.items()}
    entry["environment"] = environment
    evaluations.append(entry)
    write_whole(folder / RESULTS, to_json(results))
    shown = ", ".join(f"{name} {entry['metrics'][name]:.3f}" for name in info["metrics"])
    print(f"  {entry['data']}, {entry['people']:,} people, boxes {boxes}: {shown}", flush=True)


def _environment():
    packages = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # another build of it, or another backend
            packages[name] = importlib.metadata.version(name)
    return {"date": datetime.date.today().isoformat(), "python": platform.python_version(), "packages": packages}


def main(arguments: list[str] | None = None) -> int:
    """Runs the script; returns its exit status: 1 where a row has failed, 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", metavar="NAME", help="rows to build; all if left out")
    parser.add_argument("--output", required=True, help="folder for the presets, one folder each")
    parser.add_argument("--coco", help="folder of COCO 2017, to evaluate its rows on val2017")
    parser.add_argument(
        "--detections",
        help="person detections of val2017; default: person_detection_results/ in the folder of COCO, if it is there",
    )
    parser.add_argument("--mpii", help="folder of MPII, to evaluate its rows on its validation split")
    parser.add_argument("--publish", metavar="ORG", help="publish each as ORG/NAME on the Hugging Face Hub")
    parser.add_argument("--private", action="store_true", help="make new repositories visible to their owners only")
    options = parser.parse_args(arguments)
    try:
        names = list(dict.fromkeys(options.presets or list_presets()))
        data = _open_data(options, {preset_info(name)["dataset"] for name in names})
    except (ValueError, OSError) as error:
        print(f"zoo/build.py: {error}", file=sys.stderr)
        return 2
    failed = []
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name}", flush=True)
        try:
            _build_row(name, data, options)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            failed.append(name)
            print(f"  failed: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    print(f"{len(names) - len(failed)} of {len(names)} rows are in {options.output}")
    if failed:
        print(f"Failed: {', '.join(failed)}. The same command goes on with them", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
