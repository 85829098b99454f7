"""The reference's training augmentation: its distributions, its half bodies, its mirroring."""

import numpy as np
import pytest
import scipy.stats

from keras_regpose import codec, geometry
from keras_regpose.data.augment import Augmentation, augment
from keras_regpose.skeleton import COCO17, LSP14, MPII16, Skeleton

CENTER, SCALE = np.array([120.0, 90.0], np.float32), np.array([80.0, 200.0], np.float32)
WIDTH = 321
NEVER = Augmentation.none()


def points_of(skeleton, seed=0):
    return np.random.default_rng(seed).uniform(0, WIDTH, (len(skeleton), 2)).astype(np.float32)


def call(augmentation, keypoints=None, visible=None, skeleton=COCO17, seed=0):
    keypoints = points_of(skeleton) if keypoints is None else keypoints
    visible = np.ones(len(skeleton), np.float32) if visible is None else visible
    generator = np.random.default_rng(seed) if isinstance(seed, int) else seed
    return augment(augmentation, CENTER, SCALE, keypoints, visible, WIDTH, skeleton, generator)


@pytest.fixture(scope="module")
def draws():
    """100,000 draws of the COCO recipe, for a person who is too little labelled for half bodies."""
    count = 100_000
    generator = np.random.default_rng(20)
    visible = np.zeros(17, np.float32)
    rows = np.empty((count, 6))
    for row in rows:
        flipped, center, scale, rotation, *_ = call(Augmentation.coco(), None, visible, seed=generator)
        x = WIDTH - 1 - center[0] if flipped else center[0]
        row[:] = flipped, x - CENTER[0], center[1] - CENTER[1], scale[0] / SCALE[0], scale[1] / SCALE[1], rotation
    rows[:, 1:3] /= SCALE
    return rows


# The figures were measured on the reference with 400,000 draws; tolerances are about four standard errors.
def test_flips_are_half(draws):
    assert abs(draws[:, 0].mean() - 0.5) < 0.0064


def test_shifts(draws):
    shift = draws[:, 1:3]
    applied = np.abs(shift).max(axis=1) > 1e-6
    assert abs(applied.mean() - 0.3) < 0.006
    chosen = shift[applied]
    # One decision for both axes.
    assert (np.abs(chosen) > 1e-7).all(axis=1).mean() > 0.999
    np.testing.assert_allclose(chosen.std(axis=0), 0.0865, atol=0.0012)
    assert np.abs(chosen).max() < 0.16 + 1e-6
    assert abs(np.corrcoef(chosen.T)[0, 1]) < 0.023


def test_scales(draws):
    factor = draws[:, 3]
    np.testing.assert_allclose(factor, draws[:, 4], rtol=1e-6)
    assert abs(factor.mean() - 1) < 0.0035
    assert abs(factor.std() - 0.2698) < 0.002
    assert 0.5 - 1e-6 < factor.min() < 0.501 and 1.499 < factor.max() < 1.5 + 1e-6


def test_rotations(draws):
    rotation = draws[:, 5]
    applied = rotation != 0
    assert abs(applied.mean() - 0.6) < 0.0062
    assert abs(rotation[applied].std() - 43.16) < 0.4
    assert abs(rotation[applied].mean()) < 0.72
    assert 79.9 < np.abs(rotation).max() < 80


def test_numbers_follow_the_truncated_normal_distribution(draws):
    distribution = scipy.stats.truncnorm(-1, 1)
    for values in ((draws[:, 3] - 1) / 0.5, draws[draws[:, 5] != 0, 5] / 80):
        assert scipy.stats.kstest(values, distribution.cdf).pvalue > 0.01


def test_flip_equalities():
    keypoints, visible = points_of(COCO17), (np.arange(17) % 3 > 0).astype(np.float32)
    flipped, center, scale, rotation, mirrored, seen = call(
        Augmentation(1.0, 0.0, shift_probability=0, scale_probability=0, rotation_probability=0), keypoints, visible
    )
    assert flipped is True and rotation == 0
    np.testing.assert_array_equal(scale, SCALE)
    np.testing.assert_allclose(center, [WIDTH - 1 - 120, 90])
    permutation = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    np.testing.assert_array_equal(seen, visible[permutation])
    np.testing.assert_allclose(mirrored[:, 0], WIDTH - 1 - keypoints[permutation, 0])
    np.testing.assert_array_equal(mirrored[:, 1], keypoints[permutation, 1])
    # Twice mirrored is the original.
    again = call(Augmentation(1.0, 0.0), mirrored, seen)
    np.testing.assert_allclose(again[4], keypoints, atol=1e-4)
    np.testing.assert_array_equal(again[5], visible)


