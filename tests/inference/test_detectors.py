"""Adapters for detectors of other packages."""

import sys
import types

import cv2
import keras
import numpy as np
import pytest
from tiny_model import tiny_model

from keras_regpose.inference.boxes import check_boxes
from keras_regpose.inference.detectors import (
    boxes_from_detections,
    keras_cv_detector,
    keras_hub_detector,
)

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
            "yxyx": corners[:, [1, 0, 3, 2]],
            "rel_yxyx": corners[:, [1, 0, 3, 2]] / [64, 96, 64, 96],
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


@pytest.mark.parametrize("box_format", ["xyxy", "yxyx", "xywh", "center_xywh", "rel_xyxy", "rel_yxyx", "rel_xywh"])
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
    with pytest.raises(ValueError, match="bounding_box_format must be xyxy.*Received: 'corners'"):
        keras_cv_detector(types.SimpleNamespace(bounding_box_format="corners"), person=0)


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


class Tensor:
    """Numbers on a device, as torch has them: NumPy takes them only after `.detach().cpu()`."""

    def __init__(self, values):
        self.values = np.array(values, np.float32)
        self.ndim, self.shape, self.dtype = self.values.ndim, self.values.shape, "torch.float32"

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def detach(self):
        return self

    def cpu(self):
        return self.values


def ultralytics(names=None, classes=(0, 0, 2)):
    """What a YOLO model of Ultralytics returns for one image: `Results`, whose `boxes` are `Boxes`."""
    found = np.r_[PERSON, [[1, 1, 5, 5]]]
    boxes = types.SimpleNamespace(xyxy=Tensor(found), conf=Tensor([0.9, 0.5, 0.7]), cls=Tensor(classes))
    boxes.data = Tensor(np.c_[found, [0.9, 0.5, 0.7], classes])
    return types.SimpleNamespace(boxes=boxes, names=names or {0: "person", 1: "bicycle", 2: "car"})


def torchvision(labels=(1, 1, 3)):
    return {"boxes": Tensor(np.r_[PERSON, [[1, 1, 5, 5]]]), "labels": Tensor(labels), "scores": Tensor([0.9, 0.5, 0.7])}


@pytest.mark.parametrize(
    "found",
    [
        ultralytics(),
        [ultralytics()],  # models return a list for one image, too
        ultralytics().boxes,
        ultralytics().boxes.data,
        ultralytics({5: "person", 0: "bus"}, classes=(5, 5, 0)),
        torchvision(),
        [torchvision()],
        np.c_[np.r_[PERSON, [[1, 1, 5, 5]]], [0.9, 0.5, 0.7], [0, 0, 2]].tolist(),
        Tensor(np.c_[PERSON, [0.9, 0.5]]),
    ],
    ids=["Results", "list", "Boxes", "rows", "names", "dict", "dicts", "lists", "tensor"],
)
def test_what_detectors_found_is_taken_as_it_is(found):
    boxes, scores = check_boxes(found)
    np.testing.assert_array_equal(boxes, PERSON)
    assert scores.tolist() == pytest.approx([0.9, 0.5])


def test_found_things_without_people_and_without_boxes():
    assert len(boxes_from_detections(ultralytics({0: "dog", 2: "cat"}))) == 3  # no class is called a person: all
    assert len(boxes_from_detections(ultralytics(classes=(2, 2, 2)))) == 0
    assert len(boxes_from_detections(torchvision(), person=3)) == 1
    assert len(boxes_from_detections({"boxes": np.zeros((0, 4)), "labels": [], "scores": []})) == 0
    with pytest.raises(ValueError, match="The detections have no boxes. Received: SimpleNamespace"):
        check_boxes(types.SimpleNamespace(boxes=None, names={}))
    with pytest.raises(ValueError, match="The detections have no boxes. Received: dict"):
        check_boxes({"a": 1})


def test_supervision_names_its_classes():
    supervision = pytest.importorskip("supervision")
    detections = supervision.Detections(
        xyxy=np.r_[PERSON, [[1, 1, 5, 5]]],
        class_id=np.array([7, 7, 3]),
        data={"class_name": np.array(["person", "person", "dog"])},
    )
    np.testing.assert_array_equal(check_boxes(detections)[0], PERSON)


