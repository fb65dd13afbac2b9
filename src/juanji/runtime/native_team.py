"""The native code of the team of threads that runs plans; it never touches Python.

The thread that calls goes through the kernels in order and always works itself. A kernel of several pieces is opened
for everybody by one 64-bit word: a sequence number that only grows, and how many pieces are left. A piece is claimed
by comparing and exchanging that word, so nobody has to arrive: pieces that no worker takes, the caller does. A kernel
ends when its pieces are done, whoever did them. A worker that comes late holds an old sequence number; its exchange
fails and it has done no harm. (Its reading of the kernel's row may then be of two kernels, which does not matter:
only after the exchange has succeeded is the row known to be whole, since a row is rewritten only when all pieces of
the kernel before are done.)

Who waits spins for about 50 microseconds and then sleeps on a futex; an idle team takes no processor time.
"""

from __future__ import annotations

from juanji.runtime import system
from juanji.runtime.run import READ_ROW, flush_denormals
from juanji.target import Target

#: Pieces of one kernel fit the low bits of the word.
MOST_PIECES = 1024
#: Nanoseconds of spinning before sleep: a sleeper takes longer than this to arrive.
SPIN = 50_000

# Where things are in the team's memory. What different threads write is 128 bytes apart: processors fetch cache lines
# in pairs. The word and the row of the open kernel are written together, by the caller.
# The word is at 0.
_ROW, _DONE, _SLEEPERS, _WAITING, _STOP, _SEQUENCE, _OPENED, _BUSY, BYTES = 64, 128, 256, 384, 512, 640, 648, 656, 768
_PIECE_BITS = 16

