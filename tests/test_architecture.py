"""The house rules: imports run downward, PyTorch is never needed, and the public surface is what it says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import juanji as jj

PACKAGE = Path(jj.__file__).parent
#: From the ground up; a module may import from its own layer and those below. `codegen` and `runtime` are apart.
LAYERS = (
    {"errors", "version", "paths", "spec", "dtypes", "config", "random", "target", "graph", "gradmode"},
    {"codegen", "runtime"},
    {"ops"},
    {"compiler"},
    {"tape", "tensors"},
    {"autograd"},
    {"capture"},
    {"nn", "optim", "utils", "kernels", "formats", "metrics"},
    {"zoo", "data"},
    {"interop", "visual"},
    {"api"},
    {"train"},
    {"report"},
    {"tune"},
    {"cli"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
#: Pairs of one layer that must not know each other.
APART = {("codegen", "runtime"), ("runtime", "codegen"), ("nn", "optim"), ("data", "zoo")}
FILES = sorted(PACKAGE.rglob("*.py"))


def part(path):
    """The layer's name of a file: its folder in the package, or its own name."""
    inside = path.relative_to(PACKAGE).parts
    return inside[0].removesuffix(".py")


def imports(path):
    """(line, module, whether at module level) of every import that is not only for type checkers."""
    tree = ast.parse(path.read_text("utf-8"))
    hidden = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            hidden.update(id(inner) for statement in node.body for inner in ast.walk(statement))
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "juanji" else [node.module]
            for name in names:
                yield node.lineno, name, id(node) in top


def test_every_part_has_a_layer():
    assert {part(p) for p in FILES} - {"__init__"} == set(LEVEL)


def test_imports_run_downward():
    wrong = []
    for path in FILES:
        here = part(path)
        if here == "__init__":
            continue
        for line, name, _ in imports(path):
            pieces = name.split(".")
            if pieces[0] != "juanji":
                continue
            there = pieces[1] if len(pieces) > 1 else "api"
            there = there if there in LEVEL else "api"
            if LEVEL[there] > LEVEL[here] or (here, there) in APART:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line}: {here} imports {there}")
    assert not wrong


@pytest.mark.parametrize("package", ["torch", "jax", "tensorflow", "onnx"])
def test_other_frameworks_are_not_needed(package):
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in FILES
        for line, name, top in imports(path)
        if name.split(".")[0] == package and top
    ]
    assert not wrong


def test_files_are_short():
    lines = {str(p.relative_to(PACKAGE)): len(p.read_text("utf-8").splitlines()) for p in FILES}
    assert not {name: count for name, count in lines.items() if count > 650}


def test_public_names_exist_and_are_documented():
    for name in jj.__all__:
        value = getattr(jj, name)
        if callable(value):
            assert value.__doc__, f"jj.{name} has no docstring"
    assert set(jj.__all__) <= set(dir(jj))


def test_public_surface():
    """What the first articles use."""
    for name in (
        "tensor", "Tensor", "from_numpy", "zeros", "ones", "full", "arange", "rand", "randn", "stack", "cat", "where",
        "no_grad", "enable_grad", "manual_seed", "set_num_threads", "compile", "save", "load", "nn", "optim", "data",
        "zoo", "autograd", "float32", "float64", "int64", "bool", "matmul", "exp", "log", "maximum",
    ):  # fmt: skip
        assert hasattr(jj, name), name
    for name in (
        "Module", "Parameter", "Sequential", "Conv2d", "MaxPool2d", "AvgPool2d", "Linear", "ReLU", "Flatten", "Dropout",
        "CrossEntropyLoss", "functional", "init",
    ):  # fmt: skip
        assert hasattr(jj.nn, name), name
    for name in ("SGD", "Adam", "AdamW", "lr_scheduler"):
        assert hasattr(jj.optim, name), name
    for name in ("Dataset", "TensorDataset", "DataLoader", "transforms", "datasets"):
        assert hasattr(jj.data, name), name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = jj.nothing


def test_public_tensor_methods_are_documented():
    without = [
        name for name in dir(jj.Tensor) if not name.startswith("_") and callable(getattr(jj.Tensor, name))
        and not getattr(jj.Tensor, name).__doc__
    ]  # fmt: skip
    assert not without


def test_import_brings_no_framework():
    code = "import sys, juanji; juanji.tensor; print([m for m in ('torch', 'jax', 'tensorflow') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
