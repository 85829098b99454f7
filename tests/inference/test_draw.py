"""Pictures of poses: what is drawn where, in which colour, at any size, and never into the caller's image."""

import numpy as np
import pytest

from keras_regpose.evaluation.sheets import contact_sheet
from keras_regpose.inference.draw import LEFT, MIDDLE, RIGHT, draw_poses
from keras_regpose.skeleton import COCO17, LSP14, Skeleton

ARM = Skeleton(
    "arms",
    ("left_wrist", "left_elbow", "right_elbow", "right_wrist", "neck"),
    edges=(("left_wrist", "left_elbow"), ("right_elbow", "right_wrist"), ("left_elbow", "right_elbow")),
)
POINTS = np.array([[[100, 100], [100, 900], [500, 900], [500, 100], [300, 500]]], float)


def canvas(height=1000, width=1000, value=100):
    return np.full((height, width, 3), value, np.uint8)


def test_sides_have_their_colours():
    picture = draw_poses(canvas(), POINTS, skeleton=ARM)
    assert tuple(picture[500, 100]) == LEFT
    assert tuple(picture[500, 500]) == RIGHT
    assert tuple(picture[900, 300]) == MIDDLE
    assert tuple(picture[500, 300]) == MIDDLE
    assert tuple(picture[100, 100]) == LEFT and tuple(picture[100, 500]) == RIGHT
    assert tuple(picture[700, 300]) == (100, 100, 100)


def test_uncertain_joints_are_rings_and_their_limbs_faded():
    scores = np.array([[0.1, 0.9, 0.9, 0.9, 0.9]])
    picture = draw_poses(canvas(), POINTS, scores, skeleton=ARM)
    assert tuple(picture[100, 100]) != LEFT
    faded = np.round(0.35 * np.array(LEFT) + 0.65 * 100)
    assert np.abs(picture[500, 100] - faded).max() <= 1
    assert tuple(picture[500, 500]) == RIGHT
    same = draw_poses(canvas(), POINTS, scores, skeleton=ARM, score_threshold=0.05)
    np.testing.assert_array_equal(same, draw_poses(canvas(), POINTS, skeleton=ARM))


def test_ellipses_have_half_axes_of_one_sigma():
    sigmas = np.zeros((1, 5, 2))
    sigmas[0, 4] = (60, 40)
    picture = draw_poses(canvas(), POINTS, sigmas=sigmas, skeleton=ARM).astype(int)
    inside = np.round(0.4 * np.array(MIDDLE) + 0.6 * 100)
    for x, y in ((300 - 57, 500), (300 + 57, 500), (300, 500 - 37), (300, 500 + 37)):
        assert np.abs(picture[y, x] - inside).max() <= 1
    for x, y in ((300 - 63, 500), (300 + 63, 500), (300, 500 - 43), (300, 500 + 43)):
        assert tuple(picture[y, x]) == (100, 100, 100)
    without = draw_poses(canvas(), POINTS, sigmas=sigmas, skeleton=ARM, ellipses=False)
    np.testing.assert_array_equal(without, draw_poses(canvas(), POINTS, skeleton=ARM))


def test_line_thickness_follows_the_person():
    def thickness(factor):
        size = 1000 * factor
        picture = draw_poses(canvas(size, size), POINTS * factor, skeleton=ARM)
        return (picture[500 * factor, : 300 * factor] == LEFT).all(-1).sum()

    assert thickness(1) >= 8
    assert thickness(4) == pytest.approx(4 * thickness(1), rel=0.15)


