"""How well poses fit the ground truth: COCO's AP and AR, MPII's PCKh, PCK, and OKS-based suppression."""

from keras_regpose.evaluation.coco import coco_keypoints, coco_results
from keras_regpose.evaluation.oks import oks, oks_nms, soft_oks_nms
from keras_regpose.evaluation.pck import auc, box_size, epe, pck, torso_size
from keras_regpose.evaluation.pckh import pckh
from keras_regpose.inference.scores import instance_score

__all__ = [
    "auc",
    "box_size",
    "coco_keypoints",
    "coco_results",
    "epe",
    "instance_score",
    "oks",
    "oks_nms",
    "pck",
    "pckh",
    "soft_oks_nms",
    "torso_size",
]
