"""What a kernel generator knows of the processor: vector width, registers and the features LLVM may use."""

from __future__ import annotations

import functools
import os
import platform
import sys
from dataclasses import dataclass

import llvmlite.binding as llvm

#: Bytes of one element in memory. "b1" is a boolean: one byte 0 or 1 in memory, an i1 in a register.
DTYPE_BYTES = {"f32": 4, "f64": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "u8": 1, "b1": 1, "f16": 2, "bf16": 2}
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
    "f16": "i16",  # bits: only casts look inside
    "bf16": "i16",
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
        masks: true where masked loads and stores are single instructions; elsewhere LLVM makes them of branches.
        fma: true where a fused multiply-add is one instruction. Elsewhere kernels round twice: the C library's exact
            `fma` would be a call for every element.
        triple: LLVM's name of the system, where it is not the one that this process runs on.
    """

    name: str
    vector_bytes: int
    registers: int
    cpu: str
    features: str
    masks: bool
    fma: bool = True
    triple: str = ""

    def lanes(self, dtype: str) -> int:
        """Elements of `dtype` in one vector register."""
        return self.vector_bytes // DTYPE_BYTES[dtype]

    def tile(self, vectors: int, wanted: int = 14) -> int:
        """Rows of a register tile `vectors` wide: all accumulators, one row of B and one broadcast must fit.

        `vectors * (rows + 1) + 1 <= registers` never spilled in trials.
        """
        return max(1, min(wanted, (self.registers - 1) // vectors - 1))


@dataclass(frozen=True)
class _Level:
    """A set of instructions that kernels are written for.

    Attributes:
        needs: LLVM's features, all of which the processor must have.
        without: features whose names begin so are not used, though the processor may have them.
        cpu: the processor that LLVM schedules for; "" is this one.
    """

    needs: tuple[str, ...]
    vector_bytes: int
    registers: int
    masks: bool = True
    fma: bool = True
    without: tuple[str, ...] = ()
    cpu: str = ""


_WIDE = ("avx512", "evex512", "avx10")
_VEX = ("avx", "evex", "fma", "f16c", "xop", "vaes", "vpclmul", "gfni", "sha512", "sm3", "sm4", "amx")
_X86 = ("x86_64", "amd64")
_ARM = ("aarch64", "arm64")
#: By name, the widest first. A level without needs can be run by every processor of its kind.
_LEVELS = {
    "avx512": _Level(("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"), 64, 32),
    "avx2": _Level(("avx2", "fma"), 32, 16, without=_WIDE, cpu="x86-64-v3"),
    "sse42": _Level(("sse4.2", "sse4.1", "ssse3"), 16, 16, masks=False, fma=False, without=_VEX, cpu="x86-64-v2"),
    "neon": _Level(("neon",), 16, 32, masks=False),
}
#: What every processor of a kind has, as LLVM's processor, features, registers and whether it has an FMA.
_BASELINE = {
    "x86": ("x86-64", "+cmov,+cx8,+fxsr,+mmx,+sse,+sse2,+x87", 16, False),
    "arm": ("generic", "+fp-armv8,+neon", 32, True),
    "other": ("generic", "", 16, False),
}
#: LLVM's names for a processor that it knows nothing more of.
_NAMELESS = ("", "generic", "x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")


def _features(wanted: dict[str, bool]) -> str:
    return ",".join(("+" if on else "-") + name for name, on in sorted(wanted.items()) if name)


def _kind() -> str:
    machine = platform.machine().lower()
    return "x86" if machine in _X86 else "arm" if machine in _ARM else "other"


@functools.lru_cache(maxsize=1)
def _host() -> tuple[str, dict[str, bool]]:
    try:
        cpu, features = llvm.get_host_cpu_name(), dict(llvm.get_host_cpu_features())
    except RuntimeError:  # LLVM can't ask this processor
        cpu, features = "generic", {}
    if _kind() == "arm":
        features.setdefault("neon", True)  # every 64-bit one has it
    return cpu, features


def available() -> list[str]:
    """Names of the targets this machine can run, widest first. The last, "portable", runs everywhere."""
    _, features = _host()
    return [name for name, level in _LEVELS.items() if all(features.get(n) for n in level.needs)] + ["portable"]


@functools.lru_cache(maxsize=8)
def _named(name: str) -> Target:
    cpu, features = _host()
    can = available()
    if name not in can:
        raise ValueError(f"JUANJI_TARGET is {name!r}, but this machine can run {can}")
    if name == "portable":
        return portable()
    level = _LEVELS[name]
    kept = {n: on and not (level.without and n.startswith(level.without)) for n, on in features.items()}
    return Target(name, level.vector_bytes, level.registers, level.cpu or cpu, _features(kept), level.masks, level.fma)


def portable(kind: str = "") -> Target:
    """The 128-bit target of what every 64-bit processor of a kind has.

    Args:
        kind: "x86", "arm" or "other"; this machine's where nothing is said.

    >>> portable("arm").lanes("f32")
    4
    """
    cpu, features, registers, fma = _BASELINE[kind or _kind()]
    return Target("portable", 16, registers, cpu, features, masks=False, fma=fma)


def neon(triple: str = "aarch64-unknown-linux-gnu") -> Target:
    """A 64-bit ARM target for writing kernels on other machines: LLVM assembles them there too.

    >>> neon().lanes("f64"), neon().fma
    (2, True)
    """
    cpu, features, registers, fma = _BASELINE["arm"]
    return Target("neon", 16, registers, cpu, features, masks=False, fma=fma, triple=triple)


#: What `current` found; None before it was asked. Tests set it to None after changing the environment.
_current: Target | None = None


def current() -> Target:
    """The target in use: `JUANJI_TARGET` where it is set, else the widest this machine can run.

    The environment is read once: every eager operation asks.

    Raises:
        ValueError: the named target cannot run here.
    """
    global _current
    if _current is None:
        _current = _chosen(os.environ.get("JUANJI_TARGET", ""))
    return _current


@functools.lru_cache(maxsize=8)
def _chosen(name: str) -> Target:
    if name:
        return _named(name)
    widest = available()[0]
    cpu, _ = _host()
    if cpu in _NAMELESS or widest == "portable":
        # Said once: this function is called once for each name.
        print(
            f"juanji: LLVM does not know this processor ({platform.machine()}, {cpu or 'no name'}); "
            f"kernels are written for {widest!r}, the widest instructions it is known to have",
            file=sys.stderr,
        )
    return _named(widest)
