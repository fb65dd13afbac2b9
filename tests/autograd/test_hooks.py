"""Hooks on tensors and modules, held against PyTorch's where both have them."""

import numpy as np
import pytest

import juanji as jj


def both(torch, script, *values):
    """What `script(library, log, *leaves)` logs in PyTorch and in Juanji."""
    logs = []
    for lib in (torch, jj):
        log = []
        script(lib, log, *[lib.tensor(v, dtype=lib.float64, requires_grad=True) for v in values])
        logs.append(log)
    assert len(logs[0]) > 0
    assert logs[0] == logs[1]


def test_post_accumulate_grad_hooks(torch):
    def script(lib, log, x):
        handle = x.register_post_accumulate_grad_hook(lambda leaf: log.append((leaf is x, leaf.grad.tolist())))
        x.register_hook(lambda g: log.append(("before", g.tolist())))
        (x * 3).sum().backward()
        (x * 3).sum().backward()
        lib.autograd.grad((x * 2).sum(), x)
        handle.remove()
        (x * 3).sum().backward()
        log.append(x.grad.tolist())

    both(torch, script, [1.0, 2.0])
    x = jj.ones(1, requires_grad=True)
    with pytest.raises(RuntimeError, match="cannot be registered on non-leaf tensors"):
        (x * 2).register_post_accumulate_grad_hook(print)
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        jj.ones(1).register_post_accumulate_grad_hook(print)


def test_retained_gradients(torch):
    def script(lib, log, x):
        y = x * 2
        log.append(y.retains_grad)
        y.retain_grad()
        y.retain_grad()
        log.append(y.retains_grad)
        y.register_hook(lambda g: g * 10)  # registered after, called before
        z = (y * y).sum()
        z.backward(retain_graph=True)
        log.append(y.grad.tolist())
        z.backward()
        log.append((y.grad.tolist(), x.grad.tolist(), x.retains_grad))
        v = (x * 1)[1:]
        v.retain_grad()
        (v * v).sum().backward()
        log.append(v.grad.tolist())

    both(torch, script, [1.0, 2.0])
    with pytest.raises(RuntimeError, match="requires_grad=False"):
        jj.ones(1).retain_grad()


def test_the_gradient_of_a_view_is_not_that_of_its_base():
    x = jj.ones(2, 2, requires_grad=True)
    x.sum().backward()
    assert x[0].grad is None
    assert x.view(4).grad is None


def test_hooks_that_return_something_else():
    x = jj.ones(2, requires_grad=True)
    with (
        x.register_hook(lambda g: 3),
        pytest.raises(TypeError, match="must return None or a Tensor of that shape, not int"),
    ):
        x.sum().backward()
    with x.register_hook(lambda g: g[:1]), pytest.raises(TypeError, match=r"not \[1\]"):
        x.sum().backward()
    with pytest.raises(TypeError, match="hook must be a function"):
        x.register_hook(3)


def test_hooks_on_inputs_of_grad(torch):
    def script(lib, log, x):
        y = x * 2
        y.register_hook(lambda g: g * 5)
        x.register_hook(lambda g: g + 1)
        log.append([lib.autograd.grad((y * y).sum(), t, retain_graph=True)[0].tolist() for t in (y, x)])

    both(torch, script, [1.0, 2.0])


def test_the_same_hook_twice():
    x = jj.ones(1, requires_grad=True)
    hook = lambda g: g * 2  # noqa: E731
    first, second = x.register_hook(hook), x.register_hook(hook)
    first.remove()
    first.remove()
    x.sum().backward()
    assert x.grad.item() == 2.0
    second.remove()


def test_module_backward_hooks(torch):
    def script(lib, log, x, y):
        class Pair(lib.nn.Module):
            def forward(self, a, number, b):
                return a * b * number, (a + b).sin()

        module = Pair()
        show = lambda t: [None if g is None else np.round(g.tolist(), 12).tolist() for g in t]  # noqa: E731
        handles = [
            module.register_full_backward_pre_hook(lambda m, g: log.append(("pre", m is module, show(g)))),
            module.register_full_backward_hook(lambda m, i, o: log.append(("post", m is module, show(i), show(o)))),
        ]
        p, q = module(x, 3, y * 1)
        (p * q).sum().backward()
        log.append((np.round(x.grad.tolist(), 12).tolist(), np.round(y.grad.tolist(), 12).tolist()))
        module.register_full_backward_hook(lambda m, i, o: (i[0] * 10, None, i[2]))
        module.register_full_backward_pre_hook(lambda m, g: tuple(v * 2 for v in g), prepend=True)
        x.grad = y.grad = None
        p, q = module(x, 3, y)
        (p + q).sum().backward()
        log.append((np.round(x.grad.tolist(), 12).tolist(), np.round(y.grad.tolist(), 12).tolist()))
        for handle in handles:
            handle.remove()
        before = len(log)
        (module(x, 3, y)[0] + module(x, 3, y)[1]).sum()
        assert len(log) == before

    both(torch, script, [1.0, 2.0], [0.5, -1.0])


@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_module_backward_hooks_without_input_gradients(torch):
    def script(lib, log, x):
        layer = lib.nn.Linear(2, 2).double()
        with lib.no_grad():
            layer.weight.copy_(lib.tensor([[1.0, 2.0], [3.0, 4.0]]))
        with layer.register_full_backward_hook(lambda m, i, o: log.append((i, [g.tolist() for g in o]))):
            layer(x.detach()).sum().backward()
        layer(x.detach()).sum().backward()
        layer.register_full_backward_hook(lambda m, i, o: o)
        with pytest.raises(RuntimeError, match="no input requires gradient"):
            layer(x.detach()).sum().backward()

    both(torch, script, [1.0, 2.0])


def test_forward_hooks(torch):
    def script(lib, log, x):
        class Scale(lib.nn.Module):
            def forward(self, x, factor=1):
                if factor == 0:
                    raise ValueError("zero")
                return x * factor

        m = Scale()
        m.register_forward_pre_hook(lambda m, a, k: (a, {"factor": k["factor"] * 2}), with_kwargs=True)
        m.register_forward_pre_hook(lambda m, a, k: log.append(dict(k)), with_kwargs=True, prepend=True)
        m.register_forward_hook(lambda m, a, k, o: log.append((k, o.tolist())), with_kwargs=True)
        m.register_forward_hook(lambda m, a, o: log.append("always"), always_call=True)
        with m.register_forward_hook(lambda m, a, o: o + 100, prepend=True):
            log.append(m(x, factor=2).tolist())
        log.append(m(x, factor=2).tolist())
        with pytest.raises(ValueError, match="zero"):
            m(x, factor=0)

    both(torch, script, [1.0, 2.0])


def test_backward_hooks_in_a_captured_step():
    layer = jj.nn.Linear(2, 1, bias=False)
    with jj.no_grad():
        layer.weight.copy_(jj.tensor([[1.0, 2.0]]))
    layer.register_full_backward_hook(lambda m, i, o: (i[0] * 10,))
    x = jj.ones(1, 2, requires_grad=True)

    @jj.compile
    def step():
        x.grad = None
        layer(x).sum().backward()

    for _ in range(3):
        step()
        assert x.grad.tolist() == [[10.0, 20.0]]
