"""The finder of people: equal to the network that it was made of, and right about who is there."""

import json
import multiprocessing
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import GOLDEN

import keras_regpose as rp
from keras_regpose.images import ImageError, read_image
from keras_regpose.inference import people_finder
from keras_regpose.inference.people_finder import FOLDER, MAPS, THRESHOLD, decode_people

# The four people of people.png, as COCO's annotators marked them.
PEOPLE = [[84.7, 31.2, 123.7, 79.5], [3.0, 44.3, 80.7, 151.2], [131.9, 40.1, 189.8, 112.5], [173.4, 53.6, 251.7, 168.8]]


@pytest.fixture(scope="module")
def picture():
    return read_image(GOLDEN / "people.png")


def overlap(found, boxes):
    """(N, M) intersections over unions."""
    boxes = np.asarray(boxes, float)
    low, high = np.maximum(found[:, None, :2], boxes[:, :2]), np.minimum(found[:, None, 2:4], boxes[:, 2:4])
    both = (high - low).clip(0).prod(-1)
    areas = [(those[:, 2:4] - those[:, :2]).prod(-1) for those in (found, boxes)]
    return both / (areas[0][:, None] + areas[1] - both)


def assert_equals_the_original(image, expected):
    """Compares with the original's rows: ymin, xmin, ymax, xmax as shares of its input, and the score."""
    size = np.array(image.shape[1::-1])
    inside = np.round(size * 256 / size.max())  # of its input, whose sides are multiples of 32, this is the picture
    rows = np.array([row for row in expected if row[4] > 0.01]).reshape(-1, 5)
    boxes = rows[:, [1, 0, 3, 2]] * np.tile(-(-inside // 32) * 32 / inside, 2)
    found = rp.PeopleFinder()._look(image, 1e-3) / [*size, *size, 1]
    for row in np.column_stack([boxes.clip(0, 1), rows[:, 4]]):
        assert np.abs(found - row).max(1).min() < 1e-3
    return len(rows)


def test_equals_the_original_on_a_photograph(picture):
    recorded = json.loads((GOLDEN / "people_finder.json").read_text())
    assert assert_equals_the_original(picture, recorded["people.png"]) >= 4


def test_equals_the_original_on_twenty_photographs(shared_data):
    recorded = json.loads((GOLDEN / "people_finder.json").read_text())
    photographs = {name: rows for name, rows in recorded.items() if name.startswith("coco_mini")}
    assert len(photographs) == 20
    assert (
        sum(assert_equals_the_original(read_image(shared_data / name), photographs[name]) for name in photographs) == 35
    )


def maps_of(people, shape=(48, 64)):
    """Maps with a person for each (row, column, score of the centre), 8 × 4 cells large, with a nose in the middle."""
    channels = {"center": 1, "box_scale": 2, "box_offset": 2, "keypoints": 17, "displacements": 34}
    maps = {name: np.zeros((*shape, channels[name]), np.float32) for name in MAPS}
    for row, column, score in people:
        maps["center"][row, column] = score
        maps["box_scale"][row, column] = 8, 4
        maps["box_offset"][row, column] = 0.25, 0.5
        maps["keypoints"][row, column, 0] = 0.8
    return maps


def test_decoding_gives_the_numbers_of_the_maps():
    # y: 10.25 ± 4 cells of 4 pixels, x: 20.5 ± 2; the score is that of the centre times that of the only joint seen
    np.testing.assert_allclose(decode_people(maps_of([(10, 20, 0.9)])), [[74, 25, 90, 57, 0.72]], atol=1e-5)
    assert decode_people(maps_of([(10, 20, 0.9)]), threshold=0.73).shape == (0, 5)
    moved = maps_of([(10, 20, 0.9)])
    moved["displacements"][10, 20, 1] = 2  # the nose should be two cells to the right of where it is
    score = 0.9 * 0.8 * np.exp(-4 / (48 * 0.300048828125))
    np.testing.assert_allclose(decode_people(moved)[0, 4], score, atol=1e-6)
    unseen = maps_of([(10, 20, 0.9)])
    unseen["keypoints"] *= 0.1
    assert len(decode_people(unseen)) == 0


def test_decoding_finds_more_than_six_people_best_first_and_one_for_each_peak():
    places = [(row, column, 0.5 + row / 200 + column / 400) for row in (6, 20, 34) for column in (5, 20, 35, 50)]
    found = decode_people(maps_of(places))
    assert len(found) == 12 and (np.diff(found[:, 4]) < 0).all()
    close = maps_of([(10, 20, 0.9), (10, 22, 0.8), (10, 23, 0.7)])  # a peak is the highest of 5 × 5 cells
    assert found.dtype == np.float32 and len(decode_people(close)) == 1


def test_boxes_end_at_the_border_and_a_box_without_a_cell_is_nobody():
    assert decode_people(maps_of([(1, 1, 0.9)]))[0, :4].tolist() == [0, 0, 14, 21]
    none = maps_of([(10, 20, 0.9)])
    none["box_scale"][:] = -1
    assert len(decode_people(none)) == 0


def test_finds_those_whom_people_see(picture):
    found = rp.PeopleFinder()(picture)
    assert found.shape == (4, 5) and found.dtype == np.float32
    assert (overlap(found, PEOPLE).max(0) > 0.6).all()
    assert (found[:, 4] > THRESHOLD).all() and (np.diff(found[:, 4]) <= 0).all()
    twice = rp.PeopleFinder()(np.kron(picture, np.ones((2, 2, 1), np.uint8)))
    assert (overlap(twice, np.array(PEOPLE) * 2).max(0) > 0.6).all()
    np.testing.assert_array_equal(rp.PeopleFinder()(GOLDEN / "people.png"), found)
    assert len(rp.PeopleFinder(threshold=0.9)(picture)) == 0


def test_small_people_are_found_in_parts_and_nobody_twice(picture):
    crowd = np.tile(picture, (3, 3, 1))
    finder = rp.PeopleFinder()
    alone, found = finder._look(crowd, THRESHOLD), finder(crowd)
    assert len(found) > max(6, len(alone))
    shifts = np.array([[x, y, x, y] for x in (0, 256, 512) for y in (0, picture.shape[0], 2 * picture.shape[0])])
    everybody = (np.array(PEOPLE) + shifts[:, None]).reshape(-1, 4)
    assert overlap(found, everybody).max(1).min() > 0.35
    between = overlap(found, found) - np.eye(len(found))
    assert between.max() < 0.6


@pytest.mark.parametrize("value", [0, 128, 255])
def test_nobody_is_in_a_blank_picture(value):
    assert rp.PeopleFinder()(np.full((480, 640, 3), value, np.uint8)).shape == (0, 5)


def test_nobody_is_in_noise():
    generator = np.random.default_rng(0)
    for size in [(480, 640), (300, 200)]:
        assert len(rp.PeopleFinder()(generator.integers(0, 256, (*size, 3), np.uint8))) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (20, 20_000), (33, 31)])
