"""Backward: accumulation, hooks, retained graphs, and gradients as functions."""

import copy

import numpy as np
import pytest

import juanji as jj


def test_gradients_accumulate():
    x = jj.tensor([1.0, 2.0], requires_grad=True)
    for i in range(1, 4):
        (x * x).sum().backward()
        assert x.grad.tolist() == [2.0 * i, 4.0 * i]
    same = x.grad
    x.sum().backward()
    assert x.grad is same, "later gradients are added in place"
    x.grad = None
    assert x.grad is None


def test_gradients_own_their_memory():
    a, b = (jj.ones(2, requires_grad=True) for _ in range(2))
    g = jj.tensor([3.0, 4.0])
    (a + b).backward(g)
    a.grad.zero_()
    assert b.grad.tolist() == [3.0, 4.0]
    assert g.tolist() == [3.0, 4.0]


def test_setting_grad():
    x = jj.ones(2, requires_grad=True)
    x.grad = jj.tensor([5.0, 6.0])
    (x * 2).sum().backward()
    assert x.grad.tolist() == [7.0, 8.0]
    with pytest.raises(ValueError, match=r"grad of shape \[3\] must have the tensor's shape \[2\]"):
        x.grad = jj.ones(3)
    with pytest.raises(TypeError, match="grad must be a Tensor or None, not float"):
        x.grad = 1.0


def test_backward_needs_a_scalar_or_a_gradient():
    x = jj.ones(2, 2, requires_grad=True)
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match=r"gradient of shape \[2\] must have the shape \[2, 2\]"):
        (x * 2).backward(jj.ones(2))
    with pytest.raises(RuntimeError, match="does not require grad and does not have a grad_fn"):
        jj.ones(1).backward()
    (x * 2).sum().reshape(1, 1).backward()
    (x * 2).backward(gradient=jj.ones(2, 2))
    assert x.grad.tolist() == [[4.0, 4.0]] * 2


def test_a_graph_is_walked_once():
    x = jj.tensor(2.0, requires_grad=True)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time.*retain_graph=True"):
        y.backward()
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12.0


def test_shared_parts_and_long_chains():
    x = jj.tensor(1.5, requires_grad=True)
    y = x
    for _ in range(20):
        y = y * 0.5 + y * 0.25
    y.backward()
    assert x.grad.item() == pytest.approx(0.75**20)
    x.grad = None
    y = x
    for _ in range(5000):  # deeper than Python's stack
        y = y + 0.001
    y.backward()
    assert x.grad.item() == 1.0


def test_hooks():
    x = jj.tensor([1.0, 2.0], requires_grad=True)
    seen = []
    handle = x.register_hook(lambda g: seen.append(g.tolist()))
    y = x * 3
    with y.register_hook(lambda g: g * 10):
        y.sum().backward(retain_graph=True)
    assert seen == [[30.0, 30.0]]
    assert x.grad.tolist() == [30.0, 30.0]
    handle.remove()
    handle.remove()
    x.grad = None
    y.sum().backward()
    assert len(seen) == 1
    assert x.grad.tolist() == [3.0, 3.0]
    with pytest.raises(RuntimeError, match="cannot register a hook on a tensor that doesn't require gradient"):
        jj.ones(1).register_hook(print)


def test_a_hook_sees_the_whole_gradient_once():
    x = jj.tensor(2.0, requires_grad=True)
    seen = []
    x.register_hook(lambda g: seen.append(g.item()))
    y = x * 1
    y.register_hook(lambda g: seen.append(g.item()))
    (y * 2 + y * 3 + y).backward()
    assert seen == [6.0, 6.0]


def test_retain_grad():
    x = jj.tensor(2.0, requires_grad=True)
    y = x * 3
    y.retain_grad()
    (y * y).backward()
    assert y.grad.item() == 12.0
    assert x.grad.item() == 36.0
    x.retain_grad()  # a leaf has its gradient anyway


