"""Arithmetic on registers of one width: the vocabulary of expressions and vector mathematics."""

from __future__ import annotations

import math
import struct

import numpy as np

from juanji.codegen import half
from juanji.codegen.builder import Builder, vector_type
from juanji.dtypes import BY_SHORT, HALVES, encode
from juanji.target import LLVM_TYPE

#: The integer type with the bits of a floating point type.
BITS = {"f32": "i32", "f64": "i64"}
FLOATS = ("f32", "f64")
UNSIGNED = ("u8", "b1")


def literal(dtype: str, value: float | int | bool) -> str:
    """LLVM's text of a scalar constant: floats by their bits, integers wrapped to their width.

    >>> literal("f32", 0.1), literal("b1", 1), literal("u8", 255)
    ('0x3FB99999A0000000', 'true', '-1')
    """
    if dtype == "b1":
        return "true" if value else "false"
    if dtype in HALVES:
        bits = int(encode(np.float32(value), BY_SHORT[dtype]).view(np.uint16))
        return str(bits - (1 << 16) if bits >> 15 else bits)
    if dtype in FLOATS:
        number = float(value)
        if dtype == "f32" and math.isfinite(number):
            try:
                number = struct.unpack("<f", struct.pack("<f", number))[0]
            except OverflowError:
                number = math.copysign(math.inf, number)
        if math.isnan(number):
            return "0x7FF8000000000000"
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
    bits = int(LLVM_TYPE[dtype][1:])
    wrapped = int(value) & ((1 << bits) - 1)
    return str(wrapped - (1 << bits) if wrapped >> (bits - 1) else wrapped)


