"""How well poses fit the ground truth: PCK, mean error, OKS, COCO's AP and AR, MPII's PCKh, and two models compared.

`PCK`, `MeanError` and `OKS` are Keras metrics for `compile(metrics=[...])`; the others are functions of arrays.
"""

from keras_regpose.evaluation.coco import coco_keypoints, coco_results
from keras_regpose.evaluation.evaluate import compare, evaluate
from keras_regpose.evaluation.intervals import Interval
from keras_regpose.evaluation.oks import labelled_oks, oks, oks_nms, soft_oks_nms
from keras_regpose.evaluation.pck import (
    auc,
    box_diagonal,
    box_size,
    epe,
    mean_error,
    pair_distance,
    pck,
    torso_size,
)
from keras_regpose.evaluation.pckh import pckh
from keras_regpose.inference.scores import expected_oks, instance_score

__all__ = [
    "OKS",
    "PCK",
    "Interval",
    "MeanError",
    "auc",
    "box_diagonal",
    "box_size",
    "coco_keypoints",
    "coco_results",
    "compare",
    "epe",
    "evaluate",
    "expected_oks",
    "instance_score",
    "labelled_oks",
    "mean_error",
    "oks",
    "oks_nms",
    "pair_distance",
    "pck",
    "pckh",
    "soft_oks_nms",
    "torso_size",
]


def __getattr__(name):
    # These import Keras, which the functions do not need.
    if name in ("MeanError", "OKS", "PCK"):
        from keras_regpose.metrics import keras_metrics

        return getattr(keras_metrics, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
