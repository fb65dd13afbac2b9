"""A reader of pickles that can build plain values and nothing else.

A pickle is a program for a small stack machine; some of its instructions import names and call them. This machine has
no such instructions: a name stays a name (`Global`), and "calling" one asks the `call` function given, which knows a
fixed list. Nothing of a file can therefore run. What a file can still try is to exhaust memory or time, so the number
of instructions, the size of integers and what may be a key are bounded, and nothing is taken before it is known to be
in the file.

Source: the instruction set as CPython's `pickletools` describes it, protocols 0 to 5.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: A checkpoint with ten thousand tensors has 400,000 instructions.
MOST_INSTRUCTIONS = 2_000_000
#: Bytes of an integer; the magic number of PyTorch's files has ten.
LONGEST_INTEGER = 16
#: Sizes and strides of a tensor are short; longer tuples are not hashed, and not shown.
_LONGEST_LINE = 1000


class PickleError(Exception):
    """A pickle that is broken, or asks for what is not given. The message says what, not where."""


@dataclass(frozen=True)
class Global:
    """A name that the pickle mentions, such as `torch.FloatStorage`. It is not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def shown(value: object) -> str:
    """Foreign text for a message: printable, on one line, and short.

    >>> shown("os\\nsystem")
    'os\\\\nsystem'
    """
    text = str(value)[:120]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)[:120]


class _Mark:
    """Where a group of values begins on the stack."""


_MARK = _Mark()
Find = Callable[[Global], Any]
Call = Callable[[Global, tuple[Any, ...]], Any]
Persistent = Callable[[Any], Any]


class Machine:
    """Runs one pickle out of `data`, from `position` on.

    Args:
        data: the bytes.
        position: where the pickle begins.
        find: gets a name, and returns what stands for it, or raises `PickleError`. What can be called stays a `Global`.
        call: gets such a name and arguments, and returns what that makes, or raises `PickleError`.
        persistent: gets what stands for something outside the pickle, and returns it.
    """

    def __init__(self, data: bytes, position: int, find: Find, call: Call, persistent: Persistent) -> None:
        self.data = data
        self.position = position
        self.find = find
        self.call = call
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The pickle's value; `position` is behind it then.

        Raises:
            PickleError: whatever is wrong.
        """
        data, actions = self.data, _ACTIONS
        for _ in range(MOST_INSTRUCTIONS):
            try:
                code = data[self.position]
            except IndexError:
                raise PickleError("it is truncated") from None
            self.position += 1
            if code == 0x2E:  # STOP
                return self.pop()
            action = actions.get(code)
            if action is None:
                raise PickleError(_refusal(code))
            action(self)
        raise PickleError(f"it has more than {MOST_INSTRUCTIONS:,} instructions")

    # What instructions are made of.

    def take(self, count: int) -> bytes:
        """The next bytes."""
        end = self.position + count
        if end > len(self.data):
            raise PickleError("it is truncated")
        part = self.data[self.position : end]
        self.position = end
        return part

    def number(self, count: int) -> int:
        """The next bytes as an unsigned number."""
        return int.from_bytes(self.take(count), "little")

    def line(self) -> bytes:
        """What is up to the next line feed."""
        end = self.data.find(b"\n", self.position, self.position + _LONGEST_LINE)
        if end < 0:
            raise PickleError("a line of it has no end")
        part = self.data[self.position : end]
        self.position = end + 1
        return part

    def pop(self) -> Any:
        """The value on top."""
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("it takes a value from an empty stack")
        return self.stack.pop()

    def top(self) -> Any:
        """The value on top, left there."""
        if not self.stack or self.stack[-1] is _MARK:
            raise PickleError("it takes a value from an empty stack")
        return self.stack[-1]

    def group(self) -> list[Any]:
        """The values above the last mark, in order; they and the mark go away."""
        at = len(self.stack) - 1
        while at >= 0 and self.stack[at] is not _MARK:
            at -= 1
        if at < 0:
            raise PickleError("it takes a group of values that has no beginning")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def remembered(self, key: int) -> None:
        """Puts a value of the memo on the stack."""
        if key not in self.memo:
            raise PickleError(f"it recalls a value {key} that it never kept")
        self.stack.append(self.memo[key])

    def keep(self, key: int) -> None:
        """Puts the value on top into the memo."""
        self.memo[key] = self.top()

    def text(self, raw: bytes) -> None:
        """A string in UTF-8."""
        try:
            self.stack.append(raw.decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise PickleError("a text in it is not UTF-8") from None

    def integer(self, size: int) -> None:
        """A signed integer of so many bytes."""
        if size > LONGEST_INTEGER:
            raise PickleError(f"it has an integer of {size:,} bytes; at most {LONGEST_INTEGER} are accepted")
        self.stack.append(int.from_bytes(self.take(size), "little", signed=True))

    def put(self, target: Any, pairs: list[Any]) -> None:
        """Entries of a dictionary."""
        if not isinstance(target, dict):
            raise PickleError(f"it puts an entry into a {type(target).__name__}")
        if len(pairs) % 2:
            raise PickleError("an entry of a dictionary has no value")
        for at in range(0, len(pairs), 2):
            target[key(pairs[at])] = pairs[at + 1]

    def extend(self, target: Any, values: list[Any]) -> None:
        """Items of a list."""
        if not isinstance(target, list):
            raise PickleError(f"it appends to a {type(target).__name__}")
        target.extend(values)

    def tuple_of(self, count: int) -> None:
        """The topmost values as one tuple."""
        values = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(values)))

    def name(self, module: Any, name: Any) -> None:
        """What stands for a name; nothing is imported."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError("it imports something whose name is no text")
        self.stack.append(self.find(Global(module, name)))

    def reduce(self, what: str) -> None:
        """The result of a call."""
        arguments = self.pop()
        function = self.pop()
        if not isinstance(function, Global):
            raise PickleError(f"it {what} a {type(function).__name__}")
        if not isinstance(arguments, tuple):
            raise PickleError(f"it calls {shown(function)} with a {type(arguments).__name__} of arguments")
        self.stack.append(self.call(function, arguments))

    def build(self) -> None:
        """Attributes of what is on top: only the notes that PyTorch hangs onto a `state_dict`, which are dropped."""
        state = self.pop()
        target = self.top()
        if not isinstance(target, OrderedDict) or not isinstance(state, dict) or set(state) - {"_metadata"}:
            raise PickleError(f"it sets attributes of a {type(target).__name__}")


