"""Views share memory; writes through them count versions and become part of the history."""

import copy
import gc
import weakref

import numpy as np
import pytest

import juanji as jj
from juanji.runtime import memory

VIEWS = {
    "slice": lambda x: x[1:, ::2],
    "select": lambda x: x[1],
    "newaxis": lambda x: x[None, :, None],
    "everything": lambda x: x[...],
    "reshape": lambda x: x.reshape(2, 6),
    "view": lambda x: x.view(-1),
    "flatten": lambda x: x.flatten(),
    "permute": lambda x: x.permute(1, 0),
    "transpose": lambda x: x.transpose(0, 1),
    "T": lambda x: x.T,
    "t": lambda x: x.t(),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "squeeze": lambda x: x.unsqueeze(1).squeeze(),
    "expand": lambda x: x[:, :1].expand(3, 4),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "detach": lambda x: x.detach(),
    "data": lambda x: x.data,
    "iterated": lambda x: next(iter(x)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory(name):
    x = jj.arange(12.0).reshape(3, 4)
    y = VIEWS[name](x)
    before = y.tolist()
    x.mul_(2)
    np.testing.assert_array_equal(y.numpy(), np.array(before) * 2)
    assert y._version == x._version
    if name != "expand":
        y.fill_(7)
        assert (x.numpy() == 7).sum() == y.numel()
    assert np.shares_memory(x.numpy(), y.numpy())


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.clone(),
        lambda x: x * 1,
        lambda x: x.T.reshape(-1),
        lambda x: x.T.contiguous(),
        lambda x: x.to(jj.float64),
        lambda x: x[[0, 1]],
        lambda x: x[x >= 0],
        lambda x: jj.tensor(x),
        lambda x: copy.deepcopy(x),
    ],
)
def test_copies_do_not(make):
    x = jj.arange(12.0).reshape(3, 4)
    y = make(x)
    before = y.tolist()
    x.zero_()
    assert y.tolist() == before


def test_the_same_where_nothing_is_to_do():
    x = jj.ones(2, 3)
    assert x.contiguous() is x
    assert x.to(jj.float32) is x
    assert x.float() is x
    assert x.cpu() is x
    assert x.to("cpu") is x
    assert x.to(jj.float32, copy=True) is not x
    assert x[0].flatten() is not x


def test_strides_are_logical():
    x = jj.arange(24).reshape(2, 3, 4)
    assert x.stride() == (12, 4, 1)
    assert x.permute(2, 0, 1).stride() == (1, 12, 4)
    assert x[:, ::2, 1:].stride() == (12, 8, 1)
    assert x[1, :, 1:].storage_offset() == 13
    assert x[:, :1].expand(2, 5, 4).stride() == (12, 0, 1)
    assert x.stride(-1) == 1
    assert not x.T.is_contiguous()
    assert x.T.clone().is_contiguous()
    assert x.T.contiguous().tolist() == x.T.tolist()


def test_view_refuses_what_needs_a_copy():
    x = jj.arange(6.0).reshape(2, 3)
    with pytest.raises(RuntimeError, match=r"view size \[6\] is not compatible.*Use .reshape"):
        x.T.view(6)
    assert x.T.reshape(6).tolist() == [0, 3, 1, 4, 2, 5]
    with pytest.raises(RuntimeError, match="invalid for input of shape"):
        x.view(4)


# -- writing -----------------------------------------------------------------------------------------------------------
def test_overlapping_writes_read_first():
    for assign in (
        lambda a: a.__setitem__(slice(1, None), a[:-1]),
        lambda a: a[1:].copy_(a[:-1]),
    ):
        a = jj.arange(1000.0)
        assign(a)
        assert a.tolist() == [0.0, *range(999)]
    a = jj.arange(10000.0).reshape(100, 100)
    expected = a.numpy().T.copy()
    a[:] = a.T
    np.testing.assert_array_equal(a.numpy(), expected)
    a += a.T
    np.testing.assert_array_equal(a.numpy(), expected + expected.T)


