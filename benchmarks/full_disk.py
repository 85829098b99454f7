"""What is left when the disk is full? Eight operations on disks of ten sizes, from almost nothing to almost enough.

Each operation runs on a large disk first, which tells how much it writes. Then it runs on a small file system (tmpfs)
that ends after a part of that. It has to say so: an exit status that is not 0, and a sentence that names the file. All
that has its final name is opened, a file of somebody else must be what it was, and when there is room, the same command
has to make all files. Needs the right to mount file systems.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from environment import environment
from operations import OPERATIONS, Laboratory, finished

RESULT = Path(__file__).parent / "results" / "full_disk.json"
OTHERS = "somebody's.txt"


def written(place: Path) -> int:
    """Returns the bytes of all files in a folder, in pages as a tmpfs counts them."""
    files = [path for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in files)


def filled(laboratory: Laboratory, name: str, place: Path, size: int, expected: list[str]) -> dict:
    """Runs an operation on a disk of some bytes, then again with room; returns what was found."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size + 4096}", "tmpfs", place], check=True)
    try:
        (place / OTHERS).write_text("mine", encoding="utf-8")
        status, printed, _ = laboratory.run(name, place)
        said = [line for line in printed.splitlines() if "is full" in line and str(place) in line]
        found = {"bytes": size, "status": status, "said": said[-1].replace(str(place), "DISK") if said else None}
        if status and (not said or "Traceback" in printed):
            found["printed"] = printed[-2000:]
        found |= {"torn": laboratory.torn(place), "drafts": drafts(place)}
        subprocess.run(["mount", "-o", "remount,size=1g", place], check=True)
        again, printed, _ = laboratory.run(name, place)
        missing = sorted(set(expected) - set(finished(place)))
        found["again"] = {"status": again, "missing": missing, "torn": laboratory.torn(place)}
        if again:
            found["again"]["printed"] = printed[-2000:]
        found["others"] = (place / OTHERS).read_text("utf-8") == "mine"
        return found
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def drafts(place):
    """Returns the names of the drafts that were left behind."""
    return sorted(path.name for path in place.rglob(".*-*") if path.is_dir())


def is_well(one: dict) -> bool:
    told = one["status"] > 0 and one["said"] and "printed" not in one
    whole = not (one["torn"] or one["drafts"] or one["again"]["torn"] or one["again"]["missing"])
    return bool((told or one["status"] == 0) and whole and one["again"]["status"] == 0 and one["others"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=10, help="for each operation")
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=list(OPERATIONS))
    parser.add_argument("--resume", action="store_true", help="keep what the result has already")
    options = parser.parse_args()
    kept = json.loads(RESULT.read_text("utf-8"))["operations"] if options.resume and RESULT.exists() else {}
    with tempfile.TemporaryDirectory() as folder, Laboratory(Path(folder)) as laboratory:
        for name in options.operations:
            if name in kept:
                continue
            place = Path(folder) / f"{name.replace(' ', '_')}_0"
            place.mkdir()
            status, printed, _ = laboratory.run(name, place)
            if status or laboratory.torn(place):
                raise RuntimeError(f"{name} fails with room: {printed[-3000:]} {laboratory.torn(place)}")
            expected, total, runs = finished(place), max(written(place), 40960), []
            for number in range(options.sizes):
                size = int(total * (number + 0.5) / options.sizes)
                place = place.with_name(f"{name.replace(' ', '_')}_{number + 1}")
                runs.append(filled(laboratory, name, place, size, expected))
                print(name, runs[-1], flush=True)
            facts = {"bytes": total, "files": len(expected), "sizes": len(runs)}
            facts |= {"refused": sum(one["status"] > 0 for one in runs), "well": sum(map(is_well, runs))}
            kept[name] = facts | {"runs": runs}
            result = {"environment": environment(), "operations": kept}
            RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if not all(facts["well"] == facts["sizes"] for facts in kept.values()):
        raise SystemExit("Something was torn, lost, or not said")


if __name__ == "__main__":
    main()
