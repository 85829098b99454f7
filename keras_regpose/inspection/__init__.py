"""What an annotation file holds, which of its labels look wrong, and what to label next."""

from keras_regpose.inspection.judgement import LabelJudgement
from keras_regpose.inspection.report import describe, write_report

__all__ = ["LabelJudgement", "describe", "judge_labels", "suggest", "write_report"]


def __getattr__(name):
    # Describing a file needs no Keras, judging labels and suggesting people do.
    if name == "judge_labels":
        from keras_regpose.inspection.judge import judge_labels

        return judge_labels
    if name == "suggest":
        from keras_regpose.inspection.suggestion import suggest

        return suggest
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
