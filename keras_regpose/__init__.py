"""A Keras 3 model zoo for top-down regression-based pose estimation."""

from keras_regpose.optional import forwarded

# public name: module that defines it. Nothing is imported before it is used.
_PUBLIC = {
    "COCO17": "keras_regpose.skeleton",
    "HAND21": "keras_regpose.skeleton",
    "LSP14": "keras_regpose.skeleton",
    "MPII16": "keras_regpose.skeleton",
    "PeopleFinder": "keras_regpose.inference.people_finder",
    "PoseRegressor": "keras_regpose.regressor",
    "Poses": "keras_regpose.inference.poses",
    "RHD21": "keras_regpose.skeleton",
    "ResultsWriter": "keras_regpose.inference.writers",
    "Skeleton": "keras_regpose.skeleton",
    "WFLW98": "keras_regpose.skeleton",
    "from_preset": "keras_regpose.presets",
    "list_presets": "keras_regpose.zoo",
    "load_exported": "keras_regpose.export.runtime",
    "preset_info": "keras_regpose.zoo",
    "set_progress": "keras_regpose.progress",
    "to_sleap": "keras_regpose.inference.sleap",
    "write_results": "keras_regpose.inference.writers",
}
_PACKAGES = ("convert", "data", "export", "hub", "inspection", "losses", "metrics", "models", "training")

__all__ = [*_PUBLIC, *_PACKAGES]
__version__ = "0.1.0"
__getattr__ = forwarded(__name__, _PUBLIC | dict.fromkeys(_PACKAGES))


def __dir__():
    return __all__
