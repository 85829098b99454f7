"""Who is who: ids over crossings, gaps and any rate, with boxes of every kind, in every runtime."""

import math

import numpy as np
import pytest
from tiny_model import tiny_model
from video_files import encode_video

import keras_regpose as rp
from keras_regpose.inference.boxes import frames_between
from keras_regpose.inference.sources import Frame
from keras_regpose.inference.tracking import Clock, Tracker

CROSS = rp.Skeleton("cross", ("middle", "top", "bottom", "left", "right"), edges=(("top", "bottom"), ("left", "right")))
OFFSETS = np.array([(0, 0), (0, -40), (0, 40), (-15, 0), (15, 0)])
AROUND = np.array([-20, -45, 20, 45])
COLORS = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40)])


class World:
    """Coloured crosses that move; who comes first in the list stands before the others.

    Args:
        places: list of functions from seconds to (x, y), or to None where somebody is not there.
        every: as `Tracker` takes it.
        rate: float. Frames per second.
        sigma: float. σ of the keypoints in pixels.
        colors: (N, 3) array.
    """

    def __init__(self, places, every=5, rate=30, sigma=1.0, colors=COLORS, found=None):
        self.places, self.rate, self.sigma, self.colors = places, rate, sigma, colors
        self.asked, self.tracker = [], Tracker(found or self.find, every)
        self.number = -1

    def now(self, number):
        return [place(number / self.rate) for place in self.places]

    def find(self, frame, position):
        self.asked.append(position)
        there = [np.add(np.tile(one, 2), AROUND) for one in self.now(position) if one is not None]
        there = [box for box in there if box[0] < 395 and box[2] > 5]
        return np.array(there, np.float32).reshape(-1, 4), np.ones(len(there), np.float32)

    def step(self, likely=True, time=None):
        """Returns the poses of the next frame: of each box those of the nearest person, as a network sees them."""
        self.number += 1
        picture = np.full((240, 400, 3), 128, np.uint8)
        now = self.now(self.number)
        for place, color in list(zip(now, self.colors, strict=False))[::-1]:
            if place is not None:
                x, y = np.round(place).astype(int)
                picture[max(y - 40, 0) : y + 41, max(x - 15, 0) : max(x + 16, 0)] = color
        time = self.number / self.rate if time is None else time
        frame = Frame(picture, "world.mp4", self.number, self.rate, time)
        boxes, scores = self.tracker(frame, self.number)
        points, sigmas = [], []
        for box in boxes:
            middle = (box[:2] + box[2:]) / 2
            near = [
                (np.abs(np.subtract(one, middle)).max().round(-1), n) for n, one in enumerate(now) if one is not None
            ]
            distance, nearest = min(near, default=(99, 0))
            seen = distance <= 30
            points.append(OFFSETS + (now[nearest] if seen else middle))
            sigmas.append(np.full((5, 2), self.sigma if seen else 60.0))
        shape = (len(boxes), 5, 2)
        arrays = {"keypoints": np.reshape(points, shape), "sigmas": np.reshape(sigmas, shape), "boxes": boxes}
        poses = rp.Poses(
            scores=np.ones(shape[:2]), box_scores=scores, skeleton=CROSS, **arrays, **{**vars(frame), "image": None}
        )
        return self.tracker.update(poses, np.full(len(boxes), likely))

    def who(self, poses):
        """Returns {id: number of the person in `places`}."""
        now = self.now(self.number)
        near = [min((math.dist(one, p[0]), n) for n, one in enumerate(now) if one is not None) for p in poses.keypoints]
        return {number: n for number, (_, n) in zip(poses.ids.tolist(), near, strict=True)}


def standing(x, y=120.0):
    return lambda time: (x, y)


def walking(x, speed, y=120.0):
    return lambda time: (x + speed * time, y)


def away(place, start, stop):
    return lambda time: None if start <= time < stop else place(time)


@pytest.mark.parametrize("every", [1, 5, math.inf])
def test_ids_are_kept_while_people_cross(every):
    world = World([walking(60, 150), walking(340, -140), standing(200, 60)], every)
    for number in range(56):
        poses = world.step()
        who = world.who(poses)
        assert all(who[one] == one - 1 for one in who), (number, who)
        assert poses.ids.dtype == np.int64 and poses.ids.tolist() == sorted(who)
    assert set(who) == {1, 2, 3}
    asked = {1: 56, 5: 12, math.inf: 1}
    assert len(world.asked) == asked[every]


