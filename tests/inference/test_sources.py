"""Every kind of source: what comes out, in which order, and one clear sentence for what is none."""

import contextlib
import http.server
import os
import re
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import av
import cv2
import numpy as np
import PIL.Image
import pytest
from video_files import encode_video, number_of, turn

from keras_regpose import COCO17
from keras_regpose.images import ImageError, read_image
from keras_regpose.inference import sources
from keras_regpose.inference.estimator import estimate
from keras_regpose.inference.sources import Files, Frame, Video, open_source, read_ahead


@pytest.fixture(scope="module")
def picture():
    """(40, 60, 3) uint8 RGB, smooth, no two channels alike."""
    y, x = np.mgrid[:40, :60]
    return np.stack([x * 4, y * 6, 200 - x * 2], axis=-1).astype(np.uint8)


def write_video(path, count, size=(64, 48), rate=30.0, code="MJPG"):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), rate, size)
    for number in range(count):
        writer.write(np.full((size[1], size[0], 3), [10, 20, number * 2 % 250], np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def server(picture):
    """Address of a web server with a picture, an animal, nothing, and something that is no picture."""
    bodies = {
        "/photo.png": cv2.imencode(".png", picture[..., ::-1])[1].tobytes(),
        "/page": b"<html>hello</html>",
        "/empty.jpg": b"",
    }

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = bodies.get(self.path.split("?")[0])
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{service.server_port}"
        service.shutdown()


def test_path_array_pil_and_url_give_the_same_picture(tmp_path, picture, server):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), picture[..., ::-1])
    for source in (path, str(path), picture, PIL.Image.fromarray(picture), f"{server}/photo.png?size=large"):
        frame = open_source(source)
        assert isinstance(frame, Frame)
        np.testing.assert_array_equal(frame.image, picture)
    assert open_source(path).source == str(path) and open_source(picture).source is None


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/page", r"/page \(18 bytes\) is damaged or is not an image"),
        ("/nothing.jpg", r"The server answers 404 \(Not Found\) to http://127.*nothing.jpg"),
        ("/empty.jpg", r"/empty.jpg is empty"),
    ],
)
def test_urls_that_are_no_image(server, address, message):
    with pytest.raises(ImageError, match=message):
        open_source(server + address)


def test_url_that_cannot_be_reached_and_downloads_that_never_end(server, monkeypatch):
    with pytest.raises(ImageError, match="http://127.0.0.1:9/a.jpg cannot be reached"):
        open_source("http://127.0.0.1:9/a.jpg")
    with pytest.raises(ImageError, match="cannot be"):
        open_source("http://")
    monkeypatch.setattr(sources, "_MAX_DOWNLOAD", 50)
    with pytest.raises(ImageError, match="more than the 0 megabytes that are downloaded"):
        open_source(f"{server}/photo.png")


ANSWERS = {
    "bad_status": b"HTTP/1.1 abc OK\r\n\r\n",
    "no_status": b"hello\r\n\r\n",
    "other_version": b"HTTP/9.9 200 OK\r\n\r\nabc",
    "nothing": b"",
    "cut_header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "cut_chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nabc",
    "bad_chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "negative_chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    "short": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
    "bad_length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc",
    "long_line": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\nabc",
    "many_headers": b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 200 + b"\r\nabc",
    "to_a_file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    "to_nowhere": b"HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\n\r\n",
    "to_itself": b"HTTP/1.1 302 Found\r\nLocation: /to_itself\r\n\r\n",
    "no_such_number": b"HTTP/1.1 999 Odd\r\n\r\n",
}


