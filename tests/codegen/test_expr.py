import ctypes
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from juanji import target as targets
from juanji.codegen.builder import Builder
from juanji.codegen.expr import Emitter, expr_text, leaves
from juanji.codegen.lanes import Lanes, literal
from juanji.codegen.philox import rounds
from juanji.runtime import jit

DTYPES = {
    "f32": np.float32, "f64": np.float64, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "u8": np.uint8, "b1": np.bool_,
}  # fmt: skip
TARGETS = [targets._named(name) for name in targets.available()]
CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


@dataclass(frozen=True)
class Apply:
    """One vector of an expression: arguments are the input pointers, then the output pointer."""

    inputs: tuple
    expr: tuple
    width: int

    def generate(self, name, target):
        b = Builder(name, target)
        pointers = [b.arg_ptr(i) for i in range(len(self.inputs) + 1)]
        with b.loop("%begin", "%end") as loop:

            def load(i):
                size = np.dtype(DTYPES[self.inputs[i]]).itemsize
                at = b.at(pointers[i], b.mul(loop.index, size * self.width))
                return b.load(self.inputs[i], self.width, at)

            size = np.dtype(DTYPES[self.expr[1]]).itemsize
            value = Emitter(b, self.width, load).emit(self.expr)
            out = b.at(pointers[-1], b.mul(loop.index, size * self.width))
            b.store(self.expr[1], self.width, value, out)
        return b.text()


def apply(target, expr, *arrays, width=None):
    """`expr` of equally long arrays."""
    names = tuple(next(k for k, v in DTYPES.items() if a.dtype == v) for a in arrays)
    width = width or target.lanes("f32")
    count = arrays[0].size
    padded = -(-count // width) * width
    held = [np.concatenate([a, np.resize(a, padded - count)]) for a in arrays]
    out = np.zeros(padded, DTYPES[expr[1]])
    slots = (ctypes.c_int64 * (len(held) + 1))(*[a.ctypes.data for a in held], out.ctypes.data)
    CALL(jit.address(Apply(names, expr, width), target))(slots, 0, padded // width)
    return out[:count]


def x(dtype, i=0):
    return ("load", dtype, i)


@pytest.fixture(params=TARGETS, ids=lambda t: t.name)
def target(request):
    return request.param


SPECIAL = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 0.5, -0.5, 1.5, 2.5, -2.5, 7.25, -1e10]


def pairs(dtype):
    if dtype in ("f32", "f64"):
        values = np.array(SPECIAL, DTYPES[dtype])
    elif dtype == "b1":
        values = np.array([False, True])
    else:
        info = np.iinfo(DTYPES[dtype])
        values = np.array([info.min, info.max, 0, 1, 2, 3, 5, 7, 100, info.max - 1, info.min + 1], DTYPES[dtype])
        if info.min < 0:
            values = np.concatenate([values, np.array([-1, -2, -3, -7], DTYPES[dtype])])
    a, b = np.meshgrid(values, values)
    return a.ravel().copy(), b.ravel().copy()


COMPARE = {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
           "ne": np.not_equal}  # fmt: skip
ARITHMETIC = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum}
BITWISE = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary(target, dtype):
    a, b = pairs(dtype)
    with np.errstate(all="ignore"):
        for op, reference in COMPARE.items():
            np.testing.assert_array_equal(apply(target, (op, "b1", x(dtype), x(dtype, 1)), a, b), reference(a, b))
        for op, reference in ARITHMETIC.items():
            if dtype == "b1" and op == "sub":
                continue
            got = apply(target, (op, dtype, x(dtype), x(dtype, 1)), a, b)
            np.testing.assert_array_equal(got, reference(a, b))
        if dtype not in ("f32", "f64"):
            for op, reference in BITWISE.items():
                got = apply(target, (op, dtype, x(dtype), x(dtype, 1)), a, b)
                np.testing.assert_array_equal(got, reference(a, b))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_float_division(target, dtype):
    a, b = pairs(dtype)
    with np.errstate(all="ignore"):
        got = apply(target, ("div", dtype, x(dtype), x(dtype, 1)), a, b)
        np.testing.assert_array_equal(got, a / b)
        got = apply(target, ("truncdiv", dtype, x(dtype), x(dtype, 1)), a, b)
        np.testing.assert_array_equal(got, np.trunc(a / b))
        got = apply(target, ("rem", dtype, x(dtype), x(dtype, 1)), a, b)
        rest = np.fmod(a, b)  # torch.remainder: an infinite divisor of the other sign gives itself
        expected = np.where((rest != 0) & ((rest < 0) != (b < 0)), rest + b, rest)
        np.testing.assert_array_equal(got, expected)
        finite = np.isfinite(a) & np.isfinite(b) & (b != 0)
        got = apply(target, ("floordiv", dtype, x(dtype), x(dtype, 1)), a, b)
        np.testing.assert_array_equal(got[finite], np.floor_divide(a, b)[finite])
        assert np.isinf(got[(b == 0) & (np.abs(a) > 0)]).all()


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32", "i64", "u8"])
def test_integer_division_never_traps(target, dtype):
    a, b = pairs(dtype)
    with np.errstate(all="ignore"):
        for op, reference in (("floordiv", np.floor_divide), ("rem", np.remainder)):
            got = apply(target, (op, dtype, x(dtype), x(dtype, 1)), a, b)
            np.testing.assert_array_equal(got, reference(a, b))
            for c in (3, 7) if dtype == "u8" else (3, -7, -1):
                got = apply(target, (op, dtype, x(dtype), ("const", dtype, c)), a)
                np.testing.assert_array_equal(got, reference(a, np.array(c, a.dtype)))
        got = apply(target, ("truncdiv", dtype, x(dtype), x(dtype, 1)), a, b)
        floor, rest = np.floor_divide(a, b), np.remainder(a, b)
        expected = np.where((b != 0) & (rest != 0) & ((a < 0) != (b < 0)), floor + 1, floor)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["i8", "i32", "i64", "u8"])
