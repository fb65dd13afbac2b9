"""Sine and cosine of vectors: reduced by three parts of pi / 2, in float64 for both formats."""

from __future__ import annotations

import math

from juanji.codegen.lanes import Lanes

#: Above this the C library computes the lane: counts of quarter turns would outgrow the parts of pi / 2.
LIMIT = 2.0**28
_PARTS = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
_SIN32 = (2.7183079140789706e-06, -0.00019839334462792325, 0.008333329384733325, -0.16666666641616554)
_COS32 = (2.44384371859201e-05, -0.0013887367415305759, 0.04166664686460284)
_SIN64 = (
    1.5896811764369938e-10,
    -2.505075838372787e-08,
    2.7557313693569383e-06,
    -0.00019841269829812383,
    0.008333333333322418,
    -0.16666666666666632,
)
_COS64 = (
    -1.1359658926525241e-11,
    2.0875723480702612e-09,
    -2.755731435380207e-07,
    2.480158728948706e-05,
    -0.0013888888888874131,
    0.0416666666666666,
)


def sine(lanes: Lanes, dtype: str, x: str, cosine: bool = False) -> str:
    """The sine or cosine of `x`, whatever its size."""
    wide = lanes.cast(dtype, "f64", x)
    y = _quadrant(lanes, wide, cosine, short=dtype == "f32")
    y = _beyond(lanes, wide, y, "cos" if cosine else "sin")
    if not cosine:
        y = lanes.select("f64", lanes.compare("oeq", "f64", wide, lanes.const("f64", 0)), wide, y)
    return lanes.cast("f64", dtype, y)


def _quadrant(lanes: Lanes, x: str, cosine: bool, short: bool) -> str:
    f = "f64"
    magic = lanes.const(f, 1.5 * 2.0**52)
    shifted = lanes.fma(f, x, lanes.const(f, 2 / math.pi), magic)
    n = lanes.sub(f, shifted, magic)
    minus = lanes.op("fneg", f, n)
    # The first difference is exact: both numbers are multiples of 2**-53 or so, and nearly equal.
    r = lanes.fused(minus, lanes.const(f, _PARTS[0]), x)
    if short:
        r, low = lanes.fma(f, minus, lanes.const(f, _PARTS[1]), r), None
    else:
        r, low = _minus_rest(lanes, r, minus)

    z = lanes.mul(f, r, r)
    one, half = lanes.const(f, 1), lanes.const(f, 0.5)
    cubic = lanes.mul(f, lanes.mul(f, z, r), lanes.polynomial(f, z, _SIN32 if short else _SIN64))
    quartic = lanes.mul(f, lanes.mul(f, z, z), lanes.polynomial(f, z, _COS32 if short else _COS64))
    drop = lanes.mul(f, z, half)
    near = lanes.sub(f, one, drop)
    if low is not None:
        # Derivatives carry the low part of r; the cosine also gets back what rounding took from 1 - z / 2.
        cubic = lanes.fma(f, low, near, cubic)
        lost = lanes.sub(f, lanes.sub(f, one, near), drop)
        quartic = lanes.sub(f, lanes.add(f, quartic, lost), lanes.mul(f, r, low))
    sin, cos = lanes.add(f, r, cubic), lanes.add(f, near, quartic)

    quadrant = lanes.to_bits(f, shifted)
    if cosine:
        quadrant = lanes.op("add", "i64", quadrant, lanes.const("i64", 1))
    odd = lanes.op("and", "i64", quadrant, lanes.const("i64", 1))
    y = lanes.select(f, lanes.compare("ne", "i64", odd, lanes.const("i64", 0)), cos, sin)
    sign = lanes.op("and", "i64", quadrant, lanes.const("i64", 2))
    sign = lanes.op("shl", "i64", sign, lanes.const("i64", 62))
    return lanes.from_bits(f, lanes.op("xor", "i64", lanes.to_bits(f, y), sign))


def _minus_rest(lanes: Lanes, r: str, minus: str) -> tuple[str, str]:
    """r + minus * (what is left of pi / 2), as a sum of two numbers."""
    f = "f64"
    part = lanes.const(f, _PARTS[1])
    product = lanes.mul(f, minus, part)
    high = lanes.add(f, r, product)
    added = lanes.sub(f, high, r)
    low = lanes.add(f, lanes.sub(f, r, lanes.sub(f, high, added)), lanes.sub(f, product, added))
    low = lanes.add(f, low, lanes.fused(minus, part, lanes.op("fneg", f, product)))
    return high, lanes.fma(f, minus, lanes.const(f, _PARTS[2]), low)


def _beyond(lanes: Lanes, x: str, y: str, function: str) -> str:
    """`y`, but the C library's value in the lanes where `x` is too large, which are rarely any."""
    b, width, vtype = lanes.builder, lanes.width, lanes.type("f64")
    large = lanes.compare("ogt", "f64", lanes.abs("f64", x), lanes.const("f64", LIMIT))
    if width > 1:
        flags = b.op(f"bitcast <{width} x i1> {large} to i{width}")
        anywhere = b.op(f"icmp ne i{width} {flags}, 0")
    else:
        anywhere = large
    b.declare(function, f"double @{function}(double)")
    arguments, results = b.stack(vtype), b.stack(vtype)
    before, rare, done = b.block, b.label("large"), b.label("trig")
    b.branch(anywhere, rare, done)
    b.start(rare)
    b.emit(f"store {vtype} {x}, ptr {arguments}")
    b.emit(f"store {vtype} {y}, ptr {results}")
    with b.loop(0, width) as loop:
        offset = b.mul(loop.index, 8)
        one = b.load("f64", 1, b.at(arguments, offset))
        b.store("f64", 1, b.op(f"call double @{function}(double {one})"), b.at(results, offset))
    exact = b.op(f"load {vtype}, ptr {results}")
    chosen = lanes.select("f64", large, exact, y)
    after = b.block
    b.jump(done)
    b.start(done)
    return b.op(f"phi {vtype} [ {y}, %{before} ], [ {chosen}, %{after} ]")
