"""What imports what: the parts of the package stand on floors and know only those below; the package stays light."""

import ast
import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import keras_regpose

PACKAGE = Path(keras_regpose.__file__).parent
HEAVY = "tensorflow keras cv2 keras_cv tensorflow_probability tf_keras pycocotools scipy matplotlib".split()

# The floors, the lowest first. A part is a file or a folder of the package; it imports parts of lower floors only.
FLOORS = [
    ("arrays", "files"),
    ("skeleton", "geometry", "codec", "images", "interrupt", "optional", "progress", "schedules"),
    ("zoo", "data", "losses", "models"),
    ("drawn", "recipe"),
    ("datasets", "inference"),
    ("evaluation", "export", "hub"),
    ("metrics", "runtimes"),
    ("regressor",),
    ("convert",),
    ("loading",),
    ("presets",),
    ("training",),
    ("inspection",),
    ("demo",),
    ("commands",),
    ("cli",),
]
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
# Where parts of the package may be imported inside of functions, apart from an `__init__` that forwards names: so that
# the command line starts quickly, and runtimes other than Keras do without it.
LATE_IMPORTS = ("cli", "commands", "presets")


def name_of(path, package):
    """Returns a file's name as a module, such as `data.coco`, and `data` for `data/__init__.py`."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def own_imports(tree, is_init):
    """Yields (module, name or None, whether it is late, line) of our own imports, without the package's name."""
    at_the_top = set(map(id, tree.body))
    for node in ast.walk(tree):
        late = id(node) not in at_the_top
        if isinstance(node, ast.ImportFrom) and node.level:
            yield "relative import", None, late, node.lineno
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "keras_regpose":
            for alias in node.names:
                if alias.name != "__version__":  # which imports nothing
                    yield node.module.partition(".")[2], alias.name, late, node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "keras_regpose":
                    yield alias.name.partition(".")[2] or "the whole package", None, late, node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            if "keras_regpose" in ast.unparse(node) and not is_init:
                yield "import_module", None, late, node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "forwarded":
            for name, target in eval(ast.unparse(node.args[1]), {}, assigned(tree)).items():
                yield (target or f"keras_regpose.{name}").partition(".")[2], name if target else None, True, node.lineno


def assigned(tree):
    """Returns what the top of a file assigns that is written out, such as `__all__`, by name."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call):
            found[node.targets[0].id] = ast.literal_eval(node.value) if "*" not in ast.unparse(node.value) else None
    return found


@functools.cache  # most of a package is the same after something was planted in one of its files
def parsed(text, is_init):
    """Returns a file's tree and its own imports."""
    tree = ast.parse(text)
    return tree, list(own_imports(tree, is_init))


def read(package):
    """Returns {module: (path, imports)}, the imports followed through the names that an `__init__` forwards."""
    files = {name_of(path, package): path for path in package.rglob("*.py")}
    trees = {module: parsed(path.read_text("utf-8"), path.stem == "__init__") for module, path in files.items()}
    forwards = {}
    for module, (_, imports) in trees.items():
        if files[module].stem == "__init__" or module == "metrics":
            for target, name, _, _ in imports:
                forwards[module, name] = f"{target}.{name}" if f"{target}.{name}" in trees else target
    assigned = (node for node in trees[""][0].body if isinstance(node, ast.Assign))
    public = next(node.value for node in assigned if node.targets[0].id == "_PUBLIC")
    for name, target in ast.literal_eval(public).items():
        forwards["", name] = target.partition(".")[2]

    def follow(module, name):
        if name is not None and f"{module}.{name}".lstrip(".") in trees:
            return f"{module}.{name}".lstrip(".")
        return follow(forwards[module, name], name) if (module, name) in forwards else module

    found = {}
    for module, (_, imports) in trees.items():
        found[module] = (files[module], [(follow(target, name), late, line) for target, name, late, line in imports])
    return found


def violations(package):
    """Returns a sentence for each import that does not go down."""
    found = []
    for module, (path, imports) in sorted(read(package).items()):
        part = module.split(".")[0]
        is_init = path.name == "__init__.py"
        if part == "":
            continue  # what it forwards counts for the floor of the file it comes from
        for target, late, line in imports:
            where = f"{path.relative_to(package)}:{line} imports {target}"
            other = target.split(".")[0]
            if other not in FLOOR_OF:
                found.append(f"{where}, which names no part of the package")
            elif late and is_init:
                continue  # forwarded
            elif other != part and FLOOR_OF[other] >= FLOOR_OF[part]:
                found.append(f"{where}, which is not on a lower floor")
            elif late and part not in LATE_IMPORTS:
                found.append(f"{where} inside of a function or a condition")
    return found


