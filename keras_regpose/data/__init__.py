"""Annotated people: readers of COCO, MPII, LSP and other tools' files, drawn people, and batches for `fit`."""

from keras_regpose.data.augment import Augmentation
from keras_regpose.data.coco import Coco
from keras_regpose.data.coco_writer import write_coco
from keras_regpose.data.landmarks import Landmarks
from keras_regpose.data.lsp import Lsp
from keras_regpose.data.mpii import Mpii
from keras_regpose.data.other_formats import read
from keras_regpose.data.people import People
from keras_regpose.data.sample import Sample

__all__ = ["Augmentation", "Coco", "Landmarks", "Lsp", "Mpii", "People", "Sample", "Synthetic"]
__all__ += ["make_dataset", "read", "write_coco"]


def __getattr__(name):
    if name == "Synthetic":
        from keras_regpose.drawn.people import Synthetic

        return Synthetic
    # Batches import Keras, which reading pictures for an exported model does not need.
    if name == "make_dataset":
        from keras_regpose.data.batches import make_dataset

        return make_dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
