"""The targets: which is chosen, that narrow ones use no instruction they lack, and that ARM's code assembles."""

import re
import struct

import llvmlite.binding as llvm
import numpy as np
import pytest

import juanji as jj
from juanji import target as targets
from juanji.codegen.contract import ContractSpec
from juanji.codegen.dot import DotSpec
from juanji.codegen.loops import LoopSpec
from juanji.codegen.many import ManySpec
from juanji.codegen.transpose import TransposeSpec
from juanji.codegen.window import WindowSpec
from juanji.runtime import jit

MODERN = {f: True for level in targets._LEVELS.values() for f in level.needs} | {"sse2": True, "avx": True}


def x(dtype, i=0):
    return ("load", dtype, i)


def loop(dtype, expr, rank=1, stride="unit", output=None):
    store = (("store", 0, expr),)
    return LoopSpec(rank, ((dtype, stride), (dtype, "unit")), ((output or dtype, "unit"),), store)


def specifications():
    """One of each kind of kernel in each float type, the mathematics among them."""
    for f in ("f32", "f64"):
        for op in ("exp", "log1p", "tanh", "erf", "sin", "floor", "round", "sqrt", "rsqrt", "sign"):
            yield loop(f, (op, f, x(f)))
        for op in ("pow", "max", "rem", "floordiv", "div"):
            yield loop(f, (op, f, x(f), x(f, 1)))
        yield loop(f, ("fma", f, x(f), x(f, 1), x(f)), 3, "any")
        yield loop(f, ("philox", f, ("index", "i64"), ("const", "i64", 7)))
        for kind in ("sum", "max", "argmax"):
            result = "i64" if kind == "argmax" else f
            stages = (("reduce", kind, x(f)), ("store_row", 0, ("red", result, 0)))
            for column, rank in ((False, 2), (True, 3)):
                yield LoopSpec(rank, ((f, "unit"),), ((result, "unit"),), stages, 1, column)
        relu = ("max", f, ("add", f, ("acc", f), x(f)), ("const", f, 0.0))
        yield ContractSpec(f, 2, 1, True, relu, ((f, "n"),))
        yield ContractSpec(f, 1, 1, False)
        yield ContractSpec(f, 1, steps=(3, 4, 64))
        yield DotSpec(f, relu, ((f, "n"),))
        for kind in ("max", "avg", "max_index", "gather", "max_grad", "index_grad", "avg_grad"):
            yield WindowSpec(kind, f, (2, 2), (2, 2))
        yield TransposeSpec(f, 3)
    for i in ("i8", "i16", "i32", "i64", "u8"):
        yield loop(i, ("floordiv", i, x(i), x(i, 1)))
        yield loop(i, ("cast", "f32", x(i)), output="f32")
        yield WindowSpec("max", i, (3, 2), (1, 1))
    yield loop("b1", ("and", "b1", x("b1"), x("b1", 1)), stride="any")
    yield TransposeSpec("u8", 2)
    yield ManySpec(loop("f32", ("add", "f32", x("f32"), x("f32", 1))))


def runs(name):
    if name not in targets.available():
        pytest.skip(f"this machine cannot run {name}")
    return targets._named(name)


# -- which target -----------------------------------------------------------------------------------------
@pytest.fixture
def host(monkeypatch):
    """Makes this machine another one."""

    def become(machine, cpu, *features):
        monkeypatch.setattr(targets.platform, "machine", lambda: machine)
        monkeypatch.setattr(targets, "_host", lambda: (cpu, dict.fromkeys(features, True)))
        monkeypatch.setattr(targets, "_current", None)
        targets._named.cache_clear()
        targets._chosen.cache_clear()

    yield become
    monkeypatch.undo()
    targets._named.cache_clear()
    targets._chosen.cache_clear()


def test_the_widest_comes_first_and_portable_last():
    can = targets.available()
    assert can == [name for name in (*targets._LEVELS, "portable") if name in can]
    assert can[-1] == "portable"


@pytest.mark.parametrize("name", ["avx512", "avx2", "sse42", "portable"])
def test_juanji_target_selects_one(name, use_target):
    runs(name)
    use_target(name)
    chosen = targets.current()
    assert chosen.name == name
    assert chosen.vector_bytes == {"avx512": 64, "avx2": 32, "sse42": 16, "portable": 16}[name]
    on = {f[1:] for f in chosen.features.split(",") if f.startswith("+")}
    if name != "avx512":
        assert not any(f.startswith(("avx512", "avx10")) for f in on)
    if chosen.vector_bytes == 16:
        assert not on & {"avx", "avx2", "fma", "f16c"}
        assert (chosen.lanes("f32"), chosen.lanes("f64")) == (4, 2)


