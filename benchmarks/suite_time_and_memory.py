"""How long do the tests take, and how much memory?

Runs the README's test command in a process of its own. Memory is that of pytest, its workers and all their children
together, once a second; a page that several of them share counts once (the sum of their PSS; Linux only).

    python benchmarks/suite_time_and_memory.py                 # all tests, into results/
    python benchmarks/suite_time_and_memory.py tests/losses --output losses.json
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

from environment import environment

from keras_regpose.files import write_whole

ROOT = Path(__file__).resolve().parents[1]


def megabytes(root: int) -> float:
    """Returns the memory of a process and of all that descend from it."""
    parents, sizes = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            sizes[int(folder.name)] = int(re.search(r"^Pss: +(\d+)", (folder / "smaps_rollup").read_text(), re.M)[1])
        except (OSError, TypeError):  # It has ended, or is another person's.
            continue
    family = {root}
    while more := {process for process, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(sizes.get(process, 0) for process in family) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default=Path(__file__).parent / "results" / "suite_time_and_memory.json", type=Path)
    options, arguments = parser.parse_known_args()
    start, memory, lines = time.monotonic(), [0.0], []
    pytest = subprocess.Popen([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def watch():
        while pytest.poll() is None:
            memory.append(megabytes(pytest.pid))
            time.sleep(1)

    threading.Thread(target=watch, daemon=True).start()
    for line in pytest.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    status = pytest.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {
        "environment": environment(),
        "arguments": arguments,
        "exit_status": status,
        "seconds": round(time.monotonic() - start),
        "processor_seconds": round(used.ru_utime + used.ru_stime),
        "peak_megabytes": round(max(memory)),
        "megabytes_each_minute": [round(value) for value in memory[1::60]],
        "outcome": {kind: int(count) for count, kind in re.findall(r"(\d+) ([a-z]+)", lines[-1] if lines else "")},
    }
    write_whole(options.output, json.dumps(result, indent=1) + "\n")
    print({key: value for key, value in result.items() if key != "environment"})


if __name__ == "__main__":
    main()
