"""Packages that not everybody needs."""

import importlib
from types import ModuleType


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
