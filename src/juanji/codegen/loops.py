"""Elementwise and reduction kernels over strided loops, vectorised along the innermost axis.

One specification covers three shapes of work: *map* (every position by itself), *row* (the last axes are
reduced, then perhaps written over again, as softmax does) and *column* (the reduced axes lie outside an
innermost axis that is kept). Here are the specification, the walk over the outer axes and map; `reduce` has
the other two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from juanji.codegen.builder import Builder
from juanji.codegen.expr import LEAVES, Emitter, Expr, leaves
from juanji.codegen.lanes import Lanes
from juanji.target import DTYPE_BYTES, LLVM_TYPE, Target

Operand = tuple[str, str]
Stage = tuple[object, ...]

_HEAVY = {"exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sin", "cos", "pow"}
_HEAVY |= {"philox", "rem", "floordiv"}


@dataclass(frozen=True)
class LoopSpec:
    """A kernel over `rank` nested loops; axis `rank - 1` is the innermost.

    Arguments of the kernel: input pointers, output pointers, grain, the extent of each axis, then for each
    input and after them each output its byte stride along each axis. Chunk c does the positions from
    `c * grain` to `(c + 1) * grain` of axis 0.

    Args:
        rank: number of loop axes.
        inputs: (dtype, class) of each; the class says how it moves along the innermost axis: "unit", "zero",
            "any".
        outputs: the same.
        stages: `("store", output, expr)`, `("reduce", kind, expr)`, `("store_row", output, expr)`; see
            `reduce`.
        reduced: number of axes reduced; 0 for map.
        column: the reduced axes come before an innermost axis that is kept.
        streams: outputs of a map that are written past the caches where they begin at a line of memory, as all of
            their other positions along outer axes then do.

    Example:
        >>> x = ("load", "f32", 0)
        >>> square = ("store", 0, ("mul", "f32", x, x))
        >>> LoopSpec(1, (("f32", "unit"),), (("f32", "unit"),), (square,)).lanes_dtype()
        'f32'
    """

    rank: int
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    stages: tuple[Stage, ...]
    reduced: int = 0
    column: bool = False
    streams: tuple[int, ...] = ()

    def lanes_dtype(self) -> str:
        """The dtype whose vector width the kernel uses: float64's if all its data is 8 bytes wide."""
        wide = all(DTYPE_BYTES[dtype] == 8 for dtype, _ in self.inputs + self.outputs)
        return "f64" if wide else "f32"

    def exprs(self, *kinds: str) -> list[Expr]:
        """The expressions of all stages of these kinds."""
        return [stage[2] for stage in self.stages if stage[0] in kinds]  # type: ignore[misc]

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of the kernel."""
        from juanji.codegen import reduce

        builder = Builder(name, target)
        nest = Nest.of(builder, self, target.lanes(self.lanes_dtype()))
        if self.reduced == 0:
            _chunks(nest, self.rank, lambda inner: inner.store(self.stages, (), *inner.bounds))
            if self.streams:
                builder.settle()
        else:
            kept = self.rank - self.reduced - (1 if self.column else 0)
            if kept < 1:
                raise ValueError("a reduction needs a kept outer axis (its extent may be 1)")
            emit = reduce.column if self.column else reduce.row
            _chunks(nest, kept + 1, lambda inner: emit(inner, kept))
        return builder.text()


def cost(exprs: Iterable[Expr]) -> int:
    """A rough count of the instructions of some expressions, to choose how far to unroll."""
    seen: set[int] = set()
    total = 0

    def visit(node: Expr) -> None:
        nonlocal total
        if id(node) in seen or node[0] in LEAVES:
            return
        seen.add(id(node))
        total += 15 if node[0] in _HEAVY else 1
        for operand in node[2:]:
            visit(operand)

    for expr in exprs:
        visit(expr)
    return total


def used_loads(exprs: Iterable[Expr]) -> list[int]:
    """Which inputs some expressions read."""
    return sorted({leaf[2] for expr in exprs for leaf in leaves(expr) if leaf[0] == "load"})


@dataclass(frozen=True)
class Nest:
    """The loops around the code being written: every operand's pointer at the current outer position."""

    builder: Builder
    spec: LoopSpec
    width: int
    pointers: tuple[str, ...]
    grain: str
    extents: tuple[str, ...]
    strides: tuple[tuple[str, ...], ...]
    linear: str | None
    bounds: tuple[str, str] = ("", "")

    @staticmethod
    def of(builder: Builder, spec: LoopSpec, width: int) -> Nest:
        """Reads the kernel's arguments."""
        count = len(spec.inputs) + len(spec.outputs)
        first = count + 1 + spec.rank
        strides = tuple(
            tuple(builder.arg_int(first + k * spec.rank + axis) for axis in range(spec.rank)) for k in range(count)
        )
        exprs = spec.exprs("store", "reduce", "store_row")
        indexed = any(leaf[0] == "index" for expr in exprs for leaf in leaves(expr))
        return Nest(
            builder,
            spec,
            width,
            tuple(builder.arg_ptr(k) for k in range(count)),
            builder.arg_int(count),
            tuple(builder.arg_int(count + 1 + axis) for axis in range(spec.rank)),
            strides,
            "0" if indexed else None,
        )

    def at(self, axis: int, index: str) -> Nest:
        """The nest one loop further in: at position `index` of `axis`."""
        b = self.builder
        pointers = tuple(b.at(pointer, b.mul(index, self.strides[k][axis])) for k, pointer in enumerate(self.pointers))
        linear = self.linear and b.add(b.mul(self.linear, self.extents[axis]), index)
        return replace(self, pointers=pointers, linear=linear)

    def bounded(self, start: str, stop: str) -> Nest:
        """With the range of the innermost axis that this chunk does."""
        return replace(self, bounds=(start, stop))

    # -- one position along the innermost axis --------------------------------------------------------
    def broadcasts(self, exprs: Sequence[Expr]) -> dict[int, str]:
        """Registers of the inputs that do not move along the innermost axis, to be read outside its loop."""
        b = self.builder
        values = {}
        for k in used_loads(exprs):
            dtype, stride = self.spec.inputs[k]
            if stride == "zero":
                values[k] = b.splat(dtype, self.width, b.load(dtype, 1, self.pointers[k]))
        return values

    def emitter(
        self,
        index: str,
        fixed: dict[int, str],
        red: Sequence[str] = (),
        mask: str | None = None,
        last: str | None = None,
    ) -> Emitter:
        """An emitter for `width` positions from `index` on.

        Args:
            fixed: what `broadcasts` read.
            red: registers of reduction results.
            mask: lanes that exist; strided inputs then read at most position `last`.
            last: the last position that exists.
        """
        b, lanes = self.builder, Lanes(self.builder, self.width)

        def load(k: int) -> str:
            if k in fixed:
                return fixed[k]
            dtype, stride = self.spec.inputs[k]
            if stride == "unit":
                at = b.at(self.pointers[k], b.mul(index, DTYPE_BYTES[dtype]))
                return b.load(dtype, self.width, at, mask)
            value = "poison"
            for lane in range(self.width):
                where = b.add(index, lane)
                if last is not None:
                    where = b.min(where, last)
                one = b.load(dtype, 1, b.at(self.pointers[k], b.mul(where, self.strides[k][-1])))
                value = b.op(f"insertelement {lanes.type(dtype)} {value}, {LLVM_TYPE[dtype]} {one}, i64 {lane}")
            return value

        return _PositionEmitter(b, self.width, load, red, index, self)

    def put(self, output: int, index: str, value: str, mask: str | None, stop: str) -> None:
        """Writes `width` positions of an output from `index` on; where there is a mask, only below `stop`."""
        b = self.builder
        dtype, stride = self.spec.outputs[output]
        operand = len(self.spec.inputs) + output
        pointer = self.pointers[operand]
        if stride == "unit":
            at = b.at(pointer, b.mul(index, DTYPE_BYTES[dtype]))
            b.store(dtype, self.width, value, at, mask)
            return
        vtype = Lanes(b, self.width).type(dtype)

        def one(lane: int) -> None:
            element = b.op(f"extractelement {vtype} {value}, i64 {lane}")
            at = b.at(pointer, b.mul(b.add(index, lane), self.strides[operand][-1]))
            b.store(dtype, 1, element, at)

        for lane in range(self.width):
            if mask is None:
                one(lane)
            else:
                with b.when(b.compare("slt", b.add(index, lane), stop)):
                    one(lane)

    def put_past(self, output: int, where: Sequence[str], values: Sequence[str], stop: str) -> None:
        """Writes whole vectors past the caches, where the output's place in memory allows that."""
        b, dtype = self.builder, self.spec.outputs[output][0]
        pointer = self.pointers[len(self.spec.inputs) + output]
        low = b.op(f"and i64 {b.op(f'ptrtoint ptr {pointer} to i64')}, {b.target.vector_bytes - 1}")
        past, plain, done = b.label("past"), b.label("plain"), b.label("stored")
        b.branch(b.compare("eq", low, 0), past, plain)
        b.start(past)
        for index, value in zip(where, values, strict=True):
            b.stream(dtype, self.width, value, b.at(pointer, b.mul(index, DTYPE_BYTES[dtype])))
        b.jump(done)
        b.start(plain)
        for index, value in zip(where, values, strict=True):
            self.put(output, index, value, None, stop)
        b.jump(done)
        b.start(done)

    def store(self, stages: Sequence[Stage], red: Sequence[str], start: str, stop: str) -> None:
        """Elementwise stages along the innermost axis.

        Args:
            red: scalar registers of reduction results.
        """
        b, width = self.builder, self.width
        exprs: list[Expr] = [stage[2] for stage in stages]  # type: ignore[misc]
        outputs: list[int] = [stage[1] for stage in stages]  # type: ignore[misc]
        fixed = self.broadcasts(exprs)
        wide = splat_reds(self, exprs, red)
        size = cost(exprs)
        strided = any(self.spec.inputs[k][1] == "any" for k in used_loads(exprs))
        strided = strided or any(self.spec.outputs[k][1] != "unit" for k in outputs)
        unroll = 1 if strided or size > 24 else 4 if size <= 8 else 2
        last = b.sub(stop, 1)

        def body(index: str, vectors: int, mask: str | None = None) -> None:
            where = [b.add(index, v * width) if v else index for v in range(vectors)]
            emitters = [self.emitter(i, fixed, wide, mask, last if mask else None) for i in where]
            # Everything is read before anything is written: an output may be an input's own memory.
            values = [[emitter.emit(expr) for expr in exprs] for emitter in emitters]
            for n, output in enumerate(outputs):
                column = [row[n] for row in values]
                if mask is None and output in self.spec.streams:
                    self.put_past(output, where, column, stop)
                    continue
                for i, value in zip(where, column, strict=True):
                    self.put(output, i, value, mask, stop)

        position = start
        for vectors in dict.fromkeys((unroll, 1)):
            step = vectors * width
            end = b.add(position, whole(b, b.sub(stop, position), step))
            with b.loop(position, end, step) as loop:
                body(loop.index, vectors)
            position = end
        with b.when(b.compare("slt", position, stop)):
            body(position, 1, b.tail_mask(width, b.sub(stop, position)))


