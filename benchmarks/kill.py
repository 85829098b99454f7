"""Is anything torn after kill -9, and does the same command succeed then? Ten moments of each of eight operations.

Each operation runs undisturbed first, which tells how long it takes and which files it makes. Then it starts in a new
folder and is killed after a random part of that time, one of each tenth. All that has its final name is opened, with
checksums where there are some, and what was published; and the same command has to make all files after that.
"""

import argparse
import json
import random
import signal
import tempfile
import time
from pathlib import Path

from environment import environment
from operations import OPERATIONS, Laboratory, finished

RESULT = Path(__file__).parent / "results" / "kill.json"


def killed(laboratory: Laboratory, name: str, place: Path, seconds: float, expected: list[str]) -> dict:
    """Kills an operation after some seconds and runs it again; returns what was found."""
    place.mkdir()
    process = laboratory.start(name, place)
    time.sleep(seconds)
    process.kill()
    process.join()
    found = {"after_seconds": round(seconds, 2), "was_running": process.exitcode == -signal.SIGKILL}
    found |= {"files": len(finished(place)), "torn": laboratory.torn(place)}
    status, printed, _ = laboratory.run(name, place)
    missing = sorted(set(expected) - set(finished(place)))
    again = {"status": status, "missing": missing, "torn": laboratory.torn(place)}
    if status:
        again["printed"] = printed[-2000:]
    return found | {"again": again}


def is_well(one: dict) -> bool:
    return not (one["torn"] or one["again"]["status"] or one["again"]["missing"] or one["again"]["torn"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="of each operation")
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=list(OPERATIONS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="keep what the result has already")
    options = parser.parse_args()
    kept = json.loads(RESULT.read_text("utf-8"))["operations"] if options.resume and RESULT.exists() else {}
    with tempfile.TemporaryDirectory() as folder, Laboratory(Path(folder)) as laboratory:
        for name in options.operations:
            if name in kept:
                continue
            place, generator = Path(folder) / f"{name.replace(' ', '_')}_0", random.Random(f"{options.seed} {name}")
            place.mkdir()
            status, printed, seconds = laboratory.run(name, place)
            if status or laboratory.torn(place):
                raise RuntimeError(f"{name} fails undisturbed: {printed[-3000:]} {laboratory.torn(place)}")
            expected, kills = finished(place), []
            for number in range(options.kills):
                moment = seconds * (number + generator.random()) / options.kills
                place = place.with_name(f"{name.replace(' ', '_')}_{number + 1}")
                kills.append(killed(laboratory, name, place, moment, expected))
                print(name, kills[-1], flush=True)
            facts = {"seconds": round(seconds, 1), "files": len(expected), "killed": len(kills)}
            facts |= {"killed_while_running": sum(one["was_running"] for one in kills)}
            facts |= {"well": sum(map(is_well, kills))}
            kept[name] = facts | {"kills": kills}
            result = {"environment": environment(), "operations": kept}
            RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if not all(facts["well"] == facts["killed"] for facts in kept.values()):
        raise SystemExit("Something was torn, or could not be made again")


if __name__ == "__main__":
    main()
