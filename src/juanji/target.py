"""What a kernel generator knows of the processor: vector width, registers and the features LLVM may use."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass

import llvmlite.binding as llvm

#: Bytes of one element in memory. "b1" is a boolean: one byte 0 or 1 in memory, an i1 in a register.
DTYPE_BYTES = {"f32": 4, "f64": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "u8": 1, "b1": 1}
#: The LLVM scalar type of an element in a register.
LLVM_TYPE = {
    "f32": "float",
    "f64": "double",
    "i8": "i8",
    "i16": "i16",
    "i32": "i32",
    "i64": "i64",
    "u8": "i8",
    "b1": "i1",
}


@dataclass(frozen=True)
class Target:
    """A description from which all kernels are generated.

    Args:
        name: what `JUANJI_TARGET` selects it by.
        vector_bytes: width of one vector register.
        registers: number of vector registers.
        cpu: LLVM's processor name, used for scheduling.
        features: LLVM's full feature string.
        masks: true where masked loads and stores are single instructions.
    """

    name: str
    vector_bytes: int
    registers: int
    cpu: str
    features: str
    masks: bool

    def lanes(self, dtype: str) -> int:
        """Elements of `dtype` in one vector register."""
        return self.vector_bytes // DTYPE_BYTES[dtype]

    def tile(self, vectors: int, wanted: int = 14) -> int:
        """Rows of a register tile `vectors` wide: all accumulators, one row of B and one broadcast must fit.

        `vectors * (rows + 1) + 1 <= registers` never spilled in trials.
        """
        return max(1, min(wanted, (self.registers - 1) // vectors - 1))


def _features(wanted: dict[str, bool]) -> str:
    return ",".join(("+" if on else "-") + name for name, on in sorted(wanted.items()) if name)


@functools.lru_cache(maxsize=1)
def _host() -> tuple[str, dict[str, bool]]:
    return llvm.get_host_cpu_name(), dict(llvm.get_host_cpu_features())


#: Every instruction set a target needs, widest first.
_LEVELS = {
    "avx512": (("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"), 64, 32),
    "avx2": (("avx2", "fma"), 32, 16),
}


def available() -> list[str]:
    """Names of the targets this machine can run, widest first."""
    _, features = _host()
    return [name for name, (needs, _, _) in _LEVELS.items() if all(features.get(n) for n in needs)]


@functools.lru_cache(maxsize=8)
def _named(name: str) -> Target:
    cpu, features = _host()
    can = available()
    if name not in can:
        raise ValueError(f"JUANJI_TARGET is {name!r}, but this machine can run {can or 'none of the known targets'}")
    _, width, registers = _LEVELS[name]
    kept = dict(features)
    if name != "avx512":
        kept = {n: on and not n.startswith(("avx512", "evex512", "avx10")) for n, on in features.items()}
        cpu = "x86-64-v3"
    return Target(name, width, registers, cpu, _features(kept), masks=True)


def current() -> Target:
    """The target in use: `JUANJI_TARGET` where it is set, else the widest this machine can run.

    Raises:
        ValueError: the named target cannot run here.
    """
    return _chosen(os.environ.get("JUANJI_TARGET", ""))


@functools.lru_cache(maxsize=8)
def _chosen(name: str) -> Target:
    can = available()
    if not name and not can:
        raise ValueError("this processor has neither AVX2 with FMA nor AVX-512; Juanji's kernels need one of them")
    return _named(name or can[0])
