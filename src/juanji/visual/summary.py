"""`jj.summary`: the layers of a network with shapes, parameters, multiply-adds and receptive fields."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, field
from html import escape
from typing import Any

import juanji.tensors as T
from juanji import autograd, tape
from juanji.dtypes import DType, float32
from juanji.nn.module import Module
from juanji.tape import Function
from juanji.visual.modes import evaluating
from juanji.visual.receptive import Field, fields, functions, multiply_adds


@dataclass
class Row:
    """One module of a summary.

    Attributes:
        name: path from the root, "" for the root itself.
        kind: class name.
        depth: how deep in the tree; the root is at 0.
        output: shape of what it returned last; None where that is no tensor, or it never ran.
        parameters: how many numbers it owns, its children's not counted.
        trainable: how many of those require a gradient.
        multiply_adds: of all its calls, its children's included.
        receptive_field: what one element of its output sees of the network's input.
        calls: how often it ran.
    """

    name: str
    kind: str
    depth: int
    output: tuple[int, ...] | None = None
    parameters: int = 0
    trainable: int = 0
    multiply_adds: int = 0
    receptive_field: Field | None = None
    calls: int = 0
    spans: list[tuple[int, int, Any]] = field(default_factory=list, repr=False)


@dataclass
class Summary:
    """What `jj.summary` returns: rows that print as a table, in a terminal and in a notebook.

    Attributes:
        rows: one for each module, in the order of the tree.
        input: shapes of the inputs.
        parameters: total.
        trainable: of those, how many require a gradient.
        multiply_adds: of one forward pass.
    """

    rows: list[Row]
    input: list[tuple[int, ...]]
    parameters: int
    trainable: int
    multiply_adds: int

    def table(self) -> list[list[str]]:
        """Heading and rows as text."""
        lines = [["layer", "output", "parameters", "multiply-adds", "receptive field"]]
        for row in self.rows:
            name = row.name.rpartition(".")[2] if row.name else ""
            label = "  " * row.depth + (f"{name}: {row.kind}" if name else row.kind)
            lines.append(
                [
                    label,
                    "-" if row.output is None else "[" + ", ".join(map(str, row.output)) + "]",
                    f"{row.parameters:,}" if row.parameters else "-",
                    f"{row.multiply_adds:,}" if row.multiply_adds else "-",
                    "-" if row.receptive_field is None else str(row.receptive_field),
                ]
            )
        return lines

    def totals(self) -> str:
        """One sentence with the sums."""
        shapes = ", ".join("[" + ", ".join(map(str, s)) + "]" for s in self.input)
        frozen = self.parameters - self.trainable
        note = f", {frozen:,} of them frozen" if frozen else ""
        return f"input {shapes}; {self.parameters:,} parameters{note}; {self.multiply_adds:,} multiply-adds"

    def __str__(self) -> str:
        lines = self.table()
        widths = [max(_width(line[i]) for line in lines) for i in range(len(lines[0]))]
        text = []
        for at, line in enumerate(lines):
            cells = [
                cell + " " * (w - _width(cell)) if i < 2 else " " * (w - _width(cell)) + cell
                for i, (cell, w) in enumerate(zip(line, widths, strict=True))
            ]
            text.append("  ".join(cells).rstrip())
            if at == 0:
                text.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
        return "\n".join([*text, "-" * (sum(widths) + 2 * (len(widths) - 1)), self.totals()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        heading, *lines = self.table()
        head = "".join(f"<th style='text-align:left'>{escape(c)}</th>" for c in heading)
        body = "".join(
            "<tr>"
            + "".join(
                f"<td style='text-align:{'left' if i < 2 else 'right'};white-space:pre'>{escape(c)}</td>"
                for i, c in enumerate(line)
            )
            + "</tr>"
            for line in lines
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{escape(self.totals())}</p>"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _inputs(input: Any, dtype: DType) -> list[Any]:
    if isinstance(input, T.Tensor):
        return [input]
    if isinstance(input, (list, tuple)) and input:
        if all(hasattr(e, "__index__") and not isinstance(e, (bool, T.Tensor)) for e in input):
            return [T.zeros(*(int(e) for e in input), dtype=dtype)]
        return [one for part in input for one in _inputs(part, dtype)]
    raise TypeError(f"summary: input={input!r} must be a tensor, a shape with the batch, or a sequence of these")


def summary(model: Module, input: Any, dtype: DType = float32) -> Summary:
    """The layer table of a network, from one forward pass in evaluation mode.

    Multiply-adds count convolutions, transposed convolutions and matrix products. The receptive field is how much of
    the first input one element of the output sees, padding not subtracted; "all" after anything that mixes all places.
    The model, its mode and its statistics are left as they were.

    Args:
        model: the network.
        input: a tensor, a shape that includes the batch such as `(1, 3, 32, 32)`, or a sequence of these for a
            network of several inputs.
        dtype: element type of inputs that are given by their shapes.

    Raises:
        TypeError: `model` is no module, or `input` neither tensor nor shape.

    >>> import juanji as jj
    >>> from juanji import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 3 * 3, 2))
    >>> print(jj.summary(net, (1, 1, 8, 8)))
    layer           output        parameters  multiply-adds  receptive field
    ------------------------------------------------------------------------
    Sequential      [1, 2]                 -          1,368              all
      0: Conv2d     [1, 4, 6, 6]          40          1,296              3x3
      1: ReLU       [1, 4, 6, 6]           -              -              3x3
      2: MaxPool2d  [1, 4, 3, 3]           -              -              4x4
      3: Flatten    [1, 36]                -              -              all
      4: Linear     [1, 2]                74             72              all
    ------------------------------------------------------------------------
    input [1, 1, 8, 8]; 114 parameters; 1,368 multiply-adds
    """
    if not isinstance(model, Module):
        raise TypeError(f"summary: model must be a Module, not {type(model).__name__}")
    values = [v.detach() for v in _inputs(input, dtype)]
    leaves = [v.requires_grad_() for v in (T.zeros_like(v) + v for v in values) if v.dtype.is_floating_point]
    rows = {id(m): _row(name, m) for name, m in model.named_modules()}
    given = iter(leaves)
    arguments = [next(given) if v.dtype.is_floating_point else v for v in values]
    outputs = _watched(model, arguments, rows)
    rank = max(0, leaves[0].ndim - 2) if leaves else 0
    edges = [o.edge() for o in outputs] + [e for row in rows.values() for _, _, e in row.spans]
    known: dict[int, Function] = {f.seq: f for e in edges for f in functions(e)}
    seen: dict[int, Field] = {}
    if leaves and rank:
        for e in edges:
            seen.update(fields(e, leaves[0].edge(), rank))
    for row in rows.values():
        for begin, end, result in row.spans:
            row.multiply_adds += sum(multiply_adds(f) for seq, f in known.items() if begin < seq < end)
            if result is not None and isinstance(result, Function):
                row.receptive_field = seen.get(result.seq, row.receptive_field)
    every = {id(p): p for p in model.parameters()}.values()
    return Summary(
        list(rows.values()),
        [tuple(v.shape) for v in values],
        sum(p.numel() for p in every),
        sum(p.numel() for p in every if p.requires_grad),
        sum(multiply_adds(f) for f in known.values()),
    )


def _row(name: str, module: Module) -> Row:
    own = list(module.parameters(recurse=False))
    return Row(
        name,
        type(module).__name__,
        name.count(".") + 1 if name else 0,
        parameters=sum(math.prod(p.shape) for p in own),
        trainable=sum(math.prod(p.shape) for p in own if p.requires_grad),
    )


def _watched(model: Module, arguments: list[Any], rows: dict[int, Row]) -> list[Any]:
    """Runs the model in evaluation mode and notes for each call which operations were recorded between."""
    starts: list[int] = []
    handles = []

    def enter(module: Any, args: Any) -> None:
        starts.append(next(tape._sequence))

    def leave(module: Any, args: Any, output: Any) -> None:
        row = rows[id(module)]
        tensors = _tensors(output)
        row.calls += 1
        row.output = tuple(tensors[0].shape) if tensors else None
        edge = tensors[0].edge() if tensors else None
        row.spans.append((starts.pop(), next(tape._sequence), edge))

    try:
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave))
        with evaluating(model), autograd.enable_grad():
            return [t for t in _tensors(model(*arguments)) if t.edge() is not None]
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: Any) -> list[Any]:
    if isinstance(value, T.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in _tensors(v)] if isinstance(value, (list, tuple)) else []