@pytest.mark.parametrize("every", [1, 5, math.inf])
@pytest.mark.parametrize("gap, kept", [(0.8, True), (1.2, False)])
def test_who_comes_back_within_a_second_keeps_the_id(every, gap, kept):
    world = World([away(walking(60, 40), 0.5, 0.5 + gap), standing(300)], every)
    ids = [world.step().ids.tolist() for _ in range(60)]
    assert ids[10] == [1, 2] and ids[20] == [2]
    # Who is not found anew cannot be somebody new.
    assert ids[-1] == ([1, 2] if kept else [2] if every == math.inf else [2, 3])


def test_who_turns_outside_of_the_picture_keeps_the_id_by_the_colours():
    world = World([lambda time: (40 - 120 * time if time < 0.8 else -56 + 120 * (time - 0.8), 120), standing(110)], 5)
    ids = [world.step().ids.tolist() for _ in range(60)]
    assert ids[0] == ids[-1] == [1, 2] and [2] in ids


def test_colours_tell_people_apart_who_changed_places_unseen():
    def place(first, second):
        return lambda time: None if 0.5 < time < 0.9 else (first if time < 0.7 else second, 120)

    same = np.tile(COLORS[:1], (4, 1))
    for colors, expected in ((COLORS, {1: 0, 2: 1}), (same, {1: 1, 2: 0})):
        world = World([place(150, 190), place(190, 150)], 5, colors=colors)
        for _ in range(45):
            poses = world.step()
        assert world.who(poses) == expected


def test_one_person_is_not_two_where_one_hides_the_other():
    # The second stands behind the first from second 0.9 on, and the network sees the first in both boxes.
    hidden = away(walking(60, 100), 0.9, 1.6)
    world = World([standing(160), hidden], math.inf)
    counts = [len(world.step()) for _ in range(55)]
    assert counts[:26] == [2] * 26 and set(counts[30:46]) == {1} and counts[-1] == 2
    assert world.who(world.step()) == {1: 0, 2: 1}


@pytest.mark.parametrize("rate, asked", [(30, 5), (14, 5), (10, 4), (2.5, 1)])
def test_people_are_found_every_fifth_frame_and_after_a_third_of_a_second(rate, asked):
    world = World([standing(100)], 5, rate)
    for _ in range(21):
        assert world.step().ids.tolist() == [1]
    assert world.asked == list(range(0, 21, asked))


def test_who_is_found_once_and_not_again_is_nobody():
    world = World([standing(100), away(standing(300), 0.04, 99)], 5)
    world.places[1] = lambda time: (300, 120) if world.number <= 0 or time < 0.01 else None
    ids = [world.step().ids.tolist() for _ in range(12)]
    assert ids[0] == [1, 2] and ids[5:] == [[1]] * 7


def test_who_is_not_likely_does_not_begin_but_goes_on():
    world = World([standing(100)], 5)
    assert [len(world.step(likely=False)) for _ in range(6)] == [0] * 6
    world = World([standing(100)], 5)
    assert [world.step(likely=number == 0).ids.tolist() for number in range(12)] == [[1]] * 12


def test_with_boxes_for_each_frame_those_are_all():
    world = World([standing(100), away(standing(300), 0.5, 0.7)], 1)
    counts = [len(world.step()) for _ in range(30)]
    assert counts == [1 if 15 <= number < 21 else 2 for number in range(30)]


def test_nobody():
    world = World([away(standing(100), 0.2, 9)], 5)
    ids = [world.step().ids.tolist() for _ in range(70)]
    assert ids[0] == [1] and ids[8:] == [[]] * 62
    world = World([], 5)
    poses = world.step()
    assert poses.keypoints.shape == (0, 5, 2) and poses.ids.shape == (0,)


def test_an_error_of_the_finder_leaves_the_frame_out_and_is_not_the_end():
    def find(frame, position):
        if position in (0, 5):
            raise ValueError("no boxes here")
        return world.find(frame, position)

    world = World([walking(100, 30)], 5, found=find)
    outcomes = []
    for _ in range(10):
        try:
            outcomes.append(world.step().ids.tolist())
        except ValueError:
            outcomes.append(None)
    assert outcomes == [None, [1], [1], [1], [1], [1], [1], [1], [1], [1]] and world.asked == [1, 6]


