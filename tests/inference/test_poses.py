"""Poses: checks, selection, and every way out (JSON, COCO, pictures, tables, supervision)."""

import csv
import json
import sys
import types

import numpy as np
import PIL.Image
import pytest

from keras_regpose.inference.poses import Poses
from keras_regpose.inference.scores import expected_oks
from keras_regpose.skeleton import COCO17, LSP14, Skeleton


def make(people=3, sigmas=True, skeleton=COCO17, **fields):
    generator = np.random.default_rng(people)
    count = len(skeleton)
    return Poses(
        keypoints=generator.uniform(0, 90, (people, count, 2)),
        scores=generator.uniform(0, 1, (people, count)),
        boxes=np.sort(generator.uniform(0, 90, (people, 2, 2)), axis=1).reshape(people, 4),
        box_scores=generator.uniform(0, 1, people),
        skeleton=skeleton,
        sigmas=generator.uniform(1, 5, (people, count, 2)) if sigmas else None,
        **fields,
    )


def assert_same(first, second):
    for name in ("keypoints", "scores", "boxes", "box_scores", "sigmas"):
        a, b = getattr(first, name), getattr(second, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype == np.float32 and a.shape == b.shape
            np.testing.assert_array_equal(a, b)
    assert (first.skeleton, first.image_size, first.source) == (second.skeleton, second.image_size, second.source)


def test_len_iteration_and_selection():
    poses = make(4, image_size=(100, 120), source="a.jpg")
    people = list(poses)
    assert len(poses) == 4 and [len(person) for person in people] == [1] * 4
    np.testing.assert_array_equal(people[2].keypoints[0], poses.keypoints[2])
    assert_same(poses[-1], people[3])
    assert_same(poses[1:3], poses[[1, 2]])
    assert_same(poses[np.array([False, True, True, False])], poses[1:3])
    assert_same(poses[poses.box_scores > 2], poses[[]])
    assert poses[[]].keypoints.shape == (0, 17, 2) and poses[[]].sigmas.shape == (0, 17, 2)
    assert poses[1].image_size == (100, 120) and poses[1].source == "a.jpg"
    assert make(2, sigmas=False)[0].sigmas is None
    image = np.zeros((9, 8, 3), np.uint8)
    first = make(2, frame=3, frame_rate=25.0, image=image)[0]
    assert (first.frame, first.frame_rate) == (3, 25.0) and first.image is image
    with pytest.raises(IndexError, match="There are 4 people. Received: 4"):
        poses[4]


def test_repr():
    assert repr(make(1, image_size=(480, 640))) == "Poses(1 person, skeleton 'coco17', image 640×480)"
    assert repr(make(0, skeleton=LSP14)) == "Poses(0 people, skeleton 'lsp14')"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("keypoints", np.zeros((2, 14, 2)), r"needs 'keypoints' of shape \(2, 17, 2\). Received shape: \(2, 14, 2\)"),
        ("keypoints", 3.0, r"needs 'keypoints' of shape"),
        ("sigmas", np.zeros((2, 17)), r"needs 'sigmas' of shape \(2, 17, 2\)"),
        ("scores", np.zeros((1, 17)), r"needs 'scores' of shape \(2, 17\)"),
        ("boxes", np.zeros(4), r"needs 'boxes' of shape \(2, 4\)"),
        ("box_scores", np.zeros((2, 1)), r"needs 'box_scores' of shape \(2,\)"),
        ("skeleton", "coco17", "skeleton must be a keras_regpose.Skeleton"),
        ("image_size", (480, 640, 3), r"image_size must be \(height, width\)"),
    ],
)
def test_wrong_fields_are_refused(field, value, message):
    good = vars(make(2))
    with pytest.raises(ValueError, match=message):
        Poses(**{**good, field: value})


@pytest.mark.parametrize("people", [0, 1, 5])
@pytest.mark.parametrize("sigmas", [True, False])
def test_json_round_trip_is_exact(people, sigmas):
    poses = make(people, sigmas, image_size=(48, 64), source="ümlaut.jpg")
    assert_same(Poses.from_json(poses.to_json()), poses)


def test_time_and_ids_are_kept():
    poses = make(3, frame=7, time=0.28, ids=[4, 2, 2**40])
    again = Poses.from_json(poses.to_json())
    for one in (poses, again):
        assert one.time == 0.28 and one.ids.dtype == np.int64 and one.ids.tolist() == [4, 2, 2**40]
    assert poses[[2, 0]].ids.tolist() == [2**40, 4] and make(3)[0].ids is None
    first, *rows = csv.reader(poses.to_csv().splitlines())
    assert first[:5] == ["frame", "time", "id", "person", "keypoint"] and rows[20][:5] == [
        "7",
        "0.28",
        "2",
        "1",
        COCO17.keypoints[3],
    ]
    assert list(poses.to_dataframe()[["id"]].value_counts().sort_index()) == [17, 17, 17]
    with pytest.raises(ValueError, match="ids must be whole numbers"):
        make(2, ids=[0.5, 1])
    with pytest.raises(ValueError, match=r"needs 'ids' of shape \(2,\)"):
        make(2, ids=[1])


