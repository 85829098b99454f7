"""Adapters for detectors of other packages."""

import types

import numpy as np
import pytest
from tiny_model import tiny_model

from keras_regpose.inference.boxes import check_boxes
from keras_regpose.inference.detectors import boxes_from_detections, keras_cv_detector

PERSON = np.array([[40, 20, 100, 140], [0, 0, 30, 150]], np.float32)  # in an image of 200 × 150 pixels


class Detector:
    """Answers as KerasCV's detectors do, with boxes that lie at PERSON when the image fills the left top of 64 × 96."""

    def __init__(self, bounding_box_format):
        self.bounding_box_format = bounding_box_format

    def predict(self, images, verbose):
        assert images.shape == (1, 64, 96, 3) and verbose == 0
        self.seen = images[0]
        share = np.array([85 / 200, 64 / 150] * 2)
        corners = np.full((5, 4), -1.0)
        corners[[0, 3]] = PERSON * share
        corners[1:3] = [1, 1, 20, 20]
        x1, y1, x2, y2 = corners.T
        boxes = {
            "xyxy": corners,
            "xywh": np.stack([x1, y1, x2 - x1, y2 - y1], 1),
            "center_xywh": np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], 1),
            "rel_xyxy": corners / [96, 64, 96, 64],
            "rel_xywh": np.stack([x1, y1, x2 - x1, y2 - y1], 1) / [96, 64, 96, 64],
        }[self.bounding_box_format]
        return {
            "boxes": boxes[None],
            "confidence": np.array([[0.9, 0.1, 0.8, 0.5, -1]]),
            "classes": np.array([[14, 14, 7, 14, -1]]),
        }


@pytest.mark.parametrize("box_format", ["xyxy", "xywh", "center_xywh", "rel_xyxy", "rel_xywh"])
def test_keras_cv_boxes_come_back_into_the_image(box_format):
    detector = Detector(box_format)
    find = keras_cv_detector(detector, person=14, input_size=(64, 96))
    image = np.full((150, 200, 3), 100, np.uint8)
    found = find(image)
    np.testing.assert_allclose(found, np.c_[PERSON, [0.9, 0.5]], atol=1e-3)
    assert (detector.seen[:, :85] == 100).all() and not detector.seen[:, 85:].any()
    model = tiny_model() if box_format == "xyxy" else None
    if model:
        poses = model.estimate(image, find)
        np.testing.assert_allclose(poses.boxes, PERSON, atol=1e-3)
        assert poses.box_scores.tolist() == pytest.approx([0.9, 0.5])


def test_keras_cv_formats_that_are_unknown():
    with pytest.raises(ValueError, match="bounding_box_format must be xyxy.*Received: 'yxyx'"):
        keras_cv_detector(types.SimpleNamespace(bounding_box_format="yxyx"), person=0)


@pytest.mark.slow
def test_a_real_keras_cv_detector():
    keras_cv = pytest.importorskip("keras_cv")
    backbone = keras_cv.models.YOLOV8Backbone(
        stackwise_channels=[32, 64, 128, 256], stackwise_depth=[1, 1, 1, 1], activation="swish", include_rescaling=True
    )
    detector = keras_cv.models.YOLOV8Detector(
        num_classes=20, bounding_box_format="xywh", backbone=backbone, fpn_depth=1
    )
    image = np.random.default_rng(0).integers(0, 255, (150, 200, 3), np.uint8)
    boxes, scores = check_boxes(keras_cv_detector(detector, person=14, input_size=(64, 96), score_threshold=0)(image))
    assert boxes.shape == (len(scores), 4)
    assert (boxes >= 0).all() and (boxes[:, [0, 2]] <= 200).all() and (boxes[:, [1, 3]] <= 150).all()


def test_supervision_detections():
    supervision = pytest.importorskip("supervision")
    detections = supervision.Detections(
        xyxy=np.r_[PERSON, [[1, 1, 5, 5]]], confidence=np.array([0.9, 0.5, 0.7]), class_id=np.array([0, 0, 3])
    )
    people = boxes_from_detections(detections, person=0)
    np.testing.assert_allclose(people, np.c_[PERSON, [0.9, 0.5]], atol=1e-6)
    boxes, scores = check_boxes(detections)
    assert boxes.shape == (3, 4) and scores.tolist() == pytest.approx([0.9, 0.5, 0.7])
    assert check_boxes(supervision.Detections.empty())[0].shape == (0, 4)
    bare = supervision.Detections(xyxy=PERSON)
    assert boxes_from_detections(bare)[:, 4].tolist() == [1, 1]
    with pytest.raises(ValueError, match="no classes"):
        boxes_from_detections(bare, person=0)


def test_poses_become_real_supervision_keypoints_and_tables():
    supervision, pandas = pytest.importorskip("supervision"), pytest.importorskip("pandas")
    model = tiny_model()
    image = np.random.default_rng(0).integers(0, 255, (150, 200, 3), np.uint8)
    detections = supervision.Detections(xyxy=PERSON, confidence=np.array([0.9, 0.5]), class_id=np.array([0, 0]))
    poses = model.estimate(image, lambda picture: detections)
    keypoints = poses.to_supervision()
    assert isinstance(keypoints, supervision.KeyPoints) and len(keypoints) == 2
    np.testing.assert_array_equal(keypoints.xy, poses.xy)
    annotated = supervision.VertexAnnotator(radius=3).annotate(image.copy(), keypoints)
    assert annotated.shape == image.shape
    table = poses.to_dataframe()
    assert isinstance(table, pandas.DataFrame) and table.shape == (34, 7)
    assert table[table.keypoint == "nose"].x.tolist() == poses.keypoints[:, 0, 0].tolist()
