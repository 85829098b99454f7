"""Targets, decoding and flip test against the reference's figures (dossier §9.4, §9.6)."""

import numpy as np
import pytest

from keras_regpose import codec
from keras_regpose.inference.estimator import decode_poses


def test_boundaries_of_the_weight():
    points = [(0, 0), (191, 255), (191.01, 255), (-0.001, 10), (96, 128), (50, 60)]
    target = codec.encode(np.array(points), np.array([1, 1, 1, 1, 0, 0.5]), (256, 192))
    assert target[:, 2].tolist() == [1, 1, 0, 0, 0, 0.5]  # a doubtful label counts half
    np.testing.assert_allclose(target[1, :2], [0.99479169, 0.99609375], rtol=1e-7)
    assert target.dtype == np.float32


def test_decode():
    output = np.array([[[0.25, 0.5, 0.1, 0.3], [1.2, -0.1, 0.9, 0.2]]])
    keypoints, scores, sigmas = decode_poses(output, np.array([[96, 128]]), np.array([[192, 256]]))
    np.testing.assert_allclose(keypoints[0], [[48, 128], [230.4, -25.6]], rtol=1e-6)
    np.testing.assert_allclose(scores[0], [0.8, 0.45], rtol=1e-6)
    np.testing.assert_allclose(sigmas[0], [[19.2, 76.8], [172.8, 51.2]], rtol=1e-6)


def test_plain_regression_scores_one_and_has_no_sigma():
    keypoints, scores, sigmas = decode_poses(np.zeros((1, 3, 2)), np.zeros((1, 2)), np.ones((1, 2)))
    assert scores.tolist() == [[1, 1, 1]] and sigmas is None


def head(features, outputs_per_joint):
    """§9.4: weight 0.4·sin(0.5j), bias 0.3 + 0.05·index, K = 3."""
    rows = 3 * outputs_per_joint
    weight = (0.4 * np.sin(0.5 * np.arange(rows * 4))).reshape(rows, 4)
    output = (features @ weight.T + 0.3 + 0.05 * np.arange(rows)).reshape(len(features), 3, outputs_per_joint)
    if outputs_per_joint == 4:
        output[..., 2:] = 1 / (1 + np.exp(-output[..., 2:]))
    return output


FEATURES = np.array([[0.1, 0.2, 0.3, 0.4], [1, -1, 0.5, 0.25]])


@pytest.mark.parametrize(
    ("shift", "offset"),
    [(True, 0.0), (False, 0.5)],
)
def test_flip_test_equals_the_reference(shift, offset):
    merged = codec.merge_flipped(
        head(FEATURES, 4), head(FEATURES[:, ::-1], 4), np.array([0, 2, 1]), input_width=192, shift=shift
    )
    expected = np.array(
        [
            [(108.381397, 122.831523), (113.576699, 105.311803), (54.795421, 134.375620)],
            [(87.625962, 106.411350), (107.797201, 151.730793), (97.034589, 133.964893)],
        ]
    ) + [offset, 0]
    np.testing.assert_allclose(merged[..., :2] * [192, 256], expected, atol=1e-5)
    np.testing.assert_allclose(
        codec.keypoint_scores(merged),
        [[0.419420215, 0.297591083, 0.312675120], [0.407210761, 0.319674389, 0.310616951]],
        atol=1e-8,
    )


def test_plain_regression_flip_test_equals_the_reference():
    merged = codec.merge_flipped(head(FEATURES, 2), head(FEATURES[:, ::-1], 2), np.array([0, 2, 1]), 192)
    expected = [
        [(108.381397, 122.831523), (26.330936, 118.697881), (151.584247, 92.029333)],
        [(87.625962, 106.411350), (63.073769, 108.397705), (135.924614, 124.699443)],
    ]
    np.testing.assert_allclose(merged * [192, 256], expected, atol=1e-5)
