"""Files that want to run something, to crash the reader or to fill its memory: refused in one sentence, or inert."""

import os
import random
import resource
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from torch_files import Call, Global, Raw, Storages, Tensor, pickled, write_legacy, write_zip

from keras_regpose.convert import CheckpointError, read_checkpoint
from keras_regpose.convert.restricted_pickle import MAX_INSTRUCTIONS, Stub

FILES = Path(__file__).parent / "files"
ONES = np.ones(8, np.float32)
WRITERS = pytest.mark.parametrize("write", [write_zip, write_legacy])


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


@pytest.fixture
def alarm(monkeypatch):
    """Calls that a hostile file would make."""
    calls = []
    for module, name in (("os", "system"), ("os", "popen"), ("subprocess", "Popen"), ("builtins", "eval")):
        monkeypatch.setattr(f"{module}.{name}", lambda *arguments, **options: calls.append(arguments))
    return calls


EXECUTIONS = {
    "os.system": Call("os.system", ("echo",)),
    "posix.system": Call("posix.system", ("echo",)),
    "builtins.eval": Call("builtins.eval", ("1 / 0",)),
    "builtins.exec": Call("__builtin__.exec", ("raise SystemExit",)),
    "nested": [{"a": (Call("os.system", ("echo",)), [Call("subprocess.Popen", (["echo"],))])}],
    "in a call": Call("builtins.list", (Call("os.system", ("echo",)),)),
    "getattr": Call("builtins.getattr", (Global("os.path"), "join")),
    "dotted attribute": Raw(b"\x80\x04" + text("os") + text("path.join") + b"\x93)R"),
    "stack global": Raw(text("os") + text("system") + b"\x93" + text("echo") + b"\x85R"),
    "newobj": Raw(b"cos\nsystem\n" + text("echo") + b"\x85\x81"),
    "newobj_ex": Raw(b"cos\nsystem\n" + text("echo") + b"\x85}\x92"),
    "build of a rebuilder": Raw(b"ctorch._utils\n_rebuild_tensor_v2\nN}" + text("__code__") + b"Ns\x86b"),
    "build of a class": Raw(b"ccollections\nOrderedDict\n}" + text("__module__") + text("x") + b"sb"),
    "method of a stub": Raw(b"ca\nB\n)R(" + text("x") + b"e"),
    "our own names": Call("keras_regpose.convert.pth._rebuild_tensor", (1,)),
    "ndarray state": Raw(b"ctorch\nTensor\n)R(K\x01K\x02tb"),
    "set": Raw(b"\x80\x04\x8f(K\x01\x90"),
    "frozenset": Raw(b"(K\x01\x91"),
}


@WRITERS
@pytest.mark.parametrize("name", EXECUTIONS)
def test_nothing_is_executed(name, write, tmp_path, alarm):
    attack = EXECUTIONS[name]
    read = read_checkpoint(write(tmp_path / "file.pth", {"state_dict": {"weight": ONES}, "attack": attack}))
    assert alarm == []
    np.testing.assert_array_equal(read["state_dict"]["weight"], ONES)
    assert type(read["attack"]) in (Stub, list)
    # A file that was read before leaves nothing behind.
    np.testing.assert_array_equal(read_checkpoint(FILES / "torch_2_13.pth")["state_dict"]["count"], 7)


