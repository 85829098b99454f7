"""One preset in several processes at once: workers that are forked or spawned, loads, downloads and exports."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # each process loads TensorFlow

PICTURE = "np.random.default_rng(0).integers(0, 255, (120, 100, 3), np.uint8)"
BOXES = "[[10, 20, 60, 100], [30, 10, 90, 110]]"


def start(script, *arguments, **environment):
    """Starts a process that runs a script."""
    script = f"import sys; import numpy as np, keras_regpose as rp; picture = {PICTURE}; boxes = {BOXES}\n{script}"
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def printed(*processes):
    """Returns what processes printed that ended well."""
    told = [process.communicate(timeout=600) for process in processes]
    for process, (_, errors) in zip(processes, told, strict=True):
        assert process.returncode == 0, errors
    return [output.strip() for output, _ in told]


WORKERS = """
import multiprocessing

def work(_):
    global model
    if model is None:
        model = rp.from_preset(sys.argv[1], runtime=sys.argv[3] or None)
    return model.estimate(picture, boxes).keypoints

model = None
if __name__ == "__main__":
    if sys.argv[2] == "fork" and sys.argv[3]:
        work(0)
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        found = pool.map(work, range(4))
    print(all(np.array_equal(found[0], one) for one in found), found[0].round(3).tolist())
"""


@pytest.mark.parametrize("runtime", ["", "onnx"])
def test_workers_that_are_forked_or_spawned(runtime, tmp_path):
    script = tmp_path / "workers.py"
    begin = f"import sys; import numpy as np, keras_regpose as rp; picture = {PICTURE}; boxes = {BOXES}\n"
    script.write_text(begin + WORKERS)
    command = [sys.executable, script, "mobilenetv2_rle_people"]
    results = [
        subprocess.run([*command, how, runtime], capture_output=True, text=True, timeout=600, check=False)
        for how in ("fork", "spawn")
    ]
    assert results[0].stdout.startswith("True"), results[0].stderr
    assert results[0].stdout == results[1].stdout, results[1].stderr


def test_two_loads(preset):
    script = "print(rp.from_preset(sys.argv[1]).estimate(picture, boxes).keypoints.tolist())"
    first, second = printed(start(script, preset), start(script, preset))
    assert first == second and np.shape(json.loads(first)) == (2, 17, 2)


def test_two_downloads(hub, preset_bytes, tmp_path):
    hub.upload("org/pose", preset_bytes)
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    script = "print(rp.from_preset('hf://org/pose').estimate(picture, boxes).keypoints.tolist())"
    first, second = printed(start(script, **environment), start(script, **environment))
    assert first == second
    weights = [path for path in (tmp_path / "hf").rglob("model.weights.h5") if path.is_file()]
    assert [path.read_bytes() for path in weights] == [preset_bytes["model.weights.h5"]]


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_two_make_the_export_of_a_preset_once(preset, runtime, tmp_path):
    pytest.importorskip(runtime if runtime == "openvino" else "onnxruntime")
    script = "print(rp.from_preset(sys.argv[1], runtime=sys.argv[2]).estimate(picture, boxes).keypoints.tolist())"
    home = {"KERAS_REGPOSE_HOME": str(tmp_path / "home")}
    first, second = printed(*(start(script, preset, runtime, **home) for _ in range(2)))
    assert first == second
    (kept,) = (tmp_path / "home" / "exports").iterdir()
    names = {"onnx": ["pose.onnx", "pose.onnx.json"], "openvino": ["pose.bin", "pose.xml", "pose.xml.json"]}[runtime]
    assert sorted(path.name for path in kept.iterdir() if path.name != ".lock") == names


def test_two_exports_to_one_name(preset, tmp_path):
    """The one that ends last wins whole."""
    script = "model = rp.from_preset(sys.argv[1])\nfor _ in range(3): model.export(sys.argv[2], verbose=False)"
    printed(*(start(script, preset, tmp_path / "pose.onnx") for _ in range(2)))
    sidecar = json.loads((tmp_path / "pose.onnx.json").read_text())
    content = (tmp_path / "pose.onnx").read_bytes()
    assert sidecar["files"] == {"pose.onnx": [len(content), hashlib.sha256(content).hexdigest()]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pose.onnx", "pose.onnx.json", "preset"]


def test_two_publications_of_a_preset(hub, owner, preset, tmp_path):
    """Each is one commit with all files, or refused with a sentence."""
    from hub_server import OWNER_TOKEN

    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": OWNER_TOKEN}
    environment |= {"HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "keras_regpose.cli", "publish", str(preset), "org/pose"]
    processes = [
        subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=600)[1] for process in processes]
    assert 0 in [process.returncode for process in processes], told
    assert all("Traceback" not in one for one in told), told
    assert {"config.json", "model.weights.h5", "preset.json", "README.md"} <= set(hub.files("org/pose"))
