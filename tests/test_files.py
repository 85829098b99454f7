"""Files that are written whole, and which of them are ours to replace."""

import os
import struct

import cv2
import numpy as np
import PIL.Image
import pytest

from keras_regpose import COCO17, Poses, Skeleton, __version__, write_results
from keras_regpose.commands.suggest import csv_text
from keras_regpose.files import MARK, is_ours, spare, write_whole
from keras_regpose.images import read_image, save_picture

PICTURE = np.random.default_rng(0).integers(0, 255, (60, 81, 3), np.uint8)
FORMATS = ("picture", "json", "csv", "coco", "slp")


def poses(**fields):
    """Two people with all that tables and JSON may hold."""
    arrays = np.ones((2, 17, 2)), np.ones((2, 17)), [[0, 0, 9, 9]] * 2, [1, 1]
    return Poses(*arrays, COCO17, sigmas=np.ones((2, 17, 2)), image=PICTURE, image_size=(60, 81), **fields)


@pytest.mark.parametrize(
    "fields", [{"source": "a.jpg"}, {"source": 'a "b" ä.jpg', "ids": [1, 2]}], ids=["plain", "odd"]
)
def test_all_results_are_known_as_ours(tmp_path, fields):
    write_results(poses(**fields), tmp_path / "pictures", FORMATS)
    frames = [poses(**fields, frame=number, time=number / 25) for number in range(3)]
    write_results(frames, tmp_path / "videos", FORMATS)
    nobody = Poses([], [], [], [], COCO17, source="nobody.jpg", image=PICTURE)
    write_results(nobody, tmp_path / "nobody", FORMATS)
    write_results(Poses([], [], [], [], COCO17, source="v.mp4", frame=0, image=PICTURE), tmp_path / "empty", FORMATS)
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(written) == 4 * len(FORMATS)
    assert [file for file in written if not is_ours(file)] == []


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".webp"])
def test_marked_pictures_are_what_they_were(tmp_path, suffix):
    marked, plain = tmp_path / f"marked{suffix}", tmp_path / f"plain{suffix}"
    save_picture(marked, PICTURE)
    save_picture(plain, PICTURE, marked=False)
    assert is_ours(marked) and not is_ours(plain)
    np.testing.assert_array_equal(read_image(marked), read_image(plain))
    with PIL.Image.open(marked) as one, PIL.Image.open(plain) as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        said = f"made by keras_regpose {__version__}"
        assert suffix != ".png" or one.text == {"Software": said}
        assert suffix not in (".jpg", ".jpeg") or one.info["comment"].decode() == said
    assert len(marked.read_bytes()) - len(plain.read_bytes()) < 60


def test_a_long_video_has_its_mark_in_front(tmp_path):
    frames = [poses(source="v.mp4", frame=number, time=number / 25) for number in range(400)]
    write_results(frames, tmp_path, "picture")
    content = (tmp_path / "v.mp4").read_bytes()
    assert 0 < content.index(MARK) < 1000 < content.index(b"stsz") + 4 * 400 and is_ours(tmp_path / "v.mp4")


def test_what_another_program_saves_again_is_no_longer_ours(tmp_path):
    sleap_io = pytest.importorskip("sleap_io")
    write_results(poses(source="v.mp4", frame=0), tmp_path, ("slp", "picture"))
    assert is_ours(tmp_path / "v.slp")
    labels = sleap_io.load_slp(str(tmp_path / "v.slp"), open_videos=False)
    labels[0].instances[0].numpy()[:] = 5
    labels.save(str(tmp_path / "corrected.slp"), verbose=False)
    assert not is_ours(tmp_path / "corrected.slp")


STRANGERS = {
    "note.txt": b"made by hand",
    "annotations.json": b'{"images": [{"file_name": "/data/keras_regpose/a.jpg"}], "annotations": []}',
    "results.json": b'[{"image_id": 7, "category_id": 1, "keypoints": [1, 2, 3], "score": 0.5}]',
    "detections.json": b'[\n{"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}\n]\n',
    "list.json": b"[1]",
    "table.csv": b"frame,person,name\n0,1,mia\n",
    "other.csv": b"keypoint,x,y\n",
    "photo.png": cv2.imencode(".png", PICTURE)[1].tobytes(),
    "photo.jpg": cv2.imencode(".jpg", PICTURE)[1].tobytes(),
    "bytes": bytes(range(256)) * 64,
}


@pytest.mark.parametrize("name", STRANGERS)
def test_other_files_are_not_ours(tmp_path, name):
    (tmp_path / name).write_bytes(STRANGERS[name])
    with pytest.raises(
        FileExistsError, match=f"{name} is there, and keras_regpose did not write it. Choose another place"
    ):
        spare(tmp_path / name)
    spare(tmp_path / name, overwrite=True)
    assert (tmp_path / name).read_bytes() == STRANGERS[name]


def test_links_folders_and_pipes_are_not_ours(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("pipe", "folder", "link"):
        with pytest.raises(FileExistsError, match="did not write it"):
            spare(tmp_path / name)
    spare(tmp_path / "nothing", tmp_path / "no folder" / "nothing")


def test_an_empty_file_may_be_replaced(tmp_path):
    (tmp_path / "empty").touch()  # as `mktemp` leaves it
    spare(tmp_path / "empty")


def test_of_a_large_file_the_beginning_and_the_end_are_read(tmp_path, monkeypatch):
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate(1 << 40)
    assert not is_ours(large)
    with open(large, "ab") as file:
        file.write(MARK)
    assert is_ours(large) and large.stat().st_size > 1 << 40


def test_tables_of_all_commands_are_ours(tmp_path):
    from keras_regpose.inspection.report import _COLUMNS

    write_whole(tmp_path / "labels.csv", csv_text([_COLUMNS]))
    write_whole(tmp_path / "next.csv", csv_text([["picture", "x1", "y1", "x2", "y2", "expected_error"]]))
    assert is_ours(tmp_path / "labels.csv") and is_ours(tmp_path / "next.csv")


def test_paths_that_are_no_unicode_are_written_as_json_reads_them(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    point = Poses([[[3, 4]]], [[0.5]], [[0, 0, 9, 9]], [1], Skeleton("point", ("tip",)), source=name)
    point.save(tmp_path / "a.json")
    text = (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert '"caf\\udce9.jpg"' in text and Poses.from_json(text).source == name


def test_a_png_is_as_its_standard_says(tmp_path):
    """Chunks follow each other to the end, with right lengths and checksums."""
    import zlib

    save_picture(tmp_path / "a.png", PICTURE)
    data, place, kinds = (tmp_path / "a.png").read_bytes(), 8, []
    while place < len(data):
        (size,) = struct.unpack_from(">I", data, place)
        kind = data[place + 4 : place + 8 + size]
        assert struct.unpack_from(">I", data, place + 8 + size) == (zlib.crc32(kind),)
        kinds.append(kind[:4])
        place += 12 + size
    assert place == len(data) and kinds[-2:] == [b"tEXt", b"IEND"]
