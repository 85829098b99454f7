"""Estimates from every source and with every kind of boxes: the same numbers, in order, in bounded memory."""

import gc
import importlib.util
import io
import json
import os
import threading
import time
import warnings

import cv2
import numpy as np
import PIL.Image
import pytest
from conftest import GOLDEN
from tiny_model import tiny_model

from keras_regpose import COCO17, PeopleFinder, Poses, Skeleton, geometry, write_results
from keras_regpose.images import ImageError, read_image
from keras_regpose.inference.boxes import box_finder
from keras_regpose.inference.estimator import _run_size, estimate, estimate_frames, predict_crops
from keras_regpose.inference.sources import Frame, Video

BOXES = [[10, 20, 60, 100], [30, 10, 90, 110], [5, 5, 40, 80]]


@pytest.fixture(scope="module")
def model():
    model = tiny_model()
    # Random weights hardly see the crop; a larger head makes every crop's answer its own.
    for name in ("coordinates", "sigma"):
        head = model.get_layer(name)
        head.set_weights([weight * 50 for weight in head.get_weights()])
    return model


@pytest.fixture(scope="module")
def pictures():
    """Five (120, 100, 3) pictures of coloured clouds."""
    generator = np.random.default_rng(3)
    return [cv2.resize(generator.integers(0, 255, (12, 10, 3), np.uint8), (100, 120)) for _ in range(5)]


@pytest.fixture
def folder(tmp_path, pictures):
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / f"00{number}.png"), picture[..., ::-1])
    return tmp_path


@pytest.fixture(scope="module")
def expected(model, pictures):
    return [model.estimate(picture, BOXES) for picture in pictures]


def assert_same(first, second):
    np.testing.assert_allclose(first.keypoints, second.keypoints, atol=1e-3)
    np.testing.assert_allclose(first.sigmas, second.sigmas, atol=1e-3)
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-4)
    np.testing.assert_array_equal(first.boxes, second.boxes)


def test_people_differ_so_that_the_order_is_tested(expected):
    points = np.concatenate([poses.keypoints.reshape(3, -1) for poses in expected])
    distances = np.abs(points[:, None] - points[None]).max(-1) + np.eye(15) * 100
    assert distances.min() > 0.05, distances.min()


def test_one_image_in_every_form(model, folder, pictures, expected):
    for source in (folder / "001.png", str(folder / "001.png"), pictures[1], PIL.Image.fromarray(pictures[1])):
        poses = model.estimate(source, BOXES)
        assert_same(poses, expected[1])
        assert poses.image_size == (120, 100) and poses.xy is poses.keypoints
        assert poses.plot().size == (100, 120)


def test_lists_folders_and_patterns(model, folder, pictures, expected):
    boxes = [BOXES] * 5
    mixed = [folder / "000.png", pictures[1], PIL.Image.fromarray(pictures[2]), str(folder / "003.png"), pictures[4]]
    results = model.estimate(mixed, boxes, batch_size=4)
    assert isinstance(results, list) and len(results) == 5
    for source in (folder, str(folder / "*.png")):
        stream = model.estimate(source, BOXES, batch_size=4)
        assert not isinstance(stream, list)
        results += list(stream)
    results += model.estimate(folder, boxes)
    assert len(results) == 20
    for number, poses in enumerate(results):
        assert_same(poses, expected[number % 5])
    assert [os.path.basename(poses.source) for poses in results[5:10]] == [f"00{n}.png" for n in range(5)]
    assert model.estimate([]) == []


def test_boxes_of_every_image_its_own(model, folder, expected):
    chosen = [[0, 2], [], [1], [0, 1, 2], [2]]
    boxes = [np.array(BOXES)[numbers] if numbers else [] for numbers in chosen]
    for source in (folder, sorted(folder.iterdir())):
        results = list(model.estimate(source, boxes, batch_size=3))
        assert [len(poses) for poses in results] == [2, 0, 1, 3, 1]
        for poses, numbers, whole in zip(results, chosen, expected, strict=True):
            if numbers:
                assert_same(poses, whole[numbers])
        assert results[1].keypoints.shape == results[1].sigmas.shape == (0, 17, 2)
    whole = model.estimate(folder / "000.png", "image")
    assert whole.boxes.tolist() == [[0, 0, 100, 120]]
    assert_same(next(model.estimate(folder, ["image", *boxes[1:]])), whole)


