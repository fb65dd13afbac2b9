"""Random numbers without state: Philox-4x32-10 of a counter, the same for any vector width and chunking."""

from __future__ import annotations

from juanji.codegen.lanes import Lanes

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def words(lanes: Lanes, counter: str, key: str) -> tuple[str, str, str, str]:
    """The four 32-bit output words, as i64, for 64-bit counters and keys.

    The counter is the two low words of Philox's 128-bit counter (low half first), whose other words are zero;
    the key is low half first as well.
    """
    high = lanes.const("i64", 32)
    zero = lanes.const("i64", 0)
    c = (counter, lanes.op("lshr", "i64", counter, high), zero, zero)
    return rounds(lanes, c, (key, lanes.op("lshr", "i64", key, high)))


def rounds(lanes: Lanes, c: tuple[str, str, str, str], k: tuple[str, str]) -> tuple[str, str, str, str]:
    """Philox's ten rounds on i64 registers with a word in each low half; the high halves do not matter.

    Products are then whole registers and never have to be packed.
    """
    word, half = lanes.const("i64", 0xFFFFFFFF), lanes.const("i64", 32)
    for step in range(_ROUNDS):
        if step:
            k = (
                lanes.op("add", "i64", k[0], lanes.const("i64", _KEY_STEPS[0])),
                lanes.op("add", "i64", k[1], lanes.const("i64", _KEY_STEPS[1])),
            )
        first, second = (
            lanes.op("mul", "i64", lanes.op("and", "i64", value, word), lanes.const("i64", constant))
            for value, constant in zip((c[0], c[2]), _MULTIPLIERS, strict=True)
        )
        first_high, second_high = (lanes.op("lshr", "i64", product, half) for product in (first, second))
        c = (
            lanes.op("xor", "i64", lanes.op("xor", "i64", second_high, c[1]), k[0]),
            second,
            lanes.op("xor", "i64", lanes.op("xor", "i64", first_high, c[3]), k[1]),
            first,
        )
    w = [lanes.op("and", "i64", value, word) for value in c]
    return w[0], w[1], w[2], w[3]


def philox(lanes: Lanes, dtype: str, counter: str, key: str) -> str:
    """Uniform numbers in [0, 1).

    float32: the top 24 bits of the first output word, times 2**-24. float64: the first word above the second,
    the top 53 of their 64 bits, times 2**-53.
    """
    first, second, _, _ = words(lanes, counter, key)
    if dtype == "f32":
        top = lanes.convert("trunc", "i64", "i32", lanes.op("lshr", "i64", first, lanes.const("i64", 8)))
        return lanes.mul("f32", lanes.convert("sitofp", "i32", "f32", top), lanes.const("f32", 2.0**-24))
    both = lanes.op("or", "i64", lanes.op("shl", "i64", first, lanes.const("i64", 32)), second)
    top = lanes.op("lshr", "i64", both, lanes.const("i64", 11))
    return lanes.mul("f64", lanes.convert("sitofp", "i64", "f64", top), lanes.const("f64", 2.0**-53))
