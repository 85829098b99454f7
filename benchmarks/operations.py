"""What `kill.py` and `full_disk.py` do harm to: eight operations that write files, each a process of its own.

A process is forked from a server that has the libraries imported, so that an operation lasts seconds. The Hub and the
server of checkpoints are those of the tests, on 127.0.0.1. Models are small; what is written is all that a large one
writes.
"""

import contextlib
import csv
import json
import multiprocessing
import os
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "zoo"), str(ROOT / "benchmarks")]
PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = ["keras", "tensorflow_probability", "keras_regpose.training", "keras_regpose.cli", "keras_regpose.convert"]
PRELOADED += ["keras_regpose.export.exporter", "onnxruntime", "av", "sleap_io", "tf2onnx", "openvino", "build"]
BUNDLED, CONVERTED, PUBLISHED = "mobilenetv2_rle_lspet", "mobilenetv2_rle_coco", "org/published"
MIRRORED = "https://download.openmmlab.com/mmpose/"
RATE = 6_000_000  # bytes per second that the servers send


def _command(*arguments):
    from keras_regpose.cli import main

    return main([str(argument) for argument in arguments] + ["--quiet"])


def _train(inputs, place):
    options = ["--dataset", "synthetic", "--count", "24", "--epochs", "3", "--batch-size", "8", "--resume"]
    return _command("train", "--preset", inputs / "preset", *options, "--output", place / "run")


def _predict(inputs, place, source, *formats):
    options = ["--preset", inputs / "preset", "--boxes", "image", "--output", place / "poses"]
    return _command("predict", inputs / source, *options, "--format", *formats)


def _convert(inputs, place):
    (checkpoint,) = inputs.glob("*.pth")
    return _command("convert", "mmpose", checkpoint, "--preset", CONVERTED, "--out", place / "preset")


def _export(inputs, place):
    names = ("pose.onnx", "pose.xml")
    return max(_command("export", inputs / "preset", place / "exports" / name) for name in names)


def _publish(inputs, place):
    """By the command, and from Python, where the preset is first written into the folder of temporary files."""
    import tempfile

    from keras_regpose import from_preset

    if status := _command("publish", inputs / "preset", f"org/{place.name}"):
        return status
    tempfile.tempdir = str(place / "temporary")
    os.makedirs(tempfile.tempdir, exist_ok=True)
    return _guarded(lambda: from_preset(inputs / "preset").push_to_hub(f"org/{place.name}_2"))


def _build(inputs, place):
    import build
    from stand_ins import change_facts

    from keras_regpose import preset_info

    class Patch:
        setattr = staticmethod(setattr)

    known = preset_info(CONVERTED)["checkpoint"]["url"]
    change_facts(Patch, known, f"{known.rpartition('/')[0]}/{next(inputs.glob('*.pth')).name}")
    os.environ["KERAS_REGPOSE_HOME"] = str(place / "home")
    return build.main(["--presets", BUNDLED, CONVERTED, "--output", str(place / "zoo")])


def _download(inputs, place):
    from huggingface_hub import constants

    from keras_regpose import from_preset
    from keras_regpose.files import sha256
    from keras_regpose.hub.download import download_file

    source = inputs / "large.bin"
    constants.HF_HUB_CACHE = str(place / "hub")
    (place / "home").mkdir(exist_ok=True)
    address = f"{os.environ['KERAS_REGPOSE_CHECKPOINTS']}/{source.name}"

    def both():
        download_file(address, place / "home" / source.name, sha256(source), source.name)
        from_preset(f"hf://{PUBLISHED}")

    return _guarded(both)


