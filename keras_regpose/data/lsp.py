"""People of Leeds Sports Pose (LSP) and Leeds Sports Pose Extended (LSPET)."""

import os
from pathlib import Path

import numpy as np

from keras_regpose.data.people import People
from keras_regpose.data.records import collect, estimated_area, extent_box, read_mat, require_folder, to_floats
from keras_regpose.data.sample import Sample
from keras_regpose.skeleton import LSP14

SPLITS = ("train", "val", "test")
_SPLIT_SEED = 0
# LSPET has these photographs (numbers of the files) twice, recoloured, rescaled or taken a moment later. Each pair goes
# to one side of the split.
_TWICE_IN_LSPET = np.loadtxt(Path(__file__).with_name("lspet_twice.csv"), int, delimiter=",")


class Lsp(People):
    """The people of LSP or LSPET, one per photograph.

    The files count pixels from 1; here they are counted from 0. The sets have no boxes: a person's box is the extent of
    the labelled keypoints, so hands, feet and unlabelled limbs may reach beyond it. Unlabelled keypoints are at (0, 0).
    In LSPET a keypoint is labelled where its flag is 1. In LSP all 14 are labelled, whatever the flag says.
    Source: Johnson & Everingham, "Clustered pose and nonlinear appearance models for human pose estimation", BMVC 2010,
    and "Learning effective human pose estimation from inaccurate annotation", CVPR 2011.

    Args:
        root: str or path. Folder with `joints.mat` (`joints`: 14 × 3 × N for LSPET, 3 × 14 × N for LSP) and `images/`
            (`im00001.jpg` … for LSPET, `im0001.jpg` … for LSP).
        split: "train", "val", "test" or None for all. See `split_indices`.
        max_skipped_share: float. Broken records are skipped up to this share, above it reading fails.

    Attributes:
        skeleton: `LSP14`.
        annotations: None, since LSP is not scored by COCO's evaluation.
        skipped: list of (what, why). The broken records.

    Raises:
        FileNotFoundError: If `joints.mat` or `images/` is missing.
        ValueError: If `joints.mat` has another layout, the split is unknown, or too many records are broken.

    Example:

    >>> people = Lsp("lspet", split="val")  # doctest: +SKIP
    >>> len(people), people[0].keypoints.shape  # doctest: +SKIP
    (797, (14, 2))
    """

    def __init__(self, root: str | os.PathLike, split: str | None = None, max_skipped_share: float = 0.1):
        root = os.fspath(root)
        path, images = os.path.join(root, "joints.mat"), os.path.join(root, "images")
        joints, extended = _read_joints(path)
        require_folder(images)
        rows = range(len(joints)) if split is None else self.split_indices(len(joints), split, extended).tolist()
        name = "im{:05d}.jpg" if extended else "im{:04d}.jpg"
        records = [{"id": i + 1, "joints": joints[i], "image": os.path.join(images, name.format(i + 1))} for i in rows]
        empty = f"{path} has no photographs for the split {split!r}: it has {len(joints)} in all"
        samples, skipped = collect(records, _sample, "photograph", path, max_skipped_share, empty)
        super().__init__(samples, LSP14, skipped=skipped)

    @staticmethod
    def split_indices(count: int, split: str, extended: bool = True) -> np.ndarray:
        """Returns the photographs of a split, which is this package's own: neither set comes with one of this kind.

        A permutation with a fixed seed, of which the first 80 % are for training, then 10 % for validation and 10 % for
        testing. Photographs that LSPET has twice go with their first copy, so that none is on both sides.

        Args:
            count: int. Number of photographs in the set.
            split: "train", "val" or "test".
            extended: bool. Whether the set is LSPET.

        Returns:
            Array of int, ascending: positions counted from 0.

        Raises:
            ValueError: If there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, or None for all. Received: {split!r}")
        ends = [(count * 8 + 9) // 10, (count * 9 + 9) // 10]  # rounded up: training comes first
        part = np.searchsorted(ends, np.random.default_rng(_SPLIT_SEED).permutation(count), side="right")
        if extended:
            first, second = _TWICE_IN_LSPET[_TWICE_IN_LSPET[:, 1] <= count].T - 1
            part[second] = part[first]
        return np.flatnonzero(part == SPLITS.index(split))


def _read_joints(path):
    """Returns (N, 14, 3) joints, the third number 1 for labelled ones, and whether they are LSPET's."""
    joints = np.asarray(read_mat(path, "joints"), np.float64)
    count = len(LSP14)
    if joints.ndim == 3 and joints.shape[:2] == (count, 3):
        return joints.transpose(2, 0, 1), True
    if joints.ndim == 3 and joints.shape[:2] == (3, count):
        joints = joints.transpose(2, 1, 0).copy()
        joints[..., 2] = 1
        return joints, False
    raise ValueError(f"The joints in {path} must be {count} × 3 × N or 3 × {count} × N. Received: {joints.shape}")


def _sample(_, record):
    joints = to_floats(record["joints"], (len(LSP14), 3), "list of joints")
    visible = (joints[:, 2] > 0.5).astype(np.float32)
    # LSPET has meaningless negative numbers at unlabelled joints.
    keypoints = np.where(visible[:, None] > 0, joints[:, :2] - 1, 0).astype(np.float32)
    box = extent_box(keypoints, visible)
    return Sample(record["image"], box, keypoints, visible, record["id"], record["id"], estimated_area(box))
