"""Samples → crops and targets: exact pictures, order by photograph, bounded cache, bad images."""

import dataclasses

import cv2
import numpy as np
import pytest

from keras_regpose import COCO17, LSP14
from keras_regpose.data import Augmentation, Synthetic, cache, crops
from keras_regpose.data.crops import CropLoader
from keras_regpose.data.people import People, Subset
from keras_regpose.data.sample import Sample
from keras_regpose.images import ImageError, read_image

SIZE = (64, 48)


def test_augmentation_moves_picture_and_keypoints_together(files):
    """A bright dot painted on each keypoint is found where the target says."""
    person = files[0]
    image = np.zeros((200, 200, 3), np.uint8)
    keypoints = np.full((17, 2), 100, np.float32)
    keypoints[0] = (90, 110)
    cv2.circle(image, (90, 110), 2, (255, 255, 255), -1)
    visible = np.zeros(17, np.float32)
    visible[0] = 1
    dotted = Sample(image, np.array([40, 40, 160, 160], np.float32), keypoints, visible, 0, 0)
    augmentation = Augmentation(half_body_probability=0)
    loader = CropLoader([dotted], COCO17, (256, 192), augmentation=augmentation)
    found = 0
    for epoch in range(40):
        crop, target = loader.load(epoch, 0)
        if target[0, 2]:
            y, x = np.unravel_index(cv2.GaussianBlur(crop[..., 0], (5, 5), 0).argmax(), crop.shape[:2])
            assert np.hypot(x - target[0, 0] * 192, y - target[0, 1] * 256) < 4
            found += 1
    assert found > 30 and person.box.shape == (4,)


def test_pictures_are_decoded_once_while_they_fit(files, monkeypatch):
    reads = []

    def counting(path):
        reads.append(path)
        return read_image(path)

    monkeypatch.setattr(cache, "read_image", counting)
    one_picture = read_image(files[0].image).nbytes
    # A cache of six keeps three for good; the other three are gone before the next epoch comes to them.
    for cache_bytes, expected in ((1 << 30, 12), (0, 24), (6 * one_picture, 12 + 9)):
        reads.clear()
        loader = CropLoader(files, COCO17, SIZE, cache=cache.PhotographCache(cache_bytes))
        for epoch in range(2):
            for index in range(12):
                loader.load(epoch, index)
        assert len(reads) == expected


def people_of(photographs, people):
    """People without pictures, several in each photograph."""
    nobody = Synthetic(1, seed=0)[0]
    return [
        Sample(
            f"{photograph}.jpg", nobody.box, nobody.keypoints, nobody.visible, photograph, photograph * people + number
        )
        for photograph in range(photographs)
        for number in range(people)
    ]


def test_people_of_a_photograph_come_close_together_in_a_random_order():
    people = people_of(photographs=4000, people=3)
    loader = CropLoader(people, COCO17, SIZE, seed=1)
    order = loader.order(0, shuffle=True)
    np.testing.assert_array_equal(np.sort(order), np.arange(12000))
    place = np.argsort(order).reshape(4000, 3)
    distance = np.ptp(place, axis=1)
    assert distance.max() < 1.2 * crops.SPREAD and 400 < distance.mean() < 600  # of three uniform numbers: a half
    # As random as can be in all else: photographs anywhere, and hardly ever two of one in a batch.
    assert abs(np.corrcoef(place.mean(axis=1), np.arange(4000))[0, 1]) < 0.05
    batches = order.reshape(-1, 60) // 3
    repeated = np.mean([60 - len(np.unique(batch)) for batch in batches])
    assert repeated < 0.06 * 60 * 2
    assert not np.array_equal(order, loader.order(1, True))
    np.testing.assert_array_equal(order, loader.order(0, True))
    np.testing.assert_array_equal(loader.order(0, False), np.arange(12000))