@WRITERS
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Raw(b"\x82\x01"), "EXT1, which PyTorch never writes"),
        (Raw(b"\x97"), "NEXT_BUFFER, which PyTorch never writes"),
        (Raw(b"(" + text("echo") + b"ios\nsystem\n"), "INST, which PyTorch never writes"),
        (Raw(b"(cos\nsystem\n" + text("echo") + b"o"), "OBJ, which PyTorch never writes"),
        (Raw(b"N2"), "DUP, which PyTorch never writes"),
        (Raw(b"(l"), "LIST, which PyTorch never writes"),
        (Raw(b"\xff"), "pickle is damaged"),
        (Raw(b"0" * 20), "POP, which PyTorch never writes"),
        (Raw(b"h\x05"), "pickle is damaged"),
        (Raw(b"p999999999999999999999\n"), "pickle is damaged"),
        (Raw(b"NN\x85\x85R"), "a call of something that is not a class"),
        (Raw(b"}(K\x01u"), "a key without a value"),
        (Raw(b"X\xff\xff\xff\x7fabc"), "pickle is damaged"),
        (Raw(b"\x8b\xff\xff\xff\x7fabc"), "pickle is damaged"),
        (Raw(b"I" + b"9" * 100_000 + b"\n"), "pickle is damaged"),
        (Raw(text("x") + b"Q"), "refers to its numbers in a way"),
        (Raw(b"(" + text("storage") + b"NNNNtQ"), "refers to its numbers in a way"),
        (Raw(b"(" + text("module") + b"NNNtQ"), "whole model with its code"),
        (Tensor(ONES, storage="ComplexFloatStorage"), "unsupported kind 'torch.ComplexFloatStorage'"),
        (Tensor(ONES, storage="load"), "unsupported kind 'torch.load'"),
        (Tensor(ONES, storage="DoubleStorage"), "storage|cut short"),
        (Tensor(ONES, count=9), "not 9|cut short"),
        (Tensor(ONES, count=-1), "in a way that PyTorch does not write"),
        (Tensor(ONES, count=2**62), "in a way that PyTorch does not write"),
        (Tensor(ONES, offset=1), "reaches beyond the 8 items"),
        (Tensor(ONES, offset=-1, shape=(2,)), "impossible shape, offset or stride"),
        (Tensor(ONES, offset=2**63), "impossible shape, offset or stride"),
        (Tensor(ONES, offset="0"), "describes a tensor in a way"),
        (Tensor(ONES, offset=None), "describes a tensor in a way"),
        (Tensor(ONES, shape=(9,)), "claims more items than the 8"),
        (Tensor(ONES, shape=(2**59,) * 8, strides=(0,) * 8), "claims more items than the 8"),
        (Tensor(ONES, shape=(100_000, 100_000), strides=(0, 0)), "claims more items than the 8"),
        (Tensor(ONES, shape=(2, 4), strides=(4, 2)), "reaches beyond the 8 items"),
        (Tensor(ONES, shape=(2,), strides=(2**59,)), "reaches beyond the 8 items"),
        (Tensor(ONES, shape=(2, 2), strides=(-1, 1)), "impossible shape, offset or stride"),
        (Tensor(ONES, shape=(2.0,)), "impossible shape, offset or stride"),
        (Tensor(ONES, shape=(True,)), "impossible shape, offset or stride"),
        (Tensor(ONES, shape=(2, 4), strides=(4,)), "shape and strides do not match"),
        (Tensor(ONES, shape=(1,) * 33, strides=(1,) * 33), "shape and strides do not match"),
        (Tensor(ONES, shape=(0, 2**59, 2**59), strides=(0, 0, 0)), "pickle is damaged"),
        (Call("torch._utils._rebuild_tensor_v2", (1, 2)), "describes a tensor in a way"),
        (Call("torch._utils._rebuild_parameter", ("a", True)), "describes a parameter in a way"),
        (Call("torch._utils._rebuild_parameter"), "describes a parameter in a way"),
        (Call("collections.OrderedDict", ([1, 2],)), "pickle is damaged"),
        (Raw(b"N" * MAX_INSTRUCTIONS), "more than 1,000,000 instructions"),
    ],
)  # fmt: skip
def test_what_pytorch_never_writes_is_refused_in_one_sentence(content, message, write, tmp_path):
    path = write(tmp_path / "file.pth", {"a": content})
    with pytest.raises(CheckpointError, match=message) as error:
        read_checkpoint(path)
    assert str(error.value).startswith(f"{path} cannot be read as a PyTorch checkpoint: ")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400 + len(str(path))


BOMBS = {
    "nested lists": b"]" * 250_000 + b"a" * 249_999,
    "nested tuples": b")" + b"\x85" * 450_000,
    "nested dicts": b"N}" * 200_000 + b"s" * 199_999,
    "nested tuples as a key": b"})" + b"\x85" * 500_000 + b"Ns",
    "nested calls": b"ca\nB\n" * 100_000 + b")R" + b"\x85R" * 99_999,
    "nested marks": b"(" * 450_000 + b"N",
    "a billion laughs": b"]q\x00" + b"".join(
        b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(200)
    ),
    "a list in itself": b"]q\x00h\x00a",
    "a far memo position": b"Nr\xff\xff\xff\x7f",
    "colliding keys": b"}(" + b"".join(b"\x8b\x0b\x00\x00\x00" + (i * (2**61 - 1)).to_bytes(11, "little") + b"N"
                                         for i in range(1, 100_000)) + b"u",
    "colliding memo": b"N" + b"".join(b"p%d\n" % (i * (2**61 - 1)) for i in range(1, 100_000)),
}  # fmt: skip