def test_json_of_values_that_are_not_finite():
    poses = make(1)
    poses.keypoints[0, 3] = (np.nan, np.inf)
    text = poses.to_json()
    assert json.loads(text)["keypoints"][0][3] == [None, None]
    again = Poses.from_json(text)
    assert np.isnan(again.keypoints[0, 3]).all()
    np.testing.assert_array_equal(again.keypoints[0, 4:], poses.keypoints[0, 4:])


def test_json_errors():
    with pytest.raises(ValueError, match="not JSON"):
        Poses.from_json("poses.json")
    with pytest.raises(ValueError, match="has the keys box_scores, boxes.*Received: keypoints"):
        Poses.from_json('{"keypoints": []}')
    values = json.loads(make(1).to_json())
    with pytest.raises(ValueError, match="needs 'scores' of shape"):
        Poses.from_json(json.dumps({**values, "scores": None}))


def test_coco_results():
    poses = make(3)
    results = poses.to_coco(image_id=785)
    assert len(results) == 3
    for n, result in enumerate(results):
        assert (result["image_id"], result["category_id"]) == (785, 1)
        triples = np.array(result["keypoints"]).reshape(17, 3)
        np.testing.assert_array_equal(triples[:, :2], poses.keypoints[n])
        np.testing.assert_array_equal(triples[:, 2], poses.scores[n])
        scores = poses.scores[n].astype(float)
        assert result["score"] == pytest.approx(poses.box_scores[n] + scores.mean() + scores.max(), abs=1e-6)
        x1, y1, x2, y2 = poses.boxes[n].tolist()
        assert result["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1])
    json.dumps(results)
    assert poses.to_coco(1, score_mode="bbox")[0]["score"] == pytest.approx(float(poses.box_scores[0]))
    plain = make(2, sigmas=False)
    confident = plain.scores[1] > 0.2
    expected = float(plain.box_scores[1]) * plain.scores[1][confident].mean()
    assert plain.to_coco(1)[1]["score"] == pytest.approx(expected, abs=1e-6)
    assert make(0).to_coco(1) == []


@pytest.mark.parametrize("people", [0, 1, 5])
def test_plot(people):
    image = np.full((90, 120, 3), 50, np.uint8)
    picture = make(people).plot(image, boxes=True, labels=True)
    assert isinstance(picture, PIL.Image.Image) and picture.size == (120, 90)
    assert (image == 50).all()
    assert (np.asarray(picture) != 50).any() == (people > 0)
    same = make(people).plot(PIL.Image.fromarray(image), boxes=True, labels=True)
    np.testing.assert_array_equal(np.asarray(same), np.asarray(picture))


def test_plot_without_an_image(tmp_path):
    assert make(0, image_size=(40, 60)).plot().getpixel((5, 5)) == (96, 96, 96)
    with pytest.raises(ValueError, match="nothing to draw on: pass the image"):
        make(1).plot()
    path = tmp_path / "photo.png"
    PIL.Image.new("RGB", (60, 40), (10, 200, 30)).save(path)
    assert make(0, source=path).plot().getpixel((5, 5)) == (10, 200, 30)
    assert make(0).plot(path, scale=2.0).size == (120, 80)


def test_save(tmp_path):
    poses = make(2)
    image = np.full((90, 120, 3), 50, np.uint8)
    target = tmp_path / "new" / "poses.json"
    poses.save(target)
    assert_same(Poses.from_json(target.read_text(encoding="utf-8")), poses)
    for suffix in (".png", ".JPG", ".webp"):
        poses.save(tmp_path / f"picture{suffix}", image)
        with PIL.Image.open(tmp_path / f"picture{suffix}") as picture:
            assert picture.size == (120, 90)
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(tmp_path / "picture.png")), np.asarray(poses.plot(image)))
    with pytest.raises(ValueError, match=r"saved as .json or .csv \(numbers\).*Received: .*poses.txt"):
        poses.save(tmp_path / "poses.txt")
    assert {path.name for path in tmp_path.iterdir()} == {"new", "picture.png", "picture.JPG", "picture.webp"}


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="nothing to draw on"):
        make(1).save(path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("method", "package"), [("to_dataframe", "pandas"), ("to_supervision", "supervision")])
def test_missing_packages_are_named(method, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"{method} needs {package}: pip install '?{package}"):
        getattr(make(1), method)()


@pytest.mark.parametrize("people", [0, 2])
def test_dataframe_columns(people, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=dict))
    poses = make(people)
    table = poses.to_dataframe()
    assert list(table) == ["person", "keypoint", "x", "y", "score", "sigma_x", "sigma_y"]
    assert {len(column) for column in table.values()} == {17 * people}
    if people:
        row = 17 + 9
        assert (table["person"][row], table["keypoint"][row]) == (1, "left_wrist")
        assert [table["x"][row], table["y"][row]] == poses.keypoints[1, 9].tolist()
        assert [table["sigma_x"][row], table["sigma_y"][row]] == poses.sigmas[1, 9].tolist()
        assert table["score"][row] == poses.scores[1, 9]
    assert "sigma_x" not in make(people, sigmas=False).to_dataframe()


