"""Does the memory in use grow while a long video is estimated?

usage: python benchmarks/video_memory.py
Makes an MP4 of 10,000 frames, reads it through `model.estimate` with 1 and with 50 people per frame, writes the
video, JSON and CSV of 1 person, and keeps the memory in use in benchmarks/results/video_memory.json. Takes some minutes
on two cores; reads /proc, so Linux only.
"""

import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from environment import environment
from PIL import Image

FRAMES, WIDTH, HEIGHT = 10_000, 320, 240
WARM_UP = 1000
RESULT = Path(__file__).parent / "results" / "video_memory.json"


def resident():
    """Returns the memory in use in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def write_video(path):
    import av

    clouds = np.random.default_rng(0).integers(0, 255, (HEIGHT // 20, 2 * WIDTH // 20, 3), np.uint8)
    clouds = np.asarray(Image.fromarray(clouds).resize((2 * WIDTH, HEIGHT)))
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", 25, {"preset": "veryfast"}, width=WIDTH, height=HEIGHT, pix_fmt="yuv420p")
        for number in range(FRAMES):
            left = number % WIDTH
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(clouds[:, left : left + WIDTH]))
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def measure(path, people):
    import keras_regpose as rp

    model = rp.PoseRegressor("mobilenetv2_0.25", rp.COCO17, input_size=(64, 48))
    boxes = [[5 * number, 10, 5 * number + 60, 200] for number in range(people)]
    memory, seen = [], 0
    formats = ("picture", "json", "csv") if people == 1 else ()
    with contextlib.ExitStack() as files:
        output = os.path.join(os.path.dirname(path), "poses")
        write = files.enter_context(rp.ResultsWriter(output, formats)).write if formats else id
        for poses in model.estimate(path, boxes):
            assert poses.frame == seen and len(poses) == people
            write(poses)
            seen += 1
            if seen % 100 == 0:
                gc.collect()
                memory.append(round(resident(), 1))
    assert seen == FRAMES
    after = memory[WARM_UP // 100 - 1 :]
    return {
        "people_per_frame": people,
        "written": formats,
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
        path = os.path.join(folder, "long.mp4")
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