def test_estimates_with_what_detectors_found_in_one_image_and_in_several():
    model, image = tiny_model(), np.full((150, 200, 3), 100, np.uint8)
    for found in (
        ultralytics(),
        [ultralytics()],
        torchvision(),
        ultralytics().boxes.data,
        lambda image: [ultralytics()],
    ):
        np.testing.assert_array_equal(model.estimate(image, found).boxes, PERSON)
    for kind in (ultralytics, torchvision):
        first, second = model.estimate([image, image], [kind(), kind()])
        np.testing.assert_array_equal(first.boxes, PERSON)
        np.testing.assert_array_equal(second.keypoints, first.keypoints)
    supervision = pytest.importorskip("supervision")
    several = [supervision.Detections(xyxy=PERSON), supervision.Detections.empty()]
    assert [len(poses) for poses in model.estimate([image, image], several)] == [2, 0]
    tensors = [Tensor(PERSON), Tensor(PERSON[:1])]
    assert [len(poses) for poses in model.estimate([image, image], tensors)] == [2, 1]


class HubDetector(Detector):
    """Answers as KerasHub's detectors do: yxyx, labels beside the confidence."""

    num_classes = 80
    preprocessor = types.SimpleNamespace(image_size=(64, 96))

    def __init__(self):
        super().__init__("yxyx")

    def predict(self, images, verbose):
        self.bounding_box_format = "xyxy"
        found = super().predict(images, verbose)
        labels = np.where(found.pop("classes") == 14, 0, 7)
        return {"boxes": found["boxes"][..., [1, 0, 3, 2]], "confidence": found["confidence"], "labels": labels}


def keras_hub_with(monkeypatch, detector):
    asked = []
    kind = types.SimpleNamespace(from_preset=lambda name: asked.append(name) or detector)
    module = types.SimpleNamespace(models=types.SimpleNamespace(ObjectDetector=kind))
    monkeypatch.setitem(sys.modules, "keras_hub", module)
    return asked


def test_keras_hub_detectors_by_name(monkeypatch):
    asked = keras_hub_with(monkeypatch, HubDetector())
    image = np.full((150, 200, 3), 100, np.uint8)
    first, second = tiny_model().estimate([image, image], "keras_hub:dfine_small_coco")
    np.testing.assert_allclose(first.boxes, PERSON, atol=1e-3)
    np.testing.assert_array_equal(first.keypoints, second.keypoints)
    assert asked == ["dfine_small_coco"]
    detector = HubDetector()
    detector.num_classes = 3
    keras_hub_with(monkeypatch, detector)
    with pytest.raises(ValueError, match="mine has 3 classes, which are not COCO's: say which is a person"):
        keras_hub_detector("mine")
    assert keras_hub_detector("mine", person=7)(image).shape == (1, 5)


def test_keras_hub_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ImportError, match="The detector dfine_small_coco needs keras_hub: pip install 'keras-hub'"):
        tiny_model().estimate(np.zeros((20, 20, 3), np.uint8), "keras_hub:dfine_small_coco")


@pytest.mark.slow
def test_a_real_keras_hub_detector(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(0)
    encoder = keras_hub.models.ResNetBackbone(
        [64], [7], [64, 8, 8, 8], [1, 1, 1, 1], [1, 2, 2, 2], "basic_block", use_pre_activation=False
    )
    converter = keras_hub.layers.RetinaNetImageConverter(image_size=(64, 96))
    keras_hub.models.RetinaNetObjectDetector(
        keras_hub.models.RetinaNetBackbone(encoder, min_level=3, max_level=5, use_p5=False),
        num_classes=80,
        classification_head_prior_probability=0.3,
        preprocessor=keras_hub.models.RetinaNetObjectDetectorPreprocessor(converter),
    ).save_to_preset(str(tmp_path / "detector"))
    image = np.random.default_rng(0).integers(256, size=(150, 200, 3), dtype=np.uint8)
    found = keras_hub_detector(str(tmp_path / "detector"), score_threshold=0.0)(image)
    # What KerasHub itself finds in the same picture, scaled to 64 rows and padded at the right.
    padded = np.zeros((1, 64, 96, 3), np.float32)
    padded[0, :, :85] = cv2.resize(image, (85, 64))
    itself = keras_hub.models.ObjectDetector.from_preset(str(tmp_path / "detector")).predict(padded, verbose=0)
    people = itself["labels"][0] == 0
    rows = itself["boxes"][0][people][:, [1, 0, 3, 2]] / np.array([85 / 200, 64 / 150] * 2)
    rows = np.clip(rows, 0, [200, 150, 200, 150])
    inside = (rows[:, 2:] > rows[:, :2]).all(1)
    assert inside.any()
    np.testing.assert_allclose(found[:, :4], rows[inside], atol=1e-3)
    np.testing.assert_allclose(found[:, 4], itself["confidence"][0][people][inside], atol=1e-6)
    assert isinstance(tiny_model().estimate(image, f"keras_hub:{tmp_path / 'detector'}").boxes, np.ndarray)