def test_pictures_of_any_shape(shape):
    assert len(rp.PeopleFinder()(np.full((*shape, 3), 90, np.uint8))) == 0


@pytest.mark.parametrize("options", [{"threshold": 0}, {"threshold": 1.5}, {"long_side": 16}])
def test_wrong_options_are_named(options):
    with pytest.raises(ValueError, match="threshold must be above 0 and at most 1, and long_side at least 32 pixels"):
        rp.PeopleFinder(**options)
    with pytest.raises(ImageError, match="There is no image file at nowhere.jpg"):
        rp.PeopleFinder()("nowhere.jpg")


def test_keras_finds_the_same_where_onnx_runtime_is_missing(picture, monkeypatch):
    expected = rp.PeopleFinder()(picture)
    people_finder._network.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    try:
        found = rp.PeopleFinder()(picture)
    finally:
        people_finder._network.cache_clear()
    np.testing.assert_allclose(found, expected, atol=1e-2)  # boxes in pixels, scores


def test_threads_share_one_finder(picture):
    finder = rp.PeopleFinder()
    pictures = [picture, picture[:, ::-1].copy(), picture[20:].copy()]
    expected, wrong = [finder(one) for one in pictures], []

    def work():
        for number in range(6):
            found = finder(pictures[number % 3])
            if found.shape != expected[number % 3].shape or np.abs(found - expected[number % 3]).max() > 1e-3:
                wrong.append(number)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_a_forked_process_finds_them_too():
    # The parent is a process of its own: one in which TensorFlow runs does not fork well.
    script = f"""
import multiprocessing, keras_regpose as rp
from keras_regpose.images import read_image
picture = read_image({str(GOLDEN / "people.png")!r})
assert len(rp.PeopleFinder()(picture)) == 4
context = multiprocessing.get_context("fork")
queue = context.Queue()
process = context.Process(target=lambda: queue.put(len(rp.PeopleFinder()(picture))))
process.start()
assert queue.get(timeout=60) == 4
process.join(timeout=60)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_finding_people_imports_neither_keras_nor_tensorflow():
    script = (
        "import sys, numpy, keras_regpose as rp; rp.PeopleFinder()(numpy.zeros((64, 64, 3), 'uint8')); "
        "print([name for name in ('keras', 'tensorflow') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"


def test_its_files_are_small_and_say_where_they_come_from():
    sizes = {file.name: file.stat().st_size for file in FOLDER.iterdir()}
    assert sizes["finder.onnx"] < 10e6 and sizes["model.weights.h5"] < 10e6
    notice = (FOLDER / "NOTICE").read_text()
    for words in ("derived from MoveNet MultiPose Lightning", "Google", "Apache", "Vladimir Mandic", "Changed"):
        assert words in notice
    assert "Apache License" in (FOLDER / "LICENSE").read_text()
    assert "MIT License" in (FOLDER / "LICENSE.conversion").read_text()
