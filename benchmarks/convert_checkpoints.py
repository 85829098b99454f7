"""Do checkpoints that MMPose writes itself convert, to its own outputs, how fast and in how much memory?

    python benchmarks/convert_checkpoints.py --peer-python PYTHON --peer-module MMPOSE_CPU [ROW ...]

`--peer-python` is a Python with MMPose 1.x, `--peer-module` a file whose `build(row)` returns MMPose's
(config, model) for a preset's name. For each row MMPose's runner writes a checkpoint in training (optimizer, message
hub and meta included); the same is written once more with its weights under the names of MMPose 0.x; and the published
form of it is written as MMPose's publishing tool does, with the checksum in its name. Each is converted in a process of
its own; its memory counts from after the imports, pages of the mapped file included.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

FORMS = ("epoch_210", "old_names", "published")

PEER = r"""
import hashlib, json, os, runpy, sys, types
import numpy as np, torch

module, row, folder = sys.argv[1:]
peer = runpy.run_path(module)
peer["ROWS"].update({
    "resnet50_rle_pretrained_coco": "coco/td-reg_res50_rle-pretrained-8xb64-210e_coco-256x192.py",
    "resnet152_rle_coco_384x288": "coco/td-reg_res152_rle-8xb64-210e_coco-384x288.py",
})
import mmengine, mmpose
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

torch.manual_seed(0)
config, model = peer["build"](row)
for name, tensor in model.state_dict().items():  # batch statistics and gains as after training
    if name.endswith("running_mean"):
        tensor.normal_(0, 0.1)
    elif name.endswith("running_var"):
        tensor.uniform_(0.5, 1.5)
    elif "bn" in name and name.endswith("weight"):
        tensor.uniform_(0.1, 0.3) if "bn3" in name or "conv.2.bn" in name else tensor.uniform_(0.5, 1)
    elif name.endswith("fc.weight"):
        tensor.normal_(0, 0.2)

Runner._log_env = lambda self, config: None  # asks torchvision for its version, which need not be there
dataset = types.SimpleNamespace(metainfo={"sigmas": np.ones(17), "flip_indices": [0, 2, 1]})
Runner.train_dataloader = types.SimpleNamespace(dataset=dataset)
runner = Runner(model, work_dir=folder, experiment_name="benchmark", log_level="ERROR",
                default_hooks=dict(logger=None, checkpoint=None))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
for parameter in model.parameters():
    parameter.grad = torch.randn_like(parameter) * 1e-3
optimizer.step()
runner.optim_wrapper = OptimWrapper(optimizer)
for step in range(1000):
    runner.message_hub.update_scalar("train/loss", 1 / (1 + step))
runner.save_checkpoint(folder, "epoch_210.pth", meta=dict(cfg=config.pretty_text))

checkpoint = torch.load(folder + "/epoch_210.pth", map_location="cpu", weights_only=False)
published = {key: checkpoint[key] for key in ("meta", "state_dict")}
torch.save(published, folder + "/published.pth", _use_new_zipfile_serialization=False)
with open(folder + "/published.pth", "rb") as file:
    digits = hashlib.file_digest(file, "sha256").hexdigest()[:8]
os.rename(folder + "/published.pth", folder + f"/published-{digits}_20220913.pth")
old = {name.replace("head.loss_module.", "head.loss.").replace("head.", "keypoint_head."): tensor
       for name, tensor in checkpoint["state_dict"].items()}
torch.save(checkpoint | {"state_dict": old}, folder + "/old_names.pth")

width, height = config.codec["input_size"]
pixels = np.random.default_rng(0).integers(0, 256, (4, height, width, 3), dtype=np.uint8)  # RGB
mean, std = (torch.tensor(config.model.data_preprocessor[key]).view(3, 1, 1) for key in ("mean", "std"))
with torch.no_grad():
    batch = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - mean) / std
    outputs = model.eval().head(model.extract_feat(batch))
    if outputs.shape[-1] == 4:
        outputs[..., 2:] = outputs[..., 2:].sigmoid()
    points = torch.randn(64, 2)
    flow = getattr(getattr(model.head, "loss_module", None), "flow_model", None)
    density = flow.log_prob(points).numpy() if flow is not None else np.zeros(0)
np.savez(folder + "/expected.npz", pixels=pixels, outputs=outputs.numpy(), points=points.numpy(), density=density)
versions = {"mmpose": mmpose.__version__, "mmengine": mmengine.__version__, "torch": torch.__version__}
with open(folder + "/versions.json", "w") as file:
    json.dump(versions, file)
"""

OURS = r"""
import json, resource, sys, time
import numpy as np, tensorflow

import keras_regpose as rp

path, row, expected = sys.argv[1:]
convert = rp.convert.from_mmpose

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before, start = peak(), time.monotonic()
model = convert(path, row)
seconds, memory = time.monotonic() - start, peak() - before
data = np.load(expected)
outputs = model.predict(data["pixels"], verbose=0)
report = {
    "seconds": round(seconds, 2),
    "peak_memory_mb": round(memory / 1e6),
    "largest_output_deviation": float(np.abs(outputs - data["outputs"]).max()),
    "largest_coordinate": float(np.abs(data["outputs"][..., :2]).max()),
}
if model.flow is not None:
    density = np.asarray(model.flow.log_prob(data["points"]))
    report["largest_log_density_deviation"] = float(np.abs(density - data["density"]).max())
print(json.dumps(report))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help="presets to convert; all published rows if left out")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--peer-module", required=True)
    parser.add_argument("--output", default=Path(__file__).parent / "results" / "convert_checkpoints.json", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    results, versions = {}, {}
    for row in options.rows or published_rows():
        with tempfile.TemporaryDirectory() as folder:
            run([options.peer_python, "-c", PEER, options.peer_module, row, folder])
            versions |= json.loads(Path(folder, "versions.json").read_text())
            for name in FORMS:
                (path,) = Path(folder).glob(f"{name}*.pth")
                report = json.loads(run([sys.executable, "-c", OURS, path, row, f"{folder}/expected.npz"]))
                size = path.stat().st_size
                report |= {
                    "file_mb": round(size / 1e6, 1),
                    "memory_over_file": round(report["peak_memory_mb"] * 1e6 / size, 2),
                }
                results[f"{row}/{name}"] = report
                print(f"{row}/{name}", json.dumps(report), flush=True)
        write(options.output, versions, results)


def write(path, versions, results):
    import keras
    import tensorflow

    versions |= {"python": platform.python_version(), "keras": keras.__version__, "tensorflow": tensorflow.__version__}
    environment = {"versions": versions, "machine": platform.machine(), "logical_cpus": os.cpu_count()}
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(json.dumps({"environment": environment, "results": results}, indent=1) + "\n")
    os.replace(temporary, path)


def published_rows():
    import keras_regpose as rp

    return [name for name in rp.list_presets() if rp.preset_info(name).get("checkpoint")]


def run(command):
    process = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True)
    return process.stdout.strip().splitlines()[-1] if process.stdout.strip() else ""


if __name__ == "__main__":
    main()
