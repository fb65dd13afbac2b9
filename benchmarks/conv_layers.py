"""How fast are conv2d and its two gradients on the layers of ResNets, compared with PyTorch? Batch 8, one thread.

Juanji is measured in two ways: the kernel calls as they run inside a network (images channels-last on both sides,
weights packed anew, a weight gradient copied out to its usual order), raced against the better of PyTorch's two
layouts; and one whole eager call on NCHW tensors, raced against PyTorch's NCHW. PyTorch runs with its default
allocator and with glibc told to keep freed memory.

    python benchmarks/conv_layers.py [--quick] [--layer N ...]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import race

BATCH = 8
DIRECTIONS = ("forward", "input gradient", "weight gradient")


@dataclass(frozen=True)
class Layer:
    """A square convolution."""

    ins: int
    size: int
    outs: int
    kernel: int
    stride: int
    padding: int

    @property
    def out(self) -> int:
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the input, the weight and the output."""
        return (
            (BATCH, self.ins, self.size, self.size),
            (self.outs, self.ins, self.kernel, self.kernel),
            (BATCH, self.outs, self.out, self.out),
        )

    @property
    def operations(self) -> int:
        """Multiplications and additions of any direction, borders counted whole."""
        return 2 * BATCH * self.out**2 * self.outs * self.ins * self.kernel**2

    def __str__(self) -> str:
        stride = f", stride {self.stride}" if self.stride != 1 else ""
        return f"{self.ins} → {self.outs} at {self.size}², {self.kernel}x{self.kernel}{stride}"


LAYERS = (
    Layer(64, 56, 64, 3, 1, 1),
    Layer(128, 28, 128, 3, 1, 1),
    Layer(256, 14, 256, 3, 1, 1),
    Layer(512, 7, 512, 3, 1, 1),
    Layer(64, 56, 128, 3, 2, 1),
    Layer(256, 56, 64, 1, 1, 0),
    Layer(64, 56, 256, 1, 1, 0),
    Layer(1024, 14, 256, 1, 1, 0),
    Layer(3, 224, 64, 7, 2, 3),
)
Run = Callable[[], Any]


def _roles(direction: str) -> tuple[int, int, int]:
    """Which of (input, weight, output) are the two operands and the result."""
    return {"forward": (0, 1, 2), "input gradient": (2, 1, 0), "weight gradient": (2, 0, 1)}[direction]


def _operation(layer: Layer, direction: str) -> tuple[Any, dict[str, Any]]:
    from juanji.ops import contraction

    attrs: dict[str, Any] = {
        "stride": (layer.stride,) * 2,
        "padding": ((layer.padding,) * 2,) * 2,
        "dilation": (1, 1),
        "groups": 1,
    }
    if direction == "forward":
        return contraction.conv, attrs
    if direction == "input gradient":
        return contraction.conv_input_grad, {**attrs, "size": (layer.size,) * 2}
    return contraction.conv_weight_grad, {**attrs, "kernel": (layer.kernel,) * 2}


def plan_inside(layer: Layer, direction: str) -> tuple[Any, list[Any]]:
    """The plan of one operation as it is inside a network, and its operands and result in memory."""
    import juanji as jj
    from juanji.compiler.plan import build
    from juanji.graph import Graph
    from juanji.spec import Spec, contiguous_strides

    op, attrs = _operation(layer, direction)
    graph, tensors = Graph(), []
    for role in _roles(direction):
        shape = layer.shapes[role]
        n, c, h, w = shape
        strides = contiguous_strides(shape) if role == 1 else (c * h * w, 1, w * c, c)
        graph.input(Spec(shape, "f32"), strides)
        tensors.append(jj.rand(n * c * h * w))
    first, second, result = graph.slots
    node = graph.node(op, (first, second), tuple(sorted(attrs.items())), result.spec)
    # The result is written into an input's memory, which may be channels-last; new memory never is.
    return build(graph, [], [(2, node)], keep_arena=True), tensors


def juanji_inside(layer: Layer, direction: str) -> Run:
    plan, tensors = plan_inside(layer, direction)
    pointers = [t.numpy().__array_interface__["data"][0] for t in tensors]
    keep = tensors  # the plan holds addresses only
    return lambda: plan.run(pointers, ()) if keep else None


def juanji_eager(layer: Layer, direction: str) -> Run:
    import juanji as jj

    op, attrs = _operation(layer, direction)
    first, second, _ = (jj.rand(*layer.shapes[role]) for role in _roles(direction))
    return lambda: op(first, second, **attrs)


