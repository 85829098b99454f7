"""Feeds mutated files of every kind that is read to the package: nothing may run, hang, crash, or be silently wrong.

python benchmarks/fuzz.py --work /tmp/fuzz                               # all kinds, 20,000 inputs and more; it resumes
python benchmarks/fuzz.py --work /tmp/fuzz --kinds image coco --share 0.01
python benchmarks/fuzz.py --work /tmp/fuzz --kinds weights --again       # forgets what was done with these kinds

Each input is made of a good file by a number, its seed. It is read in a process that is forked from one in which the
libraries are loaded already, and processor time and memory count above that one's. What is right:

- it is refused by a ValueError, OSError or ImportError whose message is one sentence, or
- it is accepted, and what comes out is finite;
- no other file is opened, written or removed, no process is started, no address is asked: Python's audit events say so;
- at most 5 seconds of processor time and 1 GiB.
"""

import argparse
import gc
import json
import logging
import math
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import traceback
import zipfile
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

RESULT = ROOT / "benchmarks" / "results" / "fuzz.json"
COUNTS = {"coco": 3500, "detections": 2500, "recipe": 2500, "image": 4000, "video": 1000, "sidecar": 1500}
COUNTS |= {"onnx": 1000, "tflite": 1000, "xml": 1000, "pth": 1500, "preset.json": 1000, "config": 1000, "weights": 1000}
# Kinds whose processes are forked from one that has the same libraries in it, the lightest first.
GROUPS = [("coco", "detections", "recipe", "image"), ("video", "sidecar", "onnx", "tflite", "xml")]
GROUPS += [("pth", "preset.json", "config", "weights")]
_AT_ONCE = 50  # inputs that one process makes
SECONDS, BYTES = 5.0, 1 << 30
_WALL = 120  # seconds after which a process is taken for hanging, on a machine with other work
SIZE = (32, 32)
HUGE = int("9" * 400)
SECRET = "secret.txt"  # beside the inputs: mutations write its path, and nothing may open it


# Good files