def test_nothing_happens_with_all_probabilities_zero():
    keypoints = points_of(MPII16)
    for seed in range(50):
        flipped, center, scale, rotation, points, visible = call(NEVER, keypoints, skeleton=MPII16, seed=seed)
        assert flipped is False and rotation == 0
        np.testing.assert_array_equal(center, CENTER)
        np.testing.assert_array_equal(scale, SCALE)
        np.testing.assert_array_equal(points, keypoints)
        np.testing.assert_array_equal(visible, 1)


def test_inputs_stay_as_they_are():
    keypoints, visible = points_of(COCO17), np.ones(17, np.float32)
    for array in (keypoints, visible, CENTER, SCALE):
        array.flags.writeable = False
    for seed in range(30):
        call(Augmentation(flip_probability=1, half_body_probability=1), keypoints, visible, seed=seed)


def test_equal_seeds_give_equal_results_and_others_do_not():
    def numbers(seed):
        return np.concatenate([np.ravel(part) for part in call(Augmentation.coco(), seed=seed)])

    np.testing.assert_array_equal(numbers(7), numbers(7))
    assert len({tuple(numbers(seed)[:6]) for seed in range(20)}) == 20


HALF = Augmentation(0.0, 1.0, shift_probability=0, scale_probability=0, rotation_probability=0)
UPPER, LOWER = np.arange(11), np.arange(11, 17)


def half_of(visible, augmentation=HALF, seed=0, keypoints=None):
    """Tells which joints the region was made of: "upper", "lower" or None."""
    keypoints = points_of(COCO17) if keypoints is None else keypoints
    _, center, scale, *_ = call(augmentation, keypoints, visible, seed=seed)
    if (center == CENTER).all() and (scale == SCALE).all():
        return None
    for name, half in (("upper", UPPER), ("lower", LOWER)):
        points = keypoints[half[visible[half] > 0]]
        if len(points) and np.allclose(center, points.mean(0), atol=1e-3):
            np.testing.assert_allclose(scale, 1.5 * np.ptp(points, axis=0), rtol=1e-5)
            return name
    raise AssertionError("neither half")


def only(*labelled):
    visible = np.zeros(17, np.float32)
    visible[list(labelled)] = 1
    return visible


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (only(*range(8)), {None}),  # 8 labelled: too few
        (only(*range(9)), {"upper"}),  # 9, but no lower body
        (only(*range(7), 11, 12), {"upper"}),  # 2 of the lower body: too few
        (only(*range(6), 11, 12, 13), {"upper", "lower"}),  # 3 of it: enough
        (only(0, 1, *range(11, 17)), {None}),  # 8 labelled again
        (only(0, 1, 2, *range(11, 17)), {"upper", "lower"}),
        (np.ones(17, np.float32), {"upper", "lower"}),
    ],
)
def test_half_bodies(visible, expected):
    assert {half_of(visible, seed=seed) for seed in range(40)} == expected


def test_the_lower_half_where_the_upper_is_not_labelled():
    skeleton = Skeleton(
        "chain", tuple(f"p{i}" for i in range(12)), upper_body=("p0",), lower_body=tuple(f"p{i}" for i in range(1, 12))
    )
    keypoints = points_of(skeleton)
    for seed in range(20):
        center = call(HALF, keypoints, skeleton=skeleton, seed=seed)[1]
        np.testing.assert_allclose(center, keypoints[1:].mean(0), rtol=1e-5)


def test_share_of_half_bodies_and_of_upper_ones():
    once_in_a_while = Augmentation(0.0, 0.3, shift_probability=0, scale_probability=0, rotation_probability=0)
    visible, generator = np.ones(17, np.float32), np.random.default_rng(5)
    found = [half_of(visible, once_in_a_while, seed=generator) for _ in range(6000)]
    applied = [half for half in found if half]
    assert abs(len(applied) / 6000 - 0.3) < 0.024
    assert abs(applied.count("upper") / len(applied) - 0.7) < 0.044