def torch_run(layer: Layer, direction: str, layout: str) -> Run:
    import torch

    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    x, w, dy = (torch.rand(shape).contiguous(memory_format=form) for shape in layer.shapes)
    stride, padding = [layer.stride] * 2, [layer.padding] * 2
    if direction == "forward":
        return lambda: torch.conv2d(x, w, None, stride, padding)
    wanted = [direction == "input gradient", direction == "weight gradient", False]
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(dy, x, w, None, stride, padding, [1, 1], False, [0, 0], 1, wanted)


def work(kind: str) -> None:
    """A worker: keeps what it runs for one layer at a time."""

    def prepare() -> Any:
        if kind == "torch":
            import torch

            torch.set_num_threads(1)
            torch.set_grad_enabled(False)
        ready: dict[Any, Run] = {}

        def answer(request: dict[str, Any]) -> dict[str, Any]:
            key = (request["layer"], request["direction"], request["way"])
            if key not in ready:
                if any(k[0] != key[0] for k in ready):
                    ready.clear()
                make: Any = {"inside": juanji_inside, "eager": juanji_eager}.get(key[2])
                layer = LAYERS[key[0]]
                ready[key] = make(layer, key[1]) if make else torch_run(layer, key[1], key[2])
                ready[key]()
            return race.timed(ready[key], request["count"])

        return {}, answer

    race.serve(prepare)


def measure(quick: bool = False, layers: list[int] | None = None) -> dict[str, Any]:
    """GFLOP/s of every layer, direction and way, and Juanji's against the better of PyTorch's."""
    workers = {"Juanji": race.Worker(__file__, "juanji")}
    if race.installed("torch"):
        workers["PyTorch"] = race.Worker(__file__, "torch")
        workers["PyTorch, memory kept"] = race.Worker(__file__, "torch", env=race.KEPT_MEMORY)
    result: dict[str, Any] = {"rows": []}
    for index in layers if layers is not None else range(len(LAYERS)):
        layer = LAYERS[index]
        for direction in DIRECTIONS:
            if layer.ins == 3 and direction == "input gradient":
                continue  # nobody needs the gradient of a picture
            tasks: dict[str, race.Task] = {}
            for name, worker in workers.items():
                for way in ("inside", "eager") if name == "Juanji" else ("channels_last", "nchw"):
                    tasks[f"{name} {way}"] = (worker, {"layer": index, "direction": direction, "way": way})
            times = race.race(tasks, 3 if quick else 7, 0.03 if quick else 0.1)
            rates = {name: layer.operations / statistics.median(t) / 1e9 for name, t in times.items()}
            row: dict[str, Any] = {"layer": str(layer), "direction": direction, "rates": rates}
            peers = {name: t for name, t in times.items() if not name.startswith("Juanji")}
            for way, column in (("inside", ""), ("eager", "nchw")):
                rivals = {name: t for name, t in peers.items() if column in name}
                if rivals:
                    # The better layout is taken with each allocator, then the better allocator.
                    best = min(rivals, key=lambda name: statistics.median(rivals[name]))
                    row[way] = {"against": best, "ratio": race.speedup(times[f"Juanji {way}"], rivals[best])}
            result["rows"].append(row)
            race.note(
                f"{layer}, {direction}: "
                + ", ".join(f"{n} {r:.0f}" for n, r in rates.items())
                + (f" GFLOP/s; {row['inside']['ratio']:.2f}x, eager {row['eager']['ratio']:.2f}x" if peers else "")
            )
    for worker in workers.values():
        worker.close()
    return result


def losses(result: dict[str, Any]) -> list[str]:
    """Where PyTorch is faster."""
    names = {"inside": "inside a network", "eager": "one eager call on NCHW"}
    return [
        f"conv2d {row['layer']}, {row['direction']}, {name}: {row[way]['ratio']:.2f}x of {row[way]['against']}."
        for way, name in names.items()
        for row in result["rows"]
        if way in row and row[way]["ratio"] < 1
    ]


def markdown(result: dict[str, Any]) -> str:
    """The section of docs/performance.md."""
    columns = list(result["rows"][0]["rates"])
    head = ["conv2d, batch 8, GFLOP/s", "direction", *columns, "inside, ratio", "eager, ratio"]
    rows = []
    for row in result["rows"]:
        ratios = [f"{row[way]['ratio']:.2f}x" if way in row else "" for way in ("inside", "eager")]
        rows.append([row["layer"], row["direction"], *(f"{row['rates'][c]:.0f}" for c in columns), *ratios])
    return f"## Convolutions\n\n{' '.join((__doc__ or '').split('    ')[0].split())}\n\n{race.table(head, rows)}\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few short rounds")
    parser.add_argument("--layer", type=int, action="append", help="only these, from 0")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker)
    else:
        measured = measure(given.quick, given.layer)
        print(markdown(measured))
        print("\n".join(losses(measured)))
