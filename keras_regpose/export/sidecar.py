"""What stands beside an exported file: everything that its numbers alone do not tell.

`pose.onnx` has `pose.onnx.json` beside it, a TF SavedModel `keras_regpose.json` inside. The JSON names the skeleton,
the input and outputs, the precision, how far the export is from Keras, and the size and SHA-256 of the files, so that a
truncated download or a file of another model is noticed.
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from keras_regpose.files import damage_explained, read_json, sha256
from keras_regpose.skeleton import Skeleton
from keras_regpose.zoo import model_facts

VERSION = 1
EXPORT_AGAIN = "Export the model again"


@dataclasses.dataclass(frozen=True)
class Deviation:
    """How far the outputs of an export are from those of Keras in float32, over the crops that were compared.

    Attributes:
        median, p95, maximum: floats. Distance of keypoints in crop pixels.
        sigma_median: float or None. Absolute difference of σx and σy in crop pixels.
        crop_units: float. Greatest difference of any output, in units of the crop.
        crops: int. Number of crops.

    Example:

    >>> moved = np.full((2, 17, 4), 0.5) + [0.01, 0, 0, 0]
    >>> round(Deviation.between(moved, np.full((2, 17, 4), 0.5), (256, 192)).median, 2)
    1.92
    """

    median: float
    p95: float
    maximum: float
    sigma_median: float | None
    crop_units: float
    crops: int

    @classmethod
    def between(cls, output: np.ndarray, expected: np.ndarray, input_size: tuple[int, int]) -> "Deviation":
        """Compares two (B, K, 4 or 2) outputs in crop units, for crops of (height, width) pixels."""
        difference = output.astype(np.float64) - expected
        pixels = difference.reshape(*difference.shape[:-1], -1, 2) * input_size[::-1]
        distance = np.linalg.norm(pixels[..., 0, :], axis=-1)
        distances = float(np.median(distance)), float(np.percentile(distance, 95)), float(distance.max())
        sigma = float(np.median(np.abs(pixels[..., 1, :]))) if output.shape[-1] == 4 else None
        return cls(*distances, sigma_median=sigma, crop_units=float(np.abs(difference).max()), crops=len(output))

    def __str__(self):
        sigma = "" if self.sigma_median is None else f"; sigmas {self.sigma_median:.3g} px (median)"
        spread = f"{self.median:.3g} px (median), {self.p95:.3g} px (95th percentile), {self.maximum:.3g} px (greatest)"
        return f"keypoints {spread}{sigma} from Keras in float32, over {self.crops} crops"


@dataclasses.dataclass(frozen=True)
class Description:
    """What the sidecar says that running the export needs."""

    format: str
    precision: str
    method: str
    skeleton: Skeleton
    input_size: tuple[int, int]
    quantiles: dict | None = None


def sidecar_path(path: Path) -> Path:
    """Returns where the sidecar of an export is: beside a file, inside a folder."""
    return _folder(path) / (f"{path.name}.json" if path.suffix else "keras_regpose.json")


def _folder(path):
    return path.parent if path.suffix else path


def write_sidecar(path: Path, description: Description, deviation: Deviation, facts: dict) -> None:
    """Writes the sidecar of the export at `path`, beside or in which nothing else lies."""
    target, folder = sidecar_path(path), _folder(path)
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != target)
    outputs = {"keypoints": "(B, K, 2) float32: x, y as fractions of the crop's width and height, 0 = left, top"}
    if description.method == "rle":
        outputs["sigmas"] = "(B, K, 2) float32: uncertainty of x and y in the same units; score = 1 - their mean"
    height, width = description.input_size
    crops = "RGB 0-255 crops of one person each, of boxes widened to the crop's aspect ratio and enlarged by 1.25"
    content = {"version": VERSION, **dataclasses.asdict(description), "skeleton": description.skeleton.to_dict()}
    content |= {"input": {"image": f"(B, {height}, {width}, 3) uint8: {crops}"}, "outputs": outputs}
    content |= {"deviation": dataclasses.asdict(deviation), **facts}
    content["files"] = {file.relative_to(folder).as_posix(): [file.stat().st_size, sha256(file)] for file in files}
    target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_sidecar(path: str | os.PathLike, suffixes: dict[str, str]) -> Description:
    """Reads the sidecar of an export and checks the files that it names.

    Args:
        path: str or path. The export.
        suffixes: dict. That of each format. A name without a suffix is that of a folder.

    Raises:
        FileNotFoundError: If there is no export or no sidecar.
        ValueError: If the sidecar or the files are damaged or of a newer version.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no export at {path}")
    file = sidecar_path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{path} needs {file.name}, which is written with it: copy both, or export again")
    with damage_explained(file, EXPORT_AGAIN):
        content = read_json(file)
        version, files = content["version"], {str(name): tuple(facts) for name, facts in content["files"].items()}
        skeleton, method, input_size = model_facts(content)
        names = str(content["format"]), str(content["precision"]), method
        description = Description(*names, skeleton, input_size, content.get("quantiles"))
    if version != VERSION:
        raise ValueError(f"{file} has version {version}, this keras-regpose reads {VERSION}. Upgrade keras-regpose")
    if suffixes.get(description.format) != path.suffix or path.is_dir() != (path.suffix == ""):
        raise ValueError(f"{path} is no export in the format of its name, which {file.name} calls {names[0]!r:.80}")
    listed = [path.name] if path.suffix else [one.relative_to(path).as_posix() for one in path.rglob("*.pb")]
    for name, facts in {**dict.fromkeys(listed), **files}.items():
        part = _folder(path) / name
        if not part.is_file() or (part.stat().st_size, sha256(part)) != facts:
            raise ValueError(f"{part} is missing, damaged or not the file that {file.name} describes. Export again")
    return description
