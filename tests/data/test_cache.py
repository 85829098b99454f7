"""Decoded photographs that are kept: the same pixels, within bounds, for several runs at once."""

import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from keras_regpose import COCO17
from keras_regpose.data import Augmentation, Synthetic, cache
from keras_regpose.data.cache import PhotographCache
from keras_regpose.data.crops import CropLoader
from keras_regpose.data.sample import Sample
from keras_regpose.images import ImageError, read_image

SIDE = 40
BYTES = SIDE * SIDE * 3


@pytest.fixture
def paths(tmp_path):
    """Twelve photographs of 40 × 40 pixels."""
    paths = [str(tmp_path / f"{number}.png") for number in range(12)]
    for number, path in enumerate(paths):
        write(path, number)
    return paths


def write(path, seed):
    cv2.imwrite(path, np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


@pytest.fixture
def decoded(monkeypatch):
    """The paths that were decoded, in order."""
    decoded = []

    def counting(path):
        decoded.append(path)
        return read_image(path)

    monkeypatch.setattr(cache, "read_image", counting)
    return decoded


def size_of(folder):
    return sum(entry.stat().st_size for entry in os.scandir(folder))


def test_half_the_memory_keeps_the_first_and_half_the_latest(paths, decoded):
    photographs = PhotographCache(memory_bytes=6 * BYTES)
    for path in paths:
        photographs.read(path)
    assert decoded == paths
    for path in [*paths[:3], *paths[-3:]]:
        np.testing.assert_array_equal(photographs.read(path), read_image(path))
    assert len(decoded) == 12
    photographs.read(paths[5])
    photographs.read(paths[10])  # used since the eleventh was read: the ninth had to go
    assert len(decoded) == 13
    photographs.read(paths[9])
    assert decoded[12:] == [paths[5], paths[9]]


def test_memory_is_bounded(paths):
    photographs = PhotographCache(memory_bytes=7 * BYTES)
    for path in paths * 2:
        photographs.read(path)
        held = {**photographs._first.entries, **photographs._latest.entries}
        assert sum(image.nbytes for image in held.values()) <= 7 * BYTES
    assert len(held) == 6
    for limit in (0, BYTES):
        photographs = PhotographCache(memory_bytes=limit)
        assert photographs.read(paths[0]) is not photographs.read(paths[0])


def test_a_folder_serves_later_runs(paths, decoded, tmp_path):
    folder = tmp_path / "cache"
    for _ in range(2):
        photographs = PhotographCache(memory_bytes=0, folder=folder)
        for path in paths:
            np.testing.assert_array_equal(photographs.read(path), read_image(path))
    assert decoded == paths


def test_a_folder_is_bounded(paths, decoded, tmp_path):
    folder = tmp_path / "cache"
    limit = 5 * (BYTES + 200)  # the files have a header of 128 bytes
    for _ in range(2):  # what the first run wrote counts for the second
        photographs = PhotographCache(0, folder, limit)
        for path in paths:
            photographs.read(path)
    assert 4 * BYTES < size_of(folder) <= limit
    assert len(decoded) == 12 + 7


def test_concurrent_runs_notice_what_others_write(paths, tmp_path):
    folder = tmp_path / "cache"
    one, other = (PhotographCache(0, folder, 8 * (BYTES + 200)) for _ in range(2))
    for first, second in zip(paths[:6], paths[6:], strict=True):
        one.read(first)
        other.read(second)
    assert size_of(folder) <= 9 * (BYTES + 200)


@pytest.mark.parametrize("with_folder", (False, True))
def test_a_replaced_file_is_noticed(paths, tmp_path, with_folder):
    photographs = PhotographCache(1 << 20, tmp_path / "cache" if with_folder else None)
    before = photographs.read(paths[0])
    write(paths[0], 99)
    os.utime(paths[0], ns=(1, 1))
    after = photographs.read(paths[0])
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, read_image(paths[0]))
    np.testing.assert_array_equal(PhotographCache(0, tmp_path / "cache").read(paths[0]), after)


@pytest.mark.parametrize(
    "damage", (lambda data: data[:-1], lambda data: data[:50], lambda data: b"", lambda data: b"x")
)
def test_a_damaged_entry_is_decoded_and_written_anew(paths, decoded, tmp_path, damage):
    folder = tmp_path / "cache"
    PhotographCache(0, folder).read(paths[0])
    (entry,) = os.scandir(folder)
    with open(entry.path, "rb+") as file:
        data = damage(file.read())
        file.seek(0)
        file.truncate()
        file.write(data)
    for _ in range(2):
        np.testing.assert_array_equal(PhotographCache(0, folder).read(paths[0]), read_image(paths[0]))
    assert len(decoded) == 2