def test_boxes_from_a_detector_and_from_a_detections_file(model, folder, pictures, expected):
    def detector(image):
        assert image.shape == (120, 100, 3) and image.dtype == np.uint8
        return [[*box, 0.25 * n] for n, box in enumerate(BOXES, 1)]

    records = [
        {"image_id": image, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.25 * n}
        for image in (0, 1, "002.png", "003", 4)
        for category, (n, (x1, y1, x2, y2)) in [*((1, box) for box in enumerate(BOXES, 1)), (18, (1, BOXES[0]))]
    ]
    path = folder / "detections.json"
    path.write_text(json.dumps(records))
    for boxes in (detector, path, str(path)):
        for number, poses in enumerate(model.estimate(folder, boxes)):
            assert_same(poses, expected[number])
            assert poses.box_scores.tolist() == [0.25, 0.5, 0.75]
    confident = model.estimate(folder / "000.png", path, score_threshold=0.5)
    assert_same(confident, expected[0][1:])
    assert len(model.estimate(pictures[0], path)) == 0
    assert len(model.estimate(pictures[0], detector, score_threshold=0.8)) == 0


def test_flip_test_is_the_mean_with_the_mirrored_crop(model, pictures, expected):
    flipped = model.estimate(pictures[0], BOXES, flip_test=True)
    assert np.abs(flipped.keypoints - expected[0].keypoints).max() > 0.01
    center, scale = geometry.box_to_center_scale(np.array(BOXES))
    scale = geometry.fix_aspect_ratio(scale, (64, 48))
    matrices = [geometry.crop_matrix(center[n], scale[n], 0, (64, 48)) for n in range(3)]
    crops = np.stack([geometry.crop_image(pictures[0], matrix, (64, 48)) for matrix in matrices])
    mirrored = model.predict_on_batch(np.ascontiguousarray(crops[:, :, ::-1]))
    x = (model.predict_on_batch(crops)[:, 0, 0] + 1 - 1 / 48 - mirrored[:, 0, 0]) / 2
    np.testing.assert_allclose(flipped.keypoints[:, 0, 0], (x - 0.5) * scale[:, 0] + center[:, 0], atol=1e-3)


def test_runs_are_powers_of_two_with_at_most_a_quarter_of_padding():
    for batch_size in (1, 8, 32, 48):
        sizes = {_run_size(count, batch_size) for count in range(1, batch_size + 1)}
        assert len(sizes) <= 7 and _run_size(1000, batch_size) == batch_size
        for count in range(1, batch_size):
            size = _run_size(count, batch_size)
            assert size <= count or size - count <= max(size // 4, 0)


def test_few_shapes_are_compiled(model, pictures):
    runs = []

    class Counting:
        skeleton, input_size = model.skeleton, model.input_size

        def predict_on_batch(self, crops):
            runs.append(len(crops))
            return np.zeros((len(crops), 17, 4), np.float32)

    for people in range(70):
        assert len(predict_crops(Counting(), np.zeros((people + 1, 64, 48, 3), np.uint8))) == people + 1
    assert set(runs) == {1, 2, 4, 8, 16, 32}
    for people in (1, 2, 3):
        model.estimate(pictures[0], BOXES[:people])
    traces = model.predict_function.experimental_get_tracing_count()
    for people in range(1, 40):
        model.estimate(pictures[people % 5], [BOXES[0]] * people)
    assert model.predict_function.experimental_get_tracing_count() <= traces + 1


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[1, 2, 3]], r"Boxes must be \(N, 4\): x1, y1, x2, y2 in pixels"),
        ([1, 2, 30, 40], r"Boxes must be \(N, 4\)"),
        ("some", "There is no file some"),
        ([["a", "b", "c", "d"]], r"Boxes must be \(N, 4\)"),
        ([[50, 20, 10, 90]], r"Box 0 is not .* x2 > x1 and y2 > y1. Received: \[50.0, 20.0, 10.0, 90.0\]"),
        ([[1, 1, 9, 9], [5, 5, 5, 50]], "Box 1 is not"),
        ([[1, 2, np.nan, 9]], "Box 0 is not"),
        ([[0, 0, np.inf, 9]], "Box 0 is not"),
        ([[0, 0, 1e30, 9]], "Box 0 is not"),
        ([[1, 1, 9, 9], [200, 5, 300, 50]], r"Box 1 lies outside of the image, which has 100 × 120 pixels"),
        ([[-50, 5, -10, 50]], "Box 0 lies outside"),
        (lambda image: 7, r"Boxes must be \(N, 4\)"),
        ([[[1, 2, 3, 4]]], r"Boxes must be \(N, 4\)"),
    ],
)
def test_wrong_boxes_are_named(model, pictures, boxes, message):
    with pytest.raises((ValueError, OSError), match=message) as error:
        model.estimate(pictures[0], boxes)
    assert "\n" not in str(error.value)


