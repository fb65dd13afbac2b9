"""One kernel for several independent pieces of work of the same kind, such as the update of every parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from juanji.codegen.builder import Builder
from juanji.target import Target


@dataclass(frozen=True)
class ManySpec:
    """Calls the kernel of `inner` for each of several argument blocks.

    Arguments: the number of pieces, a pointer to rows of (address of a piece's arguments, its first chunk), the last
    row holding only the total number of chunks. Chunks of all pieces are numbered through.

    Args:
        inner: any kernel specification.
    """

    inner: Any

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel, with the inner kernel beside it."""
        piece = name + "_piece"
        b = Builder(name, target)
        count, rows = b.arg_int(0), b.arg_ptr(1)
        with b.loop(0, count) as loop:
            row = b.at(rows, b.mul(loop.index, 16))
            args = b.op(f"load ptr, ptr {row}, align 8", "p")
            first, following = b.load_int(row, 8), b.load_int(row, 24)
            low, high = b.max("%begin", first), b.min("%end", following)
            with b.when(b.compare("slt", low, high)):
                b.emit(f"call void @{piece}(ptr {args}, i64 {b.sub(low, first)}, i64 {b.sub(high, first)})")
        inner = self.inner.generate(piece, target).replace(f"define void @{piece}", f"define internal void @{piece}")
        declared = {line for line in inner.splitlines() if line.startswith("declare")}
        outer = [line for line in b.text().splitlines() if line not in declared]
        return "\n".join([inner, *outer, ""])
