"""Writes LLVM IR as text: names, labels, loops with carried values, and typed memory access.

Text is several times faster than building instruction objects, and what is written is what `JUANJI_DEBUG=4` shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from juanji.target import DTYPE_BYTES, LLVM_TYPE, Target


def vector_type(dtype: str, width: int) -> str:
    """LLVM's type of `width` elements in a register: a scalar for width 1."""
    scalar = LLVM_TYPE[dtype]
    return scalar if width == 1 else f"<{width} x {scalar}>"


@dataclass
class Loop:
    """A counted loop under construction: `index`, the carried `values`, and after it `results`."""

    index: str
    values: list[str]
    _next: list[str] | None = None
    results: list[str] = field(default_factory=list)

    def next(self, values: Sequence[str]) -> None:
        """Sets what the carried values become in the next iteration."""
        self._next = list(values)


class Builder:
    """Builds one kernel `void @name(ptr %args, i64 %begin, i64 %end)`.

    `%args` points to 8-byte slots; the kernel does the chunks `begin <= chunk < end`.
    """

    def __init__(self, name: str, target: Target) -> None:
        self.name = name
        self.target = target
        self._count = 0
        self._entry: list[str] = []
        self._lines: list[str] = []
        self._declared: dict[str, str] = {}
        self._block = "entry"
        self._streams = False

    # -- text -----------------------------------------------------------------------------------------
    def fresh(self, hint: str = "v") -> str:
        """A new SSA name."""
        self._count += 1
        return f"%{hint}{self._count}"

    def emit(self, line: str) -> None:
        """Writes one instruction that has no result."""
        self._lines.append("  " + line)

    def op(self, text: str, hint: str = "v") -> str:
        """Writes `%new = text` and returns the new name."""
        name = self.fresh(hint)
        self._lines.append(f"  {name} = {text}")
        return name

    def declare(self, name: str, signature: str) -> str:
        """Declares an intrinsic once: `declare("llvm.fma.f32", "float ({}, float, float)")` style text."""
        self._declared[name] = signature
        return f"@{name}"

    def stack(self, vtype: str) -> str:
        """The address of a temporary of an LLVM type, made once at the kernel's entry."""
        name = self.fresh("s")
        self._entry.append(f"  {name} = alloca {vtype}")
        return name

    def label(self, hint: str = "b") -> str:
        """A new block name, without the percent sign."""
        self._count += 1
        return f"{hint}{self._count}"

    def start(self, label: str) -> None:
        """Begins block `label`; the previous block must have been ended by a branch."""
        self._lines.append(f"{label}:")
        self._block = label

    def jump(self, label: str) -> None:
        """Branches to `label`."""
        self.emit(f"br label %{label}")

    def branch(self, condition: str, then: str, other: str) -> None:
        """Branches to `then` where `condition` holds, else to `other`."""
        self.emit(f"br i1 {condition}, label %{then}, label %{other}")

    @property
    def block(self) -> str:
        """The block being written: what a phi names as its incoming edge."""
        return self._block

    def text(self) -> str:
        """The whole module."""
        declares = "\n".join(f"declare {sig}" for sig in self._declared.values())
        body = "\n".join(self._entry + self._lines)
        return (
            f"define void @{self.name}(ptr noalias %args, i64 %begin, i64 %end) {{\nentry:\n{body}\n"
            f"  ret void\n}}\n{declares}\n" + ("!0 = !{i32 1}\n" if self._streams else "")
        )

    # -- integers -------------------------------------------------------------------------------------
    def add(self, a: str | int, b: str | int) -> str:
        """a + b."""
        return self.op(f"add i64 {a}, {b}")

    def sub(self, a: str | int, b: str | int) -> str:
        """a - b."""
        return self.op(f"sub i64 {a}, {b}")

    def mul(self, a: str | int, b: str | int) -> str:
        """a * b."""
        return self.op(f"mul i64 {a}, {b}")

    def min(self, a: str | int, b: str | int) -> str:
        """The smaller of two signed integers."""
        name = self.declare("llvm.smin.i64", "i64 @llvm.smin.i64(i64, i64)")
        return self.op(f"call i64 {name}(i64 {a}, i64 {b})")

    def max(self, a: str | int, b: str | int) -> str:
        """The larger of two signed integers."""
        name = self.declare("llvm.smax.i64", "i64 @llvm.smax.i64(i64, i64)")
        return self.op(f"call i64 {name}(i64 {a}, i64 {b})")

    def compare(self, predicate: str, a: str | int, b: str | int) -> str:
        """`predicate` is LLVM's: eq, ne, slt, sle, sgt, sge, ult ..."""
        return self.op(f"icmp {predicate} i64 {a}, {b}")

    def select(self, condition: str, a: str | int, b: str | int) -> str:
        """`a` where `condition` holds, else `b`."""
        return self.op(f"select i1 {condition}, i64 {a}, i64 {b}")

    # -- memory ---------------------------------------------------------------------------------------
    def arg_ptr(self, slot: int) -> str:
        """The pointer in argument slot `slot`."""
        return self.op(f"load ptr, ptr {self.at('%args', 8 * slot)}, align 8", "p")

    def arg_int(self, slot: int) -> str:
        """The 64-bit integer in argument slot `slot`."""
        return self.op(f"load i64, ptr {self.at('%args', 8 * slot)}, align 8", "i")

    def at(self, pointer: str, offset: str | int) -> str:
        """`pointer` plus `offset` bytes (by getelementptr: LLVM 22 miscompiles inttoptr arithmetic)."""
        if offset == 0:
            return pointer
        return self.op(f"getelementptr i8, ptr {pointer}, i64 {offset}", "p")

    def load_int(self, pointer: str, offset: str | int = 0) -> str:
        """The 64-bit integer at `pointer + offset`."""
        return self.op(f"load i64, ptr {self.at(pointer, offset)}, align 8", "i")

    def load(self, dtype: str, width: int, pointer: str, mask: str | None = None) -> str:
        """Loads `width` consecutive elements; lanes whose `mask` is false read as zero. b1 comes as i1."""
        memory = "i8" if dtype == "b1" else LLVM_TYPE[dtype]
        align = DTYPE_BYTES[dtype]
        if width == 1:
            value = self.op(f"load {memory}, ptr {pointer}, align {align}")
            return self.op(f"icmp ne i8 {value}, 0") if dtype == "b1" else value
        vtype = f"<{width} x {memory}>"
        if mask is None:
            value = self.op(f"load {vtype}, ptr {pointer}, align {align}")
        else:
            suffix = f"v{width}{_suffix(memory)}"
            name = self.declare(
                f"llvm.masked.load.{suffix}.p0",
                f"{vtype} @llvm.masked.load.{suffix}.p0(ptr, i32, <{width} x i1>, {vtype})",
            )
            value = self.op(
                f"call {vtype} {name}(ptr {pointer}, i32 {align}, <{width} x i1> {mask}, {vtype} zeroinitializer)"
            )
        if dtype == "b1":
            return self.op(f"icmp ne {vtype} {value}, zeroinitializer")
        return value

    def store(self, dtype: str, width: int, value: str, pointer: str, mask: str | None = None) -> None:
        """Stores `width` consecutive elements, only where `mask` is true. b1 is stored as bytes 0 and 1."""
        memory = "i8" if dtype == "b1" else LLVM_TYPE[dtype]
        align = DTYPE_BYTES[dtype]
        if dtype == "b1":
            value = self.op(f"zext {vector_type('b1', width)} {value} to {vector_type('u8', width)}")
        vtype = memory if width == 1 else f"<{width} x {memory}>"
        if mask is None:
            self.emit(f"store {vtype} {value}, ptr {pointer}, align {align}")
            return
        suffix = f"v{width}{_suffix(memory)}"
        name = self.declare(
            f"llvm.masked.store.{suffix}.p0",
            f"void @llvm.masked.store.{suffix}.p0({vtype}, ptr, i32, <{width} x i1>)",
        )
        self.emit(f"call void {name}({vtype} {value}, ptr {pointer}, i32 {align}, <{width} x i1> {mask})")

    def prefetch(self, pointer: str, level: int = 1) -> None:
        """Asks for the cache line at `pointer`, which need not be memory of ours, in the cache of a level."""
        name = self.declare("llvm.prefetch.p0", "void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.emit(f"call void {name}(ptr {pointer}, i32 0, i32 {4 - level}, i32 1)")

    def stream(self, dtype: str, width: int, value: str, pointer: str) -> None:
        """Stores a whole vector past the caches, at an address that is a multiple of its size.

        A line that a plain store touches first is read from memory; this one is not, and displaces nothing. Whoever
        uses it calls `settle` before others may read.
        """
        align = self.target.vector_bytes
        kind = vector_type(dtype, width)
        self._streams = True
        self.emit(f"store {kind} {value}, ptr {pointer}, align {align}, !nontemporal !0")

    def settle(self) -> None:
        """Makes what `stream` wrote visible to other threads before anything written later is."""
        self.emit("fence seq_cst")

    def tail_mask(self, width: int, count: str | int) -> str:
        """<width x i1> whose first `count` lanes (an i64 of less than 2**31) are true."""
        lanes = ", ".join(f"i32 {i}" for i in range(width))
        short = self.op(f"trunc i64 {count} to i32")
        return self.op(f"icmp slt <{width} x i32> <{lanes}>, {self.splat('i32', width, short)}", "m")

    def splat(self, dtype: str, width: int, scalar: str) -> str:
        """A vector with every lane equal to the register or constant `scalar`."""
        if width == 1:
            return scalar
        element = LLVM_TYPE[dtype]
        if not scalar.startswith("%"):
            return f"splat ({element} {scalar})"
        vtype = vector_type(dtype, width)
        one = self.op(f"insertelement {vtype} poison, {element} {scalar}, i64 0")
        zeros = f"<{width} x i32> zeroinitializer"
        return self.op(f"shufflevector {vtype} {one}, {vtype} poison, {zeros}")

    def fma(self, dtype: str, width: int, a: str, b: str, c: str, name: str = "") -> str:
        """a * b + c: rounded once where the target can, else twice. `name` is the result's, where one is waited for."""
        vtype = vector_type(dtype, width)
        name = name or self.fresh()
        if self.target.fma:
            suffix = _suffix(LLVM_TYPE[dtype]) if width == 1 else f"v{width}{_suffix(LLVM_TYPE[dtype])}"
            fused = self.declare(f"llvm.fma.{suffix}", f"{vtype} @llvm.fma.{suffix}({vtype}, {vtype}, {vtype})")
            self.emit(f"{name} = call {vtype} {fused}({vtype} {a}, {vtype} {b}, {vtype} {c})")
        else:
            self.emit(f"{name} = fadd {vtype} {self.op(f'fmul {vtype} {a}, {b}')}, {c}")
        return name

    # -- control --------------------------------------------------------------------------------------
    @contextmanager
    def loop(
        self,
        start: str | int,
        stop: str | int,
        step: str | int = 1,
        carried: Sequence[tuple[str, str]] = (),
    ) -> Iterator[Loop]:
        """`for index in range(start, stop, step)`, tested before the first iteration.

        Args:
            carried: (LLVM type, initial value) of values that live across iterations.

        Inside, read `loop.index` and `loop.values`, call `loop.next(new_values)` when values are carried;
        afterwards read `loop.results`.
        """
        head, body, done = self.label("head"), self.label("body"), self.label("done")
        before = self._block
        self.jump(head)
        self.start(head)
        slot = len(self._lines)
        index = self.fresh("i")
        values = [self.fresh("c") for _ in carried]
        self._lines.extend([""] * (1 + len(carried)))
        self.branch(self.compare("slt", index, stop), body, done)
        self.start(body)
        loop = Loop(index, values)
        yield loop
        following = loop._next if loop._next is not None else []
        if len(following) != len(carried):
            raise AssertionError("every carried value of a loop needs its next value")
        bumped = self.add(index, step)
        end = self._block
        self.jump(head)
        self._lines[slot] = f"  {index} = phi i64 [ {start}, %{before} ], [ {bumped}, %{end} ]"
        for k, (vtype, initial) in enumerate(carried):
            self._lines[slot + 1 + k] = (
                f"  {values[k]} = phi {vtype} [ {initial}, %{before} ], [ {following[k]}, %{end} ]"
            )
        self.start(done)
        loop.results = values

    @contextmanager
    def when(self, condition: str) -> Iterator[None]:
        """`if condition:` with no values carried out of it."""
        then, done = self.label("then"), self.label("endif")
        self.branch(condition, then, done)
        self.start(then)
        yield
        self.jump(done)
        self.start(done)


def _suffix(scalar: str) -> str:
    return {"float": "f32", "double": "f64"}.get(scalar, scalar)
