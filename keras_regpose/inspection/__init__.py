"""What an annotation file holds, which of its labels look wrong, and what to label next."""

import importlib

from keras_regpose.inspection.judgement import LabelJudgement
from keras_regpose.inspection.report import describe, write_report

__all__ = ["LabelJudgement", "describe", "judge_labels", "suggest", "write_report"]


# Describing a file needs no Keras, these do.
_LATE = {"judge_labels": "judge", "suggest": "suggestion"}


def __getattr__(name):
    if name in _LATE:
        return getattr(importlib.import_module(f"keras_regpose.inspection.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
