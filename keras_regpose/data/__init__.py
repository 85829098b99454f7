"""Annotated people: readers of COCO, MPII and LSP, drawn people, and batches for `fit`."""

from keras_regpose.data.augment import Augmentation
from keras_regpose.data.coco import Coco
from keras_regpose.data.lsp import Lsp
from keras_regpose.data.mpii import Mpii
from keras_regpose.data.sample import Sample
from keras_regpose.data.synthetic import Synthetic

__all__ = ["Augmentation", "Coco", "Lsp", "Mpii", "Sample", "Synthetic", "make_dataset"]


def __getattr__(name):
    # The pipeline imports Keras, which reading pictures for an exported model does not need.
    if name == "make_dataset":
        from keras_regpose.data.pipeline import make_dataset

        return make_dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
