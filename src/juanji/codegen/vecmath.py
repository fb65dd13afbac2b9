"""Vector mathematics: exp, log, tanh, erf and the like for any vector width, in float32 and float64.

No tables and no calls: a range reduction and a polynomial, found with Remez's algorithm. `ULP` has the
largest errors, in units in the last place, that the tests allow over the whole range.

Kernels run with denormal numbers flushed to zero, and these functions do as much without that setting: an
argument below the smallest normal number may be taken for zero, and a result below it may be zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from juanji.codegen.lanes import BITS, Lanes

#: Largest error of each function, in units in the last place: (float32, float64).
ULP = {
    "exp": (1.5, 1.5),
    "log": (1.5, 1.5),
    "log1p": (2.0, 2.0),
    "expm1": (2.0, 2.0),
    "tanh": (3.0, 3.0),
    "sigmoid": (3.0, 3.0),
    "erf": (3.0, 3.0),
    "sin": (1.0, 1.0),
    "cos": (1.0, 1.0),
    "pow": (1.0, 2.0),
}


@dataclass(frozen=True)
class Format:
    """Constants of a floating point format."""

    mantissa: int
    bias: int
    #: Added to and subtracted from a number, rounds it to a whole one, which the low bits then hold.
    magic: float
    ln2_high: float
    ln2_low: float
    #: log(2) in two parts for targets without FMA: the product of the first and any exponent is exact.
    ln2_short: tuple[float, float]
    #: Arguments whose exponentials are normal numbers.
    least: float
    most: float
    smallest: float
    #: Bits of the square root of one half.
    half_root: int
    exp: tuple[float, ...]


FORMATS = {
    "f32": Format(
        mantissa=23,
        bias=127,
        magic=1.5 * 2.0**23,
        ln2_high=0.6931471824645996,
        ln2_low=-1.904654299957768e-09,
        ln2_short=(0.693359375, -0.00021219444005469057),
        least=-87.33654,
        most=88.72283172607422,
        smallest=2.0**-126,
        half_root=0x3F3504F3,
        exp=(
            0.0013946447288617492,
            0.008366583846509457,
            0.04166628047823906,
            0.1666654348373413,
            0.5,
        ),
    ),
    "f64": Format(
        mantissa=52,
        bias=1023,
        magic=1.5 * 2.0**52,
        ln2_high=0.6931471805599453,
        ln2_low=2.3190468138462996e-17,
        ln2_short=(0.6931471803691238, 1.9082149292705877e-10),
        least=-708.3964185322641,
        most=709.782712893384,
        smallest=2.0**-1022,
        half_root=0x3FE6A09E667F3BCD,
        exp=(
            2.0924445587369385e-09,
            2.5109044873039996e-08,
            2.755724275030741e-07,
            2.7557244181977957e-06,
            2.4801587360569485e-05,
            0.00019841269886158473,
            0.001388888888886683,
            0.008333333333321615,
            0.0416666666666667,
            0.16666666666666677,
            0.5,
        ),
    ),
}
_LOG32 = (
    0.06915328651666641,
    -0.11789645254611969,
    0.11872914433479309,
    -0.12384381145238876,
    0.1421867161989212,
    -0.16669248044490814,
    0.20002225041389465,
    -0.24999986588954926,
    0.3333331048488617,
)
_LOG64 = (
    0.14796106673548162,
    0.15314035708325566,
    0.1818356487163459,
    0.22222198563396345,
    0.2857142874247555,
    0.3999999999941432,
    0.6666666666666734,
)
#: erf(x) / x in x**2 up to 1, and log(erfc(t)) in t - shift up to the end.
_ERF = {
    "f32": (
        7.853862916817889e-05,
        -0.0008010194287635386,
        0.005188327748328447,
        -0.026853812858462334,
        0.1128358542919159,
        -0.3761262595653534,
        1.1283791065216064,
    ),
    "f64": (
        -4.222901590486084e-12,
        8.703793579035157e-11,
        -1.2163043072344134e-09,
        1.4792145963183549e-08,
        -1.6364614446557404e-07,
        1.6462043409840036e-06,
        -1.4925647465234085e-05,
        0.00012055332899362523,
        -0.0008548327021853323,
        0.005223977625422088,
        -0.026866170645129733,
        0.11283791670955119,
        -0.37612638903183754,
        1.1283791670955126,
    ),
}
_ERFC = {
    "f32": (
        -2.1697529518860392e-05,
        0.0004414716677274555,
        -0.0042052799835801125,
        0.02521032653748989,
        -0.10842207819223404,
        -0.6332164406776428,
        -1.1295802593231201,
        0.000188466117833741,
    ),
    "f64": (
        -1.7715090411371658e-13,
        3.824180648320095e-12,
        -3.7937173909681503e-11,
        2.2954158213963797e-10,
        -9.285373440070876e-10,
        2.373823631246172e-09,
        -1.097555543986807e-09,
        -2.784329119398993e-08,
        1.9259632639385153e-07,
        -8.187670463098574e-07,
        2.370842473499211e-06,
        -2.64683464592251e-06,
        -2.2473689048065692e-05,
        0.00021596330499745674,
        -0.001257216686687907,
        0.006006746386444026,
        -0.02582414063365168,
        -0.8926403306150369,
        -3.5088008017795276,
        -3.3844920895515527,
    ),
}
_ERFC_SHIFT = {"f32": 0.0, "f64": 1.5}
_ERFC_END = {"f32": 4.0, "f64": 6.0}


def emit(lanes: Lanes, op: str, dtype: str, v: list[str]) -> str:
    """Function `op` of the registers `v`.

    Raises:
        ValueError: there is no function of that name.
    """
    if op == "pow":
        from juanji.codegen import vecpow

        return vecpow.power(lanes, dtype, v[0], v[1])
    if op in ("sin", "cos"):
        from juanji.codegen import vectrig

        return vectrig.sine(lanes, dtype, v[0], cosine=op == "cos")
    function = _FUNCTIONS.get(op)
    if function is None:
        raise ValueError(f"there is no operation {op!r} on {dtype}")
    return function(lanes, dtype, v[0])


# -- exponentials -----------------------------------------------------------------------------------------
def reduce_exp(lanes: Lanes, dtype: str, x: str) -> tuple[str, str]:
    """x as n * log(2) + r, |r| <= log(2) / 2: integer bits whose low part is n, and r."""
    form = FORMATS[dtype]
    magic = lanes.const(dtype, form.magic)
    shifted = lanes.fma(dtype, x, lanes.const(dtype, math.log2(math.e)), magic)
    n = lanes.sub(dtype, shifted, magic)
    high, low = (form.ln2_high, form.ln2_low) if lanes.builder.target.fma else form.ln2_short
    r = lanes.fma(dtype, n, lanes.const(dtype, -high), x)
    r = lanes.fma(dtype, n, lanes.const(dtype, -low), r)
    return lanes.to_bits(dtype, shifted), r


def exp_minus_one(lanes: Lanes, dtype: str, r: str, coefficients: tuple[float, ...] | None = None) -> str:
    """e**r - 1 for a reduced r."""
    tail = lanes.polynomial(dtype, r, coefficients or FORMATS[dtype].exp)
    return lanes.fma(dtype, lanes.mul(dtype, r, r), tail, r)


def power_of_two(lanes: Lanes, dtype: str, bits: str, offset: int = 0) -> str:
    """2.0**(n + offset) for the bits of `reduce_exp`; the exponent must be that of a normal number."""
    form, integer = FORMATS[dtype], BITS[dtype]
    exponent = lanes.op("shl", integer, bits, lanes.const(integer, form.mantissa))
    one = lanes.const(integer, (form.bias + offset) << form.mantissa)
    return lanes.from_bits(dtype, lanes.op("add", integer, exponent, one))


def exp_inside(lanes: Lanes, dtype: str, x: str) -> str:
    """e**x where the result is known to be a normal number below half the largest, or x is NaN."""
    bits, r = reduce_exp(lanes, dtype, x)
    e = lanes.add(dtype, exp_minus_one(lanes, dtype, r), lanes.const(dtype, 1))
    return lanes.mul(dtype, e, power_of_two(lanes, dtype, bits))


def clamp(lanes: Lanes, dtype: str, x: str, low: float | None = None, high: float | None = None) -> str:
    """x within bounds; NaN stays."""
    if low is not None:
        x = lanes.minmax("max", dtype, lanes.const(dtype, low), x, a_is_number=True)
    if high is not None:
        x = lanes.minmax("min", dtype, lanes.const(dtype, high), x, a_is_number=True)
    return x


def _exp(lanes: Lanes, dtype: str, x: str) -> str:
    form, integer = FORMATS[dtype], BITS[dtype]
    bits, r = reduce_exp(lanes, dtype, x)
    e = lanes.add(dtype, exp_minus_one(lanes, dtype, r), lanes.const(dtype, 1))
    # Adding n to the exponent field reaches results near the largest number, whose 2**n would be infinite.
    exponent = lanes.op("shl", integer, bits, lanes.const(integer, form.mantissa))
    y = lanes.from_bits(dtype, lanes.op("add", integer, lanes.to_bits(dtype, e), exponent))
    over = lanes.compare("ogt", dtype, x, lanes.const(dtype, form.most))
    y = lanes.select(dtype, over, lanes.const(dtype, math.inf), y)
    under = lanes.compare("olt", dtype, x, lanes.const(dtype, form.least))
    y = lanes.select(dtype, under, lanes.const(dtype, 0), y)
    return lanes.select(dtype, lanes.compare("uno", dtype, x, x), x, y)


def _expm1(lanes: Lanes, dtype: str, x: str) -> str:
    form = FORMATS[dtype]
    inside = clamp(lanes, dtype, x, -20.0 if dtype == "f32" else -40.0, form.most + 0.1)
    bits, r = reduce_exp(lanes, dtype, inside)
    e = exp_minus_one(lanes, dtype, r)
    half = power_of_two(lanes, dtype, bits, -1)
    y = lanes.fma(dtype, half, e, lanes.sub(dtype, half, lanes.const(dtype, 0.5)))
    # Half of a very small result might be flushed to zero.
    small = lanes.compare("olt", dtype, lanes.abs(dtype, x), lanes.const(dtype, 2.0 ** -(form.mantissa + 2)))
    return lanes.select(dtype, small, x, lanes.add(dtype, y, y))


def _tanh(lanes: Lanes, dtype: str, x: str) -> str:
    """(e**2x - 1) / (e**2x + 1), the numerator without cancellation."""
    magnitude = lanes.abs(dtype, x)
    twice = lanes.add(dtype, magnitude, magnitude)
    bits, r = reduce_exp(lanes, dtype, clamp(lanes, dtype, twice, None, 20.0 if dtype == "f32" else 40.0))
    scale = power_of_two(lanes, dtype, bits)
    below = lanes.sub(dtype, scale, lanes.const(dtype, 1))
    t = lanes.fma(dtype, scale, exp_minus_one(lanes, dtype, r), below)
    y = lanes.div(dtype, t, lanes.add(dtype, t, lanes.const(dtype, 2)))
    return lanes.copysign(dtype, y, x)


def _sigmoid(lanes: Lanes, dtype: str, x: str) -> str:
    form, one = FORMATS[dtype], lanes.const(dtype, 1)
    inside = clamp(lanes, dtype, lanes.op("fneg", dtype, x), form.least, form.most - 0.4)
    y = lanes.div(dtype, one, lanes.add(dtype, exp_inside(lanes, dtype, inside), one))
    # At the clamp the true value is below the smallest normal number.
    small = lanes.compare("olt", dtype, y, lanes.const(dtype, form.smallest))
    return lanes.select(dtype, small, lanes.const(dtype, 0), y)


# -- logarithms -------------------------------------------------------------------------------------------
def split_float(lanes: Lanes, dtype: str, x: str) -> tuple[str, str, str]:
    """A positive normal number as m * 2**e, m from sqrt(1/2) to sqrt(2): m, e as a float, and 2.0**-e."""
    form, integer = FORMATS[dtype], BITS[dtype]
    one = form.bias << form.mantissa
    raised = lanes.op("add", integer, lanes.to_bits(dtype, x), lanes.const(integer, one - form.half_root))
    field = lanes.op("lshr", integer, raised, lanes.const(integer, form.mantissa))
    fraction = lanes.op("and", integer, raised, lanes.const(integer, (1 << form.mantissa) - 1))
    m = lanes.from_bits(dtype, lanes.op("add", integer, fraction, lanes.const(integer, form.half_root)))
    if dtype == "f32":
        e = lanes.convert("sitofp", integer, dtype, field)
        e = lanes.sub(dtype, e, lanes.const(dtype, form.bias))
    else:
        # AVX2 converts no 64-bit integers: put them into the low bits of 2**52 instead.
        base = lanes.op("or", integer, field, lanes.const(integer, (1023 + 52) << 52))
        e = lanes.sub(dtype, lanes.from_bits(dtype, base), lanes.const(dtype, 2.0**52 + form.bias))
    opposite = lanes.op("sub", integer, lanes.const(integer, 2 * form.bias), field)
    opposite = lanes.minmax("max", integer, opposite, lanes.const(integer, 0))
    inverse = lanes.from_bits(dtype, lanes.op("shl", integer, opposite, lanes.const(integer, form.mantissa)))
    return m, e, inverse


def _log_of(lanes: Lanes, dtype: str, e: str, f: str) -> str:
    """e * log(2) + log(1 + f)."""
    form = FORMATS[dtype]
    square = lanes.mul(dtype, f, f)
    high, low = lanes.const(dtype, form.ln2_high), lanes.const(dtype, form.ln2_low)
    if dtype == "f32":
        y = lanes.mul(dtype, lanes.mul(dtype, square, f), lanes.polynomial(dtype, f, _LOG32))
        y = lanes.fma(dtype, e, low, y)
        y = lanes.fma(dtype, square, lanes.const(dtype, -0.5), y)
        return lanes.fma(dtype, e, high, lanes.add(dtype, f, y))
    # log((1 + s) / (1 - s)) is odd in s, so half the terms do.
    s = lanes.div(dtype, f, lanes.add(dtype, f, lanes.const(dtype, 2)))
    z = lanes.mul(dtype, s, s)
    rest = lanes.mul(dtype, z, lanes.polynomial(dtype, z, _LOG64))
    half = lanes.mul(dtype, square, lanes.const(dtype, 0.5))
    y = lanes.fma(dtype, s, lanes.add(dtype, half, rest), lanes.mul(dtype, e, low))
    y = lanes.sub(dtype, f, lanes.sub(dtype, half, y))
    return lanes.fma(dtype, e, high, y)


def _log_ends(lanes: Lanes, dtype: str, y: str, x: str, at_zero: str) -> str:
    """`y`, but infinity and NaN of `x` as they are, minus infinity where `at_zero` is none, NaN below."""
    below = lanes.compare("olt", dtype, at_zero, lanes.const(dtype, 0))
    ends = lanes.select(dtype, below, lanes.const(dtype, math.nan), lanes.const(dtype, -math.inf))
    small = lanes.compare("olt", dtype, at_zero, lanes.const(dtype, FORMATS[dtype].smallest))
    y = lanes.select(dtype, small, ends, y)
    return lanes.select(dtype, lanes.compare("olt", dtype, x, lanes.const(dtype, math.inf)), y, x)


def _log(lanes: Lanes, dtype: str, x: str) -> str:
    m, e, _ = split_float(lanes, dtype, x)
    y = _log_of(lanes, dtype, e, lanes.sub(dtype, m, lanes.const(dtype, 1)))
    return _log_ends(lanes, dtype, y, x, x)


def _log1p(lanes: Lanes, dtype: str, x: str) -> str:
    one = lanes.const(dtype, 1)
    u = lanes.add(dtype, x, one)
    # What rounding took from 1 + x, exactly.
    x_in = lanes.sub(dtype, u, one)
    lost = lanes.add(dtype, lanes.sub(dtype, one, lanes.sub(dtype, u, x_in)), lanes.sub(dtype, x, x_in))
    m, e, inverse = split_float(lanes, dtype, u)
    f = lanes.fma(dtype, lost, inverse, lanes.sub(dtype, m, one))
    y = _log_ends(lanes, dtype, _log_of(lanes, dtype, e, f), x, u)
    return lanes.select(dtype, lanes.compare("oeq", dtype, x, lanes.const(dtype, 0)), x, y)


# -- the error function -----------------------------------------------------------------------------------
def _erf(lanes: Lanes, dtype: str, x: str) -> str:
    one = lanes.const(dtype, 1)
    small = lanes.mul(dtype, x, lanes.polynomial(dtype, lanes.mul(dtype, x, x), _ERF[dtype]))
    magnitude = lanes.abs(dtype, x)
    t = clamp(lanes, dtype, magnitude, None, _ERFC_END[dtype])
    if _ERFC_SHIFT[dtype]:
        t = lanes.sub(dtype, t, lanes.const(dtype, _ERFC_SHIFT[dtype]))
    rest = exp_inside(lanes, dtype, lanes.polynomial(dtype, t, _ERFC[dtype]))
    large = lanes.copysign(dtype, lanes.sub(dtype, one, rest), x)
    return lanes.select(dtype, lanes.compare("olt", dtype, magnitude, one), small, large)


_FUNCTIONS = {
    "exp": _exp,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "erf": _erf,
}