def test_bombs_do_not_go_off(tmp_path):
    for name, instructions in BOMBS.items():
        write_zip(tmp_path / f"{name}.pth", Raw(instructions))
    # In a process of its own: a crash of the interpreter would end the tests.
    script = """
import resource, sys, time
from keras_regpose.convert.pth import CheckpointError, read_checkpoint
for path in sys.argv[1:]:
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        content = read_checkpoint(path)
        del content
    except CheckpointError as error:
        pass
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    print(f"{path},{time.process_time() - start},{megabytes}", flush=True)
"""
    paths = [str(tmp_path / f"{name}.pth") for name in BOMBS]
    process = subprocess.run([sys.executable, "-c", script, *paths], stdout=subprocess.PIPE, text=True, timeout=120)
    assert process.returncode == 0, f"crashed after {process.stdout}"
    for line in process.stdout.splitlines():
        path, seconds, megabytes = line.split(",")
        assert float(seconds) < 10 and float(megabytes) < 300, path
    assert len(process.stdout.splitlines()) == len(BOMBS)


def test_many_views_of_a_converted_storage_share_it(tmp_path):
    halves = np.zeros(2**20, np.uint16)
    views = [Tensor(halves, storage="BFloat16Storage") for _ in range(200)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = read_checkpoint(write_zip(tmp_path / "file.pth", views))
    assert all(np.shares_memory(view, read[0]) for view in read)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_compressed_archives_are_refused(tmp_path):
    path = write_zip(tmp_path / "file.pth", {"a": ONES}, members=[("archive/data/1", bytes(10**6))])
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match="'archive/data.pkl' is compressed"):
        read_checkpoint(path)


