"""Results as files: what is written, under which name, whole or not at all, whatever happens on the way."""

import dataclasses
import http.server
import json
import os
import queue
import shutil
import subprocess
import threading
import urllib.parse
from pathlib import Path

import av
import cv2
import numpy as np
import pandas
import PIL.Image
import pytest
from video_files import damage_frame, encode_video, turn, video_facts, write_photo, write_video

from keras_regpose import COCO17, Poses, ResultsWriter, to_sleap, write_results
from keras_regpose.inference.estimator import estimate

BOXES = [[10, 5, 60, 60], [40, 5, 90, 60]]
ALL = ("picture", "json", "coco")


class Model:
    """Stands for a network whose keypoints follow from the crop's mean colour."""

    skeleton, input_size = COCO17, (64, 48)

    def predict_on_batch(self, crops):
        means = crops.mean((1, 2))[:, :1, None] / 255
        return np.broadcast_to(means * np.linspace(0.2, 1, 17)[:, None] * [1, 0.9, 0.1, 0.2], (len(crops), 17, 4))


def names(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def made_up(frame=None, source=None, **fields):
    """Poses of nobody in a grey image."""
    image = np.full((64, 96, 3), 100, np.uint8)
    return Poses([], [], [], [], COCO17, frame=frame, source=source, image=image, image_size=(64, 96), **fields)


def test_pictures_json_and_coco_results_of_photographs(tmp_path):
    folder, output = tmp_path / "photos", tmp_path / "poses"
    for number in (785, 1000):
        write_photo(folder / f"{number:012}.jpg", number)
    write_photo(folder / "street.jpg")
    results = list(estimate(Model(), folder, BOXES))
    write_results(results, output, ALL)
    stems = ["000000000785", "000000001000", "street"]
    assert names(output) == {"coco.json"} | {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "json")}
    expected = []
    for poses, stem, image_id in zip(results, stems, [785, 1000, "street"], strict=True):
        assert (output / f"{stem}.json").read_text() == poses.to_json() + "\n"
        picture = np.asarray(PIL.Image.open(output / f"{stem}.png"))
        np.testing.assert_array_equal(picture, np.asarray(poses.plot()))
        assert picture.shape == (80, 100, 3) and len(poses) == 2
        expected += poses.to_coco(image_id)
    assert read(output / "coco.json") == expected and len(expected) == 6


