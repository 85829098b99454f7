"""Packages that not everybody needs, and names that are imported when they are first used."""

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def import_optional(module: str, needed_for: str, requirement: str = "keras-regpose[export]") -> ModuleType:
    """Imports a module of a package that may be missing.

    Args:
        module: str. Its name, such as "onnxruntime.quantization".
        needed_for: str. What needs it, for the message.
        requirement: str. What pip is to install.

    Raises:
        ImportError: If it cannot be imported; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise ImportError(f"{needed_for} needs {package}: pip install '{requirement}' ({error})") from error


def forwarded(package: str, places: Mapping[str, str | None]) -> Callable[[str], Any]:
    """Returns the `__getattr__` of a package some of whose names are imported when they are first used.

    Args:
        package: str. Its `__name__`.
        places: dict from the names to the modules that have them, or to None for modules of the package itself.

    Example:

    >>> forwarded("keras_regpose", {"COCO17": "keras_regpose.skeleton"})("COCO17").name
    'coco17'
    """

    def load(name):
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        place = places[name]
        return getattr(importlib.import_module(place), name) if place else importlib.import_module(f"{package}.{name}")

    return load
