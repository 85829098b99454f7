"""Reader, image, geometry and codec together against crops and figures recorded from MMPose 1.3.2."""

import json
from dataclasses import replace

import numpy as np
import pytest

from keras_regpose import codec, geometry
from keras_regpose.data.coco import Coco
from keras_regpose.data.mpii import Mpii
from keras_regpose.images import read_image


def cut(sample, input_size, rotation=0.0):
    center, scale = geometry.box_to_center_scale(sample.box)
    fixed = geometry.fix_aspect_ratio(scale, input_size)
    matrix = geometry.crop_matrix(center, fixed, rotation, input_size)
    crop = geometry.crop_image(read_image(sample.image), matrix, input_size)
    return center, scale, fixed, matrix, crop, geometry.transform_points(sample.keypoints, matrix)


@pytest.fixture
def folder(shared_data):
    return shared_data / "mmpose_testdata"


@pytest.fixture
def people(folder):
    return {sample.id: sample for sample in Coco(folder / "coco" / "test_coco.json", folder / "coco")}


def test_recorded_crops(golden, golden_crops, people):
    recorded = json.loads((golden / "crops.json").read_text())
    assert len(recorded) == 12
    for number, record in enumerate(recorded):
        width, height = record["size_wh"]
        x, y, box_width, box_height = record["bbox_xywh"]
        # The recording used the annotated boxes as they are; the reader clips them to the image.
        box = np.array([x, y, x + box_width, y + box_height], np.float32)
        sample = replace(people[record["annotation_id"]], box=box)
        found = cut(sample, (height, width), record["rotation_deg"])
        center, scale, fixed, matrix, crop, keypoints = found
        np.testing.assert_allclose(center, record["center"], atol=1e-3)
        np.testing.assert_allclose(scale, record["scale_padded"], atol=1e-3)
        np.testing.assert_allclose(fixed, record["scale_aspect_fixed"], atol=1e-3)
        np.testing.assert_array_equal(matrix, record["warp"])
        np.testing.assert_allclose(keypoints, record["transformed_keypoints"], atol=1e-3)
        np.testing.assert_array_equal(crop[..., ::-1], golden_crops[f"crop_{number}"], err_msg=record["image"])


# id: centre, scale after the aspect fix, sums of the B, G, R channels, sum of weights
RECORDED = {
    442619: ((390.1400146, 218.0700073), (325.0124817, 433.3499756), (8636003, 8416694, 8773149), 17),
    198196: ((125.4349976, 198.3049927), (218.3874817, 291.1833191), (6735895, 6735895, 6735895), 14),
    1717641: (None, None, (3687849, 4057299, 3998894), 12),
    543117: (None, None, (6413120, 5641838, 5500032), 13),
}


@pytest.mark.parametrize("number", RECORDED)
def test_recorded_figures_of_annotated_people(people, number):
    expected_center, expected_scale, sums, weights = RECORDED[number]
    center, _, fixed, _, crop, keypoints = cut(people[number], (256, 192))
    if expected_center:
        np.testing.assert_allclose(center, expected_center, atol=1e-3)
        np.testing.assert_allclose(fixed, expected_scale, atol=1e-3)
    np.testing.assert_array_equal(crop[..., ::-1].sum((0, 1), dtype=np.int64), sums)
    target = codec.encode(keypoints, people[number].visible, (256, 192))
    assert target[:, 2].sum() == weights
    if number == 442619:
        np.testing.assert_allclose(target[[0, 16], :2], [[0.42880264, 0.18369672], [0.51802999, 0.78367370]], atol=1e-6)
        for (row, column), blue_green_red in (((128, 96), (4, 1, 70)), ((10, 10), (213, 208, 203))):
            np.testing.assert_array_equal(crop[row, column, ::-1], blue_green_red)
    if number == 1717641:
        # The label of an unlabelled joint is meaningless, but it is the same.
        np.testing.assert_allclose(target[0], [-1.94827652, -0.55708414, 0], atol=1e-5)


def test_recorded_figures_of_a_detection(folder):
    boxes = folder / "coco" / "test_coco_det_AP_H_56.json"
    sample = Coco(folder / "coco" / "test_coco.json", folder / "coco", boxes=boxes)[0]
    _, _, fixed, _, crop, _ = cut(sample, (256, 192))
    np.testing.assert_allclose(fixed, (312.7127686, 416.9503479), atol=1e-3)
    np.testing.assert_array_equal(crop[..., ::-1].sum((0, 1)), (8728021, 8502550, 8889626))


def test_recorded_figures_of_mpii(folder):
    found = {sample.image[-13:]: sample for sample in Mpii(folder / "mpii" / "test_mpii.json", folder / "mpii")}
    sample = found["005808361.jpg"]
    center, _, fixed, _, crop, keypoints = cut(sample, (256, 256))
    np.testing.assert_allclose(center, (965, 409.7773132), atol=1e-3)
    np.testing.assert_allclose(fixed, [1179.6220703] * 2, atol=1e-3)
    # The reference takes centre and scale from the annotation; ours come from the box, where their last bits are lost.
    np.testing.assert_allclose(crop[..., ::-1].sum((0, 1)), (4321752, 3682441, 3594374), rtol=0, atol=3)
    # The recorded labels count joints from 1, ours from 0: one pixel of the photograph lies between them.
    target = codec.encode(keypoints, sample.visible, (256, 256))
    expected = np.array([[0.36351565, 0.75535524], [0.49766105, 0.22046413]]) - 1 / 1179.6220703
    np.testing.assert_allclose(target[[0, 9], :2], expected, atol=1e-6)

    keypoints = cut(found["051423444.jpg"], (256, 256))[-1]
    assert codec.encode(keypoints, found["051423444.jpg"].visible, (256, 256))[:, 2].sum() == 14
