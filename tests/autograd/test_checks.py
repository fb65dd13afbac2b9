"""gradcheck, gradgradcheck, jacobians and hessians, saved-value hooks, checkpoints, and `grad` itself."""

import numpy as np
import pytest

import juanji as jj
from juanji.autograd import GradcheckError, functional, gradcheck, gradgradcheck, graph
from juanji.utils.checkpoint import checkpoint, checkpoint_sequential


def leaf(*shape, seed=0):
    values = np.random.default_rng(seed).uniform(0.5, 1.5, shape)
    return jj.tensor(values, dtype=jj.float64, requires_grad=True)


class Wrong(jj.autograd.Function):
    """x * x with a gradient that is off by one part in a hundred."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0] * 2.02


class Constant(jj.autograd.Function):
    """x * x with a right gradient that does not say how it depends on x."""

    @staticmethod
    def forward(ctx, x):
        ctx.x = x.detach()
        return x * x

    @staticmethod
    def backward(ctx, g):
        return g * ctx.x * 2


@pytest.mark.parametrize("fast", [False, True])
def test_gradcheck(fast):
    x, y = leaf(2, 3), leaf(3, seed=1)
    before = x.tolist()
    assert gradcheck(lambda x, y: (x * y.exp(), (x / y).sum(0)), (x, y), fast_mode=fast)
    assert gradgradcheck(lambda x, y: (x * y.exp(), (x / y).sum(0)), (x, y), fast_mode=fast)
    assert gradgradcheck(lambda x: x.exp(), x, gen_non_contig_grad_outputs=True, fast_mode=fast)
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0"):
        gradcheck(Wrong.apply, x, fast_mode=fast)
    assert gradcheck(Wrong.apply, x, raise_exception=False, fast_mode=fast) is False
    assert gradcheck(Wrong.apply, x, rtol=0.1, fast_mode=fast)
    assert not gradgradcheck(Constant.apply, x, raise_exception=False, fast_mode=fast)
    assert gradcheck(Constant.apply, x, fast_mode=fast)
    assert x.tolist() == before
    assert x.grad is None


def test_gradcheck_of_modules_and_constants():
    layer = jj.nn.Linear(3, 2).double()
    assert gradcheck(layer, leaf(4, 3))
    assert gradcheck(lambda x, n, c: x * n + c, (leaf(3), 2, jj.ones(3)))
    assert gradcheck(lambda x, y: (x * 2, y * 3), (leaf(2), leaf(3)))
    assert gradgradcheck(lambda x, y: x * x + y, (leaf(2), leaf(2)))


def test_gradcheck_refusals():
    x = leaf(2)
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(lambda x: x, jj.ones(2))
    with pytest.warns(UserWarning, match="not a double precision"):
        gradcheck(lambda x: x * 2, jj.ones(2, requires_grad=True), eps=1e-2, atol=1e-2)
    with pytest.raises(RuntimeError, match="stride 0"):
        gradcheck(lambda x: x, leaf(1).expand(3))
    with pytest.raises(ValueError, match="check_forward_ad=True is not available"):
        gradcheck(lambda x: x, x, check_forward_ad=True)
    with pytest.raises(GradcheckError, match="no Tensors requiring grad found"):
        gradcheck(lambda x: x.detach(), x)


def cases(lib):
    """(function, arguments) for torch or juanji."""

    def t(*v):
        return lib.tensor(v, dtype=lib.float64)

    return [
        (lambda x: (x * x).sum(), (t(1.0, 2.0, 3.0),)),
        (lambda x, y: (x * y * y).sum() + y.exp().prod(), (t(1.0, 2.0), t(0.5, -0.5))),
        (lambda x: x.sin().sum(), (t(0.3, 1.3),)),
    ]


def plain(value):
    return [plain(v) for v in value] if isinstance(value, (tuple, list)) else value.detach().numpy()


def same(a, b):
    if isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert a.shape == b.shape
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", range(3))
def test_functional_against_torch(torch, case):
    (f, fx), (g, gx) = cases(torch)[case], cases(jj)[case]
    theirs, mine = torch.autograd.functional, functional
    one = len(fx) == 1
    fin, gin = (fx[0], gx[0]) if one else (fx, gx)
    vec = lambda xs: tuple(x * 0.5 + 1 for x in xs)  # noqa: E731
    fv, gv = (vec(fx)[0], vec(gx)[0]) if one else (vec(fx), vec(gx))
    same(plain(theirs.jacobian(f, fin)), plain(mine.jacobian(g, gin)))
    same(plain(theirs.hessian(f, fin)), plain(mine.hessian(g, gin)))
    same(plain(theirs.vjp(f, fin)), plain(mine.vjp(g, gin)))
    for name in ("jvp", "vhp", "hvp"):
        same(plain(getattr(theirs, name)(f, fin, fv)), plain(getattr(mine, name)(g, gin, gv)))


def test_functional_of_many_results(torch):
    def f(x, y):
        return x.unsqueeze(0) * y.unsqueeze(1), x.exp()

    args = [[1.0, 2.0], [3.0, 4.0, 5.0]]
    a = tuple(torch.tensor(v, dtype=torch.float64) for v in args)
    b = tuple(jj.tensor(v, dtype=jj.float64) for v in args)
    same(plain(torch.autograd.functional.jacobian(f, a)), plain(functional.jacobian(f, b)))
    w = jj.tensor([2.0], dtype=jj.float64, requires_grad=True)
    made = functional.jacobian(lambda x: x**3, w, create_graph=True)
    made.sum().backward()
    assert w.grad.tolist() == [12.0]
    assert not functional.jacobian(lambda x: x**3, w).requires_grad
    with pytest.raises(RuntimeError, match="strict mode"):
        functional.jacobian(lambda x, y: x * 2, b, strict=True)
    assert functional.jacobian(lambda x, y: x * 2, b)[1].tolist() == [[0.0] * 3] * 2
    with pytest.raises(RuntimeError, match="v can only be None"):
        functional.vjp(lambda x: x, b[0])
    with pytest.raises(RuntimeError, match=r"v\[0\] has the shape \[1\] but must have that of the input, \[2\]"):
        functional.jvp(lambda x: x, b[0], jj.ones(1))
    with pytest.raises(RuntimeError, match="must return a single Tensor with one element"):
        functional.hessian(lambda x: x, b[0])
    with pytest.raises(TypeError, match="must be a Tensor or a tuple of tensors, but the given value is list"):
        functional.jacobian(lambda x: x, [1.0])


def test_saved_tensors_hooks():
    packed, unpacked = [], []

    def pack(t):
        assert not t.requires_grad
        packed.append(t)
        return t.numpy().copy()

    def unpack(a):
        unpacked.append(a)
        return jj.from_numpy(a)

    x = leaf(3)
    with graph.saved_tensors_hooks(pack, unpack):
        y = (x.exp() * x).sum()
    assert len(packed) == 3  # the result of exp, and both factors
    (g,) = jj.autograd.grad(y, x, create_graph=True)
    assert len(unpacked) == 3
    (h,) = jj.autograd.grad(g.sum(), x)
    z = x.detach().requires_grad_()
    (g2,) = jj.autograd.grad((z.exp() * z).sum(), z, create_graph=True)
    (h2,) = jj.autograd.grad(g2.sum(), z)
    np.testing.assert_allclose(g.tolist(), g2.tolist())
    np.testing.assert_allclose(h.tolist(), h2.tolist())
    (x * x).sum().backward()
    assert len(packed) == 3
    with pytest.raises(TypeError, match="what unpack returned must be a Tensor"), graph.saved_tensors_hooks(pack, list):
        (x * x).sum().backward()


def test_checkpoint():
    jj.manual_seed(0)
    net = jj.nn.Sequential(jj.nn.Linear(4, 8), jj.nn.Tanh(), jj.nn.Dropout(0.3), jj.nn.Linear(8, 4)).double()
    x = leaf(5, 4)
    runs = []

    def part(x, factor=1.0):
        runs.append(1)
        return (net(x) * factor).exp()

    found = []
    for use in (False, True):
        jj.manual_seed(3)
        net.zero_grad()
        x.grad = None
        y = checkpoint(part, x, factor=0.5, use_reentrant=False) if use else part(x, factor=0.5)
        (y * y).sum().backward()
        found.append([x.grad, *[p.grad for p in net.parameters()]])
    assert len(runs) == 3
    for a, b in zip(*found, strict=True):
        assert a.tolist() == b.tolist()
    y = checkpoint(lambda x: (x * x).exp().sum(), x)
    (g,) = jj.autograd.grad(y, x, create_graph=True)
    (h,) = jj.autograd.grad(g.sum(), x)
    np.testing.assert_allclose(h.numpy(), (2 + 4 * x.detach() ** 2).numpy() * np.exp(x.detach().numpy() ** 2), 1e-10)
    inner = lambda x: checkpoint(lambda x: (x * x).exp(), x) * x  # noqa: E731
    assert gradcheck(lambda x: checkpoint(inner, x).sum(), leaf(3))  # one in another
    net.eval()
    np.testing.assert_allclose(checkpoint_sequential(net, 2, x).tolist(), net(x).tolist())
    with pytest.raises(ValueError, match="segments=9 must be between 1 and the 4 functions"):
        checkpoint_sequential(net, 9, x)


def test_checkpoint_finds_what_changes():
    x, calls = leaf(3), []

    def part(x):
        calls.append(1)
        return (x * x).exp() if len(calls) == 1 else x[:2].exp()

    y = checkpoint(part, x)
    with pytest.raises(RuntimeError, match="computes something else when it is run again"):
        y.sum().backward()


def test_checkpoint_in_a_captured_step():
    w = leaf(3)

    @jj.compile
    def step(v):
        w.grad = None
        checkpoint(lambda x: (x * w).exp().sum(), v).backward()

    for k in (1.0, 2.0):
        v = jj.full((3,), k, dtype=jj.float64)
        step(v)
        np.testing.assert_allclose(w.grad.numpy(), k * np.exp(k * w.detach().numpy()))


def test_grad_arguments(torch):
    for lib in (torch, jj):
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        y = lib.tensor([3.0, 4.0], requires_grad=True)
        z = (x * x).sum()
        first, second = lib.autograd.grad(z, (x, y), materialize_grads=True, retain_graph=True)
        assert first.tolist() == [2.0, 4.0]
        assert second.tolist() == [0.0, 0.0]
        with pytest.raises(ValueError, match="Expected allow_unused to be True or not passed when materialize_grads"):
            lib.autograd.grad(z, y, allow_unused=False, materialize_grads=True)
        with pytest.raises((RuntimeError, ValueError)):
            lib.autograd.grad(z, [])
        with pytest.raises(RuntimeError, match="grad can be implicitly created only for"):
            lib.autograd.grad(x * 2, x)
        with pytest.raises(RuntimeError, match="element 0 of tensors does not require grad"):
            lib.autograd.grad(lib.ones(()), x)
        with pytest.raises(RuntimeError, match="element 1 of tensors does not require grad"):
            lib.autograd.grad((z, lib.ones(())), x)
        one = lib.ones(1, 1, requires_grad=True)
        assert lib.autograd.grad(one * 3, one)[0].tolist() == [[3.0]]
        assert lib.autograd.grad(one, one)[0].tolist() == [[1.0]]
        (x * y).backward(lib.ones(2, dtype=lib.float64), inputs=[x])
        assert x.grad.dtype == lib.float32
        assert y.grad is None
        middle = x * 3
        (middle * y).sum().backward(inputs=[middle, y])
        assert middle.grad.tolist() == [3.0, 4.0]
        assert y.grad.tolist() == [3.0, 6.0]
        assert x.grad.tolist() == [3.0, 4.0]
        with pytest.raises(RuntimeError, match="cannot be empty"):
            (x * y).sum().backward(inputs=[])
        x.grad = y.grad = None
        lib.autograd.backward([(x * y).sum(), x * 2], [None, lib.tensor([1.0, 10.0])])
        assert x.grad.tolist() == [5.0, 24.0]
        total = x + 1
        total.sum().backward()
        total.sum().backward()  # nothing was saved, so nothing was freed
    with pytest.raises(ValueError, match="is_grads_batched=True is not available"):
        jj.grad(z, x, is_grads_batched=True)
    with pytest.raises(TypeError, match=r"gradient must be a Tensor, not list"):
        (x * 2).backward([1.0, 1.0])
    with pytest.raises(TypeError, match=r"inputs must be a Tensor or a sequence of tensors, not int"):
        jj.grad(z, 3)


@pytest.mark.filterwarnings("ignore:Using backward")
def test_assigning_gradients(torch):
    for lib in (torch, jj):
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        x.grad = lib.ones(2)
        g = x.grad
        (x * x).sum().backward()
        assert g.tolist() == [3.0, 5.0]  # added to in place
        with pytest.raises(RuntimeError):
            x.grad = lib.ones(2, dtype=lib.float64)
        with pytest.raises(RuntimeError):
            x.grad = lib.ones(3)
        with pytest.raises(TypeError):
            x.grad = [1.0, 1.0]
        with pytest.raises(RuntimeError):
            x.grad = x
        del x.grad
        assert x.grad is None
        (x * x).sum().backward(create_graph=True)
        kept = x.grad
        assert kept.requires_grad
        (x * 3).sum().backward()
        assert x.grad.tolist() == [5.0, 7.0]
        x = lib.ones(2, requires_grad=True)
        x.data = lib.tensor([5.0])
        assert x.tolist() == [5.0]
        (x * x).backward()
        assert x.grad.tolist() == [10.0]
        base = lib.zeros(3)
        view = base[1:]
        view.data = lib.ones(2)
        assert base.tolist() == [0.0, 0.0, 0.0]
        assert view.tolist() == [1.0, 1.0]


def test_what_would_replace_memory_is_refused():
    x = jj.ones(2)
    for call in (lambda: x.set_(x), lambda: x.resize_(3), lambda: x.resize_as_(x)):
        with pytest.raises(RuntimeError, match="is not available: a tensor keeps its"):
            call()
