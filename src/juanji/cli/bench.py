"""`juanji bench`: how long a network of the zoo or one convolution takes here, kernel by kernel."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from juanji.cli.output import JsonOption, UsageError, command, emit, say, show

#: A convolution as text: in x height x width -> out, kernel, and optionally stride, padding, dilation, groups.
PROBLEM = re.compile(r"(\d+)x(\d+)x(\d+)->(\d+),k(\d+)((?:,[spdg]\d+)*)$")


@command
def bench(
    what: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|PROBLEM",
            help="A network (see: juanji models), or a convolution such as 64x56x56->128,k3,s2,p1 "
            "(channels x height x width -> channels, kernel; s stride, p padding, d dilation, g groups).",
            show_default=False,
        ),
    ],
    train: Annotated[
        bool, typer.Option("--train/--infer", help="A whole training step, or the forward pass alone.")
    ] = False,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures at once.")] = 1,
    size: Annotated[int, typer.Option("--size", min=0, help="Height and width; 0 is the network's own.")] = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads to use.")] = 1,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs to measure.")] = 10,
    versus: Annotated[
        str, typer.Option("--vs", help="torch: the same problem in PyTorch, run in turns (a convolution only).")
    ] = "",
    trace: Annotated[str, typer.Option("--trace", help="Write a trace for chrome://tracing to this file.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Time a network of the zoo or a convolution: the whole, and each of its kernels beside the machine's peak."""
    import juanji as jj
    from juanji import zoo

    if versus not in ("", "torch"):
        raise UsageError(f"--vs {versus}: only torch is known")
    problem = PROBLEM.match(what.replace(" ", ""))
    if problem is None and what not in zoo.list():
        raise UsageError(f"{what!r} is neither a convolution like 64x56x56->128,k3,s2,p1 nor one of {zoo.list()}")
    if versus and problem is None:
        raise UsageError("--vs takes a convolution: PyTorch has no networks of its own to compare with")
    jj.set_num_threads(threads)
    if problem is not None:
        step, arguments, other = _convolution(problem, batch, train, bool(versus))
    else:
        step, arguments = _network(what, batch, size, train)
        other = None
    begin = time.perf_counter()
    step(*arguments)
    first = time.perf_counter() - begin
    ours, theirs = _race(lambda: step(*arguments), other, runs)
    profile = jj.profile(step, *arguments, repeat=min(runs, 5))
    if trace:
        profile.save_trace(trace)
    result: dict[str, Any] = {
        "what": what,
        "mode": "train" if train else "infer",
        "batch": batch,
        "threads": threads,
        "first_ms": round(first * 1e3, 3),
        "ms": round(statistics.median(ours) * 1e3, 4),
        "per_second": round(batch / statistics.median(ours), 2),
        "profile": profile.as_dict(),
    }
    if theirs:
        result["torch_ms"] = round(statistics.median(theirs) * 1e3, 4)
        result["ratio"] = round(statistics.median(theirs) / statistics.median(ours), 3)
    if as_json:
        emit(result)
        return
    say(f"first call {result['first_ms']:.0f} ms")
    on = f"{threads} thread{'s' * (threads > 1)}"
    show(f"{what}, {result['mode']}, batch {batch}, {on}: {result['ms']} ms, {result['per_second']}/s")
    if theirs:
        show(f"PyTorch (channels last, eager): {result['torch_ms']} ms, {result['ratio']} times ours")
    show(str(profile))


def _race(ours: Callable[[], Any], theirs: Callable[[], Any] | None, runs: int) -> tuple[list[float], list[float]]:
    """Seconds of each, in turns, so that both meet the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for function in (ours, theirs):
        if function is not None:
            function()
    for _ in range(runs):
        for function, taken in zip((ours, theirs), times, strict=True):
            if function is not None:
                begin = time.perf_counter()
                function()
                taken.append(time.perf_counter() - begin)
    return times


def _network(name: str, batch: int, size: int, train: bool) -> tuple[Any, tuple[Any, ...]]:
    import juanji as jj
    from juanji import nn, optim, zoo

    network = zoo.create(name)
    size = size or zoo.input_size(name)
    pictures = jj.randn(batch, zoo.architecture(network)["arguments"]["in_channels"], size, size)
    if not train:
        network.eval()

        @jj.compile
        def forward(pictures: Any) -> Any:
            with jj.no_grad():
                return network(pictures)

        return forward, (pictures,)
    optimizer = optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    @jj.compile
    def step(pictures: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(pictures), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, (pictures, jj.zeros(batch, dtype=jj.int64))


def _convolution(problem: re.Match[str], batch: int, train: bool, race: bool) -> tuple[Any, tuple[Any, ...], Any]:
    import juanji as jj
    from juanji.nn import functional as F

    ins, height, width, outs, kernel = (int(problem[i]) for i in range(1, 6))
    given = {part[0]: int(part[1:]) for part in problem[6].split(",") if part}
    options: dict[str, Any] = {
        name: given.get(name[0], default)
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))
    }
    shapes = ((batch, ins, height, width), (outs, ins // options["groups"], kernel, kernel))
    # Channels last in memory, as values lie between the layers of a network.
    values = [jj.randn(s[0], *s[2:], s[1]).permute(0, 3, 1, 2) for s in shapes[:1]] + [jj.randn(*shapes[1])]

    @jj.compile
    def forward(x: Any, weight: Any) -> Any:
        return F.conv2d(x, weight, **options)

    @jj.compile
    def both(x: Any, weight: Any) -> Any:
        x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
        return jj.autograd.grad(F.conv2d(x, weight, **options).sum(), (x, weight))

    other = None
    if race:
        import torch

        torch.set_num_threads(jj.get_num_threads())
        like: Any = [torch.randn(s).to(memory_format=torch.channels_last).requires_grad_(train) for s in shapes]

        convolve: Any = torch.nn.functional.conv2d

        def other() -> Any:
            result = convolve(*like, **options)
            return torch.autograd.grad(result.sum(), like) if train else result

    return both if train else forward, tuple(values), other
