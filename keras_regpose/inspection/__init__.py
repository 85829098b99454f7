"""What an annotation file holds, which of its labels look wrong, and what to label next."""

from keras_regpose.inspection.judgement import LabelJudgement
from keras_regpose.inspection.report import describe, write_report
from keras_regpose.optional import forwarded

__all__ = ["LabelJudgement", "describe", "judge_labels", "suggest", "write_report"]

# Describing a file needs no Keras, these do.
__getattr__ = forwarded(
    __name__, {"judge_labels": "keras_regpose.inspection.judge", "suggest": "keras_regpose.inspection.suggestion"}
)
