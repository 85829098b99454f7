"""Videos and photographs for tests, as files."""

import struct
from fractions import Fraction

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


def encode_video(
    path, times, codec="libx264", size=(96, 64), pix_fmt="yuv420p", sound=None, file=None, clock=1000, **options
):
    """Writes a video of pictures that are half grey, half noise, with PyAV; returns its path as a str.

    The grey of picture n, which `number_of` tells, is shown at times[n], in seconds; the last as long as the one before
    it. `sound` is the codec of a tone, as long as the video. `clock` counts time, in ticks per second. `file` has
    options of the container, such as {"movflags": "faststart"}.
    """
    import av

    noise = np.random.default_rng(0)
    with av.open(str(path), "w", container_options=file or {}) as output:
        stream = output.add_stream(
            codec, rate=clock if clock < 1000 else round(len(times) / times[-1]), options=options
        )
        stream.width, stream.height = size
        # 4:2:0 of H.264 needs even sizes.
        stream.pix_fmt = "yuv444p" if size[0] % 2 and codec == "libx264" else pix_fmt
        stream.codec_context.time_base = Fraction(1, clock)
        if sound:
            track = output.add_stream(sound, rate=48000, layout="mono")
            tone = (np.sin(np.arange(int(48000 * (2 * times[-1] - times[-2]))) / 20) * 9000).astype(np.int16)
            tone = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
            tone.sample_rate = 48000
            output.mux([packet for packet in (*track.encode(tone), *track.encode()) if packet.size])
        for number, (time, after) in enumerate(zip(times, [*times[1:], 2 * times[-1] - times[-2]], strict=True)):
            picture = np.full((size[1], size[0], 3), 20 + 5 * (number % 40), np.uint8)
            picture[:, size[0] // 2 :] = noise.integers(0, 255, picture[:, size[0] // 2 :].shape)
            frame = av.VideoFrame.from_ndarray(picture)
            frame = frame.reformat(format="rgb8") if codec == "gif" else frame
            frame.pts, frame.time_base = round(time * clock), Fraction(1, clock)
            frame.duration = round(after * clock) - frame.pts
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return str(path)


def turn(path, *four):
    """Changes the display matrix of an MP4 file: what of x and of y becomes x, then what becomes y."""

    def matrix(x_of_x, x_of_y, y_of_x, y_of_y):
        return struct.pack(">9i", x_of_x << 16, y_of_x << 16, 0, x_of_y << 16, y_of_y << 16, 0, 0, 0, 1 << 30)

    data = path.read_bytes()
    at = data.index(matrix(1, 0, 0, 1), data.index(b"tkhd"))
    path.write_bytes(data[:at] + matrix(*four) + data[at + 36 :])


def number_of(picture):
    """Returns which picture of `encode_video` one is, modulo 40."""
    return round((np.median(picture[:, : picture.shape[1] // 2 - 8]) - 20) / 5)


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
