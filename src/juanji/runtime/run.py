"""Runs a plan: one native call for all its kernels, the interpreter lock released, denormals flushed to zero inside.

A plan in memory is rows of three 64-bit integers: kernel, its arguments, its number of chunks. Here one thread does
them in order; `native_team.py` has the same for several. Chunks are independent and their number follows from shapes
alone, so results do not depend on how many threads there are.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

from juanji.runtime import jit
from juanji.target import Target

#: Bits of the x86 control register: flush results (bit 15) and operands (bit 6) that are denormal to zero.
_FLUSH = 0x8040

_X86_ENTER = f"""
  %saved = alloca i32, align 4
  %inside = alloca i32, align 4
  call void @llvm.x86.sse.stmxcsr(ptr %saved)
  %was = load i32, ptr %saved, align 4
  %flush = or i32 %was, {_FLUSH}
  store i32 %flush, ptr %inside, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %inside)
"""
_X86_LEAVE = "  call void @llvm.x86.sse.ldmxcsr(ptr %saved)\n"
_X86_DECLARE = "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)\n"

#: IR that reads row %i of %plan: %kernel, %args and %chunks.
READ_ROW = """
  %from = getelementptr [3 x i64], ptr %plan, i64 %i
  %kernel = load ptr, ptr %from, align 8
  %args.from = getelementptr i8, ptr %from, i64 8
  %args = load ptr, ptr %args.from, align 8
  %chunks.from = getelementptr i8, ptr %from, i64 16
  %chunks = load i64, ptr %chunks.from, align 8
"""

_IR = """
define void @juanji_run(ptr %plan, i64 %count) {{
entry:{enter}
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %done
body:
{row}  call void %kernel(ptr %args, i64 0, i64 %chunks)
  %next = add i64 %i, 1
  br label %head
done:
{leave}  ret void
}}
{declare}
"""

Runner = Callable[[int, int], None]


def flush_denormals(target: Target) -> tuple[str, str, str]:
    """IR that makes a function flush denormals to zero: at its entry, before its return, and declarations."""
    if "+sse2" in target.features:
        return _X86_ENTER, _X86_LEAVE, _X86_DECLARE
    return "", "", ""


@functools.lru_cache(maxsize=4)
def runner(target: Target) -> Runner:
    """The native function that runs (address of the rows, their number)."""
    enter, leave, declare = flush_denormals(target)
    ir = _IR.format(row=READ_ROW, enter=enter, leave=leave, declare=declare)
    address = jit.load(ir, ["juanji_run"], target)["juanji_run"]
    # CFUNCTYPE functions release the interpreter lock for the time of the call.
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(address)
