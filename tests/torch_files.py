"""Writes, instruction by instruction, what `torch.save` writes, and what it would never write."""

import io
import struct
import zipfile
from dataclasses import dataclass, field

import numpy as np

STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


@dataclass
class Global:
    """A class or function by name."""

    name: str


@dataclass
class Call:
    """A function by name, called with arguments while the file is read."""

    name: str
    arguments: tuple = ()


@dataclass
class Raw:
    """Instructions as they are."""

    instructions: bytes


@dataclass
class Tensor:
    """A tensor whose description can be made to lie."""

    array: np.ndarray
    offset: object = 0
    shape: object = None
    strides: object = None
    storage: str = None
    count: object = None


@dataclass
class Storages:
    """The arrays a pickle refers to, by key."""

    legacy: bool = False
    arrays: dict = field(default_factory=dict)


def pickled(value, storages: Storages) -> bytes:
    """A pickle of protocol 2 as PyTorch writes it."""
    return b"\x80\x02" + _instructions(value, storages) + b"."


def write_zip(path, value, root="archive", members=()):
    """Writes the format of PyTorch 1.6 and later; `members` are (name, bytes) to add."""
    storages = Storages()
    files = [("data.pkl", pickled(value, storages)), ("byteorder", b"little")]
    files += [(f"data/{key}", array.tobytes()) for key, array in storages.arrays.items()] + [("version", b"3\n")]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in [(f"{root}/{name}", content) for name, content in files] + list(members):
            # PyTorch aligns the numbers by means of an extra field.
            info = zipfile.ZipInfo(name)
            info.extra = b"FB" + struct.pack("<H", 7) + b"Z" * 7
            archive.writestr(info, content)
    return path


def write_legacy(path, value, keys=None):
    """Writes the format before PyTorch 1.6, in which MMPose publishes."""
    storages = Storages(legacy=True)
    stream = io.BytesIO()
    content = pickled(value, storages)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for header in (0x1950A86A20F9469CFC6C, 1001, system):
        stream.write(pickled(header, storages))
    stream.write(content + pickled(list(storages.arrays) if keys is None else keys, storages))
    for array in storages.arrays.values():
        stream.write(struct.pack("<q", array.size) + array.tobytes())
    path.write_bytes(stream.getvalue())
    return path


def _instructions(value, storages):
    def write(*values):
        return b"".join(_instructions(item, storages) for item in values)

    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int() if 0 <= value < 256:
            return b"K" + bytes([value])
        case int() if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        case int():
            size = value.bit_length() // 8 + 1
            return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + write(*value) + b"t"
        case list():
            return b"](" + write(*value) + b"e"
        case dict():
            return b"}(" + write(*(part for item in value.items() for part in item)) + b"u"
        case Raw():
            return value.instructions
        case Global():
            module, _, name = value.name.rpartition(".")
            return f"c{module}\n{name}\n".encode()
        case Call():
            return write(Global(value.name), value.arguments) + b"R"
        case Tensor():
            return _tensor(value, storages)
        case np.ndarray():
            return _tensor(Tensor(value), storages)
    raise TypeError(type(value))


def _tensor(tensor, storages):
    array = tensor.array
    key = next((key for key, known in storages.arrays.items() if known is array), str(len(storages.arrays)))
    storages.arrays[key] = array
    shape = array.shape if tensor.shape is None else tensor.shape
    strides = tuple(step // array.itemsize for step in array.strides) if tensor.strides is None else tensor.strides
    kind = Global(f"torch.{tensor.storage or STORAGES[array.dtype.name]}")
    count = array.size if tensor.count is None else tensor.count
    identifier = ("storage", kind, key, "cpu", count) + ((None,) if storages.legacy else ())
    storage = Raw(_instructions(identifier, storages) + b"Q")
    arguments = (storage, tensor.offset, shape, strides, False, Call("collections.OrderedDict"))
    return _instructions(Call("torch._utils._rebuild_tensor_v2", arguments), storages)