def test_boxes_that_do_not_fit_the_images(model, folder, pictures):
    with pytest.raises(ValueError, match="A list of 2 images needs a list with the boxes of each image"):
        model.estimate(pictures[:2], BOXES)
    with pytest.raises(ValueError, match="There are 5 images and boxes for 2 of them"):
        model.estimate(folder, [BOXES, BOXES])
    (folder / "b.json").write_text('{"annotations": []}')
    with pytest.raises(ValueError, match="b.json is not a COCO detections file: it holds dict"):
        model.estimate(folder, folder / "b.json")
    (folder / "b.json").write_text('[{"image_id": 1, "bbox": [1, 2, 3]}]')
    with pytest.raises(ValueError, match="b.json cannot be used.* detection at position 0: it has no field 'score'"):
        model.estimate(folder, folder / "b.json")
    (folder / "b.json").write_text('[{"image_id": 1, "bbox": [1, 2, 0, 8], "score": 1}]')
    with pytest.raises(ValueError, match=r"detection at position 0: its box \[1, 2, 0, 8\] has no size"):
        model.estimate(folder, folder / "b.json")
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        model.estimate(pictures[0], batch_size=0)


def test_boxes_at_the_border_no_boxes_and_ten_thousand(model, pictures):
    reaching = model.estimate(pictures[0], [[-40, -30, 50, 60], [0.5, 0.5, 0.501, 0.501]])
    assert np.isfinite(reaching.keypoints).all() and np.isfinite(reaching.sigmas).all()
    for none in ([], np.zeros((0, 4)), lambda image: []):
        assert len(model.estimate(pictures[0], none)) == 0
    many = np.tile(np.array(BOXES, np.float32), (3334, 1))[:10_000]
    poses = model.estimate(pictures[0], many, batch_size=256)
    assert len(poses) == 10_000
    np.testing.assert_allclose(poses.keypoints[9_000:9_003], poses.keypoints[:3], atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (20, 20_000), (20_000, 20), (1, 40_000)])
def test_images_of_extreme_sizes(model, shape):
    poses = model.estimate(np.full((*shape, 3), 90, np.uint8), "image")
    assert poses.boxes.tolist() == [[0, 0, shape[1], shape[0]]]
    assert np.isfinite(poses.keypoints).all()
    assert poses.plot().size == shape[::-1]


def test_errors_of_lists_are_raised_and_of_folders_told(model, folder, expected, caplog):
    (folder / "0005.jpg").touch()
    (folder / "002.png").write_bytes(b"not a picture")
    with pytest.raises(ImageError, match="0005.jpg is empty"):
        model.estimate(sorted(folder.iterdir()))
    errors = []
    results = list(model.estimate(folder, BOXES, on_error=errors.append))
    assert [os.path.basename(poses.source) for poses in results] == ["000.png", "001.png", "003.png", "004.png"]
    assert_same(results[2], expected[3])
    assert [str(error).split(folder.name)[1][:9] for error in errors] == ["/0005.jpg", "/002.png "]
    assert len(list(model.estimate(folder, BOXES))) == 4
    assert len(caplog.messages) == 2 and "Left out: The image file" in caplog.messages[0]
    with pytest.raises(ImageError, match="no image file at"):
        model.estimate([folder / "nowhere.png"])


def test_a_box_that_is_wrong_in_one_image_leaves_the_others(model, folder):
    errors = []
    boxes = [BOXES, [[300, 1, 400, 50]], BOXES, lambda: 0, BOXES]
    results = list(model.estimate(folder, boxes, on_error=errors.append))
    assert [poses.source[-7:] for poses in results] == ["000.png", "002.png", "004.png"]
    assert "001.png: Box 0 lies outside of the image" in str(errors[0]) and "003.png: Boxes must be" in str(errors[1])


def write_video(path, count, size=(64, 48)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, size)
    generator = np.random.default_rng(0)
    some = [cv2.resize(generator.integers(0, 255, (4, 5, 3), np.uint8), size) for _ in range(7)]
    for number in range(count):
        writer.write(some[number % 7])
    writer.release()
    return path