class Lanes:
    """Writes operations on vectors of `width` lanes (scalars for width 1) into a builder."""

    def __init__(self, builder: Builder, width: int) -> None:
        self.builder = builder
        self.width = width

    def type(self, dtype: str) -> str:
        """LLVM's type of a register."""
        return vector_type(dtype, self.width)

    def const(self, dtype: str, value: float | int | bool) -> str:
        """The constant in every lane, as an operand."""
        return self.builder.splat(dtype, self.width, literal(dtype, value))

    def op(self, opcode: str, dtype: str, *operands: str) -> str:
        """An instruction whose operands and result share one type: `op("fadd", "f32", a, b)`."""
        return self.builder.op(f"{opcode} {self.type(dtype)} {', '.join(operands)}")

    def call(self, intrinsic: str, dtype: str, *operands: str, extra: str = "") -> str:
        """An LLVM intrinsic overloaded on one type; `extra`: a last scalar argument such as `i1 false`."""
        scalar = {"float": "f32", "double": "f64"}.get(LLVM_TYPE[dtype], LLVM_TYPE[dtype])
        name = f"{intrinsic}.{scalar}" if self.width == 1 else f"{intrinsic}.v{self.width}{scalar}"
        vtype = self.type(dtype)
        types = [vtype] * len(operands) + ([extra.split()[0]] if extra else [])
        self.builder.declare(name, f"{vtype} @{name}({', '.join(types)})")
        values = [f"{vtype} {operand}" for operand in operands] + ([extra] if extra else [])
        return self.builder.op(f"call {vtype} @{name}({', '.join(values)})")

    def convert(self, opcode: str, source: str, dtype: str, value: str) -> str:
        """`sext`, `fptosi`, `bitcast`, ... of `value` from `source` to `dtype`."""
        return self.builder.op(f"{opcode} {self.type(source)} {value} to {self.type(dtype)}")

    def compare(self, predicate: str, dtype: str, a: str, b: str) -> str:
        """A b1 from LLVM's predicate: olt, uno, ... for floats, slt, ugt, ... for integers."""
        return self.op(f"{'fcmp' if dtype in FLOATS else 'icmp'} {predicate}", dtype, a, b)

    def select(self, dtype: str, condition: str, a: str, b: str) -> str:
        """`a` where `condition`, else `b`."""
        vtype = self.type(dtype)
        return self.builder.op(f"select {self.type('b1')} {condition}, {vtype} {a}, {vtype} {b}")

    def fma(self, dtype: str, a: str, b: str, c: str) -> str:
        """a * b + c, rounded once where the target can and else twice."""
        return self.builder.fma(dtype, self.width, a, b, c)

    def fused(self, a: str, b: str, c: str) -> str:
        """a * b + c in float64 as if rounded once, on every target: for where the product nearly cancels `c`.

        Without the instruction both the product and the sum are made exactly as two numbers (Dekker, Knuth), which
        leaves an error far below one unit in the last place. Factors beyond 2**996 then give NaN.
        """
        f = "f64"
        if self.builder.target.fma:
            return self.fma(f, a, b, c)

        def halves(x: str) -> tuple[str, str]:
            large = self.mul(f, x, self.const(f, 2.0**27 + 1))
            high = self.sub(f, large, self.sub(f, large, x))
            return high, self.sub(f, x, high)

        product = self.mul(f, a, b)
        (a_high, a_low), (b_high, b_low) = halves(a), halves(b)
        rest = self.sub(f, self.mul(f, a_high, b_high), product)
        rest = self.add(f, rest, self.mul(f, a_high, b_low))
        rest = self.add(f, rest, self.mul(f, a_low, b_high))
        rest = self.add(f, rest, self.mul(f, a_low, b_low))
        total = self.add(f, product, c)
        c_in = self.sub(f, total, product)
        lost = self.add(f, self.sub(f, product, self.sub(f, total, c_in)), self.sub(f, c, c_in))
        return self.add(f, total, self.add(f, lost, rest))

    # -- floats ---------------------------------------------------------------------------------------
    def add(self, dtype: str, a: str, b: str) -> str:
        """a + b."""
        return self.op("fadd", dtype, a, b)

    def sub(self, dtype: str, a: str, b: str) -> str:
        """a - b."""
        return self.op("fsub", dtype, a, b)

    def mul(self, dtype: str, a: str, b: str) -> str:
        """a * b."""
        return self.op("fmul", dtype, a, b)

    def div(self, dtype: str, a: str, b: str) -> str:
        """a / b."""
        return self.op("fdiv", dtype, a, b)

    def abs(self, dtype: str, a: str) -> str:
        """Without its sign."""
        return self.call("llvm.fabs", dtype, a)

    def copysign(self, dtype: str, magnitude: str, sign: str) -> str:
        """`magnitude` with the sign bit of `sign`."""
        return self.call("llvm.copysign", dtype, magnitude, sign)

    def to_bits(self, dtype: str, a: str) -> str:
        """The bits as an integer."""
        return self.convert("bitcast", dtype, BITS[dtype], a)

    def from_bits(self, dtype: str, a: str) -> str:
        """The float of `dtype` with these bits."""
        return self.convert("bitcast", BITS[dtype], dtype, a)

    def polynomial(self, dtype: str, x: str, coefficients: tuple[float, ...]) -> str:
        """Horner's rule by fused multiply-adds; the coefficient of the highest power comes first."""
        value = self.const(dtype, coefficients[0])
        for c in coefficients[1:]:
            value = self.fma(dtype, value, x, self.const(dtype, c))
        return value

    # -- any type -------------------------------------------------------------------------------------
    def minmax(self, kind: str, dtype: str, a: str, b: str, a_is_number: bool = False) -> str:
        """The smaller or larger of two; NaN where either is NaN.

        Args:
            kind: "min" or "max".
            a_is_number: `a` is known not to be NaN, which makes it one instruction.
        """
        if dtype == "b1":
            return self.op("or" if kind == "max" else "and", dtype, a, b)
        if dtype not in FLOATS:
            return self.call(f"llvm.{'u' if dtype in UNSIGNED else 's'}{kind}", dtype, a, b)
        # x86's own minimum and maximum give the second operand when either is NaN.
        value = self.select(dtype, self.compare("ogt" if kind == "max" else "olt", dtype, a, b), a, b)
        if a_is_number:
            return value
        return self.select(dtype, self.compare("uno", dtype, a, a), a, value)

    def cast(self, source: str, dtype: str, a: str) -> str:
        """Conversion between any two dtypes.

        Floats to integers truncate; outside the integer's range the result is unspecified. To b1: not equal
        to zero, so NaN is true.
        """
        if source == dtype:
            return a
        if source in HALVES:
            return self.cast("f32", dtype, half.widen(self, source, a))
        if dtype in HALVES:
            return half.round_to(self, dtype, self.cast(source, "f32", a))
        if dtype == "b1":
            return self.compare("une" if source in FLOATS else "ne", source, a, self.const(source, 0))
        if source in FLOATS:
            if dtype in FLOATS:
                return self.convert("fpext" if dtype == "f64" else "fptrunc", source, dtype, a)
            if dtype == "i64":
                return self.convert("fptosi", source, dtype, a)
            whole = self.convert("fptosi", source, "i32", a)
            return whole if dtype == "i32" else self.convert("trunc", "i32", dtype, whole)
        if dtype in FLOATS:
            return self.convert("uitofp" if source in UNSIGNED else "sitofp", source, dtype, a)
        before, after = (int(LLVM_TYPE[d][1:]) for d in (source, dtype))
        if before == after:
            return a
        if before > after:
            return self.convert("trunc", source, dtype, a)
        return self.convert("zext" if source in UNSIGNED else "sext", source, dtype, a)