def test_a_photograph_that_cannot_be_read_is_not_kept(tmp_path):
    photographs = PhotographCache(1 << 20, tmp_path / "cache")
    path = tmp_path / "a.png"
    with pytest.raises(ImageError, match="There is no image file at"):
        photographs.read(str(path))
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="is damaged or is not an image"):
        photographs.read(str(path))
    write(str(path), 0)
    np.testing.assert_array_equal(photographs.read(str(path)), read_image(path))
    assert len(list(os.scandir(tmp_path / "cache"))) == 1


def test_a_folder_that_takes_no_more_ends_the_writing_alone(paths, tmp_path, caplog):
    folder = tmp_path / "cache"
    photographs = PhotographCache(0, folder)
    folder.rmdir()
    folder.touch()
    for path in paths:
        np.testing.assert_array_equal(photographs.read(path), read_image(path))
    assert caplog.text.count("No more photographs are kept in") == 1


def test_a_write_that_fails_leaves_nothing(paths, tmp_path, caplog):
    """No file may grow beyond half a photograph: the write fails in the middle, as on a full disk."""
    resource = pytest.importorskip("resource")
    photographs = PhotographCache(0, tmp_path / "cache")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES // 2, limits[1]))
    try:
        images = [photographs.read(path) for path in paths]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    np.testing.assert_array_equal(images, [read_image(path) for path in paths])
    assert list(os.scandir(tmp_path / "cache")) == []
    assert caplog.text.count("No more photographs are kept in") == 1


# Reads photographs in an order of its own and compares each.
RUN = """
import sys
import numpy as np
from keras_regpose.data.cache import PhotographCache
from keras_regpose.images import read_image
folder, seed, rounds, *paths = sys.argv[1:]
photographs = PhotographCache(0, folder)
for number in range(int(rounds)):
    for place in np.random.default_rng((int(seed), number)).permutation(len(paths)):
        assert np.array_equal(photographs.read(paths[place]), read_image(paths[place]))
    print(number, flush=True)
"""


def start(folder, seed, rounds, paths):
    command = [sys.executable, "-c", RUN, str(folder), str(seed), str(rounds), *paths]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_share_a_folder(paths, tmp_path):
    processes = [start(tmp_path / "cache", seed, 20, paths) for seed in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(list(os.scandir(tmp_path / "cache"))) == 12


def test_a_killed_writer_leaves_nothing_torn(tmp_path):
    """Killed while it writes photographs of 12 MB, which takes longer than anything else it does."""
    paths = [str(tmp_path / f"{number}.png") for number in range(40)]
    picture = np.random.default_rng(0).integers(0, 256, (500, 8000, 3), dtype=np.uint8)
    cv2.imwrite(paths[0], picture, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    for path in paths[1:]:
        os.link(paths[0], path)
    folder = tmp_path / "cache"
    process = start(folder, 0, 1, paths)
    end = time.monotonic() + 60
    while not (folder.is_dir() and any(entry.name.startswith(".") for entry in os.scandir(folder))):
        assert time.monotonic() < end and process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    for entry in os.scandir(folder):
        if not entry.name.startswith("."):
            np.testing.assert_array_equal(np.load(entry.path), picture[..., ::-1])
    # What it left is cleared away once nobody can be writing it any more.
    left, own = folder / ".0123456789.npy-left", folder / ".own"
    for place in (left, own):
        place.mkdir()
        (place / "0123456789.npy").write_bytes(b"half")
    PhotographCache(0, folder)
    assert left.exists()
    for place in (left, own):
        os.utime(place, (time.time() - 4000,) * 2)
    PhotographCache(0, folder)
    assert not left.exists() and own.exists()


def test_crops_are_the_same_bit_for_bit_with_every_cache(tmp_path):
    people = []
    for number, person in enumerate(Synthetic(8, seed=3)):
        path = str(tmp_path / f"{number // 2}.jpg")  # two people share a photograph
        if number % 2 == 0:
            cv2.imwrite(path, person.image)
        people.append(Sample(path, person.box, person.keypoints, person.visible, number // 2, number))
    one = read_image(people[0].image).nbytes

    def epochs(*limits):
        loader = CropLoader(people, COCO17, (64, 48), Augmentation.coco(), seed=1, cache=PhotographCache(*limits))
        return [array for epoch in range(3) for array in loader.load_batch(epoch, loader.order(epoch, True))]

    expected = epochs(0)
    for limits in (
        (1 << 30,),
        (3 * one,),
        (0, tmp_path / "cache"),
        (3 * one, tmp_path / "cache"),  # which holds them all by now
        (0, tmp_path / "small", 2 * one + 500),
    ):
        for array, same in zip(epochs(*limits), expected, strict=True):
            np.testing.assert_array_equal(array, same)
