"""Decoded photographs that are kept: the same pixels, within bounds."""

import os

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


def test_a_replaced_file_is_noticed(paths):
    photographs = PhotographCache(1 << 20)
    before = photographs.read(paths[0])
    write(paths[0], 99)
    os.utime(paths[0], ns=(1, 1))
    after = photographs.read(paths[0])
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(after, read_image(paths[0]))


def test_a_photograph_that_cannot_be_read_is_not_kept(tmp_path):
    photographs = PhotographCache(1 << 20)
    path = tmp_path / "a.png"
    with pytest.raises(ImageError, match="There is no image file at"):
        photographs.read(str(path))
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="is damaged or is not an image"):
        photographs.read(str(path))
    write(str(path), 0)
    np.testing.assert_array_equal(photographs.read(str(path)), read_image(path))


def test_crops_are_the_same_bit_for_bit_with_every_cache(tmp_path):
    people = []
    for number, person in enumerate(Synthetic(8, seed=3)):
        path = str(tmp_path / f"{number // 2}.jpg")  # two people share a photograph
        if number % 2 == 0:
            cv2.imwrite(path, person.image)
        people.append(Sample(path, person.box, person.keypoints, person.visible, number // 2, number))
    one = read_image(people[0].image).nbytes

    def epochs(limit):
        loader = CropLoader(people, COCO17, (64, 48), Augmentation.coco(), seed=1, cache=PhotographCache(limit))
        return [array for epoch in range(3) for array in loader.load_batch(epoch, loader.order(epoch, True))]

    expected = epochs(0)
    for limit in (1 << 30, 3 * one):
        for array, same in zip(epochs(limit), expected, strict=True):
            np.testing.assert_array_equal(array, same)
