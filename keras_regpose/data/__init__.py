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
from keras_regpose.optional import forwarded

__all__ = ["Augmentation", "Coco", "Landmarks", "Lsp", "Mpii", "People", "Sample", "Synthetic"]
__all__ += ["make_dataset", "read", "write_coco"]

# Drawn people are made of what is here, and batches import Keras, which reading pictures for an export does not need.
__getattr__ = forwarded(
    __name__, {"Synthetic": "keras_regpose.drawn.people", "make_dataset": "keras_regpose.data.batches"}
)
