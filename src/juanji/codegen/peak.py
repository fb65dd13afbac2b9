"""The most arithmetic a core can do: independent multiply-adds on registers and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from juanji.codegen.builder import Builder, vector_type
from juanji.target import DTYPE_BYTES, Target


@dataclass(frozen=True)
class PeakSpec:
    """Chains of multiply-adds, as many side by side as half of the registers hold.

    Arguments of the kernel: where one vector is written in the end (so that nothing is left out), steps of a chunk.

    Args:
        dtype: of the numbers.

    Example:
        >>> from juanji import target
        >>> PeakSpec("f32").flops(target.current()) > 0
        True
    """

    dtype: str

    def flops(self, target: Target) -> int:
        """Floating point operations of one step."""
        return 2 * (target.registers // 2) * target.vector_bytes // DTYPE_BYTES[self.dtype]

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        b = Builder(name, target)
        width = target.vector_bytes // DTYPE_BYTES[self.dtype]
        vtype = vector_type(self.dtype, width)
        factor = b.load(self.dtype, width, b.arg_ptr(0))
        with b.loop("%begin", "%end") as chunk:
            carried = [(vtype, factor)] * (target.registers // 2)
            with b.loop(0, b.arg_int(1), carried=carried) as loop:
                loop.next([b.fma(self.dtype, width, value, factor, value) for value in loop.values])
            total = loop.results[0]
            for value in loop.results[1:]:
                total = b.fma(self.dtype, width, total, factor, value)
            with b.when(b.compare("slt", chunk.index, "%end")):
                b.store(self.dtype, width, total, b.at(b.arg_ptr(0), width * DTYPE_BYTES[self.dtype]))
        return b.text()
