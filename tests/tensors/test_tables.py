"""gather, scatter, index_add and their like beside PyTorch's, captured, and with indices out of range."""

import numpy as np
import pytest

import juanji as jj

random = np.random.default_rng(5)
INDEX = random.integers(0, 4, (3, 5))
ROWS = np.array([2, 0, 2])
CALLS = {
    "gather": (1, INDEX[:, :2]),
    "scatter": (0, np.array([[0, 1, 2, 3, 0], [1, 2, 3, 0, 1], [2, 3, 0, 1, 2]]), "src"),
    "scatter_add": (0, INDEX, "src"),
    "index_select": (1, ROWS),
    "index_add": (0, ROWS, "src"),
    "index_copy": (0, np.array([3, 0, 2]), "src"),
    "index_fill": (1, ROWS, 7.0),
    "take": (np.array([[3, -1], [0, 3]]),),
    "take_along_dim": (np.array([[0, -1, 2]]), 1),
    "put": (np.array([3, 0, 7]), "three", True),
}


def arguments(library, name):
    chosen = {"src": random.uniform(1, 2, (3, 5)), "three": np.array([1.0, 2.0, 3.0])}
    given = [chosen.get(a, a) if isinstance(a, str) else a for a in CALLS[name]]
    return [library.tensor(a) if isinstance(a, np.ndarray) else a for a in given]


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients(torch, name):
    global random
    x = np.arange(20.0).reshape(4, 5)
    results = []
    for library in (jj, torch):
        random = np.random.default_rng(3)
        leaves = [library.tensor(x, requires_grad=True), *arguments(library, name)]
        if isinstance(leaves[-1], type(leaves[0])) and leaves[-1].dtype is library.float64:
            leaves[-1].requires_grad_()
        out = getattr(library, name)(*leaves)
        (out * out).sum().backward()
        wanted = [t.grad for t in leaves if getattr(t, "requires_grad", False)]
        results.append([out.detach(), *wanted])
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), 1e-12, 1e-12)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
def test_scatter_reduce(torch, reduce, include_self):
    results = []
    for library in (jj, torch):
        x = library.tensor(np.array([[1.0, 2.0, 0.0], [3.0, 4.0, 5.5 - include_self / 2]]), requires_grad=True)
        src = library.tensor(np.array([[2.0, 3.0, 0.0], [2.0, 4.0, 5.0]]), requires_grad=True)
        index = library.tensor([[0, 1, 1], [0, 0, 1]])
        out = x.scatter_reduce(0, index, src, reduce, include_self=include_self)
        out.backward(library.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=library.float64))
        results.append([out.detach(), x.grad, src.grad])
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), 1e-12, 1e-12)


def test_captured_tables_are_the_eager_ones():
    table = jj.randn(9, 6, requires_grad=True)

    def step(words):
        rows = table.index_select(0, words)
        (rows * rows).sum().backward()
        return rows, table.grad

    words = jj.tensor([3, 8, 3, 0])
    eager = [t.detach().clone() for t in step(words)]
    table.grad = None
    compiled = jj.compile(step)
    for mine, theirs in zip(compiled(words), eager, strict=True):
        assert (mine == theirs).all()
    assert any(label.startswith("scatter") for label in (call.label for call in compiled.plans[0].calls))


def test_out_of_range():
    x = jj.arange(6.0).reshape(2, 3)
    for bad in (2, -1):
        for call in (
            lambda i: x.gather(0, jj.tensor([[i]])),
            lambda i: x.scatter(0, jj.tensor([[i]]), 1.0),
            lambda i: x.scatter_add(0, jj.tensor([[i]]), jj.ones(1, 1)),
            lambda i: x.index_select(0, jj.tensor([i])),
            lambda i: x.index_add(0, jj.tensor([i]), jj.ones(1, 3)),
            lambda i: x.index_fill(0, jj.tensor([i]), 0),
        ):
            with pytest.raises(IndexError, match="out of bounds"):
                call(bad)
            with pytest.raises(RuntimeError):
                call(bad)
    with pytest.raises(IndexError, match="index 6"):
        x.take(jj.tensor([6]))

    @jj.compile
    def step(x, i):
        return x.index_select(0, i), x.index_add(0, i, x), x.long().index_select(0, i)

    picked, added, whole = step(x, jj.tensor([1, 5]))
    assert np.isnan(picked[1].numpy()).all()
    assert picked[0].tolist() == [3.0, 4.0, 5.0]
    assert added.tolist() == [[0.0, 1.0, 2.0], [3.0, 5.0, 7.0]]
    assert whole.tolist() == [[3, 4, 5], [0, 0, 0]]


def test_in_place():
    x = jj.zeros(3)
    y = x.view(3, 1)
    x.scatter_add_(0, jj.tensor([0, 0, 2]), jj.ones(3)).index_fill_(0, jj.tensor([1]), 9)
    assert y.reshape(-1).tolist() == [2.0, 9.0, 1.0]
    x.masked_fill_(x > 5, -1)
    assert x.tolist() == [2.0, -1.0, 1.0]
    assert x.masked_select(x > 0).tolist() == [2.0, 1.0]


def test_messages():
    x = jj.zeros(2, 3)
    with pytest.raises(RuntimeError, match="same dtype"):
        x.scatter_add(0, jj.tensor([[0]]), jj.tensor([[1]]))
    with pytest.raises(ValueError, match="must not be larger than src"):
        x.scatter_add(0, jj.tensor([[0, 1]]), jj.ones(1, 1))
    with pytest.raises(TypeError, match="out= is not available"):
        jj.gather(x, 0, jj.tensor([[0]]), out=x)
    with pytest.raises(RuntimeError, match="int64"):
        x.gather(0, jj.tensor([[0.0]]))
