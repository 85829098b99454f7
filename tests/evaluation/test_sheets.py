"""Sheets of the worst, median and best people."""

import numpy as np
import pytest

from keras_regpose import COCO17, Poses
from keras_regpose.data import Sample
from keras_regpose.evaluation.sheets import error_sheet

GREEN, ORANGE, WHITE = (0, 158, 115), (230, 100, 0), (255, 255, 255)


def people(count, moved):
    """People on black, each predicted `moved(number)` pixels to the right."""
    generator = np.random.default_rng(0)
    points = generator.uniform(40, 160, (count, 17, 2)).astype(np.float32)
    image, box = np.zeros((200, 200, 3), np.uint8), np.array([30, 30, 170, 170], np.float32)
    samples = [Sample(image, box, points[n], np.ones(17, np.float32), n, n) for n in range(count)]
    pred = points + np.array([[[moved(n), 0]] for n in range(count)], np.float32)
    return Poses(pred, np.ones((count, 17)), np.tile(box, (count, 1)), np.ones(count), COCO17), samples


def captions_of(monkeypatch, *arguments, **options):
    from keras_regpose.evaluation import sheets

    found, whole = [], sheets.contact_sheet

    def noted(images, columns, tile_size, captions):
        found.append(captions)
        return whole(images, columns, tile_size, captions)

    monkeypatch.setattr(sheets, "contact_sheet", noted)
    return found, error_sheet(*arguments, **options)


def has(picture, color):
    return (np.abs(picture.astype(int) - color).max(-1) < 40).sum()


def test_the_worst_median_and_best_are_in_their_order(monkeypatch):
    poses, samples = people(20, lambda n: (n * 7) % 20)
    found, sheet = captions_of(monkeypatch, poses, np.arange(20), samples, count=3, tile=100)
    pixels = [[float(caption.split()[0]) for caption in captions] for captions in found]
    assert pixels == [[19, 18, 17], [11, 10, 9], [0, 1, 2]]
    assert found[0][0] == f"19.0 px, {19 / np.hypot(140, 140):.1%} of diagonal"
    assert sheet.shape == (3 * (36 + 100 + 24 + 16), 800, 3) and sheet.dtype == np.uint8


def test_few_people_are_shown_once(monkeypatch):
    poses, samples = people(4, lambda n: n)
    found, _ = captions_of(monkeypatch, poses, np.arange(4), samples)
    assert [[caption.split()[0] for caption in captions] for captions in found] == [["3.0", "2.0", "1.0", "0.0"]]


def test_truth_prediction_and_what_joins_them_are_drawn():
    poses, samples = people(1, lambda n: 40)
    sheet = error_sheet(poses, np.arange(1), samples)[36:]
    assert has(sheet, GREEN) > 500 and has(sheet, ORANGE) > 500 and has(sheet, WHITE) > 10


def test_only_what_is_labelled_is_drawn_and_people_without_labels_are_left_out(monkeypatch):
    poses, samples = people(2, lambda n: 40)
    samples[0].visible[:] = 0
    samples[1].visible[3:] = 0
    found, sheet = captions_of(monkeypatch, poses, np.arange(2), samples)
    assert len(found[0]) == 1 and 0 < has(sheet[36:], ORANGE) < 600
    samples[1].visible[:] = 0
    with pytest.raises(ValueError, match="nothing to measure"):
        error_sheet(poses, np.arange(2), samples)