def _guarded(work):
    """Returns the exit status of what is called from Python, which tells errors as commands do."""
    try:
        work()
    except (OSError, ValueError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


OPERATIONS = {
    "train": _train,
    "predict a folder": lambda *where: _predict(*where, "pictures", "picture", "json", "csv", "coco", "slp"),
    "predict a video": lambda *where: _predict(*where, "video.mp4", "picture", "json", "csv", "coco", "slp"),
    "convert": _convert,
    "export": _export,
    "publish": _publish,
    "build the zoo": _build,
    "download": _download,
}


def _perform(name, inputs, place, log):
    with open(log, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.exit(OPERATIONS[name](inputs, place))


def _check(place, report):
    """Opens all that has its final name in a folder, and writes what is wrong with it."""
    report.write_text(json.dumps(list(_torn(place))), encoding="utf-8")


def finished(place: Path) -> list[str]:
    """Returns the names of the files under their final names: not in hidden folders, and no part of a download."""
    files = (path for path in place.rglob("*") if path.is_file())
    names = sorted(path.relative_to(place).as_posix() for path in files)
    return [name for name in names if not _is_draft(name)]


def _is_draft(name):
    hidden = any(part.startswith(".") for part in name.split("/"))
    # Events of TensorBoard are a journal, which is appended to under a name of its own each time.
    return hidden or name.endswith((".part", ".incomplete", ".lock")) or "tfevents" in name or name[:10] == "temporary/"


def _torn(place):
    import av
    import numpy as np
    import sleap_io

    from keras_regpose.export.sidecar import read_sidecar
    from keras_regpose.files import sha256
    from keras_regpose.hub.preset_files import PresetFolder
    from keras_regpose.images import read_image

    def video(path):
        with av.open(str(path)) as file:
            if not sum(1 for _ in file.decode(video=0)):
                raise ValueError("it has no frame")

    def table(path):
        rows = list(csv.reader(path.read_text("utf-8").splitlines()))
        if len({len(row) for row in rows}) > 1:
            raise ValueError("its rows differ in length")

    def arrays(path):
        with np.load(path) as stored:
            _ = [stored[name] for name in stored.files]

    def preset(path):
        PresetFolder.open(path.parent).verify()

    def blob(path):
        if len(path.name) == 64 and sha256(path) != path.name:
            raise ValueError("it is another one than its name says")

    openers = {".json": lambda path: json.loads(path.read_text("utf-8")), ".csv": table, ".npz": arrays, ".mp4": video}
    openers |= {".png": read_image, ".jpg": read_image, ".slp": lambda path: sleap_io.load_slp(str(path))}
    openers |= {".onnx": read_sidecar, ".xml": read_sidecar}
    for name in finished(place):
        path = place / name
        opener = preset if path.name == "preset.json" else openers.get(path.suffix, blob)
        try:
            opener(path)
        except Exception as error:
            yield f"{name}: {error}"


class Laboratory(contextlib.AbstractContextManager):
    """Inputs, servers and the forking server, for as long as its context lasts.

    Args:
        folder: Path to work in.
    """

    def __init__(self, folder: Path):
        from hub_server import OWNER_TOKEN, FileServer, HubServer

        from keras_regpose import preset_info

        self.folder, self.inputs = folder, folder / "inputs"
        self.inputs.mkdir(parents=True)
        self.servers = contextlib.ExitStack()
        self.hub, self.files = (self.servers.enter_context(kind()) for kind in (HubServer, FileServer))
        os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "HF_TOKEN": OWNER_TOKEN}
        os.environ |= {"HF_ENDPOINT": self.hub.url, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1"}
        os.environ |= {"KERAS_REGPOSE_CHECKPOINTS": self.files.url, "KERAS_REGPOSE_HOME": str(folder / "home")}
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path[:3]])
        PROCESSES.set_forkserver_preload(PRELOADED)
        self._call(_make_inputs, self.inputs)
        (checkpoint,) = self.inputs.glob("*.pth")
        address = preset_info(CONVERTED)["checkpoint"]["url"].removeprefix(MIRRORED).rpartition("/")[0]
        self.files.files[f"{address}/{checkpoint.name}"] = checkpoint
        self.files.files["large.bin"] = self.inputs / "large.bin"
        preset = self.inputs / "preset"
        self.hub.upload(PUBLISHED, {name: (preset / name).read_bytes() for name in finished(preset)})
        for server in (self.hub, self.files):
            server.fail("GET .*(cdn|large|pth)", rate=RATE)

    def __exit__(self, *_):
        self.servers.close()

    def _call(self, function, *arguments):
        process = PROCESSES.Process(target=function, args=arguments)
        process.start()
        process.join()
        if process.exitcode:
            raise RuntimeError(f"{function.__name__} failed")

    def start(self, name: str, place: Path):
        """Starts an operation that writes into a folder; returns its process."""
        process = PROCESSES.Process(target=_perform, args=(name, self.inputs, place, self.folder / "log"))
        process.start()
        return process

    def run(self, name: str, place: Path) -> tuple[int, str, float]:
        """Returns an operation's exit status, what it printed, and how many seconds it took."""
        began = time.monotonic()
        process = self.start(name, place)
        process.join()
        return process.exitcode, (self.folder / "log").read_text("utf-8", "replace"), time.monotonic() - began

    def torn(self, place: Path) -> list[str]:
        """Returns a sentence for each file that has its final name, in a folder or on the Hub, and is not whole."""
        report = self.folder / "report.json"
        self._call(_check, place, report)
        found = json.loads(report.read_text("utf-8"))
        for name, repository in self.hub.repositories.items():
            if name.startswith(f"org/{place.name}") and repository.branches:
                copy = self.folder / "published"
                shutil.rmtree(copy, ignore_errors=True)
                files = self.hub.files(name)
                for file, content in files.items():
                    (copy / file).parent.mkdir(parents=True, exist_ok=True)
                    (copy / file).write_bytes(content)
                self._call(_check, copy, report)
                found += [f"{name}: {one}" for one in json.loads(report.read_text("utf-8"))]
                if set(files) - {".gitattributes"} and "preset.json" not in files:
                    found.append(f"{name} has a part of a preset: {sorted(files)}")
        return found


def _make_inputs(inputs):
    import numpy as np
    from golden_weights import golden_tensor
    from stand_ins import stand_in
    from tiny_model import tiny_model
    from video_files import encode_video, write_photo

    tiny_model().save_to_preset(inputs / "preset", onnx=True)
    for number in range(40):
        write_photo(inputs / "pictures" / f"{number:03}.jpg", number)
    encode_video(inputs / "video.mp4", [number / 25 for number in range(400)], sound="aac")
    stand_in(CONVERTED, inputs, golden_tensor)
    (inputs / "large.bin").write_bytes(np.random.default_rng(0).bytes(8_000_000))