def test_one_person_per_photograph_is_shuffled_uniformly():
    loader = CropLoader(people_of(photographs=60, people=1), COCO17, SIZE, seed=1)
    places = np.array([np.argsort(loader.order(epoch, True)) for epoch in range(2000)])
    # The mean of 2,000 uniform places of 60 has a standard deviation of 0.39.
    assert np.abs(places.mean(axis=0) - 29.5).max() < 1.6
    assert np.abs(places.std(axis=0) - 17.3).max() < 1


def test_readers_and_subsets_say_which_samples_share_a_photograph():
    people = people_of(photographs=5, people=2)
    numbers = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert People.of(people, COCO17).photographs.tolist() == People(people, COCO17).photographs.tolist() == numbers
    assert Subset(People(people, COCO17), [0, 7, 1, 9]).photographs.tolist() == [0, 1, 0, 2]
    assert Synthetic(3, seed=0).photographs.tolist() == [0, 0, 1]


def test_a_decoded_photograph_serves_all_its_people_beyond_what_memory_holds(tmp_path, monkeypatch):
    """Photographs of three people each, twice as many as memory holds, are decoded once per epoch."""
    monkeypatch.setattr(crops, "SPREAD", 30)
    people = people_of(photographs=60, people=3)
    people = [dataclasses.replace(person, image=str(tmp_path / person.image)) for person in people]
    for person in people[::3]:
        cv2.imwrite(person.image, np.zeros((20, 20, 3), np.uint8))
    reads = []
    monkeypatch.setattr(cache, "read_image", lambda path: reads.append(path) or read_image(path))
    loader = CropLoader(people, COCO17, SIZE, Augmentation.coco(), cache=cache.PhotographCache(30 * 20 * 20 * 3))
    loader.load_batch(0, loader.order(0, True))
    assert len(reads) == len(set(reads)) == 60
    reads.clear()
    loader.load_batch(1, loader.order(1, True))
    assert 30 <= len(reads) == len(set(reads)) <= 45  # a quarter is kept for good


def test_an_unreadable_picture_is_named_counted_and_replaced(files, caplog):
    cut = files[3].image.replace(".png", ".jpg")
    _, data = cv2.imencode(".jpg", cv2.imread(files[3].image))
    with open(cut, "wb") as file:
        file.write(data.tobytes()[: len(data) // 2])
    bad = Sample(cut, files[3].box, files[3].keypoints, files[3].visible, 3, 3)
    samples = [*files[:3], bad, *files[4:]]
    loader = CropLoader(samples, COCO17, SIZE)
    crop, _ = loader.load(0, 3)
    np.testing.assert_array_equal(crop, loader.load(0, 4)[0])
    assert list(loader.unreadable.errors) == [cut]
    assert caplog.text.count("Skipped") == 1 and cut in caplog.text


def test_too_many_unreadable_pictures_are_an_error(files):
    missing = [
        Sample(f"/nowhere/{number}.jpg", s.box, s.keypoints, s.visible, number, number)
        for number, s in enumerate(files[:4])
    ]
    loader = CropLoader([*missing, *files[4:]], COCO17, SIZE)
    with pytest.raises(ImageError, match="2 of 12 people's images cannot be read, more than the 10% allowed"):
        for index in range(12):
            loader.load(0, index)


def test_labels_that_are_not_numbers_stop_the_reading_unless_they_are_hidden(files):
    keypoints = files[0].keypoints.copy()
    keypoints[5] = np.nan
    visible = files[0].visible.copy()
    visible[5] = 0
    loader = CropLoader([Sample(files[0].image, files[0].box, keypoints, visible, 0, 0)], COCO17, SIZE)
    target = loader.load(0, 0)[1]
    assert target[5, 2] == 0 and np.isfinite(np.delete(target, 5, 0)).all()
    visible[5] = 1
    loader = CropLoader([Sample(files[0].image, files[0].box, keypoints, visible, 0, 0)], COCO17, SIZE)
    with pytest.raises(ImageError, match=f"The labels of {files[0].image} are not all numbers"):
        loader.load(0, 0)


def test_samples_of_another_skeleton_are_refused(files):
    with pytest.raises(ValueError, match="have 17 keypoints, the skeleton 'lsp14' of the model"):
        CropLoader(files, LSP14, SIZE)