def prepare(folder: Path) -> None:
    """Writes a good file of each kind."""
    import cv2
    import keras
    import numpy as np
    import PIL.Image

    import keras_regpose as rp

    keras.utils.set_random_seed(0)
    inputs = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, use_bias=False, name="first")(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="first_bn")(x))
    for method in ("deeppose", "rle"):
        model = rp.PoseRegressor(keras.Model(inputs, x), rp.COCO17, SIZE, method)
        model.save_to_preset(folder / method)
    for name in ("pose.onnx", "pose.tflite", "pose.xml"):
        model.export(folder / name, verbose=False)
    for path in (ROOT / "tests" / "convert" / "files").glob("*.pth"):
        shutil.copy(path, folder)
    picture = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    picture = cv2.resize(picture, (64, 48))
    for suffix in ("png", "jpg", "webp", "bmp", "tiff", "jp2", "ppm", "avif", "gif"):
        cv2.imwrite(str(folder / f"picture.{suffix}"), picture)
    cv2.imwrite(str(folder / "deep.png"), picture.astype(np.uint16) * 256)
    cv2.imwrite(str(folder / "progressive.jpg"), picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    PIL.Image.fromarray(picture).save(folder / "deflated.tiff", compression="tiff_adobe_deflate")
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    PIL.Image.fromarray(picture).save(folder / "turned.jpg", exif=turned)
    from video_files import encode_video

    times = [n / 12 for n in range(6)]
    encode_video(folder / "video.mp4", times)
    encode_video(folder / "video.mkv", times)
    encode_video(folder / "video.avi", times, codec="mpeg4")
    frames = [PIL.Image.fromarray(np.roll(picture, n, 1)) for n in range(4)]
    frames[0].save(folder / "video.gif", save_all=True, append_images=frames[1:], duration=80)
    people = rp.data.Synthetic(6, seed=0)
    points = [np.column_stack([one.keypoints, one.visible * 2]).ravel().round(2).tolist() for one in people]
    boxes = [[x, y, right - x, bottom - y] for x, y, right, bottom in (map(float, one.box) for one in people)]
    images = [{"id": n, "file_name": f"{n}.png", "width": 640, "height": 480} for n in range(6)]
    records = [
        {"id": n + 1, "image_id": n, "category_id": 1, "bbox": boxes[n], "area": 2000.5, "iscrowd": 0}
        | {"keypoints": points[n], "num_keypoints": 17}
        for n in range(6)
    ]
    names = {"id": 1, "name": "person", "keypoints": list(rp.COCO17.keypoints), "skeleton": [[1, 2], [2, 3]]}
    coco = {"images": images, "annotations": records, "categories": [names]}
    (folder / "coco.json").write_text(json.dumps(coco))
    found = [{"image_id": n, "category_id": 1, "bbox": boxes[n], "score": 0.5 + n / 20} for n in range(6)]
    (folder / "detections.json").write_text(json.dumps(found))
    recipe = ROOT / "zoo" / "resnet50_rle_coco" / "recipe.toml"
    more = 'head = "pooled"\nclip_norm = 35.0\naverage_decay = 0.999\npatience = 3\nseed = 1\nfrozen_stages = -1\n'
    (folder / "recipe.toml").write_text(more + recipe.read_text())


# Mutations

EXTREMES = [b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\xff" * 4, b"\x00" * 4, b"\x80" + bytes(3)]
EXTREMES += [b"\x00\x00\x80\x7f", b"\x00\x00\xc0\x7f", b"\xff" * 8, bytes(8), b"\x00\x01", b"\xff\xff", b"\x10\x27"]
EXTREMES += [struct.pack(">I", 30_000), struct.pack("<I", 30_000), struct.pack("<I", 1 << 20)]


def mutated_bytes(data: bytes, dice: random.Random) -> bytes:
    """Flips, replaces, repeats, moves, cuts and removes bytes; more often near the beginning, where headers are."""
    data = bytearray(data)
    for _ in range(dice.choice([1, 1, 1, 2, 3, 8, 30])):
        if not data:
            break
        near = min(len(data), dice.choice([32, 128, 512, 4096, 1 << 30]))
        place = dice.randrange(near)
        length = min(dice.choice([1, 2, 4, 8, 16, 64, 256]), len(data) - place)
        piece = bytes(data[place : place + length])
        match dice.randrange(8):
            case 0 | 1:
                data[place] ^= 1 << dice.randrange(8)
            case 2 | 3:
                extreme = dice.choice(EXTREMES)
                data[place : place + len(extreme)] = extreme
            case 4:
                data[place:place] = piece * dice.choice([1, 2, 100])
            case 5:
                del data[place : place + length]
            case 6:
                other = dice.randrange(len(data))
                data[other : other + length] = piece
            case 7 if dice.random() < 0.4:
                del data[dice.randrange(len(data)) :]
            case _:
                data[place] = dice.randrange(256)
    return bytes(data)


def values(dice, secret):
    return dice.choice(
        [None, True, False, -1, 0, 1, 5, 0.5, -0.5, 1e308, -1e308, 1e20, 1 << 24, 1 << 31, 1 << 33, 1 << 63, HUGE]
        + [math.nan, math.inf, -math.inf, "", "x", "x" * 5000, "\ud800", "NaN", "a\nb", secret, f"file://{secret}"]
        + [[], {}, [[]], [0] * 3000, {"a": 1}, [None], "__class__", "nose", "rle", "../../x", "😀" * 50]
        + [["a"] * 2, [float(n) for n in range(51)], dict.fromkeys(map(str, range(300)), 0)]
    )


CODE = [
    {"module": "keras.layers", "class_name": "Lambda", "config": {"function": "x"}, "registered_name": None},
    {"module": "keras", "class_name": "layers.TFSMLayer", "config": {"filepath": "SECRET"}, "registered_name": None},
    {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "SECRET"}},
    {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
    {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"},
    {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "get_file"},
    {"class_name": "__lambda__", "config": {"value": ["4wAAAA==", None, None]}},
    {
        "class_name": "__typespec__",
        "module": "tensorflow",
        "spec_name": "TensorSpec",
        "config": [],
        "registered_name": 0,
    },
    {"module": "keras_regpose.cli", "class_name": "main", "config": {}, "registered_name": "main"},
]


def mutated_json(value, dice: random.Random, secret: str, code=False) -> str:
    """Changes values, names, numbers and the structure of JSON; sometimes its text."""
    for _ in range(dice.choice([1, 1, 1, 2, 4])):
        nodes, waiting = [], [value]
        while waiting and len(nodes) < 5000:
            node = waiting.pop(0)
            if isinstance(node, (dict, list)):
                nodes += [(node, key) for key in (node if isinstance(node, dict) else range(len(node)))]
                waiting += node.values() if isinstance(node, dict) else node
        if not nodes:
            break
        node, key = dice.choice(nodes) if dice.random() < 0.7 else dice.choice(nodes[: 1 + len(nodes) // 20])
        match dice.randrange(9):
            case 0 | 1 | 2:
                node[key] = values(dice, secret)
            case 3 if isinstance(node[key], (int, float)) and not isinstance(node[key], bool):
                try:
                    node[key] = type(node[key])(node[key] * dice.choice([-1, 0, 0.001, 2, 10, 1000, 1e6, 1e12]))
                except (OverflowError, ValueError):
                    node[key] = HUGE
            case 4:
                del node[key]
            case 5 if isinstance(node, list):
                node += [node[key]] * dice.choice([1, 2, 100])
            case 6:
                other, place = dice.choice(nodes)
                if place in other if isinstance(other, dict) else place < len(other):
                    node[key] = json.loads(json.dumps(other[place]))
            case 7 if isinstance(node, dict):
                node[str(values(dice, secret)) if dice.random() < 0.3 else dice.choice(list(node))] = node[key]
            case 8 if code:
                made = json.loads(json.dumps(dice.choice(CODE)).replace("SECRET", secret))
                if isinstance(node[key], dict) and dice.random() < 0.5:
                    node[key] |= made
                else:
                    node[key] = made
            case _:
                node[key] = [node[key]]
    try:
        text = json.dumps(value, skipkeys=True)
    except RecursionError:
        text = "[" * 100_000
    if dice.random() < 0.1:
        text = mutated_bytes(text.encode(), dice).decode("latin-1")
    if dice.random() < 0.02:
        place = dice.randrange(len(text) + 1)
        text = (
            text[:place] + dice.choice(["[" * 50_000, '{"a":' * 50_000, "9" * 5000, '"' + "x" * 100_000]) + text[place:]
        )
    return text


def mutated_toml(text: str, dice: random.Random, secret: str) -> str:
    """Changes settings of a recipe."""
    lines = text.splitlines()
    for _ in range(dice.choice([1, 1, 2, 4])):
        place = dice.randrange(len(lines))
        name, equals, _ = lines[place].partition("=")
        new = values(dice, secret)
        shown = json.dumps(new) if not isinstance(new, (dict, type(None))) else "{a = 1}"
        shown = shown.replace("Infinity", "inf").replace("NaN", "nan")
        match dice.randrange(6):
            case 0 | 1 | 2 if equals:
                lines[place] = f"{name}= {shown}"
            case 3:
                lines.insert(place, dice.choice(lines))
            case 4:
                del lines[place]
            case _:
                lines.insert(
                    place, dice.choice([f"new = {shown}", "[augmentation]", "a = " + "[" * 9999, "augmentation = 5"])
                )
        lines = lines or ["epochs = 1"]
    text = "\n".join(lines)
    return mutated_bytes(text.encode(), dice).decode("latin-1") if dice.random() < 0.15 else text


def mutated_weights(path: Path, dice: random.Random, secret: str) -> None:
    """Changes numbers, shapes and links of an HDF5 file, or its bytes."""
    import h5py
    import numpy as np

    if dice.random() < 0.6:
        path.write_bytes(mutated_bytes(path.read_bytes(), dice))
        return
    with h5py.File(path, "r+") as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for _ in range(dice.choice([1, 1, 2])):
            name = dice.choice(names)
            if name not in file:
                continue
            kept = file[name][()]
            match dice.randrange(9):
                case 0:
                    kept = np.array(kept)
                    kept.flat[dice.randrange(kept.size)] = dice.choice([np.nan, np.inf, 3e38, -3e38, 1e-40, 0])
                    file[name][...] = kept
                case 1:
                    file[name][...] = kept * dice.choice([0, -1, 1e10, 1e30, 1e38])
                case 2:
                    del file[name]
                    file.create_dataset(
                        name, dice.choice([(1 << 29,), (1 << 40,), (0,), (2, 3), ()]), dice.choice("fdi")
                    )
                case 3:
                    del file[name]
                    file.create_dataset(name, (1 << 29,), "f", chunks=(1 << 20,), compression="gzip")
                case 4:
                    file[name + "_"] = dice.choice([h5py.SoftLink("/"), h5py.ExternalLink(secret, "/"), file["layers"]])
                case 5:
                    del file[name]
                case 6:
                    del file[name]
                    file[name] = kept.astype(dice.choice(["f2", "f8", "i4", "S4", "?"]))
                case 7:
                    group = file.create_group("deep")
                    for _ in range(dice.choice([40, 500])):
                        inner = group.create_group("a")
                        group["b"] = inner
                        group = inner
                case 8:
                    del file[name]
                    file[name] = kept.T if dice.random() < 0.5 else np.concatenate([kept, kept])


def mutated_pth(path: Path, dice: random.Random) -> None:
    """Changes the pickle and the numbers of a checkpoint, or the bytes of the file."""
    if dice.random() < 0.5 or not zipfile.is_zipfile(path):
        path.write_bytes(mutated_bytes(path.read_bytes(), dice))
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = dice.choice([one for one in members if one.endswith("data.pkl")] * 3 + list(members))
    members[name] = mutated_bytes(members[name], dice)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def mutated_picture(data: bytes, dice: random.Random) -> bytes:
    """Changes bytes, and puts the checksums of PNG files right, without which they would be refused at once."""
    data = mutated_bytes(data, dice)
    if data[:4] == b"\x89PNG" and dice.random() < 0.7:
        import zlib

        data, place = bytearray(data), 8
        while place + 12 <= len(data):
            (length,) = struct.unpack_from(">I", data, place)
            end = place + 8 + length
            if end + 4 > len(data):
                break
            struct.pack_into(">I", data, end, zlib.crc32(data[place + 4 : end]))
            place = end + 4
    return bytes(data)


# What is done with an input


def make_input(kind: str, good: Path, folder: Path, dice: random.Random) -> Path:
    """Writes an input and returns its path."""
    secret = str(folder.parent / SECRET)
    match kind:
        case "coco" | "detections":
            path = folder / f"{kind}.json"
            path.write_text(mutated_json(json.loads((good / path.name).read_text()), dice, secret), "utf-8", "replace")
        case "recipe":
            path = folder / "recipe.toml"
            path.write_text(mutated_toml((good / path.name).read_text(), dice, secret), "utf-8", "replace")
        case "image" | "video":
            names = {"image": ("picture", "deep", "progressive", "deflated", "turned"), "video": ("video",)}[kind]
            source = dice.choice(sorted(path for path in good.iterdir() if path.stem in names))
            path = folder / source.name
            path.write_bytes(mutated_picture(source.read_bytes(), dice))
        case "sidecar" | "onnx" | "tflite" | "xml":
            suffix = kind if kind != "sidecar" else dice.choice(["onnx", "tflite", "xml"])
            for source in good.glob("pose.*"):
                if f".{suffix}" in source.name or (suffix == "xml" and source.suffix == ".bin"):
                    shutil.copy(source, folder)
            path = folder / f"pose.{suffix}"
            sidecar = folder / f"pose.{suffix}.json"
            if kind == "sidecar":
                text = mutated_json(json.loads(sidecar.read_text()), dice, secret)
                sidecar.write_text(text, "utf-8", "replace")
            else:
                from keras_regpose.files import sha256

                target = path.with_suffix(".bin") if suffix == "xml" and dice.random() < 0.2 else path
                target.write_bytes(mutated_bytes(target.read_bytes(), dice))
                described = json.loads(sidecar.read_text())
                for name in described["files"]:
                    described["files"][name] = [(folder / name).stat().st_size, sha256(folder / name)]
                sidecar.write_text(json.dumps(described))
        case "pth":
            path = Path(shutil.copy(dice.choice(sorted(good.glob("*.pth"))), folder))
            mutated_pth(path, dice)
        case _:
            path = folder / "preset"
            shutil.copytree(good / ("rle" if dice.random() < 0.1 else "deeppose"), path)
            description = json.loads((path / "preset.json").read_text()) | {"checksums": {}}
            text = json.dumps(description)
            if kind == "preset.json":
                text = mutated_json(description, dice, secret)
            if kind == "config":
                config = json.loads((path / "config.json").read_text())
                config = mutated_json(config, dice, secret, code=True)
                (path / "config.json").write_text(config, "utf-8", "replace")
            if kind == "weights":
                flow = path / "flow.weights.h5"
                mutated_weights(
                    flow if flow.exists() and dice.random() < 0.5 else path / "model.weights.h5", dice, secret
                )
            (path / "preset.json").write_text(text, "utf-8", "replace")
    return path


def use(kind: str, path: Path):
    """Reads an input as the package's users do, and returns arrays and numbers that must be finite."""
    import numpy as np

    match kind:
        case "coco":
            from keras_regpose.data.coco import Coco

            people = Coco(path, path.parent, max_skipped_share=1.0)
            truth = [record["area"] for record in people.truth()["annotations"]]
            rows = [people[place] for place in range(min(len(people), 50))]
            return [array for one in rows for array in (one.keypoints, one.visible, one.box, one.area)] + truth
        case "detections":
            from keras_regpose.data.detections import read_detections

            return [number for one in read_detections(path, 1.0)[0] for number in (one.box, one.score)]
        case "recipe":
            from keras_regpose.recipe import Recipe

            recipe = Recipe.read(path)
            changed = recipe.changed(batch_size=32, epochs=3)
            return [recipe.learning_rate, changed.learning_rate, *changed.drop_epochs(), *recipe.input_size]
        case "image":
            from keras_regpose.images import image_size, read_image

            image = read_image(path)
            assert image.dtype == np.uint8 and image.shape[2] == 3, image.shape
            return image_size(path)
        case "video":
            from keras_regpose.images import ImageError
            from keras_regpose.inference.sources import open_source

            opened = open_source(str(path))
            frames = opened if hasattr(opened, "live") else [opened]
            return [0 if isinstance(one, ImageError) else (one.time or 0) + one.image[0, 0, 0] for one in frames]
        case "pth":
            from keras_regpose.convert.weights import read_state_dict

            read_state_dict(path, (), str)
            return []
        case "sidecar" | "onnx" | "tflite" | "xml":
            from keras_regpose.export.runtime import load_exported

            model = load_exported(path, threads=1)
        case _:
            from keras_regpose.presets import from_preset

            loaded = from_preset(path)
            # Without the graph that Keras compiles, which takes a second.
            run = lambda crops: np.asarray(loaded(crops, training=False))  # noqa: E731
            facts = {name: getattr(loaded, name) for name in ("skeleton", "input_size", "quantiles", "output_shape")}
            model = SimpleNamespace(predict_on_batch=run, **facts)
    from keras_regpose.inference.estimator import estimate

    people = estimate(model, np.full((80, 60, 3), 99, np.uint8), [[5, 5, 50, 70]])
    return [people.keypoints, people.scores, 0 if people.sigmas is None else people.sigmas]


def warm(kinds) -> None:
    """Loads the libraries, before processes are forked."""
    import cv2
    import PIL.Image

    import keras_regpose.data.coco
    import keras_regpose.inference.estimator
    import keras_regpose.inference.sources
    import keras_regpose.recipe

    cv2.setNumThreads(1)
    PIL.Image.init()
    logging.disable(logging.CRITICAL)
    import h5py  # noqa: F401
    import scipy.special  # noqa: F401

    if "video" in kinds:
        import av  # noqa: F401
    if {"sidecar", "onnx", "tflite", "xml"} & set(kinds):
        import ai_edge_litert.interpreter  # noqa: F401
        import onnxruntime
        import openvino  # noqa: F401

        onnxruntime.set_default_logger_severity(4)
    if set(kinds) & set(GROUPS[-1]):
        import keras  # noqa: F401

        import keras_regpose.loading
        import keras_regpose.regressor  # noqa: F401


# One input in a process of its own

_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn")
_REMOVES = ("os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate", "shutil.rmtree")
_ASKS = ("socket.connect", "socket.getaddrinfo", "urllib.Request", "ftplib.connect", "http.client.connect")


def watch(folder: Path, seen: list) -> None:
    """Notes what code of a stranger would do, from now on."""
    inside = str(folder)

    def hook(event, arguments):
        if event in _STARTS or event in _ASKS:
            seen.append(f"{event} {arguments}")
        elif event in _REMOVES or event in ("open", "os.mkdir"):
            path = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes, os.PathLike)) else ""
            flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
            writes = event != "open" or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if SECRET in path or (writes and path and not path.startswith((inside, "/dev/", "/proc/"))):
                seen.append(f"{event} {path}")

    sys.addaudithook(hook)


def finite(found) -> bool:
    import numpy as np

    return all(np.isfinite(np.asarray(one, np.float64)).all() for one in found)


def child(kind: str, path: Path, folder: Path, pipe: int) -> None:
    """Reads an input, and writes what happened."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    seen = []
    begun = resource.getrusage(resource.RUSAGE_SELF)
    begun, had = begun.ru_utime + begun.ru_stime, resident()
    before = {one.name for one in folder.parent.iterdir()}
    watch(folder, seen)
    try:
        outcome, message = ("accepted", "") if finite(use(kind, path)) else ("not finite", "")
    except (ValueError, OSError, ImportError) as error:
        outcome, message = "refused", str(error)
        library = type(error) not in (ValueError, OSError, ImportError) and not type(error).__module__.startswith(
            ("keras_regpose", "builtins")
        )
        if not message or "\n" in message.strip() or len(message) > 3000 or library:
            outcome = "no sentence"
            message = f"{type(error).__name__}: {message}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = [f"{Path(one.filename).name}:{one.lineno}" for one in where if "keras_regpose" in one.filename]
        outcome, message = "traceback", f"{type(error).__name__}: {error} at {ours[-2:]}"
    if {one.name for one in folder.parent.iterdir()} != before:
        seen.append("files beside the input")
    if seen:
        outcome, message = "code", f"{seen[:3]}"
    spent = resource.getrusage(resource.RUSAGE_SELF)
    result = {"outcome": outcome, "message": message[:400], "seconds": spent.ru_utime + spent.ru_stime - begun}
    result["bytes"] = max(0, spent.ru_maxrss * 1024 - had)
    os.write(pipe, json.dumps(result).encode("utf-8", "replace"))


def resident(process="self") -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def make_inputs(inputs, good: Path, place: Path) -> None:
    """Writes inputs, each into a folder of its own, in another process: making them takes memory, too."""
    shutil.rmtree(place, ignore_errors=True)
    if (process := os.fork()) == 0:
        try:
            for kind, seed in inputs:
                folder = place / f"{kind}-{seed}" / "one"
                folder.mkdir(parents=True)
                (folder.parent / SECRET).write_text("secret")
                path = make_input(kind, good, folder, random.Random(f"{kind} {seed}"))
                (folder.parent / "path").write_text(path.name)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    if os.waitpid(process, 0)[1]:
        sys.exit("Inputs could not be made")


def try_one(kind: str, seed: int, place: Path) -> dict:
    """Returns what one input leads to: `outcome`, `message`, `seconds` and `bytes` above this process."""
    folder = place / f"{kind}-{seed}" / "one"
    path = folder / (folder.parent / "path").read_text()
    read, write = os.pipe()
    own = resident()
    if (process := os.fork()) == 0:
        try:
            os.close(read)
            os.chdir(folder)
            _, hard = resource.getrlimit(resource.RLIMIT_CORE)
            resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
            signal.alarm(_WALL)
            child(kind, path, folder, write)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read()
    _, status, usage = os.wait4(process, 0)
    result = {
        "kind": kind,
        "seed": seed,
        "outcome": "killed",
        "message": "",
        "seconds": usage.ru_utime + usage.ru_stime,
    }
    if told and status == 0:
        result |= json.loads(told)
    else:
        result["message"] = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status}"
    result.setdefault("bytes", max(0, usage.ru_maxrss * 1024 - own))
    right = result["outcome"] in ("accepted", "refused")
    if right and (result["seconds"] > SECONDS or result["bytes"] > BYTES):
        result["outcome"] = "too much"
    return result


# All of it


def run(work: Path, kinds, share: float) -> None:
    """Tries the inputs that were not tried yet, and writes a line for each into `done.jsonl`."""
    good, done = work / "good", work / "done.jsonl"
    tried = {(one["kind"], one["seed"]) for one in read(done)}
    left = [(seed / COUNTS[kind], kind, seed) for kind in kinds for seed in range(math.ceil(COUNTS[kind] * share))]
    left = sorted(one for one in left if one[1:] not in tried)  # all kinds side by side
    for group in GROUPS:
        mine = [(kind, seed) for _, kind, seed in left if kind in group]
        if mine and (process := os.fork()) == 0:  # without TensorFlow for what needs none
            warm({kind for kind, _ in mine})
            gc.freeze()  # so that forked processes share it
            gc.disable()
            with open(done, "a", encoding="utf-8") as file:
                for start in range(0, len(mine), _AT_ONCE):
                    place = work / "inputs" / str(os.getpid())
                    make_inputs(mine[start : start + _AT_ONCE], good, place)
                    for kind, seed in mine[start : start + _AT_ONCE]:
                        result = try_one(kind, seed, place)
                        file.write(json.dumps(result) + "\n")
                        file.flush()
                        if result["outcome"] not in ("accepted", "refused"):
                            print(json.dumps(result), flush=True)
            os._exit(0)
        if mine and os.waitpid(process, 0)[1]:
            sys.exit("The process that forks the others ended early")


def read(done: Path) -> list[dict]:
    return [json.loads(line) for line in done.read_text("utf-8").splitlines()] if done.exists() else []


def summary(results: list[dict]) -> dict:
    """Returns the numbers of each kind."""
    by_kind = defaultdict(list)
    for one in results:
        by_kind[one["kind"]].append(one)
    table = {}
    for kind in (kind for kind in COUNTS if kind in by_kind):
        rows = by_kind[kind]
        seconds = sorted(one["seconds"] for one in rows)
        table[kind] = {"inputs": len(rows), **Counter(one["outcome"] for one in rows)}
        table[kind] |= {"seconds_median": round(seconds[len(seconds) // 2], 3), "seconds_most": round(seconds[-1], 2)}
        table[kind]["megabytes_most"] = round(max(one["bytes"] for one in rows) / 2**20)
    wrong = [one for one in results if one["outcome"] not in ("accepted", "refused")]
    return {"inputs": len(results), "wrong": len(wrong), "kinds": table, "wrong_inputs": wrong[:50]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for good files, inputs and results")
    parser.add_argument("--kinds", nargs="+", choices=COUNTS, default=list(COUNTS))
    parser.add_argument("--share", type=float, default=1.0, help="of the inputs of each kind")
    parser.add_argument("--again", action="store_true", help="forget what was done with these kinds")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.relative_to(ROOT)}")
    options = parser.parse_args()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "good").is_dir():
        shutil.rmtree(work / "made", ignore_errors=True)
        (work / "made").mkdir()
        script = f"import fuzz, pathlib; fuzz.prepare(pathlib.Path({str(work / 'made')!r}))"
        subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT / "benchmarks")
        os.rename(work / "made", work / "good")
    if options.again:
        kept = [one for one in read(work / "done.jsonl") if one["kind"] not in options.kinds]
        (work / "done.jsonl").write_text("".join(json.dumps(one) + "\n" for one in kept), "utf-8")
    started = time.time()
    run(work, options.kinds, options.share)
    found = summary(read(work / "done.jsonl"))
    print(json.dumps(found, indent=1))
    if options.write:
        from environment import environment

        limits = {"seconds": SECONDS, "megabytes": BYTES >> 20}
        result = {"environment": environment(), "limits_above_the_parent": limits} | found
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{time.time() - started:.0f} s", file=sys.stderr)
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
