"""Fusion: groups that could run, whatever the graph; and the strength of joining where loops nearly need one another."""

import random

import numpy as np
import pytest

import juanji as jj
from juanji.compiler import plan
from juanji.compiler.fuse import fuse


@pytest.fixture
def groups(monkeypatch):
    """The groups of every plan that is made while the test runs: a list of what `fuse` returned."""
    seen = []

    def watched(outputs):
        seen.append(fuse(outputs))
        return seen[-1]

    monkeypatch.setattr(plan, "fuse", watched)
    return seen


def check_order(fused):
    """Every group comes after what it reads, and every node is in one group at most."""
    done, owner = set(), {n: g for g in fused.groups for n in g.nodes}
    assert sum(len(g.nodes) for g in fused.groups) == len(owner)
    for group in fused.groups:
        stack = [c for n in group.nodes for c in n.inputs]
        while stack:
            child = stack.pop()
            if child not in owner:
                stack.extend(child.inputs)  # a view, a constant, an input or an inlined value
            else:
                assert owner[child] is group or owner[child] in done, f"{child} is read before it is computed"
        done.add(group)


def steps(seed):
    """A random program on square matrices: (operation, operands) of each value, most of recent ones."""
    r = random.Random(seed)
    kinds = ("add", "add", "mul", "mul", "tanh", "turn", "rows", "columns", "middle", "product", "pair")
    count = r.randint(6, 30)
    program = [
        (r.choice(kinds), [r.randrange(max(0, i - r.choice((2, 5, 40))), i) for _ in range(2)])
        for i in range(2, 2 + count)
    ]
    return program, sorted(r.sample(range(2, 2 + count), min(count, r.randint(1, 4))))


def compute(program, values):
    """The values of a program; the same code for NumPy's arrays and tensors."""
    numpy = isinstance(values[0], np.ndarray)
    for kind, (i, j) in program:
        a, b = values[i], values[j]
        n = a.shape[0]
        new = {
            "add": lambda a=a, b=b: (a + b) * 0.5,
            "mul": lambda a=a, b=b: a * b,
            "tanh": lambda a=a: np.tanh(a) if numpy else a.tanh(),
            "turn": lambda a=a, b=b: a.T - b,
            "rows": lambda a=a, b=b, n=n: b - a.sum(1).reshape(n, 1) / n,
            "columns": lambda a=a, b=b, n=n: b * (a.sum(0).reshape(1, n) / n),
            "middle": lambda a=a, b=b: a - b.mean(),
            "product": lambda a=a, b=b, n=n: a @ b / n,
            "pair": lambda a=a, b=b, n=n: (a * b).sum(0).reshape(1, n) / n + a.sum(0).reshape(1, n) / n - b,
        }[kind]()
        values = [*values, new]
    return values


@pytest.mark.parametrize("size", [4, 72])  # values of 72 x 72 are large enough to be computed again where they are read
def test_random_programs(groups, size):
    numbers = np.random.default_rng(1)
    for seed in range(60 if size == 4 else 25):
        program, wanted = steps(seed)
        inputs = [numbers.uniform(-1, 1, (size, size)) for _ in range(2)]
        expected = compute(program, inputs)

        @jj.compile
        def step(*values, program=program, wanted=wanted):
            values = compute(program, list(values))
            return [values[i] for i in wanted]

        for i, got in zip(wanted, step(*map(jj.tensor, inputs)), strict=True):
            np.testing.assert_allclose(got.numpy(), expected[i], 1e-9, 1e-12, err_msg=f"seed {seed}: {program}")
    for fused in groups:
        check_order(fused)


def test_a_circle_costs_no_other_loop(groups):
    """Three loops of which each could join each, but not all together; work beside them stays one loop."""
    program = [("rows", (0, 0)), ("columns", (1, 2)), ("pair", (3, 3))]

    @jj.compile
    def step(a, b, c):
        return compute(program, [a, b])[-1], ((c * 2 + 1).tanh() * c - c).exp()

    numbers = np.random.default_rng(0)
    a, b, c = (numbers.uniform(-1, 1, (4, 4)) for _ in range(3))
    last, alone = (x.numpy() for x in step(*map(jj.tensor, (a, b, c))))
    np.testing.assert_allclose(last, compute(program, [a, b])[-1], 1e-12, 1e-14)
    np.testing.assert_allclose(alone, np.exp(np.tanh(c * 2 + 1) * c - c), 1e-12)
    check_order(groups[0])
    loops = [[n.op.name for n in g.nodes] for g in groups[0].groups]
    assert ["mul", "add", "tanh", "mul", "sub", "exp"] in loops
    assert len(loops) == 11, loops


def test_inverted_residuals_without_a_loss(groups):
    """The gradient of a sum is a constant, which ties the loops of several blocks together."""
    jj.manual_seed(0)
    net = jj.zoo.create("mobilenet_v2", num_classes=10)

    @jj.compile
    def step(x):
        loss = net(x).sum()
        loss.backward()
        return loss

    step(jj.randn(2, 3, 32, 32))
    (fused,) = [f for f in groups if len(f.groups) > 100]
    check_order(fused)
    # A step with a loss and an optimiser has as many; loops left apart made it 1,950.
    assert len(fused.groups) < 1100
