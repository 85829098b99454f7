"""Does the memory in use grow while a long video is estimated?

usage: python benchmarks/video_memory.py
Makes a video of 10,000 frames, reads it through `model.estimate` with 1 and with 50 people per frame, and writes the
memory in use to benchmarks/results/video_memory.json. Takes some minutes on two cores; reads /proc, so Linux only.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from environment import environment

FRAMES, WIDTH, HEIGHT = 10_000, 320, 240
WARM_UP = 1000
RESULT = Path(__file__).parent / "results" / "video_memory.json"


def resident():
    """Returns the memory in use in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def write_video(path):
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    clouds = cv2.resize(np.random.default_rng(0).integers(0, 255, (12, 32, 3), np.uint8), (2 * WIDTH, HEIGHT))
    for number in range(FRAMES):
        left = number % WIDTH
        writer.write(clouds[:, left : left + WIDTH])
    writer.release()


def measure(path, people):
    import keras_regpose as rp

    model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    boxes = [[5 * number, 10, 5 * number + 60, 200] for number in range(people)]
    memory, seen = [], 0
    for poses in model.estimate(path, boxes):
        assert poses.frame == seen and len(poses) == people
        seen += 1
        if seen % 100 == 0:
            gc.collect()
            memory.append(round(resident(), 1))
    assert seen == FRAMES
    after = memory[WARM_UP // 100 - 1 :]
    return {
        "people_per_frame": people,
        "frames": seen,
        "mib_after_warm_up": after[0],
        "mib_at_most_after_warm_up": max(after),
        "mib_at_the_end": after[-1],
        "mib_every_1000_frames": memory[9::10],
        "mib_of_all_frames_were_they_kept": round(FRAMES * WIDTH * HEIGHT * 3 / 2**20),
    }


def main():
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "long.avi")
        write_video(path)
        runs = []
        for people in (1, 50):
            # A process each: what one has left in memory must not hide what the other takes.
            ran = subprocess.run([sys.executable, __file__, path, str(people)], stdout=subprocess.PIPE, check=True)
            runs.append(json.loads(ran.stdout.splitlines()[-1]))
            print(json.dumps(runs[-1], indent=1), flush=True)
    RESULT.write_text(json.dumps({"environment": environment(), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