def test_half_bodies_without_extent_or_halves_are_left_alone():
    keypoints = np.full((17, 2), 50, np.float32)
    for seed in range(20):
        assert half_of(np.ones(17, np.float32), seed=seed, keypoints=keypoints) is None
    plain = Skeleton("plain", tuple(f"p{i}" for i in range(10)))
    center, scale = call(HALF, skeleton=plain)[1:3]
    np.testing.assert_array_equal(np.concatenate([center, scale]), np.concatenate([CENTER, SCALE]))


def test_shift_is_a_fraction_of_the_half_body_and_not_of_the_scaled_region():
    augmentation = Augmentation(0.0, 1.0, shift_probability=1, rotation_probability=0)
    keypoints = points_of(COCO17)
    for seed in range(30):
        _, center, scale, *_ = call(augmentation, keypoints, seed=seed)
        halves = [(keypoints[half].mean(0), 1.5 * np.ptp(keypoints[half], axis=0)) for half in (UPPER, LOWER)]
        # The half is the one of the same aspect ratio.
        middle, size = min(halves, key=lambda half: abs(scale[0] * half[1][1] - scale[1] * half[1][0]))
        assert (np.abs(center - middle) <= 0.16 * size + 1e-3).all()
        factor = scale / size
        assert abs(factor[0] - factor[1]) < 1e-5
        assert 0.5 <= factor[0] <= 1.5


def test_presets():
    assert Augmentation.coco() == Augmentation(0.5, 0.3, 0.16, 0.3, (0.5, 1.5), 1.0, 80.0, 0.6)
    mpii = Augmentation.mpii()
    assert (mpii.half_body_probability, mpii.shift_probability) == (0, 0)
    assert (mpii.flip_probability, mpii.scale_probability, mpii.rotation, mpii.rotation_probability) == (
        0.5,
        1,
        80,
        0.6,
    )
    for seed in range(30):
        flipped, center, *_ = call(mpii, skeleton=MPII16, seed=seed)
        np.testing.assert_allclose(center, [WIDTH - 1 - 120 if flipped else 120, 90])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flip_probability": 1.1}, "flip_probability must be between 0 and 1. Received: 1.1"),
        ({"half_body_probability": float("nan")}, "half_body_probability"),
        ({"shift_factor": -0.1}, "shift_factor must be a number of at least 0"),
        ({"rotation": float("inf")}, "rotation must be"),
        ({"scale_range": (1.5, 0.5)}, r"scale_range must be \(low, high\)"),
        ({"scale_range": (0, 1)}, "scale_range"),
        ({"scale_range": (1,)}, "scale_range"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**values)


def test_the_mirrored_photograph_in_one_map():
    """Cutting the mirrored photograph equals cutting the photograph through the mirrored matrix."""
    image = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)[:, : WIDTH - 1]
    width = image.shape[1]
    assert width == 320
    generator = np.random.default_rng(3)
    keypoints, visible = points_of(LSP14), np.ones(14, np.float32)
    for _ in range(5):
        flipped, center, scale, rotation, points, _ = augment(
            Augmentation(flip_probability=1), CENTER, SCALE, keypoints, visible, width, LSP14, generator
        )
        assert flipped
        matrix = geometry.crop_matrix(center, geometry.fix_aspect_ratio(scale, (128, 96)), rotation, (128, 96))
        folded = geometry.mirror_matrix(matrix, width)
        # Keypoints: mirrored and exchanged ones through the one map are the original ones through the other.
        np.testing.assert_allclose(
            geometry.transform_points(points, matrix)[LSP14.flip_permutation],
            geometry.transform_points(keypoints, folded),
            atol=1e-3,
        )
        reference = geometry.crop_image(np.ascontiguousarray(image[:, ::-1]), matrix, (128, 96)).astype(int)
        difference = np.abs(geometry.crop_image(image, folded, (128, 96)) - reference)
        # Positions are rounded to 1/32 pixel, on either side of a tie: at an edge from black to white, 255 / 32 levels.
        assert difference.max() <= 8 and difference.mean() < 0.1
        target = codec.encode(geometry.transform_points(points, matrix), visible, (128, 96))
        assert target.shape == (14, 3)
