"""How long does `keras-regpose demo` take, and what does it learn?

Runs the demo as the README says, in a fresh process for each turn; seconds are of the whole process.

    python benchmarks/demo_time.py
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import environment

DEMO = """
import json, sys
from pathlib import Path
from keras_regpose.demo import run_demo
print(json.dumps(run_demo(Path(sys.argv[1]))))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--output", default=Path(__file__).parent / "results" / "demo_time.json", type=Path)
    options = parser.parse_args()
    turns = []
    for _ in range(options.turns):
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            process = subprocess.run(
                [sys.executable, "-c", DEMO, folder], stdout=subprocess.PIPE, text=True, check=True
            )
            seconds = round(time.monotonic() - start)
        turns.append({"seconds": seconds} | json.loads(process.stdout.splitlines()[-1]))
        print(turns[-1], flush=True)
    temporary = options.output.with_name(f".{options.output.name}.writing")
    temporary.write_text(json.dumps({"environment": environment(), "turns": turns}, indent=1) + "\n")
    os.replace(temporary, options.output)


if __name__ == "__main__":
    main()