def test_a_target_that_cannot_run_here(host, use_target):
    host("x86_64", "nehalem", "sse4.2", "sse4.1", "ssse3", "sse2")
    assert targets.available() == ["sse42", "portable"]
    use_target("avx2")
    with pytest.raises(ValueError, match="JUANJI_TARGET is 'avx2', but this machine can run"):
        targets.current()


@pytest.mark.parametrize(
    ("machine", "cpu", "features", "expected"),
    [
        ("x86_64", "generic", MODERN, "avx512"),
        ("AMD64", "x86-64", ("avx2", "fma", "sse4.2", "sse4.1", "ssse3"), "avx2"),
        ("x86_64", "generic", ("avx", "avx2", "sse4.2", "sse4.1", "ssse3"), "sse42"),
        ("x86_64", "", ("sse2",), "portable"),
        ("riscv64", "generic-rv64", (), "portable"),
    ],
)
def test_an_unknown_processor_is_said_once(host, monkeypatch, capsys, machine, cpu, features, expected):
    monkeypatch.delenv("JUANJI_TARGET", raising=False)
    host(machine, cpu, *features)
    for _ in range(3):
        assert targets.current().name == expected
    assert capsys.readouterr().err.count("does not know this processor") == 1


def test_a_known_processor_says_nothing(host, monkeypatch, capsys):
    monkeypatch.delenv("JUANJI_TARGET", raising=False)
    host("x86_64", "znver3", "avx2", "fma", "sse4.2", "sse4.1", "ssse3")
    assert targets.current().name == "avx2"
    host("arm64", "apple-m1", "neon")
    found = targets.current()
    assert (found.name, found.registers, found.fma, found.vector_bytes) == ("neon", 32, True, 16)
    assert capsys.readouterr().err == ""


# -- their code -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["sse42", "portable"])
def test_128_bit_kernels_keep_to_their_instructions(name):
    target = runs(name)
    for spec in specifications():
        text = re.sub(r"#.*", "", jit.assembly(spec, target))
        assert not re.search(r"%[yz]mm|^\s+v[a-z]", text, re.MULTILINE), spec
        assert not re.search(r"\b(call|jmp)\w*\s+fmaf?\b", text), f"an FMA of the C library: {spec}"


@pytest.fixture(scope="module")
def neon():
    target = targets.neon()
    try:
        jit._machine(target)
    except RuntimeError as error:
        pytest.skip(f"this llvmlite has no ARM: {error}")
    return target


def test_arm_kernels_assemble(neon):
    for spec in specifications():
        image = jit.object_code(spec.generate("kernel", neon), neon)
        assert image[:4] == b"\x7fELF"
        assert struct.unpack_from("<H", image, 18) == (183,), "AArch64"
        with llvm.ObjectFileRef.from_data(image) as code:
            assert any(s.is_text() and s.size() for s in code.sections())


def test_arm_contractions_stay_in_registers(neon):
    for f, arrangement in (("f32", "4s"), ("f64", "2d")):
        text = jit.assembly(ContractSpec(f, 4, 1), neon)
        assert re.search(rf"\bfmla\s+v\d+\.{arrangement}", text)
        bodies = re.findall(r"^(\.LBB\S+):((?:(?!^\.LBB).*\n)*?)\s+b\.?\w*\s+\1\n", text, re.MULTILINE)
        inner = [body for _, body in bodies if "fmla" in body]
        assert inner
        for body in inner:
            assert not re.search(r"\bq\d+, .*\[sp", body), body


# -- all of it together -----------------------------------------------------------------------------------
def trained():
    """Three steps of a small network: its losses and weights."""
    jj.manual_seed(3)
    model = jj.nn.Sequential(
        jj.nn.Conv2d(2, 5, 3, padding=1), jj.nn.ReLU(), jj.nn.MaxPool2d(2), jj.nn.Conv2d(5, 7, 3, stride=2),
        jj.nn.Tanh(), jj.nn.Flatten(), jj.nn.Linear(7 * 4, 3),
    )  # fmt: skip
    optimizer = jj.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    pictures, labels = jj.randn(5, 2, 10, 10), jj.tensor([0, 1, 2, 1, 0])

    def step(pictures, labels):
        optimizer.zero_grad()
        loss = jj.nn.functional.cross_entropy(model(pictures), labels)
        loss.backward()
        optimizer.step()
        return loss

    compiled = jj.compile(step)
    losses = [float(compiled(pictures, labels)) for _ in range(3)]
    return np.concatenate([losses, *(p.detach().numpy().ravel() for p in model.parameters())])


@pytest.mark.parametrize("name", ["avx2", "sse42", "portable"])
def test_targets_agree(name, use_target):
    runs(name)
    widest = trained()
    use_target(name)
    np.testing.assert_allclose(trained(), widest, rtol=2e-4, atol=2e-5)
