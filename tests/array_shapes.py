"""Checks while tests run that arrays have the types and shapes which the functions of the package declare."""

from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def check(function):
    """The type checker that jaxtyping's import hook puts around every function of the package.

    jaxtyping calls it twice: with a stand-in for the arguments, and with one for arguments and result, which is run
    when the function has returned. The second is enough: what a function refuses itself, in a sentence of its own, is
    for the tests of that sentence, and what it takes must be as declared. Only arrays are looked at: constructors take
    lists for tuples and ints for floats, and metrics take a number or nested lists for an array.
    """
    hints = function.__annotations__
    if hints.get("return", Any) is Any:
        return function
    arrays = {name: hint for name, hint in hints.items() if _is_about_arrays(hint)}
    arguments = {name: hint | int | list | tuple for name, hint in arrays.items() if name != "return"}
    function.__annotations__ = arrays | arguments
    return beartype(function)


def _is_about_arrays(hint):
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_is_about_arrays, get_args(hint)))
