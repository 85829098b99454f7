"""How long does `from_preset` take for a preset that is in the cache, and does it make no request?

Builds a ResNet-50 of random weights as a published row would be built, in a cache of its own, and loads it by name in
fresh processes without any network. Seconds are of `from_preset` alone; the imports of Keras and TensorFlow before it
are given apart.

    python benchmarks/load_preset.py
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from environment import environment

BUILD = """
import sys
import keras_regpose as rp
from keras_regpose.hub.download import cache_home
for name in sys.argv[1:]:
    digits = rp.preset_info(name)["checkpoint"]["sha256_prefix"]
    rp.from_preset(name, load_weights=False).save_to_preset(cache_home() / "presets" / f"{name}-{digits}")
"""
LOAD = """
import json, socket, sys, time
start = time.monotonic()
import keras_regpose as rp, keras, tensorflow
imports = time.monotonic() - start

def no_network(*arguments):
    raise AssertionError("a request")

socket.socket.connect = socket.getaddrinfo = no_network
start = time.monotonic()
model = rp.from_preset(sys.argv[1])
print(json.dumps({"imports": imports, "load": time.monotonic() - start}))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["resnet50_rle_coco", "mobilenetv2_rle_coco", "resnet152_coco"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", default=Path(__file__).parent / "results" / "load_preset.json", type=Path)
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"KERAS_REGPOSE_HOME": home, "HF_HOME": home, "TF_CPP_MIN_LOG_LEVEL": "2"}
        run(BUILD, options.names)
        for name in options.names:
            loads = [json.loads(run(LOAD, [name])) for _ in range(options.repeats)]
            seconds = sorted(load["load"] for load in loads)
            results[name] = {
                "median_seconds": round(seconds[len(seconds) // 2], 2),
                "slowest_seconds": round(seconds[-1], 2),
                "imports_seconds": round(min(load["imports"] for load in loads), 2),
                "requests": 0,
            }
            print(name, results[name], flush=True)
    temporary = options.output.with_name(f".{options.output.name}.writing")
    temporary.write_text(json.dumps({"environment": environment(), "results": results}, indent=1) + "\n")
    os.replace(temporary, options.output)


def run(script, arguments):
    process = subprocess.run([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return process.stdout.strip()


if __name__ == "__main__":
    main()