@pytest.mark.parametrize("size", [(64, 48), (120, 90), (256, 320), (901, 1203)])
def test_only_the_neighbourhood_of_the_pose_changes(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    before = image.copy()
    points = np.array([[[0.2, 0.2], [0.2, 0.5], [0.4, 0.5], [0.4, 0.2], [0.3, 0.3]]]) * [size[1], size[0]]
    picture = draw_poses(image, points, skeleton=ARM)
    np.testing.assert_array_equal(image, before)
    assert picture.shape == image.shape and picture.dtype == np.uint8
    changed = (picture != image).any(-1)
    assert changed[: size[0] // 2].any()
    assert not changed[int(0.6 * size[0]) :].any() and not changed[:, int(0.6 * size[1]) :].any()


def test_scale_keeps_pixels_under_their_joints():
    image = canvas(100, 80, 0)
    points = np.array([[[20, 20], [20, 80], [60, 80], [60, 20], [40, 50]]], float)
    picture = draw_poses(image, points, skeleton=ARM, scale=12.0)
    assert picture.shape == (1200, 960, 3)
    y, x = np.nonzero((picture[:400, :480] == LEFT).all(-1))
    # Pixel 20 becomes the pixels 240 to 251, with their middle at 245.5.
    assert abs((x.min() + x.max()) / 2 - 245.5) <= 1


def test_no_people():
    image = np.random.default_rng(1).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    for sigmas, boxes in ((None, None), (np.zeros((0, 17, 2)), np.zeros((0, 4)))):
        picture = draw_poses(image, np.zeros((0, 17, 2)), np.zeros((0, 17)), sigmas, boxes, labels=True)
        np.testing.assert_array_equal(picture, image)
        assert picture is not image
    np.testing.assert_array_equal(draw_poses(image, []), image)


def test_boxes_and_labels():
    box = np.array([[50, 400, 600, 950]])
    plain = draw_poses(canvas(), POINTS, skeleton=ARM)
    boxed = draw_poses(canvas(), POINTS, boxes=box, skeleton=ARM)
    assert tuple(boxed[700, 50]) == (0, 158, 115) and tuple(plain[700, 50]) == (100, 100, 100)
    labelled = draw_poses(canvas(), POINTS, boxes=box, skeleton=ARM, labels=True)
    y, x = np.nonzero((labelled != boxed).any(-1))
    assert 350 < y.min() and y.max() < 400 and x.min() >= 50 and x.max() < 250
    # A label of someone at the very top moves into the picture.
    high = draw_poses(canvas(), POINTS - [0, 100], skeleton=ARM, labels=True)
    assert (high[:25, 100:150] == MIDDLE).all(-1).any()


def test_grey_and_float_images():
    grey = np.full((90, 120), 77.4)
    picture = draw_poses(grey, np.zeros((0, 17, 2)))
    assert picture.shape == (90, 120, 3) and (picture == 77).all()
    assert (draw_poses(np.full((9, 9, 3), 300.0), np.zeros((0, 17, 2))) == 255).all()


def test_what_is_not_finite_or_far_away_is_left_out():
    points = POINTS.copy()
    points[0, 0] = np.nan
    points[0, 3] = 1e30
    picture = draw_poses(canvas(), points, sigmas=np.full((1, 5, 2), np.inf), skeleton=ARM, labels=True)
    assert tuple(picture[500, 100]) == (100, 100, 100)
    assert tuple(picture[900, 300]) == MIDDLE
    draw_poses(canvas(), np.full((1, 5, 2), np.nan), boxes=np.full((1, 4), np.nan), skeleton=ARM, labels=True)


def test_skeleton_without_edges():
    dots = Skeleton("dots", ("left_a", "b"))
    picture = draw_poses(canvas(), np.array([[[200, 200], [600, 600]]]), skeleton=dots)
    assert tuple(picture[200, 200]) == LEFT and tuple(picture[600, 600]) == MIDDLE


def test_errors_say_what_was_expected():
    with pytest.raises(ValueError, match=r"needs 'keypoints' of shape \(1, 17, 2\). Received shape: \(1, 14, 2\)"):
        draw_poses(canvas(), np.zeros((1, 14, 2)), skeleton=COCO17)
    with pytest.raises(ValueError, match=r"needs 'sigmas' of shape \(2, 14, 2\)"):
        draw_poses(canvas(), np.zeros((2, 14, 2)), sigmas=np.zeros((1, 14, 2)), skeleton=LSP14)
    with pytest.raises(ValueError, match="RGB array"):
        draw_poses(np.zeros((10, 10, 4)), np.zeros((0, 17, 2)))
    with pytest.raises(ValueError, match="scale must be"):
        draw_poses(canvas(), np.zeros((0, 17, 2)), scale=0)


def test_contact_sheet():
    red, blue = np.zeros((40, 80, 3), np.uint8), np.zeros((300, 100, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = contact_sheet([red, blue, red], columns=2, tile_size=(100, 120), captions=["one", "two", "x" * 200])
    assert sheet.shape == (2 * (100 + 24 + 8) + 8, 2 * (120 + 8) + 8, 3)
    assert tuple(sheet[8 + 50, 8 + 60]) == (255, 0, 0)
    assert tuple(sheet[8 + 10, 8 + 60]) == (244, 244, 244)  # 80×40 becomes 120×60, 20 pixels from the tile's top
    assert tuple(sheet[8 + 50, 8 + 128 + 60]) == (0, 0, 255)
    assert (sheet[108:132, 8:128] < 100).any() and (sheet[:, :8] == 244).all()
    assert (sheet[-32:, 128:] == 244).all()
    assert contact_sheet([red], columns=4, tile_size=(100, 100)).shape == (116, 116, 3)
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet([])
    with pytest.raises(ValueError, match="1 images and 2 captions"):
        contact_sheet([red], captions=["a", "b"])