def key(value: Any) -> Any:
    """A value that may be a dictionary's key: others could make hashing take forever."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    raise PickleError(f"a {type(value).__name__} is a dictionary's key; texts and integers are accepted")


def _decimal(m: Machine) -> None:
    line = m.line()
    if line in (b"00", b"01"):
        m.stack.append(line == b"01")
        return
    digits = line.removesuffix(b"L")
    if len(digits) > 40 or not digits.removeprefix(b"-").isdigit():
        raise PickleError("an integer in it is none")
    m.stack.append(int(digits))


def _float_line(m: Machine) -> None:
    try:
        m.stack.append(float(m.line()))
    except ValueError:
        raise PickleError("a number in it is none") from None


def _index_line(m: Machine) -> int:
    line = m.line()
    if len(line) > 12 or not line.isdigit():
        raise PickleError("an index in it is no number")
    return int(line)


def _protocol(m: Machine) -> None:
    version = m.number(1)
    if version > 5:
        raise PickleError(f"it has protocol {version}; 0 to 5 are known")


def _global_lines(m: Machine) -> None:
    module, name = (m.line().decode("utf-8", "replace") for _ in range(2))
    m.name(module, name)


def _stack_global(m: Machine) -> None:
    name, module = m.pop(), m.pop()
    m.name(module, name)


def _setitem(m: Machine) -> None:
    value, name = m.pop(), m.pop()
    m.put(m.top(), [name, value])


def _setitems(m: Machine) -> None:
    pairs = m.group()
    m.put(m.top(), pairs)


def _dict(m: Machine) -> None:
    pairs = m.group()
    target: dict[Any, Any] = {}
    m.put(target, pairs)
    m.stack.append(target)


def _append(m: Machine) -> None:
    value = m.pop()
    m.extend(m.top(), [value])


def _appends(m: Machine) -> None:
    values = m.group()
    m.extend(m.top(), values)


def _constant(value: Any) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(value)


def _latin(m: Machine, size: int) -> None:
    """A text of Python 2: its bytes, one character each."""
    m.stack.append(m.take(size).decode("latin-1"))


_ACTIONS: dict[int, Callable[[Machine], Any]] = {
    ord("("): lambda m: m.stack.append(_MARK),
    ord("0"): lambda m: m.group() if m.stack and m.stack[-1] is _MARK else m.pop(),
    ord("1"): lambda m: m.group(),
    ord("2"): lambda m: m.stack.append(m.top()),
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord("I"): _decimal,
    ord("L"): _decimal,
    ord("J"): lambda m: m.integer(4),
    ord("K"): lambda m: m.stack.append(m.number(1)),
    ord("M"): lambda m: m.stack.append(m.number(2)),
    0x8A: lambda m: m.integer(m.number(1)),
    0x8B: lambda m: m.integer(m.number(4)),
    ord("F"): _float_line,
    ord("G"): lambda m: m.stack.append(struct.unpack(">d", m.take(8))[0]),
    ord("X"): lambda m: m.text(m.take(m.number(4))),
    0x8C: lambda m: m.text(m.take(m.number(1))),
    0x8D: lambda m: m.text(m.take(m.number(8))),
    ord("T"): lambda m: _latin(m, m.number(4)),
    ord("U"): lambda m: _latin(m, m.number(1)),
    ord("B"): lambda m: m.stack.append(m.take(m.number(4))),
    ord("C"): lambda m: m.stack.append(m.take(m.number(1))),
    0x8E: lambda m: m.stack.append(m.take(m.number(8))),
    ord("}"): lambda m: m.stack.append({}),
    ord("d"): _dict,
    ord("]"): lambda m: m.stack.append([]),
    ord("l"): lambda m: m.stack.append(m.group()),
    ord(")"): _constant(()),
    ord("t"): lambda m: m.stack.append(tuple(m.group())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("s"): _setitem,
    ord("u"): _setitems,
    ord("a"): _append,
    ord("e"): _appends,
    ord("c"): _global_lines,
    0x93: _stack_global,
    ord("R"): lambda m: m.reduce("calls"),
    0x81: lambda m: m.reduce("makes an instance of"),
    ord("b"): lambda m: m.build(),
    ord("q"): lambda m: m.keep(m.number(1)),
    ord("r"): lambda m: m.keep(m.number(4)),
    ord("p"): lambda m: m.keep(_index_line(m)),
    0x94: lambda m: m.keep(len(m.memo)),
    ord("h"): lambda m: m.remembered(m.number(1)),
    ord("j"): lambda m: m.remembered(m.number(4)),
    ord("g"): lambda m: m.remembered(_index_line(m)),
    ord("Q"): lambda m: m.stack.append(m.persistent(m.pop())),
    0x80: _protocol,
    0x95: lambda m: m.number(8),
}

#: Instructions that exist and are not given, by what they would do.
_REFUSED = {
    ord("i"): "INST, which imports and calls a class",
    ord("o"): "OBJ, which calls a class",
    ord("P"): "PERSID",
    ord("S"): "STRING",
    ord("V"): "UNICODE",
    0x82: "EXT1, which calls a registered function",
    0x83: "EXT2, which calls a registered function",
    0x84: "EXT4, which calls a registered function",
    0x8F: "EMPTY_SET",
    0x90: "ADDITEMS",
    0x91: "FROZENSET",
    0x92: "NEWOBJ_EX, which makes an instance of a class",
    0x96: "BYTEARRAY8",
    0x97: "NEXT_BUFFER",
    0x98: "READONLY_BUFFER",
}


def _refusal(code: int) -> str:
    if code in _REFUSED:
        return f"it has the instruction {_REFUSED[code]}; that is not accepted"
    return f"there is no instruction {code:#04x}"