@pytest.mark.parametrize("people", [0, 2])
def test_supervision_fields(people, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", types.SimpleNamespace(KeyPoints=dict))
    poses = make(people)
    fields = poses.to_supervision()
    np.testing.assert_array_equal(fields["xy"], poses.keypoints)
    np.testing.assert_array_equal(fields["keypoint_confidence"], poses.scores)
    np.testing.assert_array_equal(fields["detection_confidence"], poses.box_scores)
    assert fields["class_id"].tolist() == [0] * people
    covariance = fields["data"]["covariance"]
    assert covariance.shape == (people, 17, 2, 2) and covariance.dtype == np.float32
    np.testing.assert_allclose(np.sqrt(covariance[..., 0, 0] / 2), poses.sigmas[..., 0], rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(covariance[..., 1, 1] / 2), poses.sigmas[..., 1], rtol=1e-6)
    assert not covariance[..., 0, 1].any()
    assert make(people, sigmas=False).to_supervision()["data"] == {}


def test_ellipse_annotators_of_supervision_draw_sigma():
    supervision = pytest.importorskip("supervision")
    poses = Poses([[[50, 40]]], [[1]], [[0, 0, 99, 79]], [1], Skeleton("one", ("tip",)), sigmas=[[[10, 2]]])
    annotator = supervision.VertexEllipseOutlineAnnotator(sigma=1.0, color=supervision.Color.WHITE, thickness=1)
    rows, columns = np.nonzero(annotator.annotate(np.zeros((80, 100, 3), np.uint8), poses.to_supervision()).any(-1))
    # The half axes are standard deviations: √2 σ.
    assert abs(np.ptp(columns) / 2 - 10 * 2**0.5) < 1.5 and abs(np.ptp(rows) / 2 - 2 * 2**0.5) < 1.5


def test_expected_oks_is_the_mean_over_laplace_errors():
    draws = np.random.default_rng(0)
    sigmas, area, constants = np.array([[[3.0, 8.0], [40.0, 25.0]]]), 9000.0, (0.05, 0.1)
    errors = draws.laplace(0, sigmas, (200_000, 2, 2))
    similarity = np.exp(-(errors**2).sum(-1) / (2 * (2 * np.array(constants)) ** 2 * area)).mean(0)
    np.testing.assert_allclose(expected_oks(sigmas, [area], constants)[0], similarity, atol=2e-3)
    extreme = expected_oks([[[0, 0], [1e6, 1e6]]], [area], constants)[0]
    assert extreme[0] == pytest.approx(1) and 0 <= extreme[1] < 1e-6
    poses = make(3)
    area = (poses.boxes[:, 2:] - poses.boxes[:, :2]).prod(-1)
    np.testing.assert_allclose(poses.expected_oks(), expected_oks(poses.sigmas, area, COCO17.sigmas))
    scores = [one["score"] for one in poses.to_coco(1, "expected_oks")]
    np.testing.assert_allclose(scores, poses.box_scores * poses.expected_oks().mean(-1), rtol=1e-6)
    with pytest.raises(ValueError, match="made of σ"):
        make(1, sigmas=False).expected_oks()


def test_keypoints_by_name_and_angles():
    poses = make(3)
    np.testing.assert_array_equal(poses["left_wrist"], poses.keypoints[:, 9])
    with pytest.raises(ValueError, match="'coco17' has no 'left_hand'. It has: nose, "):
        _ = poses["left_hand"]
    arm = Skeleton("arm", ("shoulder", "elbow", "wrist"))
    points = [[[0, 0], [9, 0], [9, 9]], [[0, 0], [9, 0], [18, 0]], [[5, 5], [0, 0], [0, 5]], [[9, 0], [9, 0], [9, 9]]]
    people = Poses(points, np.ones((4, 3)), np.tile([0, 0, 9, 9], (4, 1)), np.ones(4), arm)
    np.testing.assert_allclose(people.angle("shoulder", "elbow", "wrist"), [90, 180, 45, np.nan], atol=1e-4)
    assert people[:0].angle("shoulder", "elbow", "wrist").shape == (0,)


def test_csv(tmp_path):
    poses = make(2)
    poses.save(tmp_path / "people.csv")
    rows = list(csv.reader((tmp_path / "people.csv").read_text().splitlines()))
    assert rows[0] == ["person", "keypoint", "x", "y", "score", "sigma_x", "sigma_y"] and len(rows) == 1 + 2 * 17
    assert rows[1 + 17 + 9][:2] == ["1", "left_wrist"]
    np.testing.assert_array_equal(np.float32(rows[1 + 17 + 9][2:4]), poses.keypoints[1, 9])
    assert make(1, frame=7).to_csv().splitlines()[1].startswith("7,0,nose,")
