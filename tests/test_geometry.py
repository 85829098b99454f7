"""Affine maps and their inverse against the reference's figures."""

import json

import numpy as np
import pytest

from keras_regpose import geometry

BOXES = [  # box xyxy, size (height, width), rotation, fixed scale, matrix, points; reference dossier §9.5
    (
        (100, 50, 300, 400), (256, 192), 0, (328.125, 437.5),
        [[0.585142857, 0, -21.028571429], [0, 0.585142857, -3.657142857]],
        [(37.485714, 113.371429), (-21.028572, -3.657143), (167.094849, 41.545143)],
    ),
    (
        (100, 50, 500, 200), (256, 192), 0, (500, 666.666687),
        [[0.384, 0, -19.2], [0, 0.384, 80]],
        [(19.2, 156.8), (-19.2, 80), (104.255997, 109.664001)],
    ),
    (
        (10.5, 20.25, 110.75, 320.5), (256, 256), 0, (375.3125, 375.3125),
        [[0.682098251, 0, 86.647793505], [0, 0.682098251, 11.787510408]],
        [(154.857620, 148.207169), (86.647797, 11.787511), (305.942383, 64.479599)],
    ),
    (
        (100, 50, 300, 400), (256, 192), 30, (328.125, 437.5),
        [[0.506748559, 0.292571453, -71.178288739], [-0.292571453, 0.506748627, 72.495849464]],
        [(38.010857, 144.588425), (-71.178291, 72.495850), (114.342522, 17.580460)],
    ),
    (
        (100, 50, 300, 400), (256, 256), -45, (437.5, 437.5),
        [[0.413758505, -0.413758495, 138.343960337], [0.413758505, 0.413758536, -47.847371646]],
        [(96.968124, 76.280197), (138.343964, -47.847370), (239.404480, 117.138840)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("box", "size", "rotation", "fixed_scale", "matrix", "points"), BOXES)
def test_warp_equals_the_reference(box, size, rotation, fixed_scale, matrix, points):
    center, scale = geometry.box_to_center_scale(np.array(box))
    scale = geometry.fix_aspect_ratio(scale, size)
    np.testing.assert_allclose(scale, fixed_scale, rtol=1e-7)
    ours = geometry.crop_matrix(center, scale, rotation, size)
    np.testing.assert_allclose(ours, matrix, atol=1e-9)
    inputs = np.array([(100, 200), (0, 0), (321.5, 77.25)], np.float32)
    np.testing.assert_allclose(geometry.transform_points(inputs, ours), points, atol=1e-5)


def test_recorded_boxes_become_the_same_matrices(golden):
    recorded = json.loads((golden / "crops.json").read_text())
    assert len(recorded) == 12
    for record in recorded:
        width, height = record["size_wh"]
        x, y, box_width, box_height = record["bbox_xywh"]
        center, scale = geometry.box_to_center_scale(np.array([x, y, x + box_width, y + box_height], np.float32))
        fixed = geometry.fix_aspect_ratio(scale, (height, width))
        np.testing.assert_allclose(center, record["center"], atol=1e-3)
        np.testing.assert_allclose(scale, record["scale_padded"], atol=1e-3)
        np.testing.assert_allclose(fixed, record["scale_aspect_fixed"], atol=1e-3)
        matrix = geometry.crop_matrix(center, fixed, record["rotation_deg"], (height, width))
        np.testing.assert_array_equal(matrix, record["warp"])


@pytest.mark.parametrize(
    ("rotation", "matrix"),
    [
        (0, [[4, 0, -300], [0, 4, -300]]),
        (45, [[2.828427, 2.828427, -465.685303], [-2.828427, 2.828427, 100]]),
    ],
)
def test_square_warp(rotation, matrix):
    ours = geometry.crop_matrix(np.array([100, 100]), np.array([50, 50]), rotation, (200, 200))
    np.testing.assert_allclose(ours, matrix, atol=1e-4)


def test_back_to_the_image_is_the_inverse():
    center, scale = np.array([[200.0, 225.0], [30.0, 40.0]]), np.array([[328.125, 437.5], [60.0, 80.0]])
    points = np.random.default_rng(0).uniform(-50, 400, (2, 5, 2))
    crop = np.stack(
        [
            geometry.transform_points(points[i], geometry.crop_matrix(center[i], scale[i], 0, (256, 192)))
            for i in range(2)
        ]
    )
    np.testing.assert_allclose(geometry.crop_to_image(crop / [192, 256], center, scale), points, atol=1e-9)


def test_back_projection_equals_the_reference():
    # §9.4: the RLE row with flip and without shift, so x is half a pixel more than printed there.
    crop = np.array([(108.381397 + 0.5, 122.831523), (113.576699 + 0.5, 105.311803), (54.795421 + 0.5, 134.375620)])
    image = geometry.crop_to_image(crop / [192, 256], np.array([200, 225]), np.array([328.125, 437.5]))
    expected = [(222.014105789, 216.167152869), (230.892796345, 186.226225601), (130.436511206, 235.895835238)]
    np.testing.assert_allclose(image, expected, atol=1e-5)


def test_mirrored_matrix_is_mirroring_first():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    matrix = geometry.crop_matrix(np.array([30.0, 20.0]), np.array([48.0, 64.0]), 0, (64, 48))
    direct = geometry.crop_image(np.ascontiguousarray(image[:, ::-1]), matrix, (64, 48))
    folded = geometry.crop_image(image, geometry.mirror_matrix(matrix, 80), (64, 48))
    np.testing.assert_array_equal(folded, direct)
    point = np.array([[12.5, 7.0]])
    np.testing.assert_allclose(
        geometry.transform_points(point, geometry.mirror_matrix(matrix, 80)),
        geometry.transform_points(np.array([[80 - 1 - 12.5, 7.0]]), matrix),
    )


@pytest.mark.parametrize("rotation", [0, 25])
def test_crops_of_huge_images(rotation):
    """Positions of more than 16 bits: the part that is shown gives the same, up to the rounding to 1/32 pixel."""
    wide = np.random.default_rng(0).integers(0, 255, (20, 40_000, 3), np.uint8)
    scale = np.array([33.0, 44.0])
    far = geometry.crop_image(
        wide, geometry.crop_matrix(np.array([35_000.3, 9.6]), scale, rotation, (64, 48)), (64, 48)
    )
    part = wide[:, 34_500:35_500].copy()
    near = geometry.crop_image(part, geometry.crop_matrix(np.array([500.3, 9.6]), scale, rotation, (64, 48)), (64, 48))
    assert np.abs(far.astype(int) - near).max() <= 16 and near.mean() > 40
    # All of it in one crop, more than `remap` takes.
    crop = geometry.crop_image(
        wide, geometry.crop_matrix(np.array([20_000, 10]), np.array([40_000, 53_333]), rotation, (64, 48)), (64, 48)
    )
    assert crop[32].any()


def test_crops_are_black_outside_the_image():
    image = np.full((10, 10, 3), 255, np.uint8)
    matrix = geometry.crop_matrix(np.array([5.0, 5.0]), np.array([20.0, 20.0]), 0, (20, 20))
    crop = geometry.crop_image(image, matrix, (20, 20))
    assert (crop[:4] == 0).all() and (crop[6:14, 6:14] == 255).all()


def test_a_cut_is_box_region_matrix_and_crop():
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    box, size = np.array([10.5, 12, 41, 50.25]), (64, 48)
    center, scale = geometry.box_to_center_scale(box, padding=1.5)
    fixed = geometry.fix_aspect_ratio(scale, size)
    matrix = geometry.crop_matrix(center, fixed, 0, size)
    cut = geometry.cut(image, box, size, padding=1.5)
    for found, expected in zip(cut, (geometry.crop_image(image, matrix, size), matrix, center, fixed), strict=True):
        np.testing.assert_array_equal(found, expected)
    mirrored = geometry.cut_region(np.ascontiguousarray(image[:, ::-1]), center, scale, size, rotation=30)
    folded = geometry.cut_region(image, center, scale, size, rotation=30, mirrored=True)
    np.testing.assert_array_equal(folded.matrix, mirrored.matrix)
    assert np.abs(folded.crop.astype(int) - mirrored.crop).max() <= 24 and (folded.crop == mirrored.crop).mean() > 0.5