def test_integer_power(target, dtype):
    a, n = pairs(dtype)
    n = np.where(n < 0, -n % 9, n).astype(a.dtype)
    n = np.where(n < 0, 0, n).astype(a.dtype)
    with np.errstate(all="ignore"):
        got = apply(target, ("pow", dtype, x(dtype), x(dtype, 1)), a, n)
        np.testing.assert_array_equal(got, np.power(a, n))
    if dtype != "u8":
        bases = np.array([1, -1, -1, 2, -3], a.dtype)
        exponents = np.array([-3, -3, -2, -1, -2], a.dtype)
        got = apply(target, ("pow", dtype, x(dtype), x(dtype, 1)), bases, exponents)
        np.testing.assert_array_equal(got, [1, -1, 1, 0, 0])


UNARY = {"neg": np.negative, "abs": np.abs, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc,
         "round": np.rint, "sqrt": np.sqrt, "reciprocal": lambda v: 1 / v, "rsqrt": lambda v: 1 / np.sqrt(v),
         "sign": lambda v: np.nan_to_num(np.sign(v))}  # fmt: skip


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("width", [1, 4, 16])
def test_unary_floats(target, dtype, width):
    values = np.array(SPECIAL, DTYPES[dtype])
    with np.errstate(all="ignore"):
        for op, reference in UNARY.items():
            got = apply(target, (op, dtype, x(dtype)), values, width=width)
            np.testing.assert_array_equal(got, reference(values).astype(values.dtype))
    np.testing.assert_array_equal(apply(target, ("isnan", "b1", x(dtype)), values), np.isnan(values))


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32", "i64", "u8", "b1"])
def test_unary_integers(target, dtype):
    values, _ = pairs(dtype)
    np.testing.assert_array_equal(apply(target, ("not", dtype, x(dtype)), values), ~values)
    if dtype == "b1":
        return
    with np.errstate(all="ignore"):
        for op, reference in (("neg", np.negative), ("abs", np.abs), ("sign", np.sign), ("floor", np.copy)):
            np.testing.assert_array_equal(apply(target, (op, dtype, x(dtype)), values), reference(values))


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("into", DTYPES)
def test_cast(target, source, into):
    values = np.array([0, 1, 2, 5, 100, 127, 0.5, 1.75, -1, -100, -3.9], np.float64)
    if source in ("u8", "b1") or into == "u8":
        values = np.abs(values)
    a = values.astype(DTYPES[source])
    np.testing.assert_array_equal(apply(target, ("cast", into, x(source)), a), a.astype(DTYPES[into]))
    if into == "b1" and source in ("f32", "f64"):
        assert apply(target, ("cast", "b1", x(source)), np.array([math.nan], a.dtype)).all()


def test_minimum_of_a_constant_keeps_nan(target):
    values = np.array([math.nan, -1, 2, -math.inf, math.inf], np.float32)
    for first in (True, False):
        operands = [x("f32"), ("const", "f32", 0.0)]
        got = apply(target, ("max", "f32", *(operands if first else operands[::-1])), values)
        np.testing.assert_array_equal(got, np.maximum(values, 0))


