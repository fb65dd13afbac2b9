"""How many kernels are needed: bounded for a whole step, none for a short last batch, one for twenty shapes of an op."""

import math

import numpy as np
import pytest

import juanji as jj
from juanji import optim
from juanji.nn import functional as F
from juanji.runtime import jit
from juanji.tensors import eager
from juanji.zoo.lenet import LeNet


@pytest.fixture
def kernels(monkeypatch, use_target):
    """`kernels(function)`: how many kernels it asks for that were not asked for before in this test."""
    monkeypatch.setattr(jit, "_addresses", {})
    monkeypatch.setattr(eager, "_plans", {})
    use_target("avx2")

    def count(function):
        before = jit.statistics.kernels + jit.statistics.loaded
        function()
        return jit.statistics.kernels + jit.statistics.loaded - before

    return count


def lenet(optimizer, **options):
    jj.manual_seed(0)
    net = LeNet()
    optimizer = getattr(optim, optimizer)(net.parameters(), **options)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def batch(size):
    random = np.random.default_rng(size)
    images = random.standard_normal((size, 1, 28, 28), np.float32)
    return jj.from_numpy(images), jj.from_numpy(random.integers(0, 10, size))


@pytest.mark.parametrize(
    ("optimizer", "options"), [("SGD", {"lr": 0.01, "momentum": 0.9}), ("AdamW", {"lr": 0.001})], ids=["SGD", "AdamW"]
)
def test_lenet_step(kernels, optimizer, options):
    step = jj.compile(lenet(optimizer, **options))
    assert kernels(lambda: step(*batch(4))) <= 45
    assert len(step.plans[0].calls) <= 60
    assert kernels(lambda: [step(*batch(4)) for _ in range(5)]) == 0
    assert kernels(lambda: step(*batch(3))) <= 1, (
        "weight gradients of up to four examples are part of the update's loop"
    )
    kernels(lambda: step(*batch(20)))
    assert kernels(lambda: step(*batch(12))) == 0, "a short last batch needs no new kernels"
    assert kernels(lambda: step(*batch(7))) == 0
    assert kernels(lambda: step(*batch(1))) <= 8, "in a batch of one, dimensions of extent 1 collapse"


def test_eager_lenet_step(kernels):
    step = lenet("SGD", lr=0.01, momentum=0.9)
    step(*batch(2))
    assert kernels(lambda: [step(*batch(2)) for _ in range(3)]) <= 8  # momentum buffers exist from the second step on
    assert kernels(lambda: step(*batch(5))) == 0


SHAPES = [(3 + i, 5 + 2 * i) for i in range(20)]
zeros = jj.zeros
TWENTY = {
    "add": lambda s: zeros(s) + zeros(s),
    "add a row": lambda s: zeros(s) + zeros(s[1]),
    "exp": lambda s: zeros(s).exp(),
    "sum of all": lambda s: zeros(s).sum(),
    "sum over rows": lambda s: zeros(s).sum(1),
    "sum over columns": lambda s: zeros(s).sum(0),
    "amax": lambda s: zeros(s).amax(1),
    "softmax": lambda s: F.softmax(zeros(s), 1),
    "cross entropy": lambda s: F.cross_entropy(zeros(s[1], 10), zeros(s[1], dtype=jj.int64), reduction="none"),
    "transposed copy": lambda s: zeros(s).T.contiguous(),
    "max_pool2d": lambda s: F.max_pool2d(zeros(2, s[0], 8, s[1]), 2),
    "matmul": lambda s: zeros(s) @ zeros(s[1], 16),
    "conv2d over pictures": lambda s: F.conv2d(zeros(2, 16, s[0], s[1]), zeros(16, 16, 3, 3)),
}


#: Products of up to four rows have lower tiles; short sides are copied by a loop, long ones by tiles; pictures of few
#: channels are pooled as planes, others after a reorder; a convolution packs weights, reorders pictures (both transposing
#: copies, or loops where short) and multiplies.
MORE = {"matmul": 2, "transposed copy": 2, "max_pool2d": 3, "conv2d over pictures": 3}


@pytest.mark.parametrize("name", TWENTY)
def test_twenty_eager_shapes(kernels, name):
    assert kernels(lambda: [TWENTY[name](s) for s in SHAPES]) <= MORE.get(name, 1)


def test_twenty_convolutions_of_other_channels(kernels):
    """The register tile and the tail of the columns are code: one kernel for each number of vectors in the last block."""

    def run():
        for i in range(20):
            F.conv2d(zeros(1, 3 + i, 6, 6), zeros(8, 3 + i, 3, 3))
        for i in range(20):
            F.conv2d(zeros(1, 3, 6, 6), zeros(8 * math.ceil((i + 1) / 7), 3, 1 + i % 3, 1 + i // 7))

    assert kernels(run) <= 8
