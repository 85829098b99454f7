"""Reads a pickle without running any of it: containers, numbers and text come out, every class is an inert stub.

Python's own unpickler calls what a file tells it to call. This one interprets the instructions itself and calls
nothing but the functions its caller lists, so that a file from a stranger can do no more than be refused.
"""

import copy
import pickletools
from collections.abc import Callable

# A checkpoint of ResNet-152 with its optimizer has 70,000 instructions.
MAX_INSTRUCTIONS = 1_000_000
# Larger integers are never sizes, positions or keys. Those beyond 2**61 could be chosen to collide in a dictionary.
_MAX_KEY = 2**60

_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_CONSTANTS |= {"EMPTY_LIST": [], "EMPTY_DICT": {}, "EMPTY_TUPLE": (), "EMPTY_SET": []}


class CheckpointError(ValueError):
    """A file is not the checkpoint that it should be: damaged, hostile, or of another kind."""


class Stub:
    """Stands for a class, a function or an object that is not built; nothing of it is kept but its name.

    Args:
        name: str. Such as `"torch.optim.adam.Adam"`.
    """

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self):
        return f"<{shorten(self.name)}, not built>"


def shorten(text: str) -> str:
    """Returns text of a file in a form that is safe to show: quoted, escaped, and no longer than a line."""
    return repr(text if len(text) <= 80 else text[:77] + "...")


def unpickle(stream, rebuild: dict[str, Callable], load_persistent: Callable):
    """Reads one pickle.

    Args:
        stream: binary file-like object, at the pickle's first byte. It is left after the last. `read(n)` must not
            reserve memory for bytes that are not there (`io.BytesIO` and `mmap.mmap` do not).
        rebuild: dict of full names to functions of one tuple of arguments. All that is ever called.
        load_persistent: function from a persistent identifier to an object.

    Returns:
        The pickled object of lists, tuples, dicts, numbers, text, what `rebuild` and `load_persistent` return, and
        `Stub`s for everything else. Sets are lists.

    Raises:
        CheckpointError: If it is not a pickle, or one that is too long.
    """
    machine = _Machine(rebuild, load_persistent)
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
            if count == MAX_INSTRUCTIONS:
                raise CheckpointError(f"its pickle has more than {MAX_INSTRUCTIONS:,} instructions")
            machine.execute(instruction.name, argument)
        return machine.stack.pop()
    except CheckpointError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise CheckpointError(f"its pickle is damaged ({shorten(str(error))[1:-1]})") from None


class _Machine:
    """The stack, the marks and the memo of a pickle that is being read."""

    def __init__(self, rebuild, load_persistent):
        self.rebuild = rebuild
        self.load_persistent = load_persistent
        self.stack = []
        self.outer_stacks = []
        self.memo = {}
        self.copied = 0

    def execute(self, name, argument):
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(copy.copy(_CONSTANTS[name]))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            position = len(self.memo) if name == "MEMOIZE" else argument
            if not 0 <= position < _MAX_KEY:
                raise ValueError("memo position out of range")
            self.memo[position] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            self.outer_stacks.append(stack)
            self.stack = []
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            items = [stack.pop() for _ in range(int(name[-1]))]
            stack.append(tuple(reversed(items)))
        elif name in ("TUPLE", "FROZENSET"):
            items = self.pop_mark()
            self.stack.append(tuple(items) if name == "TUPLE" else items)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = [stack.pop()] if name == "APPEND" else self.pop_mark()
            # What is appended to a stub is dropped, as everything else about it.
            if type(self.stack[-1]) is list:
                self.stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self.pop_mark()
            if len(items) % 2:
                raise ValueError("a key without a value")
            if type(self.stack[-1]) is dict:
                self.stack[-1].update(zip(map(safe_key, items[::2]), items[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(Stub(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if type(attribute) is not str or type(module) is not str:
                raise TypeError("the name of a class is not text")
            stack.append(Stub(f"{module}.{attribute}"))
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
            if name == "NEWOBJ_EX":
                stack.pop()  # the named arguments
            arguments, called = stack.pop(), stack.pop()
            if type(called) is not Stub or type(arguments) is not tuple:
                raise TypeError("a call of something that is not a class")
            # What is called copies its arguments, and a list in the memo can be an argument many times.
            self.copied += sum(len(one) for one in arguments if isinstance(one, (list, tuple, dict)))
            if self.copied > MAX_INSTRUCTIONS:
                raise CheckpointError(f"its pickle copies more than {MAX_INSTRUCTIONS:,} items")
            stack.append(self.rebuild[called.name](arguments) if called.name in self.rebuild else Stub(called.name))
        elif name == "BUILD":
            # The state of an object that is not built. An OrderedDict's are attributes that no one needs.
            stack.pop()
            stack[-1]
        elif name == "BINPERSID":
            stack.append(self.load_persistent(stack.pop()))
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise CheckpointError(f"its pickle uses {name}, which PyTorch never writes")

    def pop_mark(self):
        items = self.stack
        self.stack = self.outer_stacks.pop()
        return items


def safe_key(key):
    """Returns a key that hashes in constant time and not to a value the file has chosen; for others, a stub."""
    if type(key) in (str, bytes, bool, type(None), Stub) or (type(key) is int and abs(key) < _MAX_KEY):
        return key
    return Stub(type(key).__name__)
