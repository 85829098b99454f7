"""The package stays small: what comes has to take the place of something."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 9499


def test_lines_of_code():
    spec = importlib.util.spec_from_file_location("count_lines", ROOT / "benchmarks" / "count_lines.py")
    counting = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(counting)
    assert counting.code_lines('"""What it is."""\n\n# why\nx = [\n    1,\n]\n') == 3
    assert 5000 < sum(counting.count(folders=("keras_regpose",)).values()) <= LIMIT
