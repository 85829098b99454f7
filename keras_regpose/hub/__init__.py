"""How weights travel: preset directories, downloads, model cards, publishing."""

from keras_regpose.zoo import list_presets, preset_info, preset_table

__all__ = ["list_presets", "preset_info", "preset_table"]