def test_archives_of_another_content_are_refused(tmp_path):
    path = tmp_path / "file.pth"
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_zip(path, {"a": ONES}, members=[("archive/data/0", bytes(32))])
    with pytest.raises(CheckpointError, match="holds 'archive/data/0' twice"):
        read_checkpoint(path)
    write_zip(path, {"a": ONES}, members=[("other/data.pkl", b"N.")])
    with pytest.raises(CheckpointError, match="holds 2 files NAME/data.pkl"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    with pytest.raises(CheckpointError, match="holds 0 files NAME/data.pkl"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled({"a": ONES}, Storages()))
    with pytest.raises(CheckpointError, match="storage '0' are not in it"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"N.")
        archive.writestr("archive/byteorder", b"big")
    with pytest.raises(CheckpointError, match="big-endian"):
        read_checkpoint(path)


@pytest.mark.parametrize("position", ["data.pkl", "data/0"])
def test_a_flipped_bit_in_an_archive_is_found(position, tmp_path):
    path = write_zip(tmp_path / "file.pth", {"a": ONES})
    content = bytearray(path.read_bytes())
    found = content.index(ONES.tobytes()) if position == "data/0" else content.index(b"\x80\x02}")
    content[found + 1] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"'archive/{position}' is damaged: its checksum"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>Not found", "begins with b'<!DOCTYPE html>"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "neither a zip archive nor"),
        (b"PK\x03\x04", "archive is damaged or cut short"),
        (b"PK\x03\x04" + bytes(1000), "archive is damaged or cut short"),
        (pickled({"a": 1}, Storages()), "neither a zip archive nor"),
        (pickled(0x1950A86A20F9469CFC6C, Storages()) + pickled(1002, Storages()), "unknown version"),
        (pickled(0x1950A86A20F9469CFC6C, Storages()), "pickle is damaged"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    (tmp_path / "file.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "file.pth")


@pytest.mark.parametrize("keys", [[], ["1"], ["0", "0"], [0], None, "0", {"0": 1}])
def test_a_legacy_list_of_storages_must_match(keys, tmp_path):
    path = write_legacy(tmp_path / "file.pth", {"a": ONES}, keys=Raw(b"N") if keys is None else keys)
    with pytest.raises(CheckpointError, match="does not match its tensors|follow its last storage"):
        read_checkpoint(path)


def test_legacy_files_end_with_their_last_storage(tmp_path):
    path = write_legacy(tmp_path / "file.pth", {"a": ONES, "b": 2 * ONES})
    content = path.read_bytes()
    for cut in (1, 16, 40, 41, 80, 100, len(content) - 30):
        path.write_bytes(content[:-cut])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
    path.write_bytes(content + b"x")
    with pytest.raises(CheckpointError, match="1 bytes follow its last storage"):
        read_checkpoint(path)


def mutations(content, count, seed):
    """Bit flips, cuts, splices, overwritten lengths and repeated pieces, one to three at once."""
    generator = random.Random(seed)
    for _ in range(count):
        mutated = bytearray(content)
        for _ in range(generator.randint(1, 3)):
            if not mutated:
                break
            start, end = sorted(generator.choices(range(len(mutated)), k=2))
            match generator.randrange(6):
                case 0 | 1:
                    mutated[start] ^= 1 << generator.randrange(8)
                case 2:
                    mutated[start] = generator.choice(b"\x00\xff\x7f\x80(.0tRbQe")
                case 3:
                    mutated = mutated[:end]
                case 4:
                    mutated[start:end] = mutated[end : end + generator.randrange(20)]
                case 5:
                    mutated[start:start] = mutated[start : min(end, start + 40)]
        yield bytes(mutated)


CONTENT = {
    "state_dict": {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(3)},
    "optimizer": {"state": {0: {"step": 1.5}}, "object": Call("mmengine.Config", ("text",))},
    "attack": Call("os.system", ("echo",)),
}


def read_or_refuse(path, content):
    path.write_bytes(content)
    start = time.process_time()
    try:
        return read_checkpoint(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
        return None
    finally:
        assert time.process_time() - start < 2


def test_damaged_archives_give_the_right_numbers_or_none(tmp_path, alarm):
    path = tmp_path / "file.pth"
    content = write_zip(path, CONTENT).read_bytes()
    intact = 0
    for mutated in mutations(content, 3000, seed=0):
        read = read_or_refuse(path, mutated)
        if read is not None:
            intact += 1
            np.testing.assert_array_equal(read["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
            assert read["state_dict"]["count"] == 3 and read["optimizer"]["state"] == {0: {"step": 1.5}}
    assert alarm == [] and 0 < intact < 1000  # dates and other fields that no one reads


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # of pickletools, for text of protocol 0
@pytest.mark.parametrize(("write", "count"), [(write_zip, 1000), (write_legacy, 3000)])
def test_damaged_pickles_are_refused_or_inert(write, count, tmp_path, alarm):
    path = tmp_path / "file.pth"
    storages = Storages(legacy=write is write_legacy)
    content = pickled(CONTENT, storages)
    whole = write(path, CONTENT).read_bytes()
    read_count = 0
    for mutated in mutations(content[2:-1], count, seed=1):
        if write is write_zip:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", b"\x80\x02" + mutated + b".")
                for key, array in storages.arrays.items():
                    archive.writestr(f"archive/data/{key}", array.tobytes())
            read = read_or_refuse(path, path.read_bytes())
        else:
            read = read_or_refuse(path, whole.replace(content[2:-1], mutated))
        read_count += read is not None
    assert alarm == [] and 0 < read_count < count
    assert os.listdir(tmp_path) == ["file.pth"]


@WRITERS
def test_a_list_that_is_copied_again_and_again(write, tmp_path):
    pairs = b"](" + b"".join(b"(K\x01K\x02t" for _ in range(3000)) + b"e" + b"q\x63"
    again = b"(" + b"".join(b"ccollections\nOrderedDict\nh\x63\x85R" for _ in range(2000)) + b"l"
    path = write(tmp_path / "file.pth", {"state_dict": {"weight": ONES}, "again": [Raw(pairs), Raw(again)]})
    start = time.process_time()
    with pytest.raises(CheckpointError, match="its pickle copies more than 1,000,000 items"):
        read_checkpoint(path)
    assert time.process_time() - start < 3
