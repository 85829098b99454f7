"""How long does `keras-regpose demo` take, and what does it learn?

Runs the command as the README says, in a fresh process for each turn; seconds are of the whole process. With --long
also once as `keras-regpose demo --long`.

    python benchmarks/demo_time.py
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import environment

ROOT = Path(__file__).resolve().parents[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--output", default=Path(__file__).parent / "results" / "demo_time.json", type=Path)
    options = parser.parse_args()
    turns = []
    for extra in [[]] * options.turns + [["--long"]] * options.long:
        with tempfile.TemporaryDirectory() as folder:
            start, command = time.monotonic(), [sys.executable, "-m", "keras_regpose.cli", "demo", *extra]
            process = subprocess.run(
                [*command, "--output", folder], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
            )
            seconds = round(time.monotonic() - start, 1)
        rows = re.findall(r"^(AP|PCK.*?) +([\d.]+) +([\d.]+)$", process.stdout, re.MULTILINE)
        figures = {name: {"before": float(before), "after": float(after)} for name, before, after in rows}
        turns.append({"command": " ".join(["demo", *extra]), "seconds": seconds} | figures)
        print(turns[-1], flush=True)
    temporary = options.output.with_name(f".{options.output.name}.writing")
    temporary.write_text(json.dumps({"environment": environment(), "turns": turns}, indent=1) + "\n")
    os.replace(temporary, options.output)


if __name__ == "__main__":
    main()