def test_select_and_fma(target):
    a, b = pairs("f32")
    expr = ("select", "f32", ("lt", "b1", x("f32"), x("f32", 1)), x("f32"), ("const", "f32", -math.inf))
    np.testing.assert_array_equal(apply(target, expr, a, b), np.where(a < b, a, -np.inf).astype(np.float32))
    a, b = (np.random.default_rng(i).random(50, np.float32) for i in (1, 2))
    got = apply(target, ("fma", "f32", x("f32"), x("f32", 1), x("f32")), a, b)
    once, twice = (a.astype(np.float64) * b + a).astype(np.float32), a * b + a
    np.testing.assert_array_equal(got, once if target.fma else twice)
    i, j = np.arange(20, dtype=np.int32), np.arange(20, 40, dtype=np.int32)
    np.testing.assert_array_equal(apply(target, ("fma", "i32", x("i32"), x("i32", 1), x("i32")), i, j), i * j + i)


def test_equal_subtrees_are_written_once(target):
    def square():
        return ("mul", "f32", ("load", "f32", 0), ("load", "f32", 0))

    loads = []
    b = Builder("k", target)
    emitter = Emitter(b, 8, lambda i: loads.append(i) or f"%x{i}")
    assert emitter.emit(square()) == emitter.emit(square())
    assert loads == [0]
    assert emitter.emit(("const", "f32", 0.0)) != emitter.emit(("const", "f32", -0.0))
    deep = ("load", "f32", 0)
    for _ in range(60):  # 2**60 nodes as a tree
        deep = ("add", "f32", deep, deep)
    emitter.emit(deep)
    assert len(list(leaves(deep))) == 1


def test_missing_leaves_and_unknown_operations_are_refused(target):
    emitter = Emitter(Builder("k", target), 8, lambda i: "%x")
    with pytest.raises(ValueError, match="'acc'"):
        emitter.emit(("acc", "f32"))
    with pytest.raises(ValueError, match="'gamma'"):
        emitter.emit(("gamma", "f32", x("f32")))
    with pytest.raises(ValueError, match="'exp'"):
        emitter.emit(("exp", "i32", x("i32")))


def test_text():
    expr = (
        "select",
        "f32",
        ("ge", "b1", x("f32"), ("const", "f32", 0.0)),
        ("exp", "f32", x("f32")),
        ("red", "f32", 1),
    )
    assert expr_text(expr) == "select(x0 >= 0, exp(x0), r1)"
    assert expr_text(("cast", "i64", ("mul", "f32", x("f32"), ("add", "f32", x("f32", 1), ("acc", "f32"))))) == (
        "i64(x0 * (x1 + acc))"
    )


def test_literals():
    assert literal("i8", 200) == "-56"
    assert literal("f32", math.nan) == literal("f64", math.nan)
    assert literal("f32", 1e300) == literal("f32", math.inf)


@dataclass(frozen=True)
class Rounds:
    """Philox of six given words (their high halves set, which must not matter), for the published answers."""

    def generate(self, name, target):
        b = Builder(name, target)
        lanes = Lanes(b, 1)
        source, out = b.arg_ptr(0), b.arg_ptr(1)
        given = [b.load("i64", 1, b.at(source, 8 * i)) for i in range(6)]
        for i, word in enumerate(rounds(lanes, tuple(given[:4]), tuple(given[4:]))):
            b.store("i64", 1, word, b.at(out, 8 * i))
        return b.text()


@pytest.mark.parametrize(
    ("given_words", "expected"),
    [
        ([0] * 6, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 6, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(target, given_words, expected):
    source, out = np.array(given_words, np.uint64) | 0xABCD << 32, np.zeros(4, np.uint64)
    slots = (ctypes.c_int64 * 2)(source.ctypes.data, out.ctypes.data)
    CALL(jit.address(Rounds(), target))(slots, 0, 1)
    np.testing.assert_array_equal(out, np.array(expected, np.uint64))


def philox_reference(counter, key):
    c, k = [counter & 0xFFFFFFFF, counter >> 32, 0, 0], [key & 0xFFFFFFFF, key >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & 0xFFFFFFFF, (p >> 32) ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
@settings(max_examples=20, deadline=None)
def test_philox_uniform(counter, key):
    first, second, _, _ = philox_reference(counter, key)
    counters, keys = np.array([counter]), np.array([key])
    for t in TARGETS:
        single = apply(t, ("philox", "f32", x("i64"), x("i64", 1)), counters, keys)
        assert single[0] == (first >> 8) * 2.0**-24
        double = apply(t, ("philox", "f64", x("i64"), x("i64", 1)), counters, keys)
        assert double[0] == ((first << 32 | second) >> 11) * 2.0**-53
