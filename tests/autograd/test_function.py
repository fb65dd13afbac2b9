"""Operations with a gradient of their own, in both forms, against PyTorch's."""

import numpy as np
import pytest

import juanji as jj


def make_classes(lib):
    """The same custom operations for `lib` (juanji or torch)."""
    function = lib.autograd.Function

    class Cube(function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 3 * x * x

    class Exp(function):
        """Saves its own result."""

        @staticmethod
        def forward(x):
            return x.exp()

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(output)

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return g * y

    class Both(function):
        """Two arguments, a number and two results."""

        @staticmethod
        def forward(ctx, x, y, scale):
            ctx.save_for_backward(x, y)
            ctx.scale = scale
            return x * y * scale, x + y

        @staticmethod
        def backward(ctx, g, h):
            x, y = ctx.saved_tensors
            ctx.asked = ctx.needs_input_grad
            return g * y * ctx.scale + h, g * x * ctx.scale + h, None

    class Sorted(function):
        @staticmethod
        def forward(ctx, x):
            signs = x.sign()
            ctx.mark_non_differentiable(signs)
            return x * 2, signs

        @staticmethod
        def backward(ctx, g, unused):
            return g * 2

    class Halve(function):
        """Writes to its argument."""

        @staticmethod
        def forward(ctx, x):
            x.mul_(0.5)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 0.5

    return {c.__name__: c for c in (Cube, Exp, Both, Sorted, Halve)}


MINE = make_classes(jj)


@pytest.fixture(scope="module")
def theirs(torch):
    return make_classes(torch)


def pair(torch, values):
    return (
        torch.tensor(values, dtype=torch.float64, requires_grad=True),
        jj.tensor(values, dtype=jj.float64, requires_grad=True),
    )


def equal(a, b):
    np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", ["Cube", "Exp"])
def test_derivatives_of_any_order(torch, theirs, name):
    a, b = pair(torch, [0.5, -1.5, 2.0])
    x, y = theirs[name].apply(a * 1), MINE[name].apply(b * 1)
    assert y.grad_fn.name() == f"{name}Backward"
    assert not y.is_leaf
    for _ in range(3):
        equal(x, y)
        (x,) = torch.autograd.grad((x * x).sum(), a, create_graph=True)
        (y,) = jj.autograd.grad((y * y).sum(), b, create_graph=True)
    equal(x, y)


def test_several_results(torch, theirs):
    for use in ((True, True), (True, False), (False, True)):
        (a, b), (c, d) = zip(pair(torch, [1.0, 2.0]), pair(torch, [3.0, -4.0]), strict=True)
        for first, second, classes in ((a, b, theirs), (c, d, MINE)):
            p, q = classes["Both"].apply(first, second, 10.0)
            assert p.requires_grad
            assert q.requires_grad
            total = (p * p).sum() * use[0] if use[0] else 0
            total = total + (q * q * q).sum() if use[1] else total
            total.backward()
        equal(a.grad, c.grad)
        equal(b.grad, d.grad)


def test_results_without_gradient(torch, theirs):
    a, b = pair(torch, [1.0, -2.0])
    for value, classes in ((a, theirs), (b, MINE)):
        y, signs = classes["Sorted"].apply(value)
        assert not signs.requires_grad
        assert y.requires_grad
        y.sum().backward()
    equal(a.grad, b.grad)


def test_written_arguments(torch, theirs):
    a, b = pair(torch, [1.0, -2.0, 3.0])
    for value, classes in ((a, theirs), (b, MINE)):
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad has been used in an in-place"):
            classes["Halve"].apply(value)
        value.grad = None
        with (jj if value is b else torch).no_grad():
            value.mul_(2)  # what the refused call has halved
        middle = value * value
        again = classes["Halve"].apply(middle)
        assert again is middle
        (middle * middle).sum().backward()
    equal(a.grad, b.grad)
    x = jj.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 1
    MINE["Halve"].apply(y[1:])
    (y * y).sum().backward()
    assert y.tolist() == [1.0, 1.0, 1.5]
    assert x.grad.tolist() == [2.0, 1.0, 1.5]


def test_gradients_are_checked():
    class Wrong(jj.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + y

        @staticmethod
        def backward(ctx, g):
            return answer(g)

    x = jj.ones(2, 3, requires_grad=True)
    y = jj.ones(3, requires_grad=True)
    for answer, error, words in (  # noqa: B007 - backward() calls it
        (lambda g: g, RuntimeError, r"WrongBackward returned an incorrect number of gradients \(expected 2, got 1\)"),
        (lambda g: (g, g, g), RuntimeError, "incorrect number of gradients"),
        (
            lambda g: (g[0, :2], g),
            RuntimeError,
            r"invalid gradient at index 0 - got \[2\] but expected shape .* \[2, 3\]",
        ),
        (lambda g: (g, 1.0), TypeError, "gradient 1 must be a Tensor, not float"),
    ):
        with pytest.raises(error, match=words):
            Wrong.apply(x, y).sum().backward()
    answer = lambda g: (g.double(), g, None)  # noqa: E731
    Wrong.apply(x, y).sum().backward()
    assert x.grad.dtype is jj.float32
    assert y.grad.tolist() == [2.0, 2.0, 2.0]  # summed to the argument's shape


def test_saving_and_freeing():
    cube = MINE["Cube"]
    x = jj.tensor([1.0, 2.0], requires_grad=True)
    y = cube.apply(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [6.0, 24.0]
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()
    z = x * 1
    y = cube.apply(z)
    z += 1
    with pytest.raises(RuntimeError, match="CubeBackward reads is at version 1; expected version 0"):
        y.sum().backward()

    class Odd(jj.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(3)
            return x

    with pytest.raises(TypeError, match="argument 0 is of type int"):
        Odd.apply(x)
    with pytest.raises(NotImplementedError, match="You must implement the forward function"):
        jj.autograd.Function.apply(x)
    with pytest.raises(TypeError, match="not to be instantiated"):
        Odd()


def test_missing_gradients():
    seen = []

    class Two(jj.autograd.Function):
        @staticmethod
        def forward(ctx, x, materialize):
            ctx.set_materialize_grads(materialize)
            return x * 1, x * 2

        @staticmethod
        def backward(ctx, g, h):
            seen.append((g, h))
            return h * 2, None

    x = jj.ones(2, requires_grad=True)
    Two.apply(x, True)[1].sum().backward()
    assert seen[-1][0].tolist() == [0.0, 0.0]
    Two.apply(x, False)[1].sum().backward()
    assert seen[-1][0] is None


def test_needs_input_grad():
    asked = []

    class Ask(jj.autograd.Function):
        @staticmethod
        def forward(ctx, x, y, z):
            asked.append(ctx.needs_input_grad)
            return x + y

        @staticmethod
        def backward(ctx, g):
            return g, g, None

    x, y = jj.ones(2, requires_grad=True), jj.ones(2)
    Ask.apply(x, y, 3)
    with jj.no_grad():
        assert not Ask.apply(x, y, 3).requires_grad
    assert asked == [(True, False, False), (False, False, False)]
    assert not Ask.apply(y, y, None).requires_grad


def test_returned_arguments_are_other_tensors():
    class Same(jj.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 10

    x = jj.ones(2, requires_grad=True)
    y = Same.apply(x)
    assert y is not x
    assert x.is_leaf
    y.sum().backward()
    assert x.grad.tolist() == [10.0, 10.0]
    n = jj.ones(2)
    assert not Same.apply(n).requires_grad


def test_once_differentiable():
    class Double(jj.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @jj.autograd.once_differentiable
        def backward(ctx, g):
            return jj.from_numpy(g.numpy() * 2)

    x = jj.ones(2, requires_grad=True)
    Double.apply(x).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
    (g,) = jj.autograd.grad((Double.apply(x) ** 2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="trying to differentiate twice a function that was marked with @once"):
        g.sum().backward()


def test_in_a_captured_step():
    x = jj.tensor([0.5, -1.5], requires_grad=True)

    @jj.compile
    def step(v):
        x.grad = None
        y = MINE["Cube"].apply(x * v)
        p, q = MINE["Both"].apply(y, MINE["Exp"].apply(x), 2.0)
        loss = (p * q).sum()
        loss.backward()
        return loss

    for v in ([1.0, 2.0], [3.0, -1.0]):
        v = jj.tensor(v)
        loss, found = step(v).item(), x.grad.tolist()
        x.grad = None
        y = (x * v) ** 3
        e = x.exp()
        expected = ((y * e * 2) * (y + e)).sum()
        expected.backward()
        np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
        np.testing.assert_allclose(found, x.grad.tolist(), rtol=1e-5)


def test_vjp_is_another_name():
    class Triple(jj.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 3

        @staticmethod
        def vjp(ctx, g):
            return g * 3

    x = jj.ones(1, requires_grad=True)
    Triple.apply(x).backward()
    assert x.grad.item() == 3.0