def test_video_frames_in_order_with_their_pictures_while_they_are_asked_for(model, tmp_path):
    path = write_video(tmp_path / "v.avi", 40)
    boxes = [[5, 5, 40, 40], [20, 3, 60, 45]]
    results = []
    for number, poses in enumerate(model.estimate(path, boxes, batch_size=16)):
        assert poses.frame == number and poses.image.shape == (48, 64, 3) and poses.source == str(path)
        assert poses.plot().size == (64, 48)
        if number < 7:
            assert_same(poses, model.estimate(poses.image, boxes))
        results.append(poses)
    assert len(results) == 40
    assert_same(results[0], results[35])
    assert np.abs(results[0].keypoints - results[1].keypoints).max() > 0.05
    assert results[0].image is None
    with pytest.raises(ValueError, match="Frame 0 is no longer in memory"):
        results[0].plot()
    assert results[3]._repr_png_() is None
    each = [boxes[:1], []] * 20
    assert [len(poses) for poses in model.estimate(path, each)] == [1, 0] * 20
    errors = []
    assert len(list(model.estimate(path, each[:30], on_error=errors.append))) == 30
    assert len(errors) == 10 and "boxes for 30 images, and image 30 has none" in str(errors[0])


def test_frames_are_decoded_while_others_are_estimated_and_share_runs(tmp_path):
    class Counted(Video):
        taken = 0

        def __iter__(self):
            for frame in super().__iter__():
                self.taken += 1
                yield frame

    video, runs = Counted(str(write_video(tmp_path / "v.avi", 40))), []

    class Slow(Fixed):
        def predict_on_batch(self, crops):
            before = video.taken
            time.sleep(0.1)
            runs.append((len(crops), before, video.taken))
            return super().predict_on_batch(crops)

    boxes = [[5, 5, 40, 40], [20, 3, 60, 45]]
    found = estimate_frames(Slow(), video, box_finder(boxes, COCO17, "stream"), batch_size=16)
    assert [poses.frame for poses in found] == list(range(40))
    sizes, before, after = np.array(runs).T
    assert sizes.tolist() == [16] * 5  # of eight frames each
    needed = 8 * np.arange(1, 6)
    assert (after == np.minimum(needed + 4, 40)).all()  # four frames are ready when the network is, and never more
    assert (before < after)[:4].any()  # they came while it ran


def test_a_stream_that_is_left_ends_its_thread(model, tmp_path):
    stream = model.estimate(write_video(tmp_path / "v.avi", 300), "image")
    next(stream)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("read_ahead")]
    del stream
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read_ahead")]


def test_live_sources_are_estimated_frame_by_frame(model, pictures):
    class Camera:
        live = True
        taken = 0

        def __iter__(self):
            for number, picture in enumerate(pictures):
                self.taken += 1
                yield Frame(picture, None, number)

    camera = Camera()
    for number, _ in enumerate(estimate_frames(model, camera, box_finder(BOXES, model.skeleton, "stream"))):
        assert camera.taken == number + 1


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def assert_bounded(model, path, frames, boxes, warm_up, growth):
    seen, before, peak = 0, None, 0
    for poses in model.estimate(path, boxes):
        assert poses.frame == seen
        seen += 1
        if seen == warm_up:
            gc.collect()
            before = resident_bytes()
        elif seen > warm_up and seen % 100 == 0:
            peak = max(peak, resident_bytes())
    assert seen == frames
    assert peak - before < growth


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads the memory in use from /proc")


