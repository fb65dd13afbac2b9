"""float16 and bfloat16 in registers: bits as integers, widened to float32 and rounded from it on any target.

Rounding is to nearest, ties to even; NaN stays NaN. What float32 kernels flush to zero (its denormal numbers) is zero
here too; float16's own denormal numbers are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from juanji.codegen.lanes import Lanes

_SIGN, _LESS_SIGN, _INFINITE = 0x80000000, 0x7FFFFFFF, 0x7F800000


def widen(lanes: Lanes, dtype: str, a: str) -> str:
    """float32 from the bits of `dtype`."""
    i, f = "i32", "f32"
    bits = lanes.convert("zext", "i16", i, a)
    if dtype == "bf16":
        return lanes.convert("bitcast", i, f, lanes.op("shl", i, bits, lanes.const(i, 16)))
    sign = lanes.op("shl", i, lanes.op("and", i, bits, lanes.const(i, 0x8000)), lanes.const(i, 16))
    size = lanes.op("and", i, bits, lanes.const(i, 0x7FFF))
    shifted = lanes.op("shl", i, size, lanes.const(i, 13))
    normal = lanes.op("add", i, shifted, lanes.const(i, 112 << 23))
    # Infinity and NaN keep their meaning with the larger exponent; numbers below 2**-14 are counted in 2**-24.
    large = lanes.compare("uge", i, size, lanes.const(i, 0x7C00))
    normal = lanes.select(i, large, lanes.op("or", i, shifted, lanes.const(i, _INFINITE)), normal)
    counted = lanes.mul(f, lanes.convert("uitofp", i, f, size), lanes.const(f, 2.0**-24))
    small = lanes.compare("ult", i, size, lanes.const(i, 0x400))
    value = lanes.select(i, small, lanes.convert("bitcast", f, i, counted), normal)
    return lanes.convert("bitcast", i, f, lanes.op("or", i, value, sign))


def round_to(lanes: Lanes, dtype: str, a: str) -> str:
    """The bits of the nearest number of `dtype` to a float32."""
    i, f = "i32", "f32"
    bits = lanes.convert("bitcast", f, i, a)
    size = lanes.op("and", i, bits, lanes.const(i, _LESS_SIGN))
    nan = lanes.compare("ugt", i, size, lanes.const(i, _INFINITE))
    one = lanes.const(i, 1)
    if dtype == "bf16":
        odd = lanes.op("and", i, lanes.op("lshr", i, bits, lanes.const(i, 16)), one)
        rounded = lanes.op("add", i, lanes.op("add", i, bits, lanes.const(i, 0x7FFF)), odd)
        quiet = lanes.op("or", i, bits, lanes.const(i, 0x400000))
        high = lanes.op("lshr", i, lanes.select(i, nan, quiet, rounded), lanes.const(i, 16))
        return lanes.convert("trunc", i, "i16", high)
    odd = lanes.op("and", i, lanes.op("lshr", i, size, lanes.const(i, 13)), one)
    rounded = lanes.op("add", i, lanes.op("add", i, size, lanes.const(i, 0xFFF)), odd)
    normal = lanes.op("lshr", i, lanes.op("sub", i, rounded, lanes.const(i, 112 << 23)), lanes.const(i, 13))
    # Below 2**-14 the sum with 1/2 rounds to a multiple of 2**-24, which its low bits then count.
    half = lanes.add(f, lanes.convert("bitcast", i, f, size), lanes.const(f, 0.5))
    counted = lanes.op("sub", i, lanes.convert("bitcast", f, i, half), lanes.const(i, 0x3F000000))
    value = lanes.select(i, lanes.compare("ult", i, size, lanes.const(i, 0x38800000)), counted, normal)
    # From 65520 on the nearest is infinity.
    value = lanes.select(i, lanes.compare("uge", i, size, lanes.const(i, 0x477FF000)), lanes.const(i, 0x7C00), value)
    value = lanes.select(i, nan, lanes.const(i, 0x7E00), value)
    sign = lanes.op("and", i, lanes.op("lshr", i, bits, lanes.const(i, 16)), lanes.const(i, 0x8000))
    return lanes.convert("trunc", i, "i16", lanes.op("or", i, value, sign))
