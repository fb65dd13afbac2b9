"""Powers of vectors with C's special cases: float32 through float64, float64 with its logarithm doubled."""

from __future__ import annotations

import math

from juanji.codegen.lanes import BITS, Lanes
from juanji.codegen.vecmath import clamp, exp_minus_one, power_of_two, reduce_exp, split_float

_LOG = (0.23582291921982304, 0.28537301573218105, 0.40000335293087574, 0.6666666564504353)
_EXP = (
    2.4882514106825613e-05,
    0.00019904959256968313,
    0.0013888809281397169,
    0.0083332889569051,
    0.04166666695526152,
    0.1666666675454235,
    0.499999999997361,
)
#: (log((1 + s) / (1 - s)) / s - 2 - 2/3 z) / z**2 in z = s**2.
_LOG_TAIL = (
    0.11989010039858124,
    0.11674818924575878,
    0.13336317396349315,
    0.1538455687163905,
    0.1818181887030466,
    0.22222222217536547,
    0.2857142857144511,
    0.3999999999999998,
)
_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
#: log(2) in two parts, the first with room for a product by any exponent.
_LN2 = (0.6931471805601177, -1.7239444525614835e-13)


def power(lanes: Lanes, dtype: str, x: str, y: str) -> str:
    """x to the power y."""
    if dtype == "f32":
        magnitude = lanes.cast("f64", "f32", _short(lanes, lanes.cast("f32", "f64", x), lanes.cast("f32", "f64", y)))
    else:
        magnitude = _long(lanes, x, y)
    return _signs(lanes, dtype, x, y, magnitude)


def _signs(lanes: Lanes, dtype: str, x: str, y: str, magnitude: str) -> str:
    """The sign of odd powers, NaN for fractional powers of negative numbers, and the powers that are 1."""
    integer = BITS[dtype]
    zero, one, infinity = (lanes.const(dtype, c) for c in (0.0, 1.0, math.inf))

    def whole(value: str) -> str:
        return lanes.compare("oeq", dtype, lanes.call("llvm.trunc", dtype, value), value)

    def both(a: str, b: str) -> str:
        return lanes.op("and", "b1", a, b)

    def negated(a: str) -> str:
        return lanes.op("xor", "b1", a, lanes.const("b1", True))

    is_whole = whole(y)
    odd = both(is_whole, negated(whole(lanes.mul(dtype, y, lanes.const(dtype, 0.5)))))
    negative = lanes.compare("slt", integer, lanes.to_bits(dtype, x), lanes.const(integer, 0))
    result = lanes.select(dtype, both(odd, negative), lanes.op("fneg", dtype, magnitude), magnitude)

    size, exponent = lanes.abs(dtype, x), lanes.abs(dtype, y)
    below = both(lanes.compare("olt", dtype, x, zero), lanes.compare("olt", dtype, size, infinity))
    undefined = both(below, negated(is_whole))
    result = lanes.select(dtype, undefined, lanes.const(dtype, math.nan), result)

    certain = lanes.op("or", "b1", lanes.compare("oeq", dtype, y, zero), lanes.compare("oeq", dtype, x, one))
    endless = both(lanes.compare("oeq", dtype, size, one), lanes.compare("oeq", dtype, exponent, infinity))
    return lanes.select(dtype, lanes.op("or", "b1", certain, endless), one, result)


def _short(lanes: Lanes, x: str, y: str) -> str:
    """|x| to the power y, good to some 2**-30."""
    f = "f64"
    size = lanes.abs(f, x)
    m, e, _ = split_float(lanes, f, size)
    one = lanes.const(f, 1)
    s = lanes.div(f, lanes.sub(f, m, one), lanes.add(f, m, one))
    z = lanes.mul(f, s, s)
    tail = lanes.fma(f, lanes.polynomial(f, z, _LOG), z, lanes.const(f, 2))
    log = lanes.fma(f, e, lanes.const(f, math.log(2)), lanes.mul(f, s, tail))
    p = clamp(lanes, f, lanes.mul(f, y, _log_limits(lanes, size, log)), -200.0, 200.0)
    bits, r = reduce_exp(lanes, f, p)
    exp = lanes.add(f, exp_minus_one(lanes, f, r, _EXP), one)
    return lanes.mul(f, exp, power_of_two(lanes, f, bits))


def _log_limits(lanes: Lanes, size: str, log: str) -> str:
    """The logarithm with its values at 0, infinity and NaN."""
    f = "f64"
    infinity = lanes.const(f, math.inf)
    log = lanes.select(f, lanes.compare("olt", f, size, infinity), log, size)
    small = lanes.compare("olt", f, size, lanes.const(f, 2.0**-1022))
    return lanes.select(f, small, lanes.const(f, -math.inf), log)


def _long(lanes: Lanes, x: str, y: str) -> str:
    """|x| to the power y in float64: the logarithm and its product with y are kept as sums of two numbers."""
    f = "f64"
    add, sub, mul, fma, fused = lanes.add, lanes.sub, lanes.mul, lanes.fma, lanes.fused
    one = lanes.const(f, 1)

    def product(a: str, a_low: str, b: str, b_low: str) -> tuple[str, str]:
        high = mul(f, a, b)
        low = fused(a, b, lanes.op("fneg", f, high))
        return high, fma(f, a, b_low, fma(f, a_low, b, low))

    size = lanes.abs(f, x)
    m, e, _ = split_float(lanes, f, size)
    t = add(f, m, one)
    t_low = sub(f, m, sub(f, t, one))
    inverse = lanes.div(f, one, t)
    top = sub(f, m, one)
    s = mul(f, top, inverse)
    minus = lanes.op("fneg", f, s)
    s_low = mul(f, fma(f, minus, t_low, fused(minus, t, top)), inverse)

    z, z_low = product(s, s_low, s, s_low)
    w = mul(f, z, lanes.polynomial(f, z, _LOG_TAIL))
    third, third_low = (lanes.const(f, c) for c in _TWO_THIRDS)
    c = add(f, third, w)
    c_low = add(f, add(f, sub(f, third, c), w), third_low)
    q, q_low = product(s, s_low, *product(z, z_low, c, c_low))
    twice = add(f, s, s)
    log = add(f, twice, q)
    log_low = add(f, add(f, sub(f, twice, log), q), add(f, q_low, add(f, s_low, s_low)))

    high, low = (mul(f, e, lanes.const(f, part)) for part in _LN2)
    total = add(f, high, log)
    total_low = add(f, add(f, sub(f, high, total), log), add(f, log_low, low))

    p = mul(f, y, _log_limits(lanes, size, total))
    p_low = fma(f, y, total_low, fused(y, total, lanes.op("fneg", f, p)))
    near = lanes.compare("olt", f, lanes.abs(f, p), lanes.const(f, 750.0))
    p_low = lanes.select(f, near, p_low, lanes.const(f, 0))
    bits, r = reduce_exp(lanes, f, clamp(lanes, f, p, -708.5, 710.0))
    exp = add(f, exp_minus_one(lanes, f, add(f, r, p_low)), one)
    # 2**n by a factor two nearer to 1, so that it is normal where the result is.
    positive = lanes.compare("ogt", f, p, lanes.const(f, 0))
    half, double = power_of_two(lanes, f, bits, -1), power_of_two(lanes, f, bits, 1)
    scaled = mul(f, exp, lanes.select(f, positive, half, double))
    value = mul(f, scaled, lanes.select(f, positive, lanes.const(f, 2), lanes.const(f, 0.5)))
    small = lanes.compare("olt", f, p, lanes.const(f, -708.5))
    return lanes.select(f, small, lanes.const(f, 0), value)
