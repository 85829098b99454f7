"""What an annotation file holds, and which of its labels look wrong."""

from keras_regpose.inspection.judgement import LabelJudgement
from keras_regpose.inspection.report import describe, write_report

__all__ = ["LabelJudgement", "describe", "judge_labels", "write_report"]


def __getattr__(name):
    # Describing a file needs no Keras, judging labels does.
    if name == "judge_labels":
        from keras_regpose.inspection.judge import judge_labels

        return judge_labels
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
