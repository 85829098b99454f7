"""How long does it take from the shell to the written picture of one photograph, and how large is the wheel?

Each run is a fresh process of `keras-regpose predict`, with the bundled preset in the runtime that it takes by itself,
and in Keras for comparison. Processor seconds tell what the work costs where other programs make the clock's seconds
longer; the load tells whether there were any. The wheel is built from this checkout.

    python benchmarks/cold_start.py photo.jpg
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from environment import environment

ROOT = Path(__file__).resolve().parents[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photograph")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--keras-repeats", type=int, default=3)
    parser.add_argument("--output", default=Path(__file__).parent / "results" / "cold_start.json", type=Path)
    options = parser.parse_args()
    photograph, repeats = os.path.abspath(options.photograph), {"auto": options.repeats, "keras": options.keras_repeats}
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: [run(name, photograph, folder) for _ in range(count)] for name, count in repeats.items()}
        results = {"predict": {name: summary(rows) for name, rows in runs.items()}, "wheel": wheel(folder)}
    results["load_average"] = round(os.getloadavg()[0], 1)
    print(json.dumps(results, indent=1))
    temporary = options.output.with_name(f".{options.output.name}.writing")
    temporary.write_text(json.dumps({"environment": environment(), "results": results}, indent=1) + "\n")
    os.replace(temporary, options.output)


def run(runtime, photograph, folder):
    """Returns the seconds of the clock and of the processor that one run takes."""
    command = [sys.executable, "-m", "keras_regpose.cli", "predict", photograph, "--runtime", runtime]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([*command, "--output", folder], check=True, capture_output=True, cwd=ROOT)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def summary(rows):
    seconds, processor = zip(*rows, strict=True)
    return {
        "runs": len(rows),
        "median_seconds": round(statistics.median(seconds), 2),
        "fastest_seconds": round(min(seconds), 2),
        "median_processor_seconds": round(statistics.median(processor), 2),
    }


def wheel(folder):
    """Returns the size of the wheel, and of its largest files, in megabytes."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (file,) = Path(folder).glob("*.whl")
    largest = sorted(zipfile.ZipFile(file).infolist(), key=lambda entry: -entry.file_size)[:6]
    sizes = {entry.filename: round(entry.file_size / 1e6, 2) for entry in largest}
    return {"megabytes": round(file.stat().st_size / 1e6, 2), "largest_files": sizes}


if __name__ == "__main__":
    main()
