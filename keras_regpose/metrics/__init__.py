"""How well poses fit the ground truth: COCO's AP and AR, MPII's PCKh, PCK, and OKS-based suppression."""

from keras_regpose.metrics.coco import coco_keypoints, coco_results, instance_score
from keras_regpose.metrics.nms import oks, oks_nms, soft_oks_nms
from keras_regpose.metrics.pck import auc, box_size, epe, pck, torso_size
from keras_regpose.metrics.pckh import pckh

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
