"""Packages that may be missing."""

import sys

import pytest

from keras_regpose.optional import import_optional


def test_what_is_there_and_what_is_missing(monkeypatch):
    assert import_optional("json.decoder", "This test").JSONDecoder
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"An ONNX export needs onnx: pip install 'keras-regpose\[export\]' \("):
        import_optional("onnx", "An ONNX export")
