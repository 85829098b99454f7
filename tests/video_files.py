"""Videos and photographs for tests, as files."""

import cv2
import numpy as np


def write_video(path, count, size=(96, 64), rate=12.5):
    """Writes a video of moving clouds; returns its path as a str."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, size)
    frame = cv2.resize(np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8), size)
    for number in range(count):
        writer.write(np.roll(frame, number, axis=1))
    writer.release()
    return str(path)


def damage_frame(path, number, target):
    """Writes a copy of a video of which one frame cannot be decoded."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    starts = [i for i in range(len(data) - 2) if data[i : i + 3] == b"\xff\xd8\xff"]
    data[starts[number] : starts[number] + 300] = bytes(300)
    target.write_bytes(data)
    return str(target)


def write_photo(path, seed=0):
    """Writes a picture of 100 × 80 pixels; returns its path as a str."""
    path.parent.mkdir(exist_ok=True, parents=True)
    clouds = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(clouds, (100, 80)))
    return str(path)


def video_facts(path):
    """Returns the number of frames that decode, the rate, the width and the height."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    facts = (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    return count, *map(capture.get, facts)