def test_a_video_keeps_rate_size_and_every_frame(tmp_path):
    video, output = write_video(tmp_path / "dance.avi", 40), tmp_path / "poses"
    kept = []
    with ResultsWriter(output, ALL) as writer:
        for poses in estimate(Model(), video, BOXES):
            writer.write(poses)
            kept.append(poses)
            assert names(output).isdisjoint({"dance.mp4", "dance.json", "dance.coco.json"})
    assert names(output) == {"dance.mp4", "dance.json", "dance.coco.json"}
    assert video_facts(output / "dance.mp4") == (40, 12.5, 96, 64)
    assert read(output / "dance.json") == [json.loads(poses.to_json()) for poses in kept]
    assert [poses.frame for poses in kept] == list(range(40)) and kept[0].frame_rate == 12.5
    seventh = Poses.from_json(json.dumps(read(output / "dance.json")[7]))
    assert len(seventh) == 2 and seventh.source == video and seventh.boxes[0].tolist() == BOXES[0]
    assert read(output / "dance.coco.json")[14]["keypoints"][:2] == seventh.keypoints[0, 0].tolist()
    assert read(output / "dance.coco.json") == [result for poses in kept for result in poses.to_coco(poses.frame)]
    assert [result["image_id"] for result in read(output / "dance.coco.json")] == [n // 2 for n in range(80)]


def test_csv_of_photographs_and_videos(tmp_path):
    one = {"keypoints": np.ones((1, 17, 2)), "scores": np.ones((1, 17)), "boxes": [[0, 0, 9, 9]], "box_scores": [1]}
    frames = [Poses(**one, skeleton=COCO17, frame=number, source="dance.avi") for number in (0, 2)]
    empty = made_up(frame=1, source="dance.avi")
    write_results([Poses(**one, skeleton=COCO17, source="a.jpg"), frames[0], empty, frames[1]], tmp_path, "csv")
    photo, video = ((tmp_path / name).read_text().splitlines() for name in ("a.csv", "dance.csv"))
    assert photo[:2] == ["person,keypoint,x,y,score", "0,nose,1.0,1.0,1.0"] and len(photo) == 1 + 17
    assert video[0] == "frame,person,keypoint,x,y,score" and len(video) == 1 + 2 * 17
    assert [line.split(",")[0] for line in video[1::17]] == ["0", "2"]


def facts(path):
    """Returns the times at which pictures begin and the end of the last, in seconds; and the times of the sound."""
    shown = {"video": [], "audio": []}
    with av.open(str(path)) as file:
        for packet in file.demux():
            if packet.pts is not None:
                start = float(packet.pts * packet.time_base)
                shown[packet.stream.type].append((start, start + float(packet.duration * packet.time_base)))
    begin, end = np.sort(shown["video"], axis=0).T
    return begin, end[-1], sorted(shown["audio"])


TIMES = [0, 0.04, 0.08, 0.2, 0.21, 0.5, 0.9, 1.0, 1.033, 1.5, 1.6, 2.0]


@pytest.mark.parametrize(
    ("name", "options", "sound"),
    [
        ("copied.mp4", {"sound": "aac"}, "aac"),
        ("opus.webm", {"codec": "libvpx", "sound": "libopus"}, "opus"),
        ("phone.mov", {"sound": "pcm_s16le"}, "aac"),
        ("transport.ts", {"sound": "aac"}, "aac"),
        ("mp2.mkv", {"sound": "mp2"}, "aac"),
        ("av1.mp4", {"codec": "libsvtav1"}, None),
        ("animated.gif", {"codec": "gif", "pix_fmt": "rgb8"}, None),
        ("silent.mkv", {}, None),
    ],
)
def test_written_videos_have_the_times_and_the_sound_of_their_source(tmp_path, name, options, sound):
    video = encode_video(tmp_path / name, TIMES, size=(96, 64) if options else (95, 63), **options)
    output, poses = tmp_path / "poses", list(estimate(Model(), video, "image"))
    assert [one.time for one in poses] == pytest.approx(TIMES, abs=5e-3)
    write_results(estimate(Model(), video, "image"), output, ("picture", "json", "csv"))
    begin, end, heard = facts(output / f"{Path(name).stem}.mp4")
    np.testing.assert_allclose(begin, [one.time for one in poses], atol=1e-3)
    assert 2.03 < end < 2.5
    with av.open(str(output / f"{Path(name).stem}.mp4")) as file:
        stream = file.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(end, abs=1e-3) and stream.frames == 12
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 96, 64)
        assert [one.codec_context.codec.canonical_name for one in file.streams.audio] == ([sound] if sound else [])
        if sound:  # a tone of 48000 / 20 / 2π = 382 Hz until the end of the last picture
            tone = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)]).astype(float)
            peak = np.fft.rfftfreq(len(tone), 1 / 48000)[np.abs(np.fft.rfft(tone)).argmax()]
            assert peak == pytest.approx(382, abs=2)
            assert heard[0][0] == pytest.approx(0, abs=0.05) and 2.0 < heard[-1][1] < 2.5
            assert len(tone) / 48000 == pytest.approx(heard[-1][1], abs=0.05)
    data = (output / f"{Path(name).stem}.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # so that browsers play before they have all of it
    assert [one["time"] for one in read(output / f"{Path(name).stem}.json")] == [one.time for one in poses]
    rows = (output / f"{Path(name).stem}.csv").read_text().splitlines()
    assert rows[0].startswith("frame,time,person,keypoint") and float(rows[1 + 17 * 8].split(",")[1]) == poses[8].time


def test_of_a_video_on_its_side_an_upright_one_is_written(tmp_path):
    turn(Path(encode_video(tmp_path / "phone.mp4", TIMES, sound="aac")), 0, -1, 1, 0)
    write_results(estimate(Model(), tmp_path / "phone.mp4", "image"), tmp_path / "poses", "picture")
    begin, _, heard = facts(tmp_path / "poses" / "phone.mp4")
    np.testing.assert_allclose(begin, TIMES, atol=1e-3)
    assert len(heard) > 90  # pieces of 1024 samples, of 2.4 seconds
    with av.open(str(tmp_path / "poses" / "phone.mp4")) as file:
        frame = next(file.decode(video=0))
    assert (frame.width, frame.height) == (64, 96) and "DISPLAYMATRIX" not in frame.side_data
    upper, lower = np.split(frame.to_ndarray(format="rgb24").astype(float), 2)
    assert upper.std() < 25 < 50 < lower.std()  # what was grey on the left is above


def test_of_a_source_that_is_cut_off_pictures_and_sound_are_written(tmp_path):
    for name, options in (("copied.mp4", {"sound": "aac"}), ("coded.webm", {"codec": "libvpx", "sound": "libopus"})):
        data = Path(
            encode_video(tmp_path / f"whole_{name}", TIMES, file={"movflags": "faststart"}, **options)
        ).read_bytes()
        (tmp_path / name).write_bytes(data[: int(0.7 * len(data))])
        errors = []
        write_results(
            estimate(Model(), tmp_path / name, "image", on_error=errors.append), tmp_path / "poses", "picture"
        )
        assert len(errors) == 1 and "cannot be read" in str(errors[0])
        begin, end, heard = facts(tmp_path / "poses" / Path(name).with_suffix(".mp4"))
        np.testing.assert_allclose(begin, TIMES[: len(begin)], atol=1e-3)
        assert 6 <= len(begin) <= 11 and 0.3 < heard[-1][1] < end + 0.05


def test_sound_ends_where_the_pictures_do(tmp_path):
    video = encode_video(tmp_path / "long.mp4", TIMES, sound="aac")
    with ResultsWriter(tmp_path / "poses", "picture") as writer:
        for poses in estimate(Model(), video, "image"):
            writer.write(poses)
            if poses.frame == 5:
                break
    begin, end, heard = facts(tmp_path / "poses" / "long.mp4")
    assert len(begin) == 6 and heard[-1][1] < end + 0.05


def test_pictures_of_odd_and_of_changing_size(tmp_path):
    frames = [made_up(frame, "camera 0", time=frame / 10) for frame in range(4)]
    frames[0].image = np.full((63, 95, 3), 100, np.uint8)
    frames[3].image = np.full((128, 192, 3), 100, np.uint8)
    write_results(frames, tmp_path, "picture")
    assert video_facts(tmp_path / "camera 0.mp4")[0::2] == (4, 96) and video_facts(tmp_path / "camera 0.mp4")[3] == 64
    with av.open(str(tmp_path / "camera 0.mp4")) as file:
        for frame in file.decode(video=0):
            assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - 100).max() <= 3


