"""Results that are wanted much later are computed where they are wanted."""

import numpy as np
import pytest

import juanji as jj
from juanji.compiler import sink
from juanji.nn import functional as F


def trained(batch=2):
    """A step of a small network with overlapping pooling: its plan, its loss, the gradients of all parameters."""
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

    values = [v.detach().numpy() for v in step(images, labels)]
    return step.plans[0], values


def test_positions_of_maxima_are_found_where_they_are_read(monkeypatch):
    monkeypatch.setattr(sink, "LARGE", 2**30)
    before, expected = trained()
    monkeypatch.setattr(sink, "LARGE", 1000)
    monkeypatch.setattr(sink, "FAR", 1000)
    after, got = trained()
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_array_equal(a, b)
    assert sorted(c.label for c in before.calls) == sorted(c.label for c in after.calls)

    def waits(plan):  # calls between the positions and their reader
        labels = [call.label for call in plan.calls]
        at = labels.index("max_pool_index")
        (positions,) = plan.calls[at].writes
        return next(i for i in range(at + 1, len(labels)) if positions in plan.calls[i].buffers()) - at

    assert waits(after) < waits(before) / 2
    assert after.arena_bytes <= before.arena_bytes


@pytest.mark.parametrize("large", [1, 500, 5000])
def test_moving_all_that_can_move_changes_no_bit(monkeypatch, large):
    monkeypatch.setattr(sink, "LARGE", 2**30)
    _, expected = trained()
    monkeypatch.setattr(sink, "LARGE", large)
    monkeypatch.setattr(sink, "FAR", 0)
    _, got = trained()
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_array_equal(a, b)
