"""`juanji bench`: how long a network of the zoo or one convolution takes here, kernel by kernel, and beside others."""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from juanji.cli.output import JsonOption, UsageError, command, emit, say, show

#: A convolution as text: in x height x width -> out, kernel, and optionally stride, padding, dilation, groups.
PROBLEM = re.compile(r"(\d+)x(\d+)x(\d+)->(\d+),k(\d+)((?:,[spdg]\d+)*)$")
#: Libraries that can take part in a race, and how they are called.
PEERS = {
    "torch": "PyTorch (channels last, eager)",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO (float32)",
    "jax": "JAX (jit)",
}
#: A run shorter than this has one before it, at each turn, that does not count: others have just filled the caches.
SHORT = 0.1
#: Seconds of rest before each turn where there are several threads: a library's threads go on waiting for work, each on
#: a processor of its own, for a while after they had some.
REST = 0.2
Run = Callable[[], Any]


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
        str,
        typer.Option(
            "--vs",
            metavar="LIBRARIES",
            help="The same in other libraries, in turns: torch, onnxruntime and openvino (forward only), jax "
            "(convolutions only); several with commas.",
        ),
    ] = "",
    trace: Annotated[str, typer.Option("--trace", help="Write a trace for chrome://tracing to this file.")] = "",
    picture: Annotated[
        str, typer.Option("--roofline", help="Draw the kernels under the machine's roofline into this file.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Time a network of the zoo or a convolution: the whole, and each of its kernels beside the machine's peak."""
    import juanji as jj
    from juanji import zoo
    from juanji.visual.figures import pyplot
    from juanji.visual.roofline import roofline

    problem = PROBLEM.match(what.replace(" ", ""))
    if problem is None and what not in zoo.list():
        raise UsageError(f"{what!r} is neither a convolution like 64x56x56->128,k3,s2,p1 nor one of {zoo.list()}")
    names = _names(versus, problem is not None, train)
    if picture:
        pyplot()  # says at once if it is missing
    jj.set_num_threads(threads)
    if problem is not None:
        step, arguments, module = _convolution(problem, batch, train)
    else:
        step, arguments, module = _network(what, batch, size, train)
    with tempfile.TemporaryDirectory() as folder:
        others = {
            name: _peer(name, module, arguments, problem is not None, train, threads, Path(folder)) for name in names
        }
        begin = time.perf_counter()
        step(*arguments)
        first = time.perf_counter() - begin
        times = _race({"juanji": lambda: step(*arguments), **others}, runs, threads)
    profile = jj.profile(step, *arguments, repeat=min(runs, 5))
    if trace:
        profile.save_trace(trace)
    mode = "train" if train else "infer"
    if picture:
        roofline(profile, picture, f"{what}, {mode}, batch {batch}")
    ours = statistics.median(times["juanji"])
    result: dict[str, Any] = {
        "what": what,
        "mode": mode,
        "batch": batch,
        "threads": threads,
        "first_ms": round(first * 1e3, 3),
        "ms": round(ours * 1e3, 4),
        "per_second": round(batch / ours, 2),
        "profile": profile.as_dict(),
        "peers": {name: _beside(times["juanji"], times[name]) for name in names},
    }
    if as_json:
        emit(result)
        return
    say(f"first call {result['first_ms']:.0f} ms")
    on = f"{threads} thread{'s' * (threads > 1)}"
    show(f"{what}, {mode}, batch {batch}, {on}: {result['ms']} ms, {result['per_second']}/s")
    for name, found in result["peers"].items():
        show(f"{PEERS[name]}: {found['ms']} ms, {found['ratio']} times ours")
    show(str(profile))
    show("\n".join(["why so:", *profile.reasons()]) if profile.reasons() else "")


def _names(versus: str, convolution: bool, train: bool) -> list[str]:
    """The libraries asked for; a sentence about one that is not known, not installed or can't do it."""
    from juanji.interop import peers

    names = [name.strip() for name in versus.split(",") if name.strip()]
    for name in names:
        if name not in PEERS:
            raise UsageError(f"--vs {name}: known are {', '.join(PEERS)}")
        if name == "jax" and not convolution:
            raise UsageError("--vs jax takes a convolution: networks are translated to PyTorch only")
        if name in ("onnxruntime", "openvino") and train:
            raise UsageError(f"--vs {name} runs the forward pass alone: leave --train out")
        if peers.missing(name):
            raise ImportError(peers.missing(name))
    return list(dict.fromkeys(names))


def _race(runs: dict[str, Run], count: int, threads: int) -> dict[str, list[float]]:
    """Seconds of each, in turns, so that all meet the same machine; each round begins with another."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    short = {}
    for name, run in runs.items():
        run()
        begin = time.perf_counter()
        run()
        short[name] = time.perf_counter() - begin < SHORT
    names = list(runs)
    for turn in range(count):
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            if len(names) > 1 and threads > 1:
                time.sleep(REST)
            if len(names) > 1 and short[name]:
                runs[name]()
            begin = time.perf_counter()
            runs[name]()
            times[name].append(time.perf_counter() - begin)
    return times


def _beside(ours: list[float], theirs: list[float]) -> dict[str, float]:
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return {"ms": round(statistics.median(theirs) * 1e3, 4), "ratio": round(ratio, 3)}


def _peer(
    name: str, module: Any, arguments: tuple[Any, ...], convolution: bool, train: bool, threads: int, folder: Path
) -> Run:
    """The same work in another library, on as many threads."""
    from juanji.interop import peers

    image = arguments[0].contiguous().numpy()
    if name == "torch":
        import torch

        torch.set_num_threads(threads)
        if not train:
            return peers.torch_forward(module, image)
        return (
            peers.torch_gradients(module, image)
            if convolution
            else peers.torch_step(module, image, arguments[1].numpy())
        )
    if name == "jax":
        # Read when it is first imported.
        os.environ["NPROC"] = str(threads)
        os.environ["XLA_FLAGS"] = (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen={str(threads > 1).lower()}"
        )
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        return peers.jax_convolution(module, image, gradients=train)
    file = folder / f"{name}.onnx"
    peers.write_onnx(module, image.shape, file)
    make = peers.onnxruntime_forward if name == "onnxruntime" else peers.openvino_forward
    return make(file, image, threads)


def _network(name: str, batch: int, size: int, train: bool) -> tuple[Any, tuple[Any, ...], Any]:
    """The compiled step, its arguments, and the network."""
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

        return forward, (pictures,), network
    optimizer = optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    @jj.compile
    def step(pictures: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(pictures), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, (pictures, jj.zeros(batch, dtype=jj.int64)), network


def _convolution(problem: re.Match[str], batch: int, train: bool) -> tuple[Any, tuple[Any, ...], Any]:
    """The compiled step, its arguments, and a layer that does the same."""
    import juanji as jj
    from juanji import nn
    from juanji.nn import functional as F

    ins, height, width, outs, kernel = (int(problem[i]) for i in range(1, 6))
    given = {part[0]: int(part[1:]) for part in problem[6].split(",") if part}
    options: dict[str, Any] = {
        name: given.get(name[0], default)
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))
    }
    layer = nn.Conv2d(ins, outs, kernel, bias=False, **options)
    # Channels last in memory, as values lie between the layers of a network.
    image = jj.randn(batch, height, width, ins).permute(0, 3, 1, 2)

    @jj.compile
    def forward(x: Any, weight: Any) -> Any:
        return F.conv2d(x, weight, **options)

    @jj.compile
    def both(x: Any, weight: Any) -> Any:
        x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
        return jj.autograd.grad(F.conv2d(x, weight, **options).sum(), (x, weight))

    return both if train else forward, (image, layer.weight.detach()), layer
