"""Convolution problems of any rank for benchmarks: what Juanji and PyTorch are asked to compute, and their workers."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import race

DIRECTIONS = ("forward", "input gradient", "weight gradient")
Run = Callable[[], Any]
_ALIGNMENT = 64


@dataclass(frozen=True)
class Problem:
    """A convolution, or a transposed one: then `size` is that of its result, and `ins` and `outs` are exchanged.

    >>> Problem(8, 64, (56, 56), 64, (3, 3), padding=1).out
    (56, 56)
    """

    images: int
    ins: int
    size: tuple[int, ...]
    outs: int
    kernel: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Problem:
        """From what `dataclasses.asdict` gave and JSON kept."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})

    @property
    def out(self) -> tuple[int, ...]:
        """The output's sizes."""
        reach = [self.dilation * (k - 1) + 1 for k in self.kernel]
        return tuple((n + 2 * self.padding - r) // self.stride + 1 for n, r in zip(self.size, reach, strict=True))

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the convolution's input, weight and output."""
        weight = (self.outs, self.ins // self.groups, *self.kernel)
        return (self.images, self.ins, *self.size), weight, (self.images, self.outs, *self.out)

    @property
    def operations(self) -> int:
        """Multiplications and additions of any direction, borders counted whole."""
        _, weight, output = self.shapes
        return 2 * math.prod(output) * math.prod(weight[1:])

    @property
    def bytes(self) -> int:
        """Of all three tensors."""
        return 4 * sum(math.prod(shape) for shape in self.shapes)

    def __str__(self) -> str:
        def by(numbers: tuple[int, ...]) -> str:
            same = len(set(numbers)) == 1 and len(numbers) > 1
            return f"{numbers[0]}{'²³'[len(numbers) - 2]}" if same else "x".join(map(str, numbers))

        first, last, size = self.ins, self.outs, self.size
        if self.transposed:
            first, last, size = last, first, self.out
        text = f"{first} → {last} at {by(size)}, {'x'.join(map(str, self.kernel))}"
        for name in ("stride", "dilation"):
            if getattr(self, name) != 1:
                text += f", {name} {getattr(self, name)}"
        if self.groups > 1:
            text += ", depthwise" if self.groups == self.ins == self.outs else f", {self.groups} groups"
        return text + (", transposed" if self.transposed else "")

    def operation(self, direction: str) -> tuple[str, tuple[int, int, int], dict[str, Any]]:
        """Juanji's operation, which of (input, weight, output) are its operands and result, and its attributes."""
        rank = len(self.size)
        attrs: dict[str, Any] = {
            "stride": (self.stride,) * rank,
            "padding": ((self.padding,) * 2,) * rank,
            "dilation": (self.dilation,) * rank,
            "groups": self.groups,
        }
        if direction == "weight gradient":
            return "conv_weight_grad", (2, 0, 1), {**attrs, "kernel": self.kernel}
        if (direction == "forward") != self.transposed:
            return "conv", (0, 1, 2), attrs
        return "conv_input_grad", (2, 1, 0), {**attrs, "size": self.size}


def memory(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Random numbers that begin at a cache line, as both libraries' own memory does."""
    whole = np.random.default_rng(0).random(math.prod(shape) + _ALIGNMENT, np.float32)
    start = -whole.__array_interface__["data"][0] % _ALIGNMENT // whole.itemsize
    return whole[start : start + math.prod(shape)]


def plan_inside(problem: Problem, direction: str) -> tuple[Any, list[Any]]:
    """The plan of one operation as it is inside a network, and its operands and result in memory."""
    from juanji import ops
    from juanji.compiler.access import channels_last, strides_in_order
    from juanji.compiler.plan import build
    from juanji.graph import Graph
    from juanji.spec import Spec, contiguous_strides

    name, roles, attrs = problem.operation(direction)
    graph, arrays = Graph(), []
    for role in roles:
        shape = problem.shapes[role]
        order = channels_last(len(shape))
        graph.input(Spec(shape, "f32"), contiguous_strides(shape) if role == 1 else strides_in_order(shape, order))
        arrays.append(memory(shape))
    first, second, result = graph.slots
    node = graph.node(ops.TABLE[name], (first, second), tuple(sorted(attrs.items())), result.spec)
    # The result is written into an input's memory, which may be channels-last; new memory never is.
    return build(graph, [], [(2, node)], keep_arena=True), arrays


def juanji_inside(problem: Problem, direction: str) -> Run:
    """The kernel calls as inside a network."""
    plan, arrays = plan_inside(problem, direction)
    pointers = [a.__array_interface__["data"][0] for a in arrays]
    keep = arrays  # the plan holds addresses only
    return lambda: plan.run(pointers, ()) if keep else None


def juanji_eager(problem: Problem, direction: str) -> Run:
    """One whole eager call on tensors with channels outside."""
    import juanji as jj
    from juanji import ops

    name, roles, attrs = problem.operation(direction)
    first, second, _ = (jj.rand(*problem.shapes[role]) for role in roles)
    return lambda: ops.TABLE[name](first, second, **attrs)


def torch_run(problem: Problem, direction: str, layout: str) -> Run:
    """PyTorch's call, on tensors of a layout."""
    import torch

    rank = len(problem.size)
    last = {2: torch.channels_last, 3: torch.channels_last_3d}.get(rank, torch.contiguous_format)
    form = last if layout == "channels_last" else torch.contiguous_format
    x, w, y = (torch.rand(shape).contiguous(memory_format=form) for shape in problem.shapes)
    if problem.transposed:
        x, y = y, x
    sizes = ([problem.stride] * rank, [problem.padding] * rank, [problem.dilation] * rank)
    rest = (problem.transposed, [0] * rank, problem.groups)
    if direction == "forward":
        return lambda: torch.ops.aten.convolution(x, w, None, *sizes, *rest)
    wanted = [direction == "input gradient", direction == "weight gradient", False]
    return lambda: torch.ops.aten.convolution_backward(y, x, w, None, *sizes, *rest, wanted)


def work(kind: str) -> None:
    """A worker: keeps what it runs for one problem at a time."""

    def prepare() -> Any:
        if kind == "torch":
            import torch

            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
            torch.set_grad_enabled(False)
        ready: dict[Any, Run] = {}

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            problem, direction, way = Problem.of(request["problem"]), request["direction"], request["way"]
            if way == "reason":
                return {"reason": reason(problem, direction)}
            key = (problem, direction, way)
            if key not in ready:
                if any(k[0] != problem for k in ready):
                    ready.clear()
                make: Any = {"inside": juanji_inside, "eager": juanji_eager}.get(way)
                ready[key] = make(problem, direction) if make else torch_run(problem, direction, way)
                ready[key]()
            return race.timed(ready[key], request["count"])

        return {}, answer

    race.serve(prepare)


def reason(problem: Problem, direction: str) -> str:
    """What a plan's time goes to on one thread, how the main call is computed, and how near it is to what bounds it."""
    from juanji.codegen.contract import ContractSpec
    from juanji.target import current
    from juanji.visual.profile import machine_peaks, tile

    plan, arrays = plan_inside(problem, direction)
    pointers = [a.__array_interface__["data"][0] for a in arrays]
    plan.run(pointers, ())
    times = [[seconds for _, seconds in plan.profile()] for _ in range(5)]
    calls = sorted(zip(plan.calls, map(min, zip(*times, strict=True)), strict=True), key=lambda c: -c[1])
    total, (call, longest) = sum(seconds for _, seconds in calls), calls[0]
    text = ", ".join(f"{c.label} {seconds / total:.0%}" for c, seconds in calls[:3])
    if not call.flops or not total:
        return text
    flops, transfer = machine_peaks(current())
    arithmetic, memory = problem.operations / flops, problem.bytes / transfer
    text += f"; {call.algorithm} {tile(call.spec, plan.target)}".rstrip()
    text += f": {problem.operations / longest / 1e9:.0f} GFLOP/s, {arithmetic / longest:.0%} of the peak"
    if arithmetic < memory < longest:
        text += f"; memory alone takes {memory / longest:.0%} of the time"
    if isinstance(call.spec, ContractSpec) and not call.spec.dots:
        lanes, n = current().lanes("f32"), call.args[10]
        assert isinstance(n, int)
        if (used := n / (-(-n // lanes) * lanes)) < 0.9:
            text += f"; {n} columns use {used:.0%} of the lanes"
    return text


def workers(script: str, threads: int = 1) -> dict[str, race.Worker]:
    """Juanji and PyTorch with its default allocator and with glibc told to keep freed memory."""
    several = race.threads_of(threads)
    found = {"Juanji": race.Worker(script, "juanji", env=several)}
    if race.installed("torch"):
        found["PyTorch"] = race.Worker(script, "torch", env=several)
        found["PyTorch, memory kept"] = race.Worker(script, "torch", env={**several, **race.KEPT_MEMORY})
    return found


def tasks(
    team: dict[str, race.Worker], problem: Problem, direction: str, ours: tuple[str, ...]
) -> dict[str, race.Task]:
    """What each worker is asked for one problem: ours in the given ways, PyTorch's in its layouts."""
    layouts = ("nchw",) if len(problem.size) == 1 else ("channels_last", "nchw")
    fields = {"problem": dataclasses.asdict(problem), "direction": direction}
    return {
        f"{name} {way}": (worker, {**fields, "way": way})
        for name, worker in team.items()
        for way in (ours if name == "Juanji" else layouts)
    }