def circles(package):
    """Returns the files that reach themselves by imports, as sorted module names."""
    edges = {}
    for module, (path, imports) in read(package).items():
        is_init = path.name == "__init__.py"
        edges[module] = {target for target, late, _ in imports if not (is_init and late)}

    def reached(start):
        seen, waiting = set(), [start]
        while waiting:
            for target in edges.get(waiting.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
        return seen

    return sorted(module for module in edges if module in reached(module))


def test_every_part_has_a_floor():
    parts = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert parts - {"__init__"} == set(FLOOR_OF)


def test_imports_go_down():
    assert violations(PACKAGE) == []


def test_no_file_imports_itself_by_a_circle():
    assert circles(PACKAGE) == []


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    target = tmp_path_factory.mktemp("copy") / "keras_regpose"
    shutil.copytree(PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__", "*.h5", "rows"))
    return target


PLANTED = {
    "at the top": "from keras_regpose.{up} import anything\n",
    "inside of a function": "def _planted():\n    from keras_regpose.{up} import anything\n",
    "by a public name": "from keras_regpose import {public}\n",
    "by name": "import importlib\nimportlib.import_module('keras_regpose.{up}')\n",
    "as a whole": "import keras_regpose\n",
    "relatively": "from . import anything\n",
}


@pytest.mark.parametrize("way", PLANTED)
@pytest.mark.parametrize("part", [part for parts in FLOORS[:-1] for part in parts])
def test_an_upward_import_is_refused_in_every_part(part, way, copied):
    file = copied / f"{part}.py"
    file = file if file.is_file() else sorted(path for path in (copied / part).glob("*.py") if path.stem[0] != "_")[0]
    higher = FLOORS[FLOOR_OF[part] + 1][0]
    public = next(
        (name for name in ("train", "from_preset", "PoseRegressor") if FLOOR_OF[part] < _floor_of_public(name)), None
    )
    if public is None and way == "by a public name":
        pytest.skip("no public name comes from a higher floor")
    before = file.read_text("utf-8")
    try:
        file.write_text(before + "\n\n" + PLANTED[way].format(up=higher, public=public), "utf-8")
        found = violations(copied)
    finally:
        file.write_text(before, "utf-8")
    assert any(sentence.startswith(str(file.relative_to(copied))) for sentence in found)


def _floor_of_public(name):
    target = keras_regpose._PUBLIC.get(name)
    return -1 if target is None else FLOOR_OF[target.split(".")[1]]


def test_a_planted_circle_is_found(copied):
    file = copied / "data" / "sample.py"
    before = file.read_text("utf-8")
    try:
        file.write_text(before + "\n\nfrom keras_regpose.data.coco import Coco  # noqa\n", "utf-8")
        assert {"data.coco", "data.sample"} <= set(circles(copied))
    finally:
        file.write_text(before, "utf-8")


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_who_knows_heavy_packages(path):
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    relative = path.relative_to(PACKAGE).as_posix()
    assert not [name for name in names if name.startswith("keras.src")]
    if any(name.startswith("tensorflow_probability") for name in names):
        assert relative == "losses/flow.py"
    if any(name.split(".")[0] == "keras_cv" for name in names):
        assert relative == "models/keras_cv.py"


def loaded_after(script, names):
    check = f"import sys; {script}; print(*[name for name in {names!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    return result.stdout.split()


def test_importing_the_package_imports_nothing_heavy():
    assert loaded_after("import keras_regpose", HEAVY) == []


def test_reading_data_and_opening_exports_need_no_keras():
    script = "import keras_regpose as rp; rp.load_exported, rp.data.Coco, rp.data.Synthetic, rp.metrics.pck, rp.Poses"
    assert loaded_after(script, ["keras", "tensorflow"]) == []


def test_loading_and_predicting_need_neither_tfp_nor_keras_cv(tmp_path):
    model = keras_regpose.PoseRegressor("mobilenetv2_0.25", keras_regpose.COCO17, (64, 48))
    model.save_to_preset(tmp_path / "preset")
    script = (
        f"import numpy as np, keras_regpose as rp; model = rp.from_preset({str(tmp_path / 'preset')!r}); "
        "model.estimate(np.zeros((80, 60, 3), 'uint8'), 'image')"
    )
    assert loaded_after(script, ["tensorflow_probability", "tf_keras", "keras_cv"]) == []


def test_every_public_name_exists():
    for name in keras_regpose.__all__:
        assert getattr(keras_regpose, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'heatmaps'"):
        _ = keras_regpose.heatmaps