def test_expanded_tensors_are_not_written_to():
    x = jj.zeros(3, 1).expand(3, 4)
    for write in (lambda: x.add_(1), lambda: x.fill_(1), lambda: x.__setitem__(0, 1.0)):
        with pytest.raises(RuntimeError, match="is expanded.*clone\\(\\) it before writing"):
            write()


def test_leaves_that_require_gradients_are_not_written_to():
    w = jj.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        w.add_(1)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable"):
        w[0] = 3
    with jj.no_grad():
        w.add_(1)
        w[0] = 5
    assert w.tolist() == [5.0, 2.0]
    assert w.requires_grad
    assert w.is_leaf


def test_shape_of_the_result_must_be_that_of_the_target():
    with pytest.raises(RuntimeError, match=r"output with shape \[3\] doesn't match the broadcast shape \[2, 3\]"):
        jj.zeros(3).add_(jj.zeros(2, 3))
    with pytest.raises(RuntimeError, match=r"add_: result type juanji.float32 can't be cast to .* juanji.int64"):
        jj.zeros(3, dtype=jj.int64).add_(0.5)


def test_in_place_forms_return_their_tensor():
    x = jj.ones(3)
    for result in (
        x.add_(1),
        x.mul_(2),
        x.zero_(),
        x.relu_(),
        x.clamp_(0, 1),
        x.copy_(jj.ones(3)),
        x.exp_(),
        x.pow_(2),
    ):
        assert result is x
    y = x
    y += 1
    y **= 2
    assert y is x


# -- history -----------------------------------------------------------------------------------------------------------
def test_a_write_through_a_view_is_part_of_the_history():
    x = jj.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    y = x * 1
    y.reshape(2, 2)[1].mul_(jj.tensor([10.0, 20.0]))
    (y * y).sum().backward()
    assert y.tolist() == [1.0, 2.0, 30.0, 80.0]
    assert x.grad.tolist() == [2.0, 4.0, 2 * 3 * 100.0, 2 * 4 * 400.0]


def test_views_made_before_a_write_know_of_it():
    x = jj.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    early = y[0]
    y.mul_(3)
    assert early.item() == 3.0
    early.backward()
    assert x.grad.tolist() == [3.0, 0.0]


def test_writing_a_tensor_with_history_into_one_without():
    w = jj.tensor([2.0, 3.0], requires_grad=True)
    buffer = jj.zeros(4)
    buffer[1:3] = w * w
    assert buffer.requires_grad
    assert not buffer.is_leaf
    buffer.sum().backward()
    assert w.grad.tolist() == [4.0, 6.0]


def test_overwriting_ends_the_history_of_a_part():
    x = jj.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 2
    y[1] = 0.0
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 2.0]
    y = x * 2
    y.zero_()
    assert y.requires_grad
    x.grad = None
    y.sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


def test_in_place_operations_keep_what_their_gradient_reads():
    for change in ("sin_", "log_", "abs_", "square_", "exp_", "sqrt_", "tanh_", "sigmoid_", "reciprocal_", "erf_"):
        x, z = (jj.tensor([0.3, 0.7], requires_grad=True) for _ in range(2))
        y = x * 1
        getattr(y, change)()
        y.sum().backward()
        getattr(z, change[:-1])().sum().backward()
        assert x.grad.tolist() == z.grad.tolist(), change
    x, w = jj.tensor([3.0], requires_grad=True), jj.tensor([5.0], requires_grad=True)
    y = x * 1
    y *= w
    y.backward()
    assert (x.grad.item(), w.grad.item()) == (5.0, 3.0)