def test_names_of_recorded_operations():
    x = jj.ones(2, requires_grad=True)
    assert repr((x * 2).grad_fn) == "<MulBackward>"
    assert "grad_fn=<ExpBackward>" in repr(x.exp())
    assert x.grad_fn is None
    assert "requires_grad=True" in repr(x)


def test_grad():
    x, y = jj.tensor(2.0, requires_grad=True), jj.tensor(3.0, requires_grad=True)
    a, b = jj.autograd.grad(x * x * y, (x, y))
    assert (a.item(), b.item()) == (12.0, 4.0)
    assert x.grad is None
    middle = x * y
    (m,) = jj.autograd.grad((middle * middle).sum(), middle)
    assert m.item() == 12.0
    with pytest.raises(RuntimeError, match="appears to not have been used"):
        jj.autograd.grad(x * 2, y)
    assert jj.autograd.grad(x * 2, (x, y), allow_unused=True)[1] is None
    with pytest.raises(RuntimeError, match="does not require grad"):
        jj.autograd.grad(x * 2, jj.ones(()))
    with pytest.raises(ValueError, match="got 2 outputs but 1 grad_outputs"):
        jj.autograd.grad((x * 2, x * 3), x, (jj.ones(()),))
    (total,) = jj.autograd.grad((x * 2, x * 3), x)
    assert total.item() == 5.0
    g = jj.autograd.grad(x * jj.tensor([1.0, 2.0]), x, jj.tensor([10.0, 100.0]))
    assert g[0].item() == 210.0


def test_create_graph():
    x = jj.tensor([1.0, 2.0], requires_grad=True)
    (x**3).sum().backward(create_graph=True)
    first = x.grad
    assert first.requires_grad
    x.grad = None
    first.sum().backward()
    assert x.grad.tolist() == [6.0, 12.0]


def test_only_what_is_wanted_is_walked():
    """Paths that lead nowhere are not computed: a frozen first layer costs nothing."""
    frozen, w = jj.ones(2), jj.ones(2, requires_grad=True)
    y = (frozen * 2).exp() * w
    assert y.grad_fn.edges[0] is None
    y.sum().backward()
    assert frozen.grad is None


def test_broadcast_gradients_are_summed():
    a, b = jj.ones(3, 1, requires_grad=True), jj.ones(4, requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.tolist() == [[4.0]] * 3
    assert b.grad.tolist() == [3.0] * 4
    scalar = jj.tensor(2.0, requires_grad=True)
    (scalar * jj.ones(2, 3)).sum().backward()
    assert scalar.grad.item() == 6.0
    assert scalar.grad.shape == ()


def test_integers_stop_gradients():
    x = jj.tensor([1.5, 2.5], requires_grad=True)
    assert not x.long().requires_grad
    assert not (x > 2).requires_grad
    assert not x.argmax().requires_grad
    values, indices = x.max(0)
    assert values.requires_grad
    assert not indices.requires_grad


def test_deepcopy():
    x = jj.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    y = copy.deepcopy(x)
    assert y.tolist() == x.tolist()
    assert y.grad.tolist() == x.grad.tolist()
    assert y.requires_grad
    assert y.is_leaf
    y.grad.zero_()
    with jj.no_grad():
        y.zero_()
    assert x.tolist() == [1.0, 2.0]
    assert x.grad.tolist() == [2.0, 4.0]
    a, b = copy.deepcopy([x, x])
    assert a is b
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user support the deepcopy"):
        copy.deepcopy(x * 2)


def test_numpy_under_gradients():
    x = jj.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"Use tensor.detach\(\).numpy\(\) instead"):
        x.numpy()
    with pytest.raises(RuntimeError, match="detach"):
        np.asarray(x)
    assert x.numpy(force=True).tolist() == [1.0, 1.0]
    assert x.tolist() == [1.0, 1.0]
    assert x[0].item() == 1.0
