"""Reads PyTorch's checkpoint files (.pth) without PyTorch, and without trusting them.

Both formats of `torch.save` are read: the zip archive (PyTorch 1.6 and later) and the stream of pickles before it,
in which MMPose publishes its checkpoints to this day. Nothing in a file is ever executed (`restricted_pickle.py`).
"""

import io
import math
import mmap
import os
import re
import struct
import zipfile

import numpy as np

from keras_regpose.convert.restricted_pickle import CheckpointError, Stub, safe_key, shorten, unpickle
from keras_regpose.files import require_file, sha256

# Storage class of PyTorch: little-endian NumPy dtype. NumPy has no bfloat16: its bits are the upper half of a float32.
_NUMBERS = dict(Float="<f4", Double="<f8", Half="<f2", BFloat16="<u2", Long="<i8", Int="<i4", Short="<i2")
_NUMBERS |= dict(Char="i1", Byte="u1", Bool="u1")
_DTYPES = {f"torch.{name}Storage": dtype for name, dtype in _NUMBERS.items()}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_MAX_DIMENSIONS = 32


def read_checkpoint(path: str | os.PathLike):
    """Reads a file that `torch.save` wrote.

    Args:
        path: str or path of a .pth or .pt file.

    Returns:
        What was saved, usually a dict: tensors are NumPy arrays (bfloat16 as float32), containers are dicts, lists and
        tuples, every other object is a `Stub` that keeps its name alone. The arrays are read-only views of the file;
        no more of it is held in memory than is used.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If it is damaged, hostile, or not a file of `torch.save`.

    Example:

    >>> checkpoint = read_checkpoint("td-reg_res50_rle-8xb64-210e_coco-256x192-d37efd64_20220913.pth")  # doctest: +SKIP
    >>> checkpoint["state_dict"]["backbone.conv1.weight"].shape  # doctest: +SKIP
    (64, 3, 7, 7)
    """
    require_file(path)
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise CheckpointError("it is empty")
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            return _read_zip(file, content) if content[:4] == b"PK\x03\x04" else _read_legacy(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read as a PyTorch checkpoint: {error}") from None


def verify_checksum(path: str | os.PathLike) -> None:
    """Compares a checkpoint with the checksum in its name.

    The 8 hexadecimal digits in names such as `…-d37efd64_20220913.pth` or `resnet50-0676ba61.pth` are the first of the
    file's SHA-256. A name without them is not checked.

    Args:
        path: str or path.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file's content is not what its name says.
    """
    require_file(path)
    digits = re.search(r"-([0-9a-f]{8})(_\d{8})?\.(pth|pt)$", os.path.basename(path))
    if digits is None:
        return
    found = sha256(path)[:8]
    if found != digits[1]:
        what = f"its SHA-256 begins with {found}, the name says {digits[1]}"
        advice = "Download it again, or rename it if these digits are not a checksum"
        raise CheckpointError(f"{path} is damaged or not what its name says: {what}. {advice}")


def _read_zip(file, content):
    try:
        with zipfile.ZipFile(file) as archive:
            members = _checked_members(archive, len(content))
            descriptions = [name for name in members if re.fullmatch(r"[^/]+/data\.pkl", name)]
            if len(descriptions) != 1:
                raise CheckpointError(f"its archive holds {len(descriptions)} files NAME/data.pkl instead of one")
            root = descriptions[0].removesuffix("data.pkl")
            if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
                raise CheckpointError("it was written on a big-endian machine")
            pickled = archive.read(descriptions[0])
    except CheckpointError:
        raise
    except Exception as error:  # zipfile does not say what it raises for damaged archives
        raise CheckpointError(f"its archive is damaged or cut short ({error})") from None

    def storages_of(declared):
        for key, (kind, count) in declared.items():
            member = members.get(f"{root}data/{key}")
            if member is not None and member.file_size != count * np.dtype(_DTYPES[kind]).itemsize:
                raise CheckpointError(f"storage {shorten(key)} has {member.file_size} bytes, not {count} {kind} items")
            if member is not None:
                yield key, _storage(content, _data_offset(content, member), kind, count)

    return _rebuilt(io.BytesIO(pickled), storages_of)


def _checked_members(archive, file_size):
    """Returns the members of an archive by name, all checksums verified."""
    members = {}
    for member in archive.infolist():
        name = member.filename
        if name in members:
            raise CheckpointError(f"its archive holds {shorten(name)} twice")
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise CheckpointError(f"its file {shorten(name)} is compressed, which PyTorch never does")
        members[name] = member
    if sum(member.file_size for member in members.values()) > file_size:
        raise CheckpointError("its archive claims to hold more than the size of the file")
    if (damaged := archive.testzip()) is not None:
        raise CheckpointError(f"its file {shorten(damaged)} is damaged: its checksum does not match")
    return members


def _data_offset(content, member):
    """Position of a stored member's bytes: after its local header, its name and the padding PyTorch aligns with."""
    name_length, extra_length = struct.unpack_from("<HH", content, member.header_offset + 26)
    return member.header_offset + 30 + name_length + extra_length


def _read_legacy(content):
    try:
        magic = unpickle(content, {}, _no_storage)
    except CheckpointError:
        magic = None
    if magic != _LEGACY_MAGIC or type(magic) is not int:
        raise CheckpointError(f"it begins with {content[:16]!r}, neither a zip archive nor PyTorch's older format")
    version = unpickle(content, {}, _no_storage)
    if version != _LEGACY_VERSION:
        raise CheckpointError("it has an unknown version of PyTorch's older format")
    system = unpickle(content, {}, _no_storage)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise CheckpointError("it was not written on a little-endian machine")

    def storages_of(declared):
        # The numbers lie behind the pickle that refers to them.
        keys, position = unpickle(content, {}, _no_storage), content.tell()
        matching = type(keys) is list and all(type(key) is str and key in declared for key in keys)
        if not matching or len(set(keys)) < len(keys):
            raise CheckpointError("its list of storages does not match its tensors")
        for key in keys:
            kind, count = declared[key]
            end = position + 8 + count * np.dtype(_DTYPES[kind]).itemsize
            if end > len(content):
                raise CheckpointError("it is cut short")
            if struct.unpack_from("<q", content, position) != (count,):
                raise CheckpointError(f"storage {shorten(key)} does not have the declared {count} items")
            yield key, _storage(content, position + 8, kind, count)
            position = end
        if position != len(content):
            raise CheckpointError(f"{len(content) - position} bytes follow its last storage")

    return _rebuilt(content, storages_of)


def _rebuilt(stream, storages_of):
    """Reads a pickle once to find the storages that it refers to, and once more to use them."""
    beginning, declared = stream.tell(), {}

    def declare_storage(identifier):
        kind, key, count = _storage_identifier(identifier)
        if declared.setdefault(key, (kind, count)) != (kind, count):
            raise CheckpointError(f"it describes storage {shorten(key)} in two ways")
        return np.zeros(0, np.float32)

    unpickle(stream, {}, declare_storage)
    storages = dict(storages_of(declared))
    for key in declared.keys() - storages.keys():
        raise CheckpointError(f"the numbers of storage {shorten(key)} are not in it")
    stream.seek(beginning)
    return unpickle(stream, _REBUILD, lambda identifier: storages[_storage_identifier(identifier)[1]])


def _no_storage(identifier):
    raise CheckpointError("its header refers to tensors")


def _storage_identifier(identifier):
    """Returns storage class, key and item count of a persistent identifier of `torch.save`."""
    match identifier:
        case ("module", *_):
            raise CheckpointError("it holds a whole model with its code; save the model's state_dict() instead")
        case ("storage", Stub(name=kind), str(key), str(), int(count), *rest) if 0 <= count < 2**40 and not any(rest):
            pass
        case _:
            raise CheckpointError("it refers to its numbers in a way that PyTorch does not write")
    if kind not in _DTYPES:
        raise CheckpointError(f"it holds tensors of the unsupported kind {shorten(kind)}")
    return kind, key, count


def _storage(content, offset, kind, count):
    numbers = np.frombuffer(content, _DTYPES[kind], count, offset)
    if kind == "torch.BFloat16Storage":
        return (numbers.astype("<u4") << 16).view("<f4")
    return numbers != 0 if kind == "torch.BoolStorage" else numbers


def _rebuild_tensor(arguments):
    match arguments:
        case (np.ndarray(ndim=1) as storage, int(offset), tuple(shape), tuple(strides), *_):
            pass
        case _:
            raise CheckpointError("it describes a tensor in a way that PyTorch does not write")
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise CheckpointError("it holds a tensor whose shape and strides do not match")
    if not all(type(number) is int and 0 <= number < 2**60 for number in (offset, *shape, *strides)):
        raise CheckpointError("it holds a tensor with an impossible shape, offset or stride")
    if math.prod(shape) > storage.size:
        raise CheckpointError(f"it holds a tensor that claims more items than the {storage.size} of its storage")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    if offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) >= storage.size:
        raise CheckpointError(f"it holds a tensor that reaches beyond the {storage.size} items of its storage")
    # The stride of an axis of one item means nothing, and may be anything.
    steps = [storage.strides[0] * stride if size > 1 else 0 for size, stride in zip(shape, strides, strict=True)]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _rebuild_parameter(arguments):
    if not arguments or not isinstance(arguments[0], np.ndarray):
        raise CheckpointError("it describes a parameter in a way that PyTorch does not write")
    return arguments[0]


def _rebuild_dict(arguments):
    # Python 2 wrote the pairs of an OrderedDict here, Python 3 adds them later.
    pairs = arguments[0] if arguments and type(arguments[0]) is list else []
    return {safe_key(key): value for key, value in pairs}


_REBUILD = {
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "collections.OrderedDict": _rebuild_dict,
    "collections.defaultdict": _rebuild_dict,
}
