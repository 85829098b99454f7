"""How well poses fit the ground truth: PCK, mean error, OKS, COCO's AP and AR, MPII's PCKh, and two models compared.

`PCK`, `MeanError` and `OKS` are Keras metrics for `compile(metrics=[...])`; the others are functions of arrays.
"""

from keras_regpose.evaluation.coco import coco_keypoints, coco_results
from keras_regpose.evaluation.evaluate import compare, evaluate
from keras_regpose.evaluation.intervals import Interval
from keras_regpose.evaluation.landmarks import nme
from keras_regpose.evaluation.oks import labelled_oks, oks, oks_nms, soft_oks_nms
from keras_regpose.evaluation.pck import auc, box_diagonal, box_size, epe, mean_error, pair_distance, pck, torso_size
from keras_regpose.evaluation.pckh import pckh
from keras_regpose.inference.scores import expected_oks, instance_score
from keras_regpose.optional import forwarded

__all__ = ["OKS", "PCK", "MeanError"]  # of Keras
__all__ += ["Interval", "compare", "evaluate"]
__all__ += ["coco_keypoints", "coco_results", "expected_oks", "instance_score", "oks_nms", "soft_oks_nms"]
__all__ += ["auc", "epe", "labelled_oks", "mean_error", "nme", "oks", "pck", "pckh"]
__all__ += ["box_diagonal", "box_size", "pair_distance", "torso_size"]  # what PCK is in units of

# These import Keras, which the functions do not need.
__getattr__ = forwarded(__name__, dict.fromkeys(("MeanError", "OKS", "PCK"), "keras_regpose.metrics.keras_metrics"))
