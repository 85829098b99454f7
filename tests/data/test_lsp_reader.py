"""LSP's and LSPET's `joints.mat` become samples that count pixels from 0, and splits that share no photograph."""

import numpy as np
import pytest
import scipy.io

from keras_regpose.data.lsp import SPLITS, Lsp
from keras_regpose.skeleton import LSP14


def joints_of(count):
    """(N, 14, 3): x, y counted from 1, and flags that are all 1."""
    joints = np.random.default_rng(0).uniform(1, 150, (count, 14, 3))
    joints[..., 2] = 1
    return joints


def write(folder, joints, extended=True):
    (folder / "images").mkdir(exist_ok=True)
    scipy.io.savemat(
        folder / "joints.mat", {"joints": joints.transpose(1, 2, 0) if extended else joints.transpose(2, 1, 0)}
    )
    return folder


def test_extended_layout(tmp_path):
    joints = joints_of(3)
    joints[1, 4] = [-33.4, 0, 0]
    people = Lsp(write(tmp_path, joints))
    assert len(people) == 3 and people.skeleton == LSP14 and people.annotations is None and people.skipped == []
    sample = people[1]
    assert sample.image == str(tmp_path / "images" / "im00002.jpg") and sample.id == sample.image_id == 2
    labelled = np.arange(14) != 4
    np.testing.assert_allclose(sample.keypoints[labelled], joints[1, labelled, :2] - 1, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(sample.keypoints[4], [0, 0])
    np.testing.assert_array_equal(sample.visible, labelled)
    points = joints[1, labelled, :2] - 1
    np.testing.assert_allclose(sample.box, [*points.min(0), *points.max(0)], rtol=1e-5)
    assert sample.area == pytest.approx(0.53 * np.prod(np.ptp(points, axis=0)), rel=1e-5)
    assert sample.box.dtype == sample.keypoints.dtype == sample.visible.dtype == np.float32


def test_original_layout_labels_occluded_joints_too(tmp_path):
    joints = joints_of(20)
    joints[:, 5, 2] = 0
    people = Lsp(write(tmp_path, joints, extended=False))
    assert people[2].image == str(tmp_path / "images" / "im0003.jpg")
    np.testing.assert_array_equal(people[2].visible, 1)
    np.testing.assert_allclose(people[2].keypoints, joints[2, :, :2] - 1, rtol=1e-5, atol=1e-5)


def test_split_of_lspet():
    parts = [Lsp.split_indices(8000, split) for split in SPLITS]
    assert [len(part) for part in parts] == [6402, 797, 801]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(8000))
    # Fixed for ever: published figures rest on it.
    assert [int(part.sum()) for part in parts] == [25553522, 3225066, 3217412]
    assert [part[:4].tolist() for part in parts] == [[1, 3, 4, 5], [2, 8, 11, 22], [0, 13, 20, 34]]
    # The same photograph twice, files 511 and 4844: once in the permutation's test part, once in its training part.
    sides = [[photograph - 1 in part for part in parts] for photograph in (511, 4844)]
    assert sides[0] == sides[1]


def test_split_of_other_sizes():
    for count, sizes in ((2000, [1600, 200, 200]), (10, [8, 1, 1]), (1, [1, 0, 0])):
        parts = [Lsp.split_indices(count, split, extended=False) for split in SPLITS]
        assert [len(part) for part in parts] == sizes
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(count))


def test_splits_of_a_folder(tmp_path):
    folder = write(tmp_path, joints_of(30))
    numbers = [[sample.id for sample in Lsp(folder, split=split)] for split in SPLITS]
    assert [len(part) for part in numbers] == [24, 3, 3]
    assert sorted(sum(numbers, [])) == list(range(1, 31))
    assert numbers[1] == [sample.id for sample in Lsp(folder, split="val")]
    assert len(Lsp(folder)) == 30
    with pytest.raises(ValueError, match="split must be one of train, val, test, or None for all. Received: 'dev'"):
        Lsp(folder, split="dev")
    with pytest.raises(ValueError, match="has no photographs for the split 'val': it has 1 in all"):
        Lsp(write(tmp_path, joints_of(1)), split="val")


def test_broken_records_are_skipped_and_named(tmp_path, caplog):
    joints = joints_of(40)
    joints[3, 0, 0] = np.nan
    joints[5, 1:, 2] = 0
    joints[7, :, 0] = 12
    people = Lsp(write(tmp_path, joints))
    assert len(people) == 37
    assert [what for what, _ in people.skipped] == ["photograph 4", "photograph 6", "photograph 8"]
    assert caplog.messages == [f"Left out: {what}: {why}" for what, why in people.skipped]
    reasons = [why for _, why in people.skipped]
    assert "not finite" in reasons[0] and "1 of its keypoints are labelled" in reasons[1] and "no size" in reasons[2]
    with pytest.raises(ValueError, match="3 of 40 records in .*joints.mat cannot be used, more than the 5% allowed"):
        Lsp(tmp_path, max_skipped_share=0.05)
    joints[20:30, 0, 0] = np.nan
    caplog.clear()
    Lsp(write(tmp_path, joints), max_skipped_share=0.5)
    assert len(caplog.messages) == 6 and "13 records" in caplog.messages[-1]


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*joints\.mat"):
        Lsp(tmp_path)
    (tmp_path / "joints.mat").write_text("no")
    with pytest.raises(ValueError, match=r"joints\.mat is not a MATLAB file that can be read"):
        Lsp(tmp_path)
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": np.zeros((16, 3, 5))})
    with pytest.raises(ValueError, match=r"must be 14 × 3 × N or 3 × 14 × N. Received: \(16, 3, 5\)"):
        Lsp(tmp_path)
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": joints_of(2).transpose(1, 2, 0)})
    with pytest.raises(FileNotFoundError, match="There is no folder .*images"):
        Lsp(tmp_path)


def test_the_photographs_of_lspet(shared_data):
    """What the real file holds: 98,535 labelled joints, none of them more than 3 pixels outside its photograph."""
    people = Lsp(shared_data / "lspet")
    assert len(people) == 8000 and people.skipped == []
    visible = np.stack([sample.visible for sample in people])
    assert visible.sum() == 98_535
    assert (visible.sum(1) == 14).sum() == 3156 and visible.sum(1).min() == 4
    keypoints = np.stack([sample.keypoints for sample in people])
    assert not keypoints[visible == 0].any()
    assert keypoints.min() > -3
    boxes = np.stack([sample.box for sample in people])
    assert (boxes[:, 2:] - boxes[:, :2]).min() > 10
