"""The zoo: the table of presets, and where their weights come from."""

from keras_regpose.hub.presets import list_presets, preset_info, preset_table

__all__ = ["list_presets", "preset_info", "preset_table"]
