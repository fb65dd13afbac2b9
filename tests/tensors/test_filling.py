"""Counted, filled and random tensors, with PyTorch's arguments."""

import numpy as np
import pytest

import juanji as jj


def test_counted(torch):
    for arguments in ((5,), (1, 8, 3), (2.0, -1.0, -0.5), (0, 1, 0.3), (-3, -3)):
        mine, theirs = jj.arange(*arguments, device="cpu"), torch.arange(*arguments)
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
        assert mine.dtype.name == str(theirs.dtype)[6:]
    for dtype in ("float32", "float64", "int64"):
        for arguments in ((-2, 5, 7), (3, 3, 1), (0, 10, 0), (1.5, -4, 6)):
            a = jj.linspace(*arguments, dtype=getattr(jj, dtype)).numpy()
            b = torch.linspace(*arguments, dtype=getattr(torch, dtype)).numpy()
            np.testing.assert_allclose(a, b, 1e-6, 1e-6)
    np.testing.assert_allclose(jj.logspace(-1, 2, 4).numpy(), [0.1, 1, 10, 100], 1e-6)
    assert jj.tril_indices(2, 3).tolist() == torch.tril_indices(2, 3).tolist()
    assert jj.triu_indices(3, 3, 1).tolist() == torch.triu_indices(3, 3, 1).tolist()


def test_filled():
    x = jj.zeros(size=(2, 3), device="cpu", dtype=jj.int16)
    assert x.new_full((2,), 7, requires_grad=False).tolist() == [7, 7]
    assert x.new_ones(2, dtype=jj.float64).dtype is jj.float64
    assert jj.full_like(x, -9, dtype=jj.uint8).unique().tolist() == [247]
    assert jj.scalar_tensor(3).dtype is jj.float32
    assert jj.compile(lambda: jj.eye(2, 3))().tolist() == [[1, 0, 0], [0, 1, 0]]
    assert jj.ones_like(x, memory_format=None, device="cpu").dtype is jj.int16


def test_random():
    jj.manual_seed(3)
    x = jj.full((20000,), 0.3)
    assert abs(x.bernoulli().mean().item() - 0.3) < 0.02
    assert abs(jj.normal(x, 2.0).std().item() - 2) < 0.1
    drawn = jj.multinomial(jj.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0]]), 4000, replacement=True)
    assert drawn[1].tolist() == [0] * 4000
    assert abs((drawn[0] == 2).float().mean().item() - 0.75) < 0.05
    assert sorted(jj.multinomial(jj.ones(4), 4).tolist()) == [0, 1, 2, 3]
    g = jj.Generator().manual_seed(1)
    first = jj.randint(-3, 4, (500,), generator=g)
    assert (first.min().item(), first.max().item()) == (-3, 3)
    assert (first == jj.randint(-3, 4, (500,), generator=g.manual_seed(1))).all()
    y = jj.zeros(9000).uniform_(2, 3)
    assert 2 <= y.min().item() < 2.1
    assert 2.9 < y.max().item() < 3


def test_refusals():
    for error, call, message in (
        (ValueError, lambda: jj.arange(0, 5, -1), "does not lead"),
        (RuntimeError, lambda: jj.arange(0, float("inf")), "unsupported range"),
        (TypeError, lambda: jj.zeros(2, out=jj.zeros(2)), "out= is not available"),
        (TypeError, lambda: jj.zeros(2, colour="red"), "unexpected keyword"),
        (ValueError, lambda: jj.zeros(2, device="cuda"), "cuda"),
        (ValueError, lambda: jj.randint(5, 5, (2,)), "low < high"),
        (ValueError, lambda: jj.bernoulli(jj.tensor([1.5])), "0 <= p <= 1"),
        (RuntimeError, lambda: jj.multinomial(jj.zeros(3), 1), "sum of probabilities"),
    ):
        with pytest.raises(error, match=message):
            call()
