"""Kernels that slide a window over channels-last images: pooling, its gradients, gathering by its indices.

Everything is vectorised over channels. A window that lies inside the image is unrolled without bounds tests;
at the borders the loops over taps are clipped to the taps that exist, so nothing is ever padded.
"""

from __future__ import annotations

from dataclasses import dataclass

from juanji.codegen.expr import Expr
from juanji.codegen.lanes import FLOATS
from juanji.codegen.window_base import LOWEST
from juanji.codegen.window_grad import Owned, Spread
from juanji.codegen.window_pool import Gather, Pool
from juanji.target import Target

#: kind: (dtypes of the inputs, dtype of the result), where "" is the dtype of the specification.
KINDS = {
    "max": (("",), ""),
    "avg": (("",), ""),
    "max_index": (("",), "i64"),
    "gather": (("", "i64"), ""),
    "max_grad": (("", ""), ""),
    "index_grad": (("", "i64"), ""),
    "avg_grad": (("",), ""),
}
_FLOAT_ONLY = ("max_grad", "index_grad", "avg_grad")


@dataclass(frozen=True)
class WindowSpec:
    """A window kernel over images stored as (image, row, column, channel), channels one element apart.

    Run-time arguments, one slot each: the first input, the second of the kinds that have two, the output, the
    extras, the sizes N, H, W, C, OH, OW, then byte strides (image, row, column) of the first input, of the
    second, of the output. H and W always belong to the larger, pooled image; OH and OW count the windows and
    are the caller's choice, so windows may overhang. A chunk is one image and one row: chunk = image *
    rows(H, OH) + row.

    The kinds, with x in (N, H, W, C), y and dy in (N, OH, OW, C):

    - max(x), avg(x): pooling. NaN wins. Integer averages truncate.
    - max_index(x): i64 position h * W + w in its image of each window's maximum: the first one, or the last
      NaN.
    - gather(v, index): v at those positions.
    - max_grad(dy, x): gradient of max pooling whose windows do not overlap, finding the maximum again from x.
    - index_grad(dy, index): gradient of max pooling from saved positions, for any overlap.
    - avg_grad(dy): gradient of average pooling.

    Rows are those of the output, except for gradients of windows that do not overlap (max_grad, and avg_grad
    where that is so): there a row is a row of windows, which owns the image rows up to the next one's (the
    last also owns what lies below). Every element of the output is written once, and the order of sums is
    fixed, so results do not depend on how chunks are divided.

    Args:
        kind: one of the above.
        dtype: of the values: "f32" or "f64"; "max", "avg", "max_index" and "gather" also take integers.
        kernel, stride, padding, dilation: (vertical, horizontal).
        count_include_pad: averages count the padding (but never what lies beyond it).
        divisor: divides averages in place of the count, if not 0.
        epilogue: what is stored, over ("acc", dtype) and ("load", dtype, i) of extras; None: the result.
        extras: (dtype, class) of the epilogue's operands: class "c" has the output's shape and strides (in
            elements), "n" is one value for each channel, "s" a scalar.

    Raises:
        ValueError: the kind is unknown or the geometry or dtype is not possible for it.

    >>> WindowSpec("max", "f32", (2, 2), (2, 2)).rows(26, 13)
    13
    """

    kind: str
    dtype: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    count_include_pad: bool = True
    divisor: int = 0
    epilogue: Expr | None = None
    extras: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"window kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.dtype not in LOWEST or (self.kind in _FLOAT_ONLY and self.dtype not in FLOATS):
            raise ValueError(f"window kind {self.kind!r} does not take dtype {self.dtype!r}")
        if min(*self.kernel, *self.stride, *self.dilation) < 1 or min(self.padding) < 0:
            raise ValueError("window kernel, stride and dilation must be at least 1 and padding at least 0")
        if self.kind == "max_grad" and not self.disjoint:
            raise ValueError("max_grad needs windows that do not overlap; use max_index and index_grad")

    def span(self, axis: int) -> int:
        """Distance from a window's first to its last tap."""
        return self.dilation[axis] * (self.kernel[axis] - 1)

    def rows(self, height: int, out_height: int) -> int:
        """Chunks in one image."""
        return height if self.by_image_rows else out_height

    @property
    def disjoint(self) -> bool:
        """Whether no two windows share a tap or lie between each other's taps."""
        return all(self.span(axis) < self.stride[axis] for axis in (0, 1))

    @property
    def by_image_rows(self) -> bool:
        """Whether chunks are rows of the image rather than rows of windows."""
        return self.kind == "index_grad" or (self.kind == "avg_grad" and not self.disjoint)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Dtypes of the inputs."""
        return tuple(dtype or self.dtype for dtype in KINDS[self.kind][0])

    @property
    def output(self) -> str:
        """Dtype of the output: the epilogue's where there is one."""
        return str(self.epilogue[1]) if self.epilogue is not None else KINDS[self.kind][1] or self.dtype

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        if self.kind == "gather":
            return Gather(self, name, target).write()
        if self.kind.endswith("grad"):
            return (Spread if self.by_image_rows else Owned)(self, name, target).write()
        return Pool(self, name, target).write()