class _PositionEmitter(Emitter):
    """An emitter that makes the vectors of positions only when an expression asks for them."""

    def __init__(
        self,
        builder: Builder,
        width: int,
        load: Callable[[int], str],
        red: Sequence[str],
        position: str,
        nest: Nest,
    ) -> None:
        super().__init__(builder, width, load, red=red)
        self._position = position
        self._nest = nest

    def _leaf(self, expr: Expr) -> str:
        b = self.builder
        if expr[0] == "col":
            return ramp(self.lanes, self._position)
        if expr[0] == "index" and self._nest.linear is not None:
            row = b.mul(self._nest.linear, self._nest.extents[-1])
            return ramp(self.lanes, b.add(row, self._position))
        return super()._leaf(expr)


def ramp(lanes: Lanes, first: str) -> str:
    """The i64 vector first, first + 1, ..."""
    if lanes.width == 1:
        return first
    steps = ", ".join(f"i64 {i}" for i in range(lanes.width))
    return lanes.op("add", "i64", lanes.builder.splat("i64", lanes.width, first), f"<{steps}>")


def whole(b: Builder, count: str, step: int) -> str:
    """`count` rounded down to a multiple of `step`, a power of two."""
    return b.op(f"and i64 {count}, {-step}")


def splat_reds(nest: Nest, exprs: Sequence[Expr], red: Sequence[str]) -> list[str]:
    """Reduction results in every lane, for those that the expressions use."""
    used = {leaf[2]: leaf[1] for expr in exprs for leaf in leaves(expr) if leaf[0] == "red"}
    b = nest.builder
    return [b.splat(used[j], nest.width, value) if j in used else value for j, value in enumerate(red)]


def _chunks(nest: Nest, outer: int, body: Callable[[Nest], None]) -> None:
    """Loops over the chunks and axes 0 .. outer - 2; the innermost of `outer` axes is left to the body."""
    b = nest.builder
    with b.loop("%begin", "%end") as chunk:
        start = b.mul(chunk.index, nest.grain)
        stop = b.min(b.add(start, nest.grain), nest.extents[0])
        if outer == 1:
            body(nest.bounded(start, stop))
            return
        with b.loop(start, stop) as first:
            inner = nest.at(0, first.index).bounded("0", nest.extents[-1])
            walk(inner, range(1, outer - 1), body)


def walk(nest: Nest, axes: Sequence[int], body: Callable[[Nest], None]) -> None:
    """Writes `body` inside a loop over each of `axes`."""
    if not axes:
        body(nest)
        return
    with nest.builder.loop(0, nest.extents[axes[0]]) as loop:
        walk(nest.at(axes[0], loop.index), axes[1:], body)