@pytest.fixture(scope="module")
def liar():
    """Address of a server that answers with `ANSWERS`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    connection = listening.accept()[0]
                    with connection, contextlib.suppress(OSError):
                        name = connection.recv(65536).split()[1].decode("latin-1").strip("/")
                        connection.sendall(ANSWERS[name])

        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("name", ANSWERS)
def test_servers_that_do_not_speak_http_are_skipped(liar, name):
    with pytest.raises(ImageError, match=f"{liar}/{name}"):
        open_source(f"{liar}/{name}")
    assert isinstance(next(iter(Files([f"{liar}/{name}"]))), ImageError)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://127.0.0.1:x/a.jpg",
        "http://127.0.0.1:-5/a.jpg",
        "http://a b/c.jpg",
        "http://日本.invalid/a.jpg",
        f"http://{'a' * 70}.invalid/a.jpg",
        "http://\0/a.jpg",
        "http://127.0.0.1\n/a.jpg",
        "http://..../a.jpg",
        "http:///a.jpg",
        os.fsdecode(b"http://\xe9/a.jpg"),
        os.fsdecode(b"http://127.0.0.1:9/\xe9.jpg"),
    ],
)
def test_urls_that_are_none_are_skipped(url):
    with pytest.raises(ImageError, match=re.escape(url)):
        open_source(url)


def test_spaces_and_letters_of_urls_are_sent_as_browsers_send_them(server, picture):
    np.testing.assert_array_equal(open_source(f"{server}/photo.png?of=mia und köln").image, picture)


def test_folders_and_patterns_come_in_order(tmp_path, picture):
    for number in (3, 1, 2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture[..., ::-1] // number)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "deeper").mkdir()
    for source in (tmp_path, str(tmp_path / "*.png"), str(tmp_path / "[1-3].*")):
        opened = open_source(source)
        assert isinstance(opened, Files) and opened.total == 3
        frames = list(opened)
        assert [os.path.basename(frame.source) for frame in frames] == ["1.png", "2.png", "3.png"]
        np.testing.assert_array_equal(frames[2].image, picture // 3)
    with pytest.raises(ValueError, match="deeper has no images"):
        open_source(tmp_path / "deeper")
    with pytest.raises(ValueError, match=r"No file fits the pattern .*\*.jpg"):
        open_source(str(tmp_path / "*.jpg"))
    odd = tmp_path / "photo[1].png"
    cv2.imwrite(str(odd), picture)
    assert isinstance(open_source(odd), Frame)


def test_a_broken_file_of_a_folder_is_an_error_among_frames(tmp_path, picture):
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    (tmp_path / "b.jpg").touch()
    cv2.imwrite(str(tmp_path / "c.png"), picture)
    first, error, last = open_source(tmp_path)
    assert isinstance(first, Frame) and isinstance(last, Frame)
    assert isinstance(error, ImageError) and "b.jpg is empty" in str(error)


@pytest.mark.parametrize(("suffix", "code"), [("avi", "MJPG"), ("mp4", "mp4v")])
def test_video(tmp_path, suffix, code):
    video = open_source(write_video(tmp_path / f"v.{suffix}", 30, code=code))
    assert (video.total, video.live) == (30, False) and video.rate == pytest.approx(30)
    frames = list(video)
    assert [frame.frame for frame in frames] == list(range(30))
    for frame in frames:
        assert frame.image.shape == (48, 64, 3) and frame.source.endswith(suffix)
        assert np.abs(frame.image.mean((0, 1)) - [frame.frame * 2, 20, 10]).max() < 6


# As phones and browsers record: no two pictures at the same distance. Whole hundredths, as GIF has them.
TIMES = [0, 0.04, 0.08, 0.2, 0.21, 0.5, 0.9, 1.0, 1.03, 1.5, 1.6, 2.0]
CASES = {
    "variable.mkv": ({}, None),
    "vp9.webm": ({"codec": "libvpx-vp9"}, None),
    "sound.webm": ({"codec": "libvpx", "sound": "libopus"}, None),
    "browser.webm": ({"codec": "libvpx", "file": {"live": "1"}}, None),  # its header has no duration
    "av1.mp4": ({"codec": "libsvtav1"}, 12),
    "sound.mp4": ({"sound": "aac", "file": {"movflags": "faststart"}}, 12),
    "pieces.mp4": ({"file": {"movflags": "frag_keyframe+empty_moov"}}, None),
    "jpeg.mov": ({"codec": "mjpeg", "pix_fmt": "yuvj420p", "sound": "pcm_s16le"}, 12),
    "hevc.mp4": ({"codec": "libx265", "x265-params": "log-level=none"}, 12),
    "stream.ts": ({"sound": "aac"}, None),
    "flash.flv": ({"sound": "aac"}, None),
    "animated.gif": ({"codec": "gif", "pix_fmt": "rgb8"}, 12),
}


@pytest.mark.parametrize("name", CASES)
def test_times_numbers_and_pictures_are_right(tmp_path, name):
    options, total = CASES[name]
    video = open_source(encode_video(tmp_path / name, TIMES, **options))
    assert isinstance(video, Video) and (video.live, video.total) == (False, total)
    frames = list(video)
    assert all(isinstance(frame, Frame) for frame in frames), frames
    assert [frame.frame for frame in frames] == list(range(12))
    assert [frame.time for frame in frames] == pytest.approx(TIMES, abs=1e-3)
    if name != "animated.gif":  # whose few colours are dithered
        assert [number_of(frame.image) for frame in frames] == list(range(12))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("variable.mkv", "What comes after 0.67 seconds"),
        ("vp9.webm", "What comes after 0.67 seconds"),
        ("sound.webm", "What comes after .* seconds"),
        ("sound.mp4", r"\d of the 12 frames"),
        ("flash.flv", "1 frames|What comes after .* seconds"),
        ("animated.gif", "What comes after 1.00 seconds"),
    ],
)
def test_of_a_file_that_is_cut_off_the_first_part_is_read_and_it_is_said(tmp_path, name, message):
    data = Path(encode_video(tmp_path / name, TIMES, **CASES[name][0])).read_bytes()
    (tmp_path / f"cut_{name}").write_bytes(data[: int(0.55 * len(data))])
    *frames, error = open_source(tmp_path / f"cut_{name}")
    assert 5 <= len(frames) <= 9 and isinstance(error, ImageError)
    assert [frame.time for frame in frames] == pytest.approx(TIMES[: len(frames)], abs=1e-3)
    assert re.fullmatch(f"({message}) of .*cut_{name} cannot be read", str(error)), str(error)


def test_what_an_edit_list_leaves_out_is_not_missing(tmp_path):
    path = encode_video(tmp_path / "v.mp4", np.arange(60) / 20, g="10")
    with av.open(path) as source, av.open(str(tmp_path / "trimmed.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:  # what is before 0 is left out when it is shown, as phones trim
                packet.pts, packet.dts = (round(one - 0.7 / packet.time_base) for one in (packet.pts, packet.dts))
                packet.stream = stream
                target.mux(packet)
    frames = list(open_source(tmp_path / "trimmed.mp4"))
    assert all(isinstance(frame, Frame) for frame in frames)
    assert [number_of(frame.image) for frame in frames] == [number % 40 for number in range(60 - len(frames), 60)]
    assert 44 <= len(frames) <= 46 and frames[-1].time == pytest.approx((len(frames) - 1) / 20, abs=0.06)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_files_have_no_times_but_a_rate(tmp_path, codec):
    video = open_source(encode_video(tmp_path / "v.avi", np.arange(30) / 20, codec, clock=20))
    assert (video.total, video.rate) == (30, 20)
    frames = list(video)
    assert [frame.time for frame in frames] == pytest.approx(np.arange(30) / 20, abs=0.051)
    data = (tmp_path / "v.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: int(0.9 * len(data))])
    *frames, error = open_source(tmp_path / "cut.avi")
    assert 24 <= len(frames) <= 28 and str(error).startswith(f"{30 - len(frames)} of the 30 frames of ")


@pytest.mark.parametrize(
    ("turned", "four"),
    [
        (lambda image: image, (1, 0, 0, 1)),
        (lambda image: np.rot90(image, -1), (0, -1, 1, 0)),  # a phone that is held upright
        (lambda image: np.rot90(image, 1), (0, 1, -1, 0)),
        (lambda image: np.rot90(image, 2), (-1, 0, 0, -1)),
        (lambda image: image[:, ::-1], (-1, 0, 0, 1)),  # a camera that mirrors
        (lambda image: image.transpose(1, 0, 2), (0, 1, 1, 0)),
    ],
)
def test_rotated_videos_are_upright(tmp_path, turned, four):
    path = Path(encode_video(tmp_path / "v.mp4", TIMES))
    flat = next(iter(open_source(path))).image
    turn(path, *four)
    frames = list(open_source(path))
    np.testing.assert_array_equal(frames[0].image, turned(flat))
    assert [frame.time for frame in frames] == pytest.approx(TIMES, abs=1e-3)
    # OpenCV turns by right angles only.
    if four[0] * four[3] > 0 or four[1] * four[2] < 0:
        assert cv2.VideoCapture(str(path)).read()[1].shape == turned(flat).shape


def test_a_gif_of_one_picture_is_a_picture(tmp_path, picture):
    PIL.Image.fromarray(picture).save(tmp_path / "still.gif")
    assert isinstance(open_source(tmp_path / "still.gif"), Frame)


class Feed:
    """A stream of FLV over HTTP, fed from a file at the pace at which it was recorded."""

    def __init__(self, path):
        self.sent = -1  # number of the picture that went out last
        feed = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
                options = {"format": "flv", "container_options": {"flush_packets": "1"}}
                with av.open(path) as source, av.open(self.wfile, "w", **options) as target:
                    stream = target.add_stream_from_template(source.streams.video[0])
                    start = time.monotonic()
                    for packet in source.demux(video=0):
                        if packet.dts is None:
                            continue
                        time.sleep(max(0, start + float(packet.pts * packet.time_base) - time.monotonic()))
                        packet.stream = stream
                        try:
                            target.mux(packet)
                        except OSError:  # the reader has enough
                            return
                        feed.sent += 1

            def log_message(self, *_):
                pass

        self.service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.service.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.service.server_port}/camera.flv"


def test_a_stream_that_is_faster_than_the_model_drops_frames_and_never_falls_behind(tmp_path):
    path = tmp_path / "v.mp4"
    encode_video(path, np.arange(105) / 15, tune="zerolatency")
    feed, delays, seen = Feed(str(path)), [], []

    class Slow:
        skeleton, input_size = COCO17, (64, 48)

        def predict_on_batch(self, crops):
            number = number_of(crops[0, 28:36, 8:])  # around it is black
            delays.append((feed.sent - number + 1) % 40 - 1)  # the sender may count a picture that is here later
            time.sleep(0.24)
            return np.full((len(crops), 17, 4), 0.5, np.float32)

    for poses in estimate(Slow(), feed.url, "image"):
        seen.append((poses.frame, poses.time))
    feed.service.shutdown()
    feed.service.server_close()
    numbers, times = np.array(seen).T
    assert 12 <= len(seen) <= 30 and np.diff(numbers).max() >= 3  # of 105, at 3.6 frames a run
    assert max(delays) < 3, delays
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("newest")]
    np.testing.assert_allclose(times, (numbers - numbers[0]) / 15 + times[0], atol=1e-3)


def test_without_pyav_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    path = encode_video(tmp_path / "v.mp4", TIMES)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"Reading videos and cameras needs av: pip install 'keras-regpose\[video\]'"):
        open_source(path)


def test_videos_that_are_none(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("text")
    whole = write_video(tmp_path / "whole.mp4", 5, code="mp4v").read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    cases = {
        "missing": "There is no video file at .*missing.mp4",
        "empty": "empty.mp4 is empty",
        "text": "text.mp4 is damaged or is not a video",
        "half": "half.mp4 is damaged or is not a video",
    }
    for name, message in cases.items():
        with pytest.raises(ImageError, match=message):
            open_source(tmp_path / f"{name}.mp4")


def test_frames_that_are_missing_are_told(tmp_path):
    data = write_video(tmp_path / "v.avi", 20).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: int(0.6 * len(data))])
    *frames, error = open_source(tmp_path / "cut.avi")
    assert 1 <= len(frames) < 15 and all(isinstance(frame, Frame) for frame in frames)
    assert str(error) == f"{20 - len(frames)} of the 20 frames of {tmp_path / 'cut.avi'} cannot be read"


def test_a_broken_frame_does_not_end_a_video(tmp_path):
    data = bytearray(write_video(tmp_path / "v.avi", 20).read_bytes())
    starts = [i for i in range(len(data) - 2) if data[i : i + 3] == b"\xff\xd8\xff"]
    assert len(starts) == 20
    data[starts[10] : starts[10] + 200] = bytes(200)
    (tmp_path / "broken.avi").write_bytes(data)
    *frames, error = open_source(tmp_path / "broken.avi")
    assert [frame.frame for frame in frames] == [*range(10), *range(11, 20)]
    for frame in frames:
        assert frame.image[..., 0].mean() == pytest.approx(frame.frame * 2, abs=6)
    assert str(error).startswith("1 of the 20 frames")


def test_a_camera_that_is_not_there():
    with pytest.raises(ImageError, match="There is no camera 97, or another program uses it"):
        open_source(97)


@pytest.mark.parametrize("source", [None, True, 1.5, {"a": 1}])
def test_other_things_are_no_source(source):
    with pytest.raises(ImageError, match=f"path, a NumPy array or a PIL image. Received: {type(source).__name__}"):
        open_source(source)


def exif_rotated(picture):
    data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]))[1].tobytes()
    entry = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + bytes(4)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(entry) + 2) + entry + data[2:]


def test_pil_images_of_all_modes_equal_their_files(tmp_path, picture):
    image = PIL.Image.fromarray(picture)
    grey = image.convert("L")
    deep = PIL.Image.fromarray(picture[..., 0].astype(np.uint16) * 256 + 9)
    files = {"grey.png": grey, "rgba.png": image.convert("RGBA"), "deep.png": deep, "palette.png": image.quantize(200)}
    for name, made in files.items():
        made.save(tmp_path / name)
        with PIL.Image.open(tmp_path / name) as opened:
            np.testing.assert_array_equal(read_image(opened), read_image(tmp_path / name))
    assert read_image(deep)[5, 7].tolist() == [28, 28, 28]
    transparent = np.dstack([picture, np.full((40, 60), 3, np.uint8)])
    np.testing.assert_array_equal(read_image(PIL.Image.fromarray(transparent)), picture)
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    with PIL.Image.open(tmp_path / "cmyk.jpg") as opened:
        assert opened.mode == "CMYK"
        assert np.abs(read_image(opened).astype(int) - picture).mean() < 3
    assert np.abs(read_image(tmp_path / "cmyk.jpg").astype(int) - picture).mean() < 3
    (tmp_path / "turned.jpg").write_bytes(exif_rotated(picture))
    with PIL.Image.open(tmp_path / "turned.jpg") as opened:
        turned = read_image(opened)
    assert turned.shape == (60, 40, 3)
    assert np.abs(turned.astype(int) - picture[::-1].transpose(1, 0, 2)).mean() < 3
    assert np.abs(turned.astype(int) - read_image(tmp_path / "turned.jpg")).max() <= 2


def test_a_truncated_pil_image(tmp_path):
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    with PIL.Image.open(tmp_path / "a.png") as opened, pytest.raises(ImageError, match="a.png cannot be decoded"):
        read_image(opened)


def test_reading_ahead_is_bounded_and_ends_with_its_reader():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    reader = read_ahead(items(), count=3)
    assert [next(reader) for _ in range(5)] == [0, 1, 2, 3, 4]
    time.sleep(0.3)
    assert len(made) <= 5 + 3 + 1
    reader.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read_ahead")]
    assert list(read_ahead(iter(range(50)))) == list(range(50))


def test_an_exception_in_the_reading_thread_arrives():
    def items():
        yield 1
        raise MemoryError("no room")

    reader = read_ahead(items())
    assert next(reader) == 1
    with pytest.raises(MemoryError, match="no room"):
        next(reader)


def open_files():
    return [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if os.path.islink(link)]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="lists the open files of Linux")
def test_video_classes_release_their_file(tmp_path):
    video = Video(str(write_video(tmp_path / "v.avi", 10)))
    frames = iter(video)
    next(frames)
    assert str(tmp_path / "v.avi") in open_files()
    frames.close()
    assert str(tmp_path / "v.avi") not in open_files()