def chromium():
    """Returns the path of Chromium, or None where there is none and KERAS_REGPOSE_CHROMIUM does not ask for it."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None and os.environ.get("KERAS_REGPOSE_CHROMIUM"):
        pytest.fail("KERAS_REGPOSE_CHROMIUM asks for Chromium, which is not installed: apt-get install chromium")
    return path


PAGE = b"""<!doctype html><video src="/dance.mp4" muted></video><p></p><script>
const video = document.querySelector("video"), tell = text => fetch("/tell?" + encodeURIComponent(JSON.stringify(text)))
video.onerror = () => tell({error: video.error.message})
video.onended = () => tell({duration: video.duration, width: video.videoWidth, height: video.videoHeight,
  at: video.currentTime, frames: video.getVideoPlaybackQuality().totalVideoFrames,
  sound: video.webkitAudioDecodedByteCount})
video.play().catch(error => tell({error: String(error)}))
</script>"""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dance.mkv", {"sound": "aac"}),
        ("dance.webm", {"codec": "libvpx", "sound": "libopus"}),
        ("dance.mp4", {"sound": "libmp3lame"}),
        ("dance.mkv", {"sound": "flac"}),
        ("dance.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    ],
)
def test_chromium_plays_what_is_written(tmp_path, name, options):
    if (browser := chromium()) is None:
        pytest.skip("Chromium is not installed")
    video = encode_video(tmp_path / name, TIMES, size=(95, 63), **options)
    write_results(estimate(Model(), video, "image"), tmp_path / "poses", "picture")
    told = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path, _, query = self.path.partition("?")
            if path == "/tell":
                told.put(json.loads(urllib.parse.unquote(query)))
            body = {"/": PAGE, "/dance.mp4": (tmp_path / "poses" / "dance.mp4").read_bytes()}.get(path, b"")
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4" if path == "/dance.mp4" else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    quiet = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update"
    flags = ["headless", *quiet.split(), "disable-sync", "autoplay-policy=no-user-gesture-required"]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        flags += [f"user-data-dir={tmp_path / 'profile'}"]
        command = [browser, *(f"--{flag}" for flag in flags), f"http://127.0.0.1:{service.server_port}/"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            result = told.get(timeout=60)
        finally:
            process.terminate()
            process.wait()
            service.shutdown()
    assert "error" not in result, result
    assert (result["width"], result["height"]) == (96, 64)
    assert (result["sound"] > 1000) == ("sound" in options)
    assert 2.03 < result["duration"] < 2.6 and result["at"] == pytest.approx(result["duration"], abs=0.05)
    assert result["frames"] == 12


def test_sleap_reads_what_is_written_and_other_tools_go_on(tmp_path):
    sleap_io = pytest.importorskip("sleap_io")
    video, kept = encode_video(tmp_path / "dance.mp4", TIMES), []
    with ResultsWriter(tmp_path / "poses", ("slp", "csv")) as writer:
        for poses in estimate(Model(), video, BOXES):
            poses.ids = np.array([[3, 8], [8, 3]][poses.frame % 2])  # as following gives them
            writer.write(poses)
            kept.append(poses)
        for number in (1, 2):
            writer.write(estimate(Model(), write_photo(tmp_path / f"{number}.png", number), BOXES))
    assert names(tmp_path / "poses") == {"dance.slp", "dance.csv", "pictures.slp", "1.csv", "2.csv"}
    labels = sleap_io.load_slp(str(tmp_path / "poses" / "dance.slp"))
    assert labels.videos[0].filename == video and labels.videos[0].shape == (12, 64, 96, 3)
    assert labels.skeletons[0].node_names == list(COCO17.keypoints)
    assert labels.skeletons[0].edge_names == list(COCO17.edges)
    assert {frozenset(pair) for pair in labels.skeletons[0].symmetry_names} == set(map(frozenset, COCO17.flip_pairs))
    assert [frame.frame_idx for frame in labels] == list(range(12)) and len(labels.tracks) == 2
    for frame, poses in zip(labels, kept, strict=True):
        for person, truth in zip(frame.predicted_instances, poses, strict=True):
            np.testing.assert_array_equal(person.numpy(scores=True)[:, :2], truth.keypoints[0])
            np.testing.assert_allclose(person.numpy(scores=True)[:, 2], truth.scores[0])
            assert person.track.name == str(truth.ids[0])
    sleap_io.save_nwb(labels, str(tmp_path / "dance.nwb"))
    again = sleap_io.load_file(str(tmp_path / "dance.nwb"))
    again, truth = (sorted(points.tolist() for points in frame) for frame in (again[7].numpy(), kept[7].keypoints))
    np.testing.assert_allclose(again, truth, rtol=1e-6)
    pictures = sleap_io.load_slp(str(tmp_path / "poses" / "pictures.slp"))
    assert pictures.videos[0].filename == [str(tmp_path / f"{number}.png") for number in (1, 2)]
    assert pictures[1].image.shape[:2] == (80, 100)
    rows = pandas.read_csv(tmp_path / "poses" / "dance.csv")
    assert list(rows) == ["frame", "time", "id", "person", "keypoint", "x", "y", "score", "sigma_x", "sigma_y"]
    path = rows[(rows.id == 8) & (rows.keypoint == "nose")]
    assert path.x.tolist() == pytest.approx([poses.keypoints[list(poses.ids).index(8), 0, 0] for poses in kept])
    np.testing.assert_allclose(path.time, TIMES, atol=1e-3)
    with pytest.raises(ValueError, match="SLEAP's files name pictures and videos"):
        to_sleap(made_up())


def test_pictures_show_the_poses_with_the_options_of_plot(tmp_path):
    video, output = write_video(tmp_path / "dance.avi", 3), tmp_path / "poses"
    write_results(estimate(Model(), video, BOXES), output, "picture", scale=6.0, boxes=True)
    shown = cv2.VideoCapture(str(output / "dance.mp4")).read()[1][..., ::-1]
    poses = next(estimate(Model(), video, BOXES))
    expected = np.asarray(poses.plot(scale=6.0, boxes=True))
    assert shown.shape == expected.shape == (384, 576, 3)
    plain = np.asarray(poses.plot(scale=6.0, ellipses=False))
    assert np.abs(shown.astype(int) - expected).mean() < 4
    assert np.abs(shown.astype(int) - expected).mean() < 0.9 * np.abs(shown.astype(int) - plain).mean()
    assert names(output) == {"dance.mp4"}


def test_one_result_a_list_and_an_array(tmp_path):
    array = np.full((64, 96, 3), 90, np.uint8)
    write_results(estimate(Model(), array), tmp_path / "one")
    write_results(estimate(Model(), [array, array]), tmp_path / "two")
    assert names(tmp_path / "one") == {"image.png", "image.json"}
    assert names(tmp_path / "two") == {"image.png", "image.json", "image_2.png", "image_2.json"}
    with pytest.raises(ValueError, match="COCO results need the image's name"):
        write_results(estimate(Model(), array), tmp_path / "three", ALL)
    assert names(tmp_path / "three") == set()


def test_sources_of_the_same_name_get_numbers(tmp_path):
    videos = [write_video(tmp_path / f"{folder}.avi", 2) for folder in ("dance", "coco")]
    (tmp_path / "other").mkdir()
    videos.append(write_video(tmp_path / "other" / "dance.avi", 3))
    photos = [write_photo(tmp_path / folder / "dance.jpg") for folder in ("a", "b")]
    output = tmp_path / "poses"
    with ResultsWriter(output, "json") as writer:
        for video in [*videos, videos[-1]]:
            for poses in estimate(Model(), video):
                writer.write(poses)
        for poses in estimate(Model(), photos):
            writer.write(poses)
    assert names(output) == {"coco_2.json", "dance.json", *(f"dance_{number}.json" for number in range(2, 6))}
    assert [len(read(output / f"{name}.json")) for name in ("dance", "coco_2", "dance_2", "dance_3")] == [2, 2, 3, 3]
    assert [read(output / f"dance_{number}.json")["source"] for number in (4, 5)] == photos


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("https://example.org/a/street view.jpg?size=large", "street_view"),
        ("https://example.org/gallery/", "gallery"),
        ("holiday/street view.jpg", "street view"),
        (None, "image"),
    ],
)
def test_names_of_results(tmp_path, source, name):
    write_results(made_up(source=source), tmp_path, "json")
    assert names(tmp_path) == {f"{name}.json"}


def test_cameras_have_a_name_and_a_rate(tmp_path):
    write_results([made_up(frame, "camera 0") for frame in range(5)], tmp_path)
    assert names(tmp_path) == {"camera 0.mp4", "camera 0.json"}
    assert video_facts(tmp_path / "camera 0.mp4") == (5, 25.0, 96, 64)


def test_a_source_is_never_replaced(tmp_path):
    photo, video = write_photo(tmp_path / "photo.png"), tmp_path / "dance.mp4"
    write_results([made_up(frame, "dance.avi") for frame in range(3)], tmp_path, "picture")
    before = [(tmp_path / name).read_bytes() for name in ("photo.png", "dance.mp4")]
    for source in (photo, video):
        for folder in (tmp_path, tmp_path / "." / ""):
            with pytest.raises(ValueError, match=f"would replace the image {source} itself"):
                write_results(estimate(Model(), [photo]) if source == photo else estimate(Model(), video), folder)
    assert [(tmp_path / name).read_bytes() for name in ("photo.png", "dance.mp4")] == before
    assert names(tmp_path) == {"photo.png", "dance.mp4"}
    write_results(estimate(Model(), photo), tmp_path, "json")
    assert names(tmp_path) == {"photo.png", "dance.mp4", "photo.json"}


def test_a_broken_frame_is_left_out(tmp_path):
    broken = damage_frame(write_video(tmp_path / "v.avi", 30), 12, tmp_path / "broken.avi")
    errors, output = [], tmp_path / "poses"
    write_results(estimate(Model(), broken, on_error=errors.append), output)
    assert "1 of the 30 frames" in str(errors[0]) and len(errors) == 1
    assert [frame["frame"] for frame in read(output / "broken.json")] == [n for n in range(30) if n != 12]
    assert video_facts(output / "broken.mp4")[0] == 29


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_came_before_an_error_is_there(tmp_path, error):
    video, photo, output = write_video(tmp_path / "v.avi", 30), write_photo(tmp_path / "p.jpg"), tmp_path / "poses"
    with pytest.raises(error), ResultsWriter(output, ALL) as writer:
        writer.write(estimate(Model(), photo, boxes="image"))
        for poses in estimate(Model(), video, boxes="image"):
            if poses.frame == 11:
                raise error
            writer.write(poses)
    assert names(output) == {"p.png", "p.json", "coco.json", "v.mp4", "v.json", "v.coco.json"}
    assert video_facts(output / "v.mp4")[0] == len(read(output / "v.json")) == len(read(output / "v.coco.json")) == 11
    assert len(read(output / "coco.json")) == 1


def test_frames_that_cannot_be_drawn_leave_all_files_alike(tmp_path):
    with ResultsWriter(tmp_path, ALL) as writer:
        for number, poses in enumerate(estimate(Model(), write_video(tmp_path / "v.avi", 6), boxes="image")):
            poses.image = None if number in (0, 3) else poses.image
            if poses.image is None:
                with pytest.raises(ValueError, match=f"Frame {number} is no longer in memory"):
                    writer.write(poses)
            else:
                writer.write(poses)
    assert [frame["frame"] for frame in read(tmp_path / "v.json")] == [1, 2, 4, 5]
    assert [result["image_id"] for result in read(tmp_path / "v.coco.json")] == [1, 2, 4, 5]
    assert video_facts(tmp_path / "v.mp4")[0] == 4


def test_videos_in_turn_need_a_writer_each(tmp_path):
    with ResultsWriter(tmp_path, "json") as writer:
        for frame, source in ((0, "a.avi"), (1, "a.avi"), (0, "b.avi")):
            writer.write(made_up(frame, source))
        assert names(tmp_path) >= {"a.json"} and "b.json" not in names(tmp_path)
        with pytest.raises(ValueError, match="Frame 2 of a.avi comes after another video began"):
            writer.write(made_up(2, "a.avi"))
    assert [len(read(tmp_path / name)) for name in ("a.json", "b.json")] == [2, 1]


@pytest.mark.parametrize("formats", ["video", (), ("json", "tsv")])
def test_unknown_formats(tmp_path, formats):
    with pytest.raises(ValueError, match="formats must be some of picture, json, csv, coco, slp. Received"):
        ResultsWriter(tmp_path, formats)


@pytest.mark.parametrize("formats", ["picture", "json"])
def test_a_file_that_finds_no_room_is_not_there(tmp_path, formats):
    resource = pytest.importorskip("resource")
    generator = np.random.default_rng(0)
    frames = [made_up(frame, "v.avi") for frame in range(60)]
    for poses in frames:
        poses.image = generator.integers(0, 255, poses.image.shape, np.uint8)
    (tmp_path / "v.json").write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError):
            write_results(frames, tmp_path, formats)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(tmp_path) == {"v.json"} and (tmp_path / "v.json").read_text() == "old"


@pytest.mark.parametrize("formats", ["picture", "json", "csv", "coco", "slp"])
@pytest.mark.parametrize("frame", [None, 0], ids=["picture", "video"])
def test_files_of_others_are_not_replaced(tmp_path, formats, frame):
    results = made_up(frame, "a.jpg" if frame is None else "a.mp4")
    write_results(results, tmp_path / "known", formats)
    (name,) = names(tmp_path / "known")
    stranger = tmp_path / "poses" / name
    stranger.parent.mkdir()
    stranger.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=f"{name} is there, and keras_regpose did not write it. Choose another"):
        write_results(results, tmp_path / "poses", formats)
    assert names(tmp_path / "poses") == {name} and stranger.read_bytes() == b"mine"
    write_results(results, tmp_path / "poses", formats, overwrite=True)
    write_results(results, tmp_path / "poses", formats)  # what is ours is replaced without a word
    assert names(tmp_path / "poses") == {name} and stranger.stat().st_size != 4


def test_where_one_file_is_anothers_none_is_written(tmp_path):
    (tmp_path / "coco.json").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="coco.json is there"):
        write_results(made_up(source="a.jpg"), tmp_path, ("picture", "json", "coco"))
    assert names(tmp_path) == {"coco.json"}


def test_of_two_who_write_the_same_files_the_later_wins_whole(tmp_path):
    with ResultsWriter(tmp_path, (*ALL, "csv")) as first, ResultsWriter(tmp_path, (*ALL, "csv")) as second:
        for number in range(3):
            for writer in (first, second) if number < 2 else (first,):
                people = Poses(np.ones((1, 17, 2)), np.ones((1, 17)), BOXES[:1], [1], COCO17, source=f"{number}.jpg")
                writer.write(dataclasses.replace(people, image=np.zeros((64, 96, 3), np.uint8)))
        for number in range(12):
            for writer in (first, second) if number < 6 else (first,):
                writer.write(made_up(number, "v.mp4"))
    # `first` is closed last.
    assert [one["image_id"] for one in read(tmp_path / "coco.json")] == [0, 1, 2]
    assert [entry["frame"] for entry in read(tmp_path / "v.json")] == list(range(12))
    assert video_facts(tmp_path / "v.mp4")[0] == 12
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize(
    "stem",
    [
        os.fsdecode(b"caf\xe9 d\xe9j\xe0 vu"),  # Latin-1, which is no UTF-8
        "東" * 82,
        "🙂" * 62,
        "e" * 251,
        os.fsdecode(b"\xe9" * 251),
        "a\nb\rc",
        "-rf {} %s",
    ],
    ids=["latin", "kanji", "emoji", "long", "long_latin", "lines", "signs"],
)
@pytest.mark.parametrize("frame", [None, 0], ids=["picture", "video"])
def test_odd_names(tmp_path, stem, frame):
    source = str(tmp_path / f"{stem}.jpg")
    formats = ("picture", "json", "csv", "coco")
    for _ in range(2):
        write_results([made_up(frame, source), made_up(frame, source)], tmp_path / "poses", formats)
    written = names(tmp_path / "poses")
    assert len(written) == (7 if frame is None else 8) and max(len(os.fsencode(name)) for name in written) <= 255
    assert all(name.startswith((stem[:50], "coco.json")) for name in written)
    (one, *_) = (name for name in written if name.endswith(".json") and "coco" not in name)
    content = read(tmp_path / "poses" / one)
    assert (content if frame is None else content[0])["source"] == source


def test_a_video_that_fills_the_disk_is_not_there(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    generator = np.random.default_rng(0)
    frames = [made_up(frame, "v.avi") for frame in range(200)]
    for poses in frames:
        poses.image = generator.integers(0, 255, poses.image.shape, np.uint8)
    try:
        with pytest.raises(OSError, match="The disk of .*small/v.mp4 is full. Free some space"):
            write_results(frames, small, "picture")
        assert names(small) == set()
    finally:
        subprocess.run(["umount", small], check=True)