@needs_proc
@pytest.mark.parametrize(("frames", "people"), [(900, 1), (120, 50)])
def test_memory_is_bounded(model, tmp_path, frames, people):
    # benchmarks/video_memory.py does it over 10,000 frames.
    # Were the frames kept, 900 of them were 124 MB, and the crops of 120 × 50 people 55 MB.
    path = write_video(tmp_path / "v.avi", frames, size=(240, 192))
    boxes = np.array([[5, 5, 40, 40]] * people, np.float32)
    assert_bounded(model, path, frames, boxes, warm_up=frames // 4, growth=25 << 20)


def test_wide_and_silent(model, pictures):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.estimate(pictures[:3], [BOXES] * 3)


@pytest.fixture(scope="module")
def photograph():
    return read_image(GOLDEN / "people.png")


@pytest.fixture
def hook():
    return Skeleton("hook", tuple(f"point_{n}" for n in range(17)))


class Fixed:
    """Answers with the same output for each crop; its score is 0.9 for light crops and 0.2 for dark ones."""

    input_size, output_shape = (64, 48), (None, 17, 4)

    def __init__(self, skeleton=COCO17):
        self.skeleton = skeleton

    def predict_on_batch(self, crops):
        output = np.full((len(crops), 17, 4), 0.5, np.float32)
        output[..., 2:] = np.where(crops.mean((1, 2, 3)) > 80, 0.1, 0.8)[:, None, None]
        return output


def estimated(source, boxes=None, model=None, **options):
    return estimate(model or Fixed(), source, boxes, **options)


def test_people_are_found_where_no_boxes_are_given(photograph):
    expected = PeopleFinder()(photograph)
    for source in (photograph, GOLDEN / "people.png"):
        poses = estimated(source)
        np.testing.assert_array_equal(poses.boxes, expected[:, :4])
        np.testing.assert_array_equal(poses.box_scores, expected[:, 4])
    surer = estimated(photograph, score_threshold=0.385)
    assert [len(surer), len(expected)] == [2, 4]
    assert len(estimated(photograph, score_threshold=0.02)) > 4  # lower than the finder's own
    several = estimated([photograph, photograph], [None, [[10, 20, 60, 100]]])
    assert [len(poses) for poses in several] == [4, 1]


def test_the_whole_image_is_one_person_where_it_is_asked_for(photograph, hook):
    whole = [[0, 0, 256, 169]]
    assert estimated(photograph, "image").boxes.tolist() == whole
    assert estimated(photograph, "image", model=Fixed(hook)).boxes.tolist() == whole
    assert [poses.boxes.tolist() for poses in estimated([photograph], ["image"])] == [whole]


def test_other_things_than_people_need_boxes(photograph, hook, folder):
    message = "Nothing finds what has the keypoints of 'hook' in a picture: pass boxes, a detector, or boxes=\"image\""
    for source, boxes in ((photograph, None), ([photograph], None), ([photograph], [None])):
        with pytest.raises(ValueError, match=message):
            estimated(source, boxes, model=Fixed(hook))
    with pytest.raises(ValueError, match=message):  # at once, not when the first picture is asked for
        estimated(folder, model=Fixed(hook))


def test_nobody_is_poses_of_length_zero_that_everything_takes(tmp_path):
    black = np.zeros((120, 100, 3), np.uint8)
    poses = estimated(black)
    assert len(poses) == 0 and poses.keypoints.shape == poses.sigmas.shape == (0, 17, 2)
    assert poses.boxes.shape == (0, 4) and list(poses) == []
    np.testing.assert_array_equal(np.asarray(poses.plot(boxes=True)), black)
    poses.save(tmp_path / "nobody.png")
    assert Poses.from_json(poses.to_json()).image_size == (120, 100)
    assert poses.to_coco(1) == []
    write_results([poses], tmp_path, ("picture", "json"))
    cv2.imwrite(str(tmp_path / "black.png"), black)
    write_results(estimated(tmp_path / "black.png"), tmp_path / "results", ("picture", "json", "coco"))
    assert json.loads((tmp_path / "results" / "coco.json").read_text()) == []
    for package, hand_on in (("pandas", poses.to_dataframe), ("supervision", poses.to_supervision)):
        if importlib.util.find_spec(package):
            assert len(hand_on()) == 0


def test_the_score_of_the_pose_decides_too(photograph):
    picture = photograph // 4
    picture[:, :90] = 200
    boxes = [[10, 10, 80, 160], [120, 10, 200, 160]]
    assert len(estimated(picture, boxes)) == 2
    sure = estimated(picture, boxes, pose_threshold=0.5)
    assert sure.boxes.tolist() == boxes[:1] and sure.scores.min() == pytest.approx(0.9)
    assert len(estimated(picture, boxes, pose_threshold=0.95)) == 0
    assert len(estimated(picture, [], pose_threshold=0.5)) == 0


def test_the_bytes_of_a_file_and_an_open_file_are_pictures(photograph):
    data = (GOLDEN / "people.png").read_bytes()
    expected = estimated(photograph)
    for source in (data, bytearray(data), memoryview(data), io.BytesIO(data)):
        np.testing.assert_array_equal(estimated(source).boxes, expected.boxes)
    with open(GOLDEN / "people.png", "rb") as file:
        poses = estimated([file, data])
    assert [len(one) for one in poses] == [4, 4] and poses[0].plot().size == (256, 169)
    for source, message in (
        (b"", "The image is empty"),
        (b"no picture", r"The image \(10 bytes\) is damaged or is not an image"),
        (io.StringIO("text"), "Received: StringIO, which does not give bytes: open it with 'rb'"),
    ):
        with pytest.raises(ImageError, match=message):
            estimated(source)


def test_a_detections_file_that_does_not_fit_the_picture_says_so(tmp_path, photograph, caplog):
    cv2.imwrite(str(tmp_path / "photo.png"), photograph)
    (tmp_path / "boxes.json").write_text('[{"image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 1}]')
    assert len(estimated(tmp_path / "photo.png", tmp_path / "boxes.json")) == 0
    assert (
        "photo.png has no box in" in caplog.text and "whose image_ids are names or numbers of files: 7" in caplog.text
    )
