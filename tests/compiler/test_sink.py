"""Results that are wanted much later are computed where they are wanted."""

import numpy as np
import pytest

import juanji as jj
from juanji.compiler import sink
from juanji.compiler.access import Buffer
from juanji.compiler.program import Call, Program, Ref
from juanji.nn import functional as F
from juanji.target import current


def order(calls, monkeypatch, far=100):
    """The labels of calls after sinking; each is (label, what it reads, what it writes)."""
    monkeypatch.setattr(sink, "LARGE", 50)
    monkeypatch.setattr(sink, "FAR", far)
    program = Program(current())
    for label, reads, writes in calls:
        args = [Ref(b) for b in (*reads, *writes)]
        program.calls.append(Call(None, args, 1, label, frozenset(writes)))
    sink.sink(program)
    return "".join(call.label for call in program.calls)


def test_moves_to_its_reader_and_what_leads_to_it_follows(monkeypatch):
    x, kept, large, larger, other, small = (Buffer(n) for n in (80, 80, 80, 90, 200, 8))
    given = Buffer(80, "slot", 0)
    calls = [
        ("a", [given], [kept]),
        ("b", [kept], [large]),
        ("c", [large, given], [larger]),
        ("d", [kept], [small]),
        ("e", [x], [other]),
        ("f", [larger, kept, large, small], [x]),
    ]
    # d's result is small; e writes enough to move c over it, and then b
    assert order(calls, monkeypatch) == "adebcf"


@pytest.mark.parametrize(
    ("reason", "middle", "end"),
    [
        ("an operand is overwritten in between", "slot", "result"),
        ("an operand would have to be kept longer", "other", "result"),
        ("what is in between is little", "small", "both"),
        ("the result is read in between", "reader", "both"),
        ("nobody reads it", "other", "operand"),
    ],
)
def test_stays_where(monkeypatch, reason, middle, end):
    slot, operand, result, other, small, last = Buffer(80, "slot", 0), *(Buffer(n) for n in (80, 80, 200, 8, 8))
    between = {
        "slot": ([other], [slot, other]),
        "other": ([], [other]),
        "small": ([], [small]),
        "reader": ([result], [other]),
    }[middle]
    reads = {"result": [result], "both": [result, operand], "operand": [operand]}[end]
    calls = [("a", [slot], [operand]), ("b", [slot, operand], [result]), ("c", *between), ("d", reads, [last])]
    assert order(calls, monkeypatch) == "abcd", reason


def trained(batch=2):
    """The loss and gradients of a step of a small network with overlapping pooling."""
    jj.manual_seed(1)
    first, second = jj.nn.Conv2d(3, 8, 3, padding=1), jj.nn.Conv2d(8, 8, 3, padding=1)
    norm, last = jj.nn.BatchNorm2d(8), jj.nn.Linear(8, 4)
    parameters = [*first.parameters(), *norm.parameters(), *second.parameters(), *last.parameters()]
    images, labels = jj.randn(batch, 3, 20, 20), jj.arange(batch) % 4

    @jj.compile
    def step(images, labels):
        x = F.max_pool2d(F.relu(norm(first(images))), 3, 2, 1)
        x = F.relu(second(x)) + x
        loss = F.cross_entropy(last(x.mean((2, 3))), labels)
        return loss, *jj.autograd.grad(loss, parameters)

    return [value.detach().numpy() for value in step(images, labels)]


@pytest.mark.parametrize("large", [1, 500, 5000])
def test_moving_all_that_can_move_changes_no_bit(monkeypatch, large):
    monkeypatch.setattr(sink, "LARGE", 2**30)
    expected = trained()
    monkeypatch.setattr(sink, "LARGE", large)
    monkeypatch.setattr(sink, "FAR", 0)
    for a, b in zip(expected, trained(), strict=True):
        np.testing.assert_array_equal(a, b)