_IR = """
declare i32 @clock_gettime(i32, ptr)
declare i64 @syscall(i64, ...)

define internal i64 @now() {{
  %time = alloca [2 x i64], align 8
  %ignored = call i32 @clock_gettime(i32 {clock}, ptr %time)
  %seconds = load i64, ptr %time, align 8
  %rest.at = getelementptr i8, ptr %time, i64 8
  %rest = load i64, ptr %rest.at, align 8
  %scaled = mul i64 %seconds, 1000000000
  %all = add i64 %scaled, %rest
  ret i64 %all
}}

; Sleeps while the 32 bits at %at are %value; may wake for no reason.
define internal void @sleep_on(ptr %at, i32 %value) {{
  %code = call i64 (i64, ...) @syscall(i64 {futex}, ptr %at, i32 128, i32 %value, ptr null, ptr null, i32 0)
  ret void
}}

define internal void @wake(ptr %at, i32 %most) {{
  %code = call i64 (i64, ...) @syscall(i64 {futex}, ptr %at, i32 129, i32 %most, ptr null, ptr null, i32 0)
  ret void
}}

; Spins until the 64 bits at %at are no longer %old, or the time is up. Returns what is there.
define internal i64 @spin(ptr %at, i64 %old) {{
entry:
  %begin = call i64 @now()
  br label %round
round:
  br label %look
look:
  %turn = phi i64 [ 0, %round ], [ %turn.next, %again ]
  %new = load atomic i64, ptr %at acquire, align 8
  %same = icmp eq i64 %new, %old
  br i1 %same, label %again, label %out
again:
{pause}  %turn.next = add i64 %turn, 1
  %more = icmp ult i64 %turn.next, 32
  br i1 %more, label %look, label %check
check:
  %end = call i64 @now()
  %passed = sub i64 %end, %begin
  %early = icmp slt i64 %passed, {spin}
  br i1 %early, label %round, label %out
out:
  ret i64 %new
}}

; Claims and does pieces of the open kernel until none is left.
define internal void @claim(ptr %team) {{
entry:
  %row = getelementptr i8, ptr %team, i64 {row}
  %args.at = getelementptr i8, ptr %row, i64 8
  %chunks.at = getelementptr i8, ptr %row, i64 16
  %pieces.at = getelementptr i8, ptr %row, i64 24
  %done.at = getelementptr i8, ptr %team, i64 {done}
  %waiting.at = getelementptr i8, ptr %team, i64 {waiting}
  br label %look
look:
  %mine = phi i64 [ 0, %entry ], [ %mine, %try ], [ %mine.next, %work ]
  %word = load atomic i64, ptr %team acquire, align 8
  %left = and i64 %word, {mask}
  %none = icmp eq i64 %left, 0
  br i1 %none, label %finish, label %try
try:
  %kernel = load atomic ptr, ptr %row monotonic, align 8
  %args = load atomic ptr, ptr %args.at monotonic, align 8
  %chunks = load atomic i64, ptr %chunks.at monotonic, align 8
  %pieces = load atomic i64, ptr %pieces.at monotonic, align 8
  %less = sub i64 %word, 1
  %exchange = cmpxchg ptr %team, i64 %word, i64 %less acq_rel monotonic, align 8
  %claimed = extractvalue {{ i64, i1 }} %exchange, 1
  br i1 %claimed, label %work, label %look
work:
  %piece = sub i64 %pieces, %left
  %piece.next = add i64 %piece, 1
  %low = mul i64 %piece, %chunks
  %high = mul i64 %piece.next, %chunks
  %begin = udiv i64 %low, %pieces
  %end = udiv i64 %high, %pieces
  call void %kernel(ptr %args, i64 %begin, i64 %end)
  %mine.next = add i64 %mine, 1
  br label %look
finish:
  %idle = icmp eq i64 %mine, 0
  br i1 %idle, label %out, label %report
report:
  %before = atomicrmw add ptr %done.at, i64 %mine seq_cst, align 8
  %waiting = load atomic i32, ptr %waiting.at seq_cst, align 4
  %awaited = icmp ne i32 %waiting, 0
  br i1 %awaited, label %call, label %out
call:
  call void @wake(ptr %done.at, i32 1)
  br label %out
out:
  ret void
}}

; A worker's life.
define ptr @juanji_worker(ptr %team) {{
entry:
{enter}  %stop.at = getelementptr i8, ptr %team, i64 {stop}
  %sleepers.at = getelementptr i8, ptr %team, i64 {sleepers}
  br label %head
head:
  call void @claim(ptr %team)
  %word = load atomic i64, ptr %team seq_cst, align 8
  %left = and i64 %word, {mask}
  %open = icmp ne i64 %left, 0
  br i1 %open, label %head, label %idle
idle:
  %stop = load atomic i32, ptr %stop.at seq_cst, align 4
  %end = icmp ne i32 %stop, 0
  br i1 %end, label %out, label %wait
wait:
  %new = call i64 @spin(ptr %team, i64 %word)
  %moved = icmp ne i64 %new, %word
  br i1 %moved, label %head, label %tired
tired:
  ; First it says that it will sleep, then it looks again: either it sees the new word or the opener sees it asleep.
  %ignored = atomicrmw add ptr %sleepers.at, i32 1 seq_cst, align 4
  %last = load atomic i64, ptr %team seq_cst, align 8
  %late = icmp ne i64 %last, %word
  br i1 %late, label %head, label %sleep
sleep:
  %low = trunc i64 %word to i32
  call void @sleep_on(ptr %team, i32 %low)
  br label %head
out:
  ret ptr null
}}

; Takes the team for one caller, for good where it is to be dismissed; 0 where another has it.
define i32 @juanji_take(ptr %team) {{
  %busy.at = getelementptr i8, ptr %team, i64 {busy}
  %exchange = cmpxchg ptr %busy.at, i32 0, i32 1 acq_rel monotonic, align 4
  %free = extractvalue {{ i32, i1 }} %exchange, 1
  %result = zext i1 %free to i32
  ret i32 %result
}}

; Runs %count kernels in order and returns 1, or 0 with nothing done where the team is taken.
; A kernel of one piece is the caller's alone.
define i32 @juanji_team(ptr %team, ptr %plan, ptr %all.pieces, i64 %count) {{
entry:
  %taken = call i32 @juanji_take(ptr %team)
  %mine = icmp ne i32 %taken, 0
  br i1 %mine, label %start, label %refused
refused:
  ret i32 0
start:
{enter}  %row = getelementptr i8, ptr %team, i64 {row}
  %args.to = getelementptr i8, ptr %row, i64 8
  %chunks.to = getelementptr i8, ptr %row, i64 16
  %pieces.to = getelementptr i8, ptr %row, i64 24
  %done.at = getelementptr i8, ptr %team, i64 {done}
  %sleepers.at = getelementptr i8, ptr %team, i64 {sleepers}
  %waiting.at = getelementptr i8, ptr %team, i64 {waiting}
  %sequence.at = getelementptr i8, ptr %team, i64 {sequence}
  %opened.at = getelementptr i8, ptr %team, i64 {opened}
  br label %head
head:
  %i = phi i64 [ 0, %start ], [ %next, %following ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %out
body:
{read_row}  %pieces.from = getelementptr i64, ptr %all.pieces, i64 %i
  %pieces = load i64, ptr %pieces.from, align 8
  %shared = icmp sgt i64 %pieces, 1
  br i1 %shared, label %open, label %alone
alone:
  call void %kernel(ptr %args, i64 0, i64 %chunks)
  br label %following
open:
  %opened.before = load i64, ptr %opened.at, align 8
  %opened = add i64 %opened.before, %pieces
  store i64 %opened, ptr %opened.at, align 8
  %sequence.before = load i64, ptr %sequence.at, align 8
  %sequence = add i64 %sequence.before, 1
  store i64 %sequence, ptr %sequence.at, align 8
  store atomic ptr %kernel, ptr %row monotonic, align 8
  store atomic ptr %args, ptr %args.to monotonic, align 8
  store atomic i64 %chunks, ptr %chunks.to monotonic, align 8
  store atomic i64 %pieces, ptr %pieces.to monotonic, align 8
  %high = shl i64 %sequence, {bits}
  %word = or i64 %high, %pieces
  store atomic i64 %word, ptr %team seq_cst, align 8
  %sleepers = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %asleep = icmp ne i32 %sleepers, 0
  br i1 %asleep, label %rouse, label %join
rouse:
  %ignored = atomicrmw xchg ptr %sleepers.at, i32 0 seq_cst, align 4
  call void @wake(ptr %team, i32 2147483647)
  br label %join
join:
  call void @claim(ptr %team)
  br label %look
look:
  %done = load atomic i64, ptr %done.at acquire, align 8
  %all = icmp eq i64 %done, %opened
  br i1 %all, label %following, label %wait
wait:
  %new = call i64 @spin(ptr %done.at, i64 %done)
  %moved = icmp ne i64 %new, %done
  br i1 %moved, label %look, label %tired
tired:
  store atomic i32 1, ptr %waiting.at seq_cst, align 4
  %last = load atomic i64, ptr %done.at seq_cst, align 8
  %same = icmp eq i64 %last, %done
  br i1 %same, label %sleep, label %rested
sleep:
  %done.low = trunc i64 %done to i32
  call void @sleep_on(ptr %done.at, i32 %done.low)
  br label %rested
rested:
  store atomic i32 0, ptr %waiting.at seq_cst, align 4
  br label %look
following:
  %next = add i64 %i, 1
  br label %head
out:
{leave}  %busy.at = getelementptr i8, ptr %team, i64 {busy}
  store atomic i32 0, ptr %busy.at release, align 4
  ret i32 1
}}

; Tells all workers to end.
define void @juanji_dismiss(ptr %team) {{
  %stop.at = getelementptr i8, ptr %team, i64 {stop}
  store atomic i32 1, ptr %stop.at seq_cst, align 4
  %word = load atomic i64, ptr %team seq_cst, align 8
  %following = add i64 %word, {sequence_step}
  store atomic i64 %following, ptr %team seq_cst, align 8
  call void @wake(ptr %team, i32 2147483647)
  ret void
}}

; A kernel whose chunks wait for a microsecond each, to measure what sharing costs.
define void @juanji_microseconds(ptr %args, i64 %begin, i64 %end) {{
entry:
  %from = call i64 @now()
  %chunks = sub i64 %end, %begin
  %wanted = mul i64 %chunks, 1000
  br label %look
look:
  %at = call i64 @now()
  %passed = sub i64 %at, %from
  %early = icmp slt i64 %passed, %wanted
  br i1 %early, label %look, label %out
out:
  ret void
}}
{declare}
"""

#: Its functions.
SYMBOLS = ["juanji_worker", "juanji_team", "juanji_take", "juanji_dismiss", "juanji_microseconds"]


def source(target: Target, support: system.ThreadSupport) -> str:
    """LLVM IR of the team's functions."""
    enter, leave, declare = flush_denormals(target)
    if "+sse2" in target.features:
        pause, declare = "  call void @llvm.x86.sse2.pause()\n", declare + "declare void @llvm.x86.sse2.pause()\n"
    elif support.futex_call == 98 and "+neon" in target.features:
        pause, declare = "  call void @llvm.aarch64.hint(i32 1)\n", declare + "declare void @llvm.aarch64.hint(i32)\n"
    else:
        pause = ""
    return _IR.format(
        clock=support.clock, futex=support.futex_call, spin=SPIN, pause=pause,
        enter=enter, leave=leave, declare=declare,
        read_row=READ_ROW, row=_ROW, done=_DONE, sleepers=_SLEEPERS, waiting=_WAITING, stop=_STOP, sequence=_SEQUENCE,
        opened=_OPENED, busy=_BUSY, bits=_PIECE_BITS, mask=(1 << _PIECE_BITS) - 1, sequence_step=1 << _PIECE_BITS,
    )  # fmt: skip
