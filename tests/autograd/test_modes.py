"""no_grad, enable_grad, set_grad_enabled, inference_mode: as contexts, functions and decorators."""

import pytest

import juanji as jj


@pytest.mark.parametrize("name", ["torch", "juanji"])
def test_modes_mean_what_pytorchs_mean(torch, name):
    lib = {"torch": torch, "juanji": jj}[name]
    x = lib.ones(2, requires_grad=True)

    @lib.no_grad()
    def one():
        return x * 2

    @lib.no_grad
    def two(factor, *, more=0):
        """Twice."""
        return x * factor + more

    assert not one().requires_grad
    assert not two(2, more=1).requires_grad
    assert two.__doc__ == "Twice."

    @lib.enable_grad()
    def three():
        return x * 2

    @lib.set_grad_enabled(False)
    def four():
        return x * 2

    assert (x * 2).requires_grad  # decorating has changed nothing
    assert not four().requires_grad
    with lib.no_grad():
        assert three().requires_grad
        assert not lib.is_grad_enabled()
        with lib.set_grad_enabled(True):
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    lib.set_grad_enabled(False)
    assert not (x * 2).requires_grad
    lib.set_grad_enabled(True)
    assert (x * 2).requires_grad
    mode = lib.no_grad()
    for _ in range(2):
        with mode:
            assert not lib.is_grad_enabled()
    assert lib.is_grad_enabled()
    with pytest.raises(ZeroDivisionError), lib.no_grad():
        raise ZeroDivisionError
    assert lib.is_grad_enabled()

    @lib.no_grad()
    def steps():
        got = yield lib.is_grad_enabled()
        while got:
            try:
                got = yield (got, lib.is_grad_enabled())
            except KeyError:
                yield "caught"
        return "end"

    running = steps()
    assert next(running) is False
    assert lib.is_grad_enabled()
    assert running.send(1) == (1, False)
    assert running.throw(KeyError()) == "caught"
    running.close()


@pytest.mark.parametrize("name", ["torch", "juanji"])
def test_inference_mode(torch, name):
    lib = {"torch": torch, "juanji": jj}[name]
    x = lib.ones(2, requires_grad=True)
    assert not lib.is_inference_mode_enabled()
    with lib.inference_mode():
        assert lib.is_inference_mode_enabled()
        y, z, leaf = x * 2, lib.ones(2), lib.ones(2, requires_grad=True)
        y.add_(1)
        view = x.view(2, 1)
        with lib.inference_mode(False):
            assert not lib.is_inference_mode_enabled()
            assert (x * 2).requires_grad
        with lib.enable_grad():
            assert not (x * 2).requires_grad
    assert y.is_inference()
    assert z.is_inference()
    assert not view.is_inference()
    assert not x.is_inference()
    assert not y.requires_grad
    assert leaf.requires_grad
    assert (y + 1).tolist() == [4.0, 4.0]
    assert not (y + 1).is_inference()
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        x * y
    assert (x + y).requires_grad  # saves nothing
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode"):
        y.add_(1)
    with pytest.raises(RuntimeError, match="requires_grad=True on inference tensor outside InferenceMode"):
        z.requires_grad_()
    assert (x * y.clone()).requires_grad

    @lib.inference_mode()
    def run():
        return lib.ones(1)

    assert run().is_inference()


def test_views_under_no_grad(torch):
    for lib in (torch, jj):
        x = lib.ones(3, requires_grad=True)
        base = x * 1
        for whole in (x, base):
            with lib.no_grad():
                v = whole[1:]
                assert not (v * 2).requires_grad
            assert v.requires_grad
            assert v.is_leaf
            assert v.grad_fn is None
            with pytest.raises(RuntimeError, match="in-?place"):
                v.mul_(2)
            w = whole.detach()[1:]
            assert not w.requires_grad
        with lib.no_grad():
            v = base[:2]
            v.mul_(5)
        assert base.tolist() == [5.0, 5.0, 1.0]


def test_detach(torch):
    for lib in (torch, jj):
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        y = x * 2
        d = y.detach()
        assert not d.requires_grad
        assert d.is_leaf
        d[0] = 7
        assert y.tolist() == [7.0, 4.0]
        with pytest.raises(RuntimeError, match="Can't detach views in-place"):
            (y * 1)[0].detach_()
        z = y * 1
        assert z.detach_() is z
        assert z.is_leaf
        assert z.grad_fn is None
        z.requires_grad_()
        (z * 3).sum().backward()
        assert z.grad.tolist() == [3.0, 3.0]
        assert x.grad is None
        with pytest.raises(RuntimeError, match="only change requires_grad flags of leaf variables"):
            y.requires_grad_(False)
        with pytest.raises(RuntimeError, match="floating point"):
            lib.ones(2, dtype=lib.int64).requires_grad_()


def test_next_functions(torch):
    for lib in (torch, jj):
        x, w = lib.ones(2, requires_grad=True), lib.ones(2)
        y = (x * w).exp()
        assert y.grad_fn.name().startswith("ExpBackward")
        ((product, number),) = y.grad_fn.next_functions
        assert number == 0
        assert product.name().startswith("MulBackward")
        (leaf, _), (nothing, _) = product.next_functions
        assert nothing is None
        assert "AccumulateGrad" in leaf.name()
        assert leaf.next_functions == ()
        leaf.variable.grad = lib.ones(2)
        assert x.grad.tolist() == [1.0, 1.0]


def test_anomaly():
    x = jj.tensor([0.0, 1.0], requires_grad=True)
    y = (x.sqrt() * 0).sum()
    y.backward()  # NaN without a word
    with (
        jj.autograd.detect_anomaly(),
        pytest.warns(UserWarning, match="(?s)Error detected in SqrtBackward.*test_modes.py"),
        pytest.raises(RuntimeError, match="Function 'SqrtBackward' returned nan values in its 0th output"),
    ):
        (x.sqrt() * 0).sum().backward()
    (x.sqrt() * 0).sum().backward()
    with jj.autograd.set_detect_anomaly(True, check_nan=False):
        (x.sqrt() * 0).sum().backward()
    jj.autograd.set_detect_anomaly(True)
    try:
        (x + 1).sum().backward()
    finally:
        jj.autograd.set_detect_anomaly(False)
