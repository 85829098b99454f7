"""Reading of .pth files: PyTorch's own, and ones written here; what is read, what is held in memory, checksums."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch_files import Call, Raw, Tensor, write_legacy, write_zip

from keras_regpose.convert import CheckpointError, read_checkpoint, verify_checksum
from keras_regpose.convert.restricted_pickle import Stub

FILES = Path(__file__).parent / "files"
BASE = np.arange(24, dtype=np.float32) / 8
WRITERS = pytest.mark.parametrize("write", [write_zip, write_legacy])


@pytest.mark.parametrize("name", ["torch_2_13.pth", "torch_2_13_legacy.pth"])
def test_files_written_by_pytorch(name):
    checkpoint = read_checkpoint(FILES / name)
    expected = {
        "contiguous": BASE.reshape(2, 3, 4),
        "transposed": BASE.reshape(4, 6).T,
        "part": BASE.reshape(4, 6)[1:3, 2:5],
        "channels_last": BASE.reshape(1, 2, 3, 4),
        "half": BASE.astype(np.float16),
        "bfloat16": BASE,
        "double": BASE.astype(np.float64),
        "count": np.array(7),
        "mask": np.array([True, False, True]),
        "bytes": np.arange(5, dtype=np.uint8),
        "empty": np.zeros((0, 3), np.float32),
        "parameter": np.arange(6, dtype=np.float32).reshape(3, 2),
        "int32": np.arange(3, dtype=np.int32),
    }
    assert list(checkpoint) == ["state_dict", "optimizer", "meta"]
    assert list(checkpoint["state_dict"]) == list(expected)
    for key, array in expected.items():
        tensor = checkpoint["state_dict"][key]
        assert type(tensor) is np.ndarray and tensor.dtype == array.dtype, key
        np.testing.assert_array_equal(tensor, array, err_msg=key)
        assert not tensor.flags.writeable or tensor.size == 0

    first_moment = checkpoint["optimizer"]["state"][0]["exp_avg"]
    np.testing.assert_allclose(first_moment, np.full((3, 2), 0.1), rtol=1e-6)
    meta = checkpoint["meta"]
    assert meta["epoch"] == 210 and meta["seed"] is None and meta["cfg"] == "model = dict()\n"
    assert meta["time"] == (1.5, -3, 2**70)
    for name in ("scalar", "array", "namespace", "set", "class", "dtype", "log"):
        assert type(meta[name]) is Stub
    assert meta["log"].name == "mmengine.logging.history_buffer.HistoryBuffer"
    assert repr(meta["namespace"]) == "<'argparse.Namespace', not built>"


@WRITERS
def test_every_kind_of_number_and_container(write, tmp_path):
    values = np.array([0, 1, 2, 250], np.uint8)
    kinds = {kind: values.astype(kind) for kind in ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")}
    content = {
        "tensors": kinds,
        "bfloat16": Tensor(np.array([0x3F80, 0xC000, 0x7F80], np.uint16), storage="BFloat16Storage"),
        "list": [1, [2.5, None], (True, "é")],
        -5: {"nested": {}},
        "parameter": Call("torch._utils._rebuild_parameter", (np.float32([3]), True, Call("collections.OrderedDict"))),
        "ordered": Call("collections.OrderedDict", ([["a", 1], ["b", 2]],)),
        "state": Raw(b"}X\x01\x00\x00\x00aK\x01s}X\x01\x00\x00\x00bK\x02sb"),
    }
    read = read_checkpoint(write(tmp_path / "file.pth", content))
    for kind, array in kinds.items():
        assert read["tensors"][kind].dtype == kind
        np.testing.assert_array_equal(read["tensors"][kind], array)
    np.testing.assert_array_equal(read["bfloat16"], np.float32([1, -2, np.inf]))
    assert read["bfloat16"].dtype == np.float32
    assert read["list"] == [1, [2.5, None], (True, "é")]
    assert read[-5] == {"nested": {}}
    np.testing.assert_array_equal(read["parameter"], [3])
    assert read["ordered"] == {"a": 1, "b": 2}
    assert read["state"] == {"a": 1}


@WRITERS
def test_views_share_their_storage(write, tmp_path):
    base = np.arange(12, dtype=np.float32)
    content = {
        "rows": Tensor(base, 4, (2, 4), (4, 1)),
        "columns": Tensor(base, 1, (3, 2), (1, 6)),
        "single": Tensor(base, 11, (1, 1), (999, 10**9)),
        "none": Tensor(base, 12, (0, 5), (5, 1)),
    }
    read = read_checkpoint(write(tmp_path / "file.pth", content))
    np.testing.assert_array_equal(read["rows"], [[4, 5, 6, 7], [8, 9, 10, 11]])
    np.testing.assert_array_equal(read["columns"], [[1, 7], [2, 8], [3, 9]])
    np.testing.assert_array_equal(read["single"], [[11]])
    assert read["none"].shape == (0, 5)
    assert np.shares_memory(read["rows"], read["columns"])


def test_unusual_keys_become_stubs(tmp_path):
    # The keys (1, 2), 2**64, 1.5, the class a.B, "name"; and 3 … 7
    items = Raw(
        b"}(" + b"(K\x01K\x02tK\x03" + b"\x8b\x09\x00\x00\x00" + (2**64).to_bytes(9, "little") + b"K\x04"
        b"G?\xf8\x00\x00\x00\x00\x00\x00K\x05" + b"ca\nB\nK\x06" + b"X\x04\x00\x00\x00nameK\x07u"
    )  # fmt: skip
    read = read_checkpoint(write_zip(tmp_path / "file.pth", items))
    assert list(read.values()) == [3, 4, 5, 6, 7]
    assert [key if type(key) is str else key.name for key in read] == ["tuple", "int", "float", "a.B", "name"]


def test_only_what_is_used_is_held_in_memory(tmp_path):
    # The optimizer's 128 MB are never looked at.
    content = {"state_dict": {"weight": np.ones(1000, np.float32)}, "optimizer": np.zeros(2**25, np.float32)}
    paths = [str(write(tmp_path / f"{write.__name__}.pth", content)) for write in (write_zip, write_legacy)]
    script = """
import resource, sys
from keras_regpose.convert.pth import read_checkpoint
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    assert read_checkpoint(path)["state_dict"]["weight"].sum() == 1000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    process = subprocess.run([sys.executable, "-c", script, *paths], check=True, capture_output=True, text=True)
    assert int(process.stdout) < 20_000  # kilobytes


def test_the_checksum_in_the_name(tmp_path):
    content = write_zip(tmp_path / "file.pth", {"weight": np.ones(3, np.float32)}).read_bytes()
    digits = hashlib.sha256(content).hexdigest()[:8]
    for name in (f"resnet50-{digits}.pth", f"td-reg_res50-{digits}_20220913.pth"):
        shutil.copy(tmp_path / "file.pth", tmp_path / name)
        verify_checksum(tmp_path / name)
        (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(CheckpointError, match=f"begins with [0-9a-f]{{8}}, the name says {digits}"):
            verify_checksum(tmp_path / name)
    for name in ("epoch_210.pth", "best-model.pth", f"other-{digits}x.pth", "résumé-12345678 (1).pth"):
        shutil.copy(tmp_path / "file.pth", tmp_path / name)
        verify_checksum(tmp_path / name)


def test_paths_that_are_no_files(tmp_path):
    for function in (read_checkpoint, verify_checksum):
        for path in (tmp_path / "nowhere.pth", tmp_path):
            with pytest.raises(FileNotFoundError, match=f"There is no file {path}: check the path"):
                function(path)
