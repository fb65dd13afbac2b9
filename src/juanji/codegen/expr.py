"""Elementwise expressions: nested tuples, and the emitter that writes one as vector instructions.

An expression is `(op, dtype, *operands)`; `dtype` is that of the result. Leaves are `("load", dtype, i)`,
`("const", dtype, value)`, `("acc", dtype)`, `("red", dtype, j)`, `("index", "i64")` and `("col", "i64")`.
Being tuples, expressions are hashable and are part of the specification a kernel is cached by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from juanji.codegen import vecmath
from juanji.codegen.builder import Builder
from juanji.codegen.lanes import FLOATS, UNSIGNED, Lanes
from juanji.codegen.philox import philox

Expr = tuple[Any, ...]

LEAVES = frozenset(("load", "const", "acc", "red", "index", "col"))
_FLOAT_ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_BOOL_ARITHMETIC = {"add": "or", "mul": "and", "sub": "xor"}
_FLOAT_ORDER = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "eq": "oeq", "ne": "une"}
_ROUNDING = {"floor": "llvm.floor", "ceil": "llvm.ceil", "trunc": "llvm.trunc", "round": "llvm.roundeven"}
_COMPARE = ("lt", "le", "gt", "ge", "eq", "ne")
_DIVISIONS = ("rem", "floordiv", "truncdiv")

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "rem": "%", "floordiv": "//"}
_INFIX |= {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_INFIX |= {"and": "&", "or": "|", "xor": "^"}


def expr_text(expr: Expr) -> str:
    """An expression as a person would write it.

    >>> expr_text(("max", "f32", ("add", "f32", ("load", "f32", 0), ("acc", "f32")), ("const", "f32", 0)))
    'max(x0 + acc, 0)'
    """
    return _text(expr, outer=True)


def _text(expr: Expr, outer: bool = False) -> str:
    op, dtype, *rest = expr
    if op == "load":
        return f"x{rest[0]}"
    if op == "const":
        return f"{rest[0]:g}" if isinstance(rest[0], float) else str(rest[0])
    if op == "red":
        return f"r{rest[0]}"
    if op in LEAVES:
        return str(op)
    if op in _INFIX:
        body = f" {_INFIX[op]} ".join(_text(operand) for operand in rest)
        return body if outer else f"({body})"
    inner = ", ".join(_text(operand, outer=True) for operand in rest)
    return f"{dtype}({inner})" if op == "cast" else f"{op}({inner})"


def leaves(expr: Expr) -> Iterator[Expr]:
    """Every distinct leaf of an expression, in the order of first use.

    >>> list(leaves(("mul", "f32", ("load", "f32", 1), ("load", "f32", 1))))
    [('load', 'f32', 1)]
    """
    seen: set[int] = set()
    found: dict[str, Expr] = {}

    def visit(node: Expr) -> None:
        if id(node) in seen:
            return
        seen.add(id(node))
        if node[0] in LEAVES:
            found.setdefault(repr(node), node)
        else:
            for operand in node[2:]:
                visit(operand)

    visit(expr)
    yield from found.values()


class Emitter:
    """Writes expressions at one position of a kernel; equal subexpressions are written once.

    Args:
        builder: where the instructions go.
        width: lanes of every register; 1 means scalars.
        load: gives the register of input operand `i` at this position. Called once for each operand used.
        acc: register of the accumulator, where an expression uses it.
        red: registers of reduction results, already as wide as `width`.
        index: register of `width` 64-bit linear output positions.
        col: register of `width` 64-bit positions along the innermost axis.

    What was emitted is only valid where the current block dominates: make a new emitter for each position.
    """

    def __init__(
        self,
        builder: Builder,
        width: int,
        load: Callable[[int], str],
        acc: str | None = None,
        red: Sequence[str] = (),
        index: str | None = None,
        col: str | None = None,
    ) -> None:
        self.builder = builder
        self.lanes = Lanes(builder, width)
        self._load = load
        self._given = {"acc": acc, "index": index, "col": col}
        self.red = list(red)
        # Values are numbered by their operands' registers, so the cost is linear even for shared subtrees.
        self._by_identity: dict[int, tuple[Expr, str]] = {}
        self._by_value: dict[tuple[str, ...], str] = {}

    def emit(self, expr: Expr) -> str:
        """The register holding `expr`.

        Raises:
            ValueError: an operation is unknown, or a leaf is not available at this position.
        """
        known = self._by_identity.get(id(expr))
        if known is not None:
            return known[1]
        op, dtype = expr[0], expr[1]
        if op in LEAVES:
            key = (op, dtype, repr(expr[2]) if len(expr) > 2 else "")
            value = self._by_value.get(key) or self._leaf(expr)
        else:
            operands = [self.emit(operand) for operand in expr[2:]]
            key = (op, dtype, expr[2][1], *operands)
            value = self._by_value.get(key) or self._operation(expr, operands)
        self._by_value[key] = value
        self._by_identity[id(expr)] = (expr, value)
        return value

    def _leaf(self, expr: Expr) -> str:
        op, dtype = expr[0], expr[1]
        if op == "load":
            return self._load(expr[2])
        if op == "const":
            return self.lanes.const(dtype, expr[2])
        if op == "red":
            return self.red[expr[2]]
        given: str | None = self._given[op]
        if given is None:
            raise ValueError(f"the expression uses {op!r}, which this kernel does not provide")
        return given

    def _operation(self, expr: Expr, v: list[str]) -> str:
        op, dtype, source = expr[0], expr[1], expr[2][1]
        lanes = self.lanes
        if op in _COMPARE:
            return lanes.compare(_predicate(op, source), source, v[0], v[1])
        if op == "select":
            return lanes.select(dtype, v[0], v[1], v[2])
        if op == "cast":
            return lanes.cast(source, dtype, v[0])
        if op == "isnan":
            return lanes.compare("uno", source, v[0], v[0]) if source in FLOATS else lanes.const("b1", False)
        if op == "philox":
            return philox(lanes, dtype, v[0], v[1])
        if op in ("and", "or", "xor"):
            return lanes.op(op, dtype, v[0], v[1])
        if op == "not":
            return lanes.op("xor", dtype, v[0], lanes.const(dtype, -1))
        if op in ("min", "max"):
            if _is_number(expr[2]):
                return lanes.minmax(op, dtype, v[0], v[1], a_is_number=True)
            return lanes.minmax(op, dtype, v[1], v[0], a_is_number=_is_number(expr[3]))
        return self._float(op, dtype, v) if dtype in FLOATS else self._integer(op, dtype, v, expr)

    def _float(self, op: str, dtype: str, v: list[str]) -> str:
        lanes = self.lanes
        if op in _FLOAT_ARITHMETIC:
            return lanes.op(_FLOAT_ARITHMETIC[op], dtype, v[0], v[1])
        if op == "fma":
            return lanes.fma(dtype, v[0], v[1], v[2])
        if op == "neg":
            return lanes.op("fneg", dtype, v[0])
        if op == "abs":
            return lanes.abs(dtype, v[0])
        if op in _ROUNDING:
            return lanes.call(_ROUNDING[op], dtype, v[0])
        if op == "sqrt":
            return lanes.call("llvm.sqrt", dtype, v[0])
        one, zero = lanes.const(dtype, 1), lanes.const(dtype, 0)
        if op == "reciprocal":
            return lanes.div(dtype, one, v[0])
        if op == "rsqrt":
            return lanes.div(dtype, one, lanes.call("llvm.sqrt", dtype, v[0]))
        if op == "sign":
            positive = lanes.select(dtype, lanes.compare("ogt", dtype, v[0], zero), one, zero)
            return lanes.select(dtype, lanes.compare("olt", dtype, v[0], zero), lanes.const(dtype, -1), positive)
        if op == "truncdiv":
            return lanes.call("llvm.trunc", dtype, lanes.div(dtype, v[0], v[1]))
        if op in ("rem", "floordiv"):
            return self._float_modulo(op, dtype, v[0], v[1])
        return vecmath.emit(lanes, op, dtype, v)

    def _float_modulo(self, op: str, dtype: str, a: str, b: str) -> str:
        """Exact remainder with the divisor's sign, and the floored quotient that goes with it."""
        lanes = self.lanes
        zero, one = lanes.const(dtype, 0), lanes.const(dtype, 1)
        rest = lanes.op("frem", dtype, a, b)
        signs = lanes.op("xor", "b1", lanes.compare("olt", dtype, rest, zero), lanes.compare("olt", dtype, b, zero))
        wrong = lanes.op("and", "b1", signs, lanes.compare("one", dtype, rest, zero))
        if op == "rem":
            return lanes.select(dtype, wrong, lanes.add(dtype, rest, b), rest)
        quotient = lanes.div(dtype, lanes.sub(dtype, a, rest), b)
        quotient = lanes.select(dtype, wrong, lanes.sub(dtype, quotient, one), quotient)
        # (a - rest) / b is a whole number up to its rounding: the nearest one is the floor.
        nearest = lanes.call("llvm.roundeven", dtype, quotient)
        division = lanes.div(dtype, a, b)
        return lanes.select(dtype, lanes.compare("oeq", dtype, b, zero), division, nearest)

    def _integer(self, op: str, dtype: str, v: list[str], expr: Expr) -> str:
        lanes = self.lanes
        if dtype == "b1" and op in _BOOL_ARITHMETIC:
            return lanes.op(_BOOL_ARITHMETIC[op], dtype, v[0], v[1])
        if op in ("add", "sub", "mul"):
            return lanes.op(op, dtype, v[0], v[1])
        if op == "fma":
            return lanes.op("add", dtype, lanes.op("mul", dtype, v[0], v[1]), v[2])
        zero, one = lanes.const(dtype, 0), lanes.const(dtype, 1)
        if op == "neg":
            return lanes.op("sub", dtype, zero, v[0])
        if op in _ROUNDING:
            return v[0]
        if op == "abs":
            return v[0] if dtype in UNSIGNED else lanes.call("llvm.abs", dtype, v[0], extra="i1 false")
        if op == "sign":
            if dtype in UNSIGNED:
                return lanes.minmax("min", dtype, v[0], one)
            return lanes.minmax("max", dtype, lanes.minmax("min", dtype, v[0], one), lanes.const(dtype, -1))
        if op in _DIVISIONS:
            return self._integer_division(op, dtype, v[0], v[1], expr[3])
        if op == "pow":
            return self._integer_power(dtype, v[0], v[1])
        raise ValueError(f"there is no operation {op!r} on {dtype}")

    def _integer_division(self, op: str, dtype: str, a: str, b: str, divisor: Expr) -> str:
        """Division that never traps: anything divided by zero is 0, with remainder 0."""
        lanes = self.lanes
        zero, one = lanes.const(dtype, 0), lanes.const(dtype, 1)
        if dtype in UNSIGNED:
            by_zero = lanes.compare("eq", dtype, b, zero)
            safe = lanes.select(dtype, by_zero, one, b)
            value = lanes.op("urem" if op == "rem" else "udiv", dtype, a, safe)
            return lanes.select(dtype, by_zero, zero, value)
        constant = divisor[0] == "const" and divisor[2] not in (0, -1)
        if constant:
            quotient = lanes.op("sdiv", dtype, a, b)
        else:
            # The smallest integer divided by -1 traps too, so -1 is done by negation.
            by_zero, by_minus = (lanes.compare("eq", dtype, b, c) for c in (zero, lanes.const(dtype, -1)))
            safe = lanes.select(dtype, lanes.op("or", "b1", by_zero, by_minus), one, b)
            quotient = lanes.op("sdiv", dtype, a, safe)
            quotient = lanes.select(dtype, by_minus, lanes.op("sub", dtype, zero, a), quotient)
            quotient = lanes.select(dtype, by_zero, zero, quotient)
        if op == "truncdiv":
            return quotient
        rest = lanes.op("sub", dtype, a, lanes.op("mul", dtype, quotient, b))
        signs = lanes.compare("slt", dtype, lanes.op("xor", dtype, rest, b), zero)
        wrong = lanes.op("and", "b1", signs, lanes.compare("ne", dtype, rest, zero))
        if not constant:
            wrong = lanes.select("b1", by_zero, lanes.const("b1", False), wrong)
            rest = lanes.select(dtype, by_zero, zero, rest)
        if op == "rem":
            return lanes.select(dtype, wrong, lanes.op("add", dtype, rest, b), rest)
        return lanes.select(dtype, wrong, lanes.op("sub", dtype, quotient, one), quotient)

    def _integer_power(self, dtype: str, a: str, n: str) -> str:
        """By squaring. A negative exponent gives the whole part of the fraction: 0 but for bases 1 and -1."""
        lanes, b = self.lanes, self.builder
        zero, one, minus = (lanes.const(dtype, c) for c in (0, 1, -1))
        bits = {"u8": 8, "b1": 1, "i8": 7, "i16": 15, "i32": 31, "i64": 63}[dtype]
        vtype = lanes.type(dtype)
        with b.loop(0, bits, carried=((vtype, one), (vtype, a), (vtype, n))) as loop:
            result, square, left = loop.values
            odd = lanes.compare("ne", dtype, lanes.op("and", dtype, left, one), zero)
            product = lanes.op("mul", dtype, result, square)
            loop.next(
                (
                    lanes.select(dtype, odd, product, result),
                    lanes.op("mul", dtype, square, square),
                    lanes.op("lshr", dtype, left, one) if bits > 1 else left,
                )
            )
        if dtype in UNSIGNED:
            return loop.results[0]
        odd = lanes.compare("ne", dtype, lanes.op("and", dtype, n, one), zero)
        inverse = lanes.select(dtype, lanes.compare("eq", dtype, a, one), one, zero)
        of_minus = lanes.select(dtype, odd, minus, one)
        inverse = lanes.select(dtype, lanes.compare("eq", dtype, a, minus), of_minus, inverse)
        return lanes.select(dtype, lanes.compare("slt", dtype, n, zero), inverse, loop.results[0])


def _predicate(op: str, dtype: str) -> str:
    if dtype in FLOATS:
        return _FLOAT_ORDER[op]
    return op if op in ("eq", "ne") else ("u" if dtype in UNSIGNED else "s") + op


def _is_number(expr: Expr) -> bool:
    return bool(expr[0] == "const" and not math.isnan(expr[2]))