def test_times_that_are_missing_or_run_back_become_those_of_the_rate():
    picture = np.zeros((4, 4, 3), np.uint8)
    clock = Clock()
    times = [5.0, 5.5, 5.5, 2.0, 2.1, None, None]
    told = [clock.tick(Frame(picture, "a.mp4", n, 10.0, time)) for n, time in enumerate(times)]
    assert np.allclose(told, [0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    clock = Clock()
    assert [clock.tick(Frame(picture)) for _ in range(3)] == [0, 0.04, 0.08]
    world = World([walking(60, 100)], 5)
    for number in range(40):  # the file begins again in the middle
        assert world.step(time=(number % 20) / 30).ids.tolist() == [1]


@pytest.mark.parametrize(
    "boxes, track, expected",
    [
        (None, True, 5),
        (None, False, 0),
        (None, 2, 2),
        ("keras_hub:dfine_small_coco", True, 5),
        (lambda image: [], True, 5),
        ("image", True, 1),
        ("found.json", True, 1),
        ([[[1, 2, 3, 4]], []], True, 1),
        ([[1, 2, 3, 4]], True, math.inf),
        (np.array([[1, 2, 3, 4]]), 3, math.inf),
    ],
)
def test_how_often_people_are_found(boxes, track, expected):
    assert frames_between(boxes, track) == expected


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def clip(tmp_path):
    return encode_video(tmp_path / "clip.mp4", [n / 25 for n in range(30)])


BOXES = [[5, 5, 40, 60], [50, 5, 90, 60]]


@pytest.mark.parametrize("method", ["rle", "deeppose"])
def test_videos_folders_and_lists_are_followed_in_keras_and_exported(tmp_path, clip, method):
    model = tiny_model(method)
    model.export(tmp_path / "pose.onnx", verbose=False)
    results = [
        list(one.estimate(clip, [BOXES] * 30, track=True)) for one in (model, rp.load_exported(tmp_path / "pose.onnx"))
    ]
    plain = list(model.estimate(clip, [BOXES] * 30))
    for poses, exported, without in zip(*results, plain, strict=True):
        assert poses.ids.tolist() == exported.ids.tolist() == [1, 2] and without.ids is None
        np.testing.assert_array_equal(poses.boxes, without.boxes)
        np.testing.assert_allclose(poses.keypoints, without.keypoints, atol=1e-3)
        np.testing.assert_allclose(poses.keypoints, exported.keypoints, atol=1e-2)
    pictures = [frame.image for frame in rp.inference.sources.open_source(clip)]
    for poses in model.estimate(pictures, [BOXES] * 30, track=1):
        assert poses.ids.tolist() == [1, 2] and poses.time is None


def test_what_cannot_be_followed_is_said(model, clip):
    picture = np.zeros((60, 80, 3), np.uint8)
    for options in ({"track": True}, {"smooth": True}):
        with pytest.raises(ValueError, match="^People are followed over several frames: .* Received one picture$"):
            model.estimate(picture, BOXES[:1], **options)
    for track in (-1, 2.5, float("nan")):
        with pytest.raises(ValueError, match="^track must be True, False, or a whole number of frames. Received: "):
            model.estimate(clip, BOXES, track=track)


def test_ids_are_written_and_drawn(model, clip, tmp_path):
    results = model.estimate(clip, [BOXES] * 30, track=True)
    with rp.ResultsWriter(tmp_path, ("json", "csv", "slp")) as writer:
        for poses in results:
            writer.write(poses)
            marked, plain = (np.asarray(one.plot()) for one in (poses, rp.Poses(**{**vars(poses), "ids": None})))
            assert (marked != plain).any()
    assert rp.Poses.from_json(
        __import__("json").dumps(__import__("json").loads((tmp_path / "clip.json").read_text())[7])
    ).ids.tolist() == [1, 2]
    rows = (tmp_path / "clip.csv").read_text().splitlines()
    assert rows[0].startswith("frame,time,id,person,") and rows[18].startswith("0,0.0,2,1,")
    sleap_io = pytest.importorskip("sleap_io")
    assert [track.name for track in sleap_io.load_slp(str(tmp_path / "clip.slp"), open_videos=False).tracks] == [
        "1",
        "2",
    ]
