"""No sum of an innermost loop is spilled: vector registers that go to the stack and back, counted in machine code."""

import re

import pytest

import juanji as jj
from juanji import nn
from juanji.runtime import jit
from juanji.target import current

#: Layers and their inputs: what networks have, small, since machine code follows from channels, kernels and strides.
PROBLEMS = {
    "3x3": (lambda: nn.Conv2d(64, 64, 3, padding=1), (2, 64, 8, 8)),
    "3x3, odd channels": (lambda: nn.Conv2d(24, 40, 3, padding=1), (2, 24, 9, 9)),
    "3x3, stride 2": (lambda: nn.Conv2d(64, 128, 3, 2, 1), (2, 64, 8, 8)),
    "stem": (lambda: nn.Conv2d(3, 64, 7, 2, 3), (1, 3, 20, 20)),
    "few channels": (lambda: nn.Conv2d(6, 16, 3), (4, 6, 13, 13)),
    "few outputs": (lambda: nn.Conv2d(32, 3, 3, padding=1), (2, 32, 9, 9)),
    "planes": (lambda: nn.Conv2d(1, 6, 3), (4, 1, 28, 28)),
    "1x1": (lambda: nn.Conv2d(96, 24, 1), (2, 96, 9, 9)),
    "1x1, wide": (lambda: nn.Conv2d(64, 256, 1), (2, 64, 9, 9)),
    "depthwise": (lambda: nn.Conv2d(48, 48, 3, padding=1, groups=48), (2, 48, 12, 12)),
    "depthwise, stride 2": (lambda: nn.Conv2d(48, 48, 3, 2, 1, groups=48), (2, 48, 12, 12)),
    "depthwise, 5x5": (lambda: nn.Conv2d(48, 48, 5, padding=2, groups=48), (2, 48, 12, 12)),
    "depthwise, 5x5, stride 2": (lambda: nn.Conv2d(48, 48, 5, 2, 2, groups=48), (2, 48, 33, 33)),
    "depthwise, 7x7": (lambda: nn.Conv2d(48, 48, 7, padding=3, groups=48), (2, 48, 19, 19)),
    "groups of 4": (lambda: nn.Conv2d(64, 64, 3, padding=1, groups=16), (2, 64, 9, 9)),
    "one dimension": (lambda: nn.Conv1d(64, 64, 9, padding=4), (1, 64, 200)),
    "three dimensions": (lambda: nn.Conv3d(16, 32, 3, padding=1), (1, 16, 5, 6, 7)),
    "transposed": (lambda: nn.ConvTranspose2d(64, 32, 4, 2, 1), (2, 64, 7, 7)),
    "linear": (lambda: nn.Linear(300, 100), (32, 300)),
    "max pooling": (lambda: nn.MaxPool2d(2), (2, 32, 8, 8)),
    "overlapping max pooling": (lambda: nn.MaxPool2d(3, 2, 1), (2, 32, 9, 9)),
    "average pooling": (lambda: nn.AvgPool2d(2), (2, 32, 8, 8)),
    "overlapping average pooling": (lambda: nn.AvgPool2d(3, 1, 1), (2, 32, 9, 9)),
    "pooled convolution": (lambda: nn.Sequential(nn.Conv2d(6, 16, 3), nn.ReLU(), nn.MaxPool2d(2)), (4, 6, 13, 13)),
}
#: With 16 registers, columns that each channel of a group reads are kept on the stack, which is faster than smaller
#: tiles, and some of seven weights side by side: {(target, problem): moves in one loop at most}. Everything else has none.
SPILLED = {("avx2", "groups of 4"): 36, ("avx2", "depthwise, 7x7"): 20}
#: Kernels that compute; loops and copies have no sums to keep.
KINDS = ("Contract", "Depthwise", "Window", "Dot", "Planar", "Correlate", "Scatter", "Gather")


def innermost_loops(assembly):
    """The lines of every loop that has no other inside: from a label to the last jump back to it."""
    lines = assembly.splitlines()
    labels = {m[1]: at for at, line in enumerate(lines) if (m := re.match(r"(\.LBB\w+):", line))}
    ends = {}
    for at, line in enumerate(lines):
        jump = re.match(r"\s+j\w+\s+(\.LBB\w+)", line)
        if jump and labels[jump[1]] <= at:
            ends[labels[jump[1]]] = at
    for begin, end in ends.items():
        if not any(begin < other <= end and last <= end for other, last in ends.items()):
            yield lines[begin : end + 1]


def spills(lines):
    """Instructions that move vectors between registers and a fixed place of the stack; arrays there have an index."""
    moved = [line.strip() for line in lines if re.search(r"[xyz]mm\d", line) and re.search(r"\(%rsp\)", line)]
    return [line for line in moved if not re.match(r"vmov[dq]\s", line)]  # an integer that is spread over a vector


def sums(lines):
    """Whether a loop adds up products, or finds maxima: others work out addresses, or store results."""
    return any(re.search(r"\sv(fn?madd|mulp|addp|maxp)", line) for line in lines)


def test_spills_are_found():
    text = """
.LBB0_1:
        vmovaps 64(%rsp), %zmm1
.LBB0_2:
        vfmadd231ps (%rbp,%rax), %zmm1, %zmm2
        vaddps  128(%rsp,%rbx), %zmm2, %zmm2
        vmovaps %zmm2, 128(%rsp)
        jne     .LBB0_2
        jne     .LBB0_1
"""
    (loop,) = innermost_loops(text)
    assert spills(loop) == ["vmovaps %zmm2, 128(%rsp)"]
    assert sums(loop)


def kernels(name):
    """The specifications of the kernels of a layer's forward and backward pass."""
    make, shape = PROBLEMS[name]
    jj.manual_seed(0)
    layer = make()

    @jj.compile
    def step(x):
        x = x.detach().requires_grad_()
        out = layer(x)
        return jj.autograd.grad((out * out).sum(), [x, *layer.parameters()])

    step(jj.randn(*shape))
    specs = dict.fromkeys(call.spec for call in step.plans[0].calls)
    return [spec for spec in specs if type(spec).__name__.removesuffix("Spec") in KINDS]


@pytest.mark.parametrize("name", PROBLEMS)
def test_innermost_loops_do_not_touch_the_stack(name, kernel_target):
    specs = kernels(name)
    assert specs
    loops, most = 0, SPILLED.get((kernel_target, name), 0)
    for spec in specs:
        for loop in innermost_loops(jit.assembly(spec, current())):
            if sums(loop):
                loops += 1
                assert len(spills(loop)) <= most, f"{spec}\n" + "\n".join(loop)
    assert loops