def test_a_saved_value_that_was_written_to():
    x, w = jj.ones(3, requires_grad=True), jj.full((3,), 2.0)
    y = (x * w).sum()
    w.add_(1)
    with pytest.raises(
        RuntimeError, match="modified by an inplace operation.*MulBackward reads is at version 1; expected"
    ):
        y.backward()
    y = x.exp()
    z = y.sum()
    y.detach()[0] = 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()
    y = (x + w).sum()  # addition reads neither
    w.add_(1)
    y.backward()
    assert x.grad.tolist() == [1.0] * 3


def test_detach_and_no_grad():
    x = jj.ones(2, requires_grad=True)
    assert not x.detach().requires_grad
    y = x * 2
    d = y.detach()
    assert (d.is_leaf, d.grad_fn) == (True, None)
    with jj.no_grad():
        z = x * 3
        view = x[0]
        with jj.enable_grad():
            assert (x * 1).requires_grad
    assert not z.requires_grad
    assert view.requires_grad  # as in PyTorch: a leaf of its own
    assert jj.is_grad_enabled()

    @jj.no_grad()
    def quiet(t):
        return t * 2

    @jj.no_grad
    def silent(t):
        return t * 2

    assert not quiet(x).requires_grad
    assert not silent(x).requires_grad
    y.detach_()
    assert not y.requires_grad
    with pytest.raises(RuntimeError, match="Can't detach views in-place"):
        (x * 1)[0].detach_()


def test_changing_requires_grad():
    x = jj.ones(2)
    assert x.requires_grad_() is x
    assert (x * 1).requires_grad
    x.requires_grad = False
    assert not (x * 1).requires_grad
    with pytest.raises(RuntimeError, match="only floating point tensors can require gradients, not juanji.int64"):
        jj.ones(2, dtype=jj.int64).requires_grad_()
    with pytest.raises(RuntimeError, match="only floating point"):
        jj.tensor([1], requires_grad=True)
    y = x.requires_grad_() * 2
    with pytest.raises(RuntimeError, match="you can only change requires_grad flags of leaf"):
        y.requires_grad_(False)
    row = jj.zeros(2, 3)[0].requires_grad_()  # a view becomes a leaf of its own
    (row * 2).sum().backward()
    assert row.grad.tolist() == [2.0] * 3


def test_setting_data():
    w = jj.ones(2, requires_grad=True)
    other = jj.tensor([5.0, 6.0])
    w.data = other
    assert w.tolist() == [5.0, 6.0]
    assert w.requires_grad
    other.zero_()
    assert w.tolist() == [0.0, 0.0]
    w.data.add_(1)
    assert w.tolist() == [1.0, 1.0]
    with pytest.raises(TypeError, match="data must be set to a Tensor, not list"):
        w.data = [1.0]


# -- memory ------------------------------------------------------------------------------------------------------------
def test_numpy_arrays_keep_the_memory_of_their_tensor():
    """Freed memory is reused, but not while an array shows it."""
    kept = []
    for i in range(50):
        kept.append((jj.full((100,), float(i)) * 1).numpy())
        for _ in range(3):
            _ = jj.zeros(100) - 1.0
    assert [a[0] for a in kept] == list(range(50))
    assert all((a == a[0]).all() for a in kept)
    part = (jj.arange(6.0) * 1)[2:4].numpy()
    scalar = (jj.tensor(3.0) * 1).numpy()
    for _ in range(5):
        _ = jj.zeros(6) - 1.0, jj.tensor(0.0) - 1.0
    assert part.tolist() == [2.0, 3.0]
    assert scalar.item() == 3.0


def test_memory_goes_back_and_histories_end():
    ones = jj.ones(1000)
    x = ones * 1
    address = x.data_ptr()
    del x
    assert (ones * 1).data_ptr() == address
    memory.trim()
    assert memory.kept_bytes() == 0
    p = jj.ones(3, requires_grad=True)
    first = p * 2
    gone = weakref.ref(first.storage)
    for _ in range(3):
        first = first.detach() * 0.9
    gc.collect()
    assert gone() is None
