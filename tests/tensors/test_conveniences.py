"""Small things that programs for PyTorch use without thinking: filling, comparing in place, questions."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: jj.zeros(2).clone(memory_format=3), TypeError, "memory_format=3"),
        (lambda: jj.zeros(2, 3).contiguous(memory_format=jj.channels_last), RuntimeError, "4 dimensions"),
        (lambda: jj.zeros(2).to(memory_format="channels_last"), TypeError, "memory_format='channels_last'"),
        (lambda: jj.zeros(2).to(form=1), TypeError, "'form'"),
        (lambda: jj.zeros(2, memory_format=jj.strided), TypeError, "memory_format=juanji.strided must be"),
        (lambda: jj.zeros(2, layout="sparse"), TypeError, "layout='sparse'"),
        (lambda: nn.Linear(1, 1).to(memory_format=1), TypeError, "memory_format=1"),
    ],
)
def test_what_is_no_format_or_layout(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_modules_change_their_element_type():
    layer = nn.BatchNorm1d(2)
    assert layer.half().weight.dtype is jj.float16
    assert layer.running_mean.dtype is jj.float16
    assert layer.num_batches_tracked.dtype is jj.int64
    assert layer.bfloat16().bias.dtype is jj.bfloat16
    assert layer.type(jj.float64).weight.dtype is jj.float64
    with pytest.raises(TypeError, match="floating point"):
        layer.type(jj.int32)


# -- filling ---------------------------------------------------------------------------------------------------------
def test_fill():
    x = jj.tensor([1, 2])
    assert jj.fill(x, 2.7).tolist() == [2, 2]
    assert x.tolist() == [1, 2]
    value = jj.tensor(3.0, requires_grad=True)
    filled = jj.fill(jj.zeros(2, 3), value)
    filled.sum().backward()
    assert filled.tolist() == [[3.0] * 3] * 2
    assert value.grad.item() == 6.0
    with pytest.raises(RuntimeError, match="0-dimensional"):
        jj.fill(x, jj.tensor([1]))


@pytest.mark.parametrize("name", ["int8", "uint8", "int64", "bool"])
@pytest.mark.parametrize("value", [2.7, -2.7, -1, -1.0, 300, 255.5, float("nan"), 1e30, 2**63])
def test_filled_numbers_are_cut_or_refused_as_in_pytorch(name, value):
    torch = pytest.importorskip("torch")
    results = []
    for m in (jj, torch):
        x = m.tensor([1, 2, 3]).to(getattr(m, name))
        mask = m.tensor([True, False, True])
        for fill in (
            lambda: x.masked_fill(mask, value),  # noqa: B023
            lambda: x.clone().masked_fill_(mask, value),  # noqa: B023
            lambda: x.index_fill(0, m.tensor([1]), value),  # noqa: B023
        ):
            try:
                results.append(fill().tolist())
            except RuntimeError:
                results.append("refused")
    assert results[:3] == results[3:]


# -- in place --------------------------------------------------------------------------------------------------------
def test_comparing_in_place():
    x = jj.tensor([1.0, 2.0, 3.0])
    view = x[1:]
    assert x.ge_(2) is x
    assert x.tolist() == [0.0, 1.0, 1.0]
    assert view.tolist() == [1.0, 1.0]
    assert jj.tensor([2, 0]).logical_not_().tolist() == [0, 1]
    leaf = jj.ones(2, requires_grad=True)
    (leaf * 1).lt_(2).sum().backward()
    assert leaf.grad.tolist() == [0.0, 0.0]
    with pytest.raises(RuntimeError, match="leaf Variable"):
        leaf.eq_(1)


def test_turning_in_place():
    x = jj.arange(6).reshape(2, 3).clone()
    same = x
    x.t_().unsqueeze_(0).squeeze_(0)
    assert same.tolist() == [[0, 3], [1, 4], [2, 5]]
    x.add_(1)
    assert same.tolist() == [[1, 4], [2, 5], [3, 6]]
    with pytest.raises(RuntimeError, match="leaf Variable"):
        jj.ones(2, requires_grad=True).unsqueeze_(0)


def test_gradients_through_turning_in_place():
    torch = pytest.importorskip("torch")
    gradients = []
    for m in (jj, torch):
        x = m.ones(2, 3, requires_grad=True)
        y = x * 2
        row = y[0]
        y.transpose_(0, 1)
        y.mul_(m.arange(6.0).reshape(3, 2))
        (y.sum() + (row * row).sum()).backward()
        gradients.append(x.grad.tolist())
        parameter = m.ones(2, 3, requires_grad=True)
        with m.no_grad():
            parameter.swapaxes_(0, 1)
        assert parameter.is_leaf
        (parameter * 3).sum().backward()
        assert tuple(parameter.grad.shape) == (3, 2)
    assert gradients[0] == gradients[1]


def test_turning_in_place_in_a_captured_step():
    @jj.compile
    def step(x):
        return (x * 2).unsqueeze_(0).t_().gt_(2)

    assert step(jj.tensor([1.0, 2.0])).tolist() == [[0.0], [1.0]]


# -- asking and making -----------------------------------------------------------------------------------------------
def test_questions():
    x = jj.zeros(2, 3, dtype=jj.int16)
    assert (x.nbytes, x.itemsize, x.nelement(), x.ndimension(), x.get_device()) == (12, 2, 6, 2, -1)
    assert [jj.zeros(1, dtype=d).is_signed() for d in (jj.bool, jj.uint8, jj.int8, jj.float32)] == [
        False,
        False,
        True,
        True,
    ]
    assert x.is_cpu
    assert not x.is_sparse
    assert not jj.zeros(1, 2, 3, 4).is_contiguous(memory_format=jj.channels_last_3d)
    assert jj.zeros(2, layout=jj.strided, pin_memory=False).shape == (2,)
    assert jj.is_same_size(x, jj.zeros(2, 3))
    assert not x.is_same_size(jj.zeros(6))
    assert x.mT.shape == x.H.shape == (3, 2)
    assert jj.zeros(4, 2, 3).mH.shape == (4, 3, 2)
    with pytest.raises(RuntimeError, match="1-D"):
        _ = jj.zeros(3).mT
    assert jj.get_default_dtype() is jj.float32


def test_making():
    assert jj.zeros(1, dtype=jj.float64).new_tensor([1, 2]).dtype is jj.float64
    assert jj.arange(3).where(jj.tensor([True, False, True]), 9).tolist() == [0, 9, 2]
    assert jj.index_put(jj.zeros(3), (jj.tensor([0, 2]),), jj.tensor([1.0, 2.0])).tolist() == [1.0, 0.0, 2.0]
    assert jj.row_stack((jj.zeros(2), jj.ones(2))).shape == (2, 2)
    array = np.zeros(2, np.float32)
    jj.asarray(array)[0] = 5
    assert array[0] == 5
    jj.asarray(array, copy=True)[0] = 6
    assert array[0] == 5
    assert jj.asarray([1.0], requires_grad=True).requires_grad
    for given, dtype in (([1.0], None), (array, jj.float64)):
        with pytest.raises(ValueError, match="copy=False"):
            jj.asarray(given, dtype=dtype, copy=False)


def test_seeds():
    jj.manual_seed(7)
    assert jj.initial_seed() == 7
    drawn = jj.seed()
    assert drawn == jj.initial_seed()
    first = jj.rand(3).tolist()
    jj.manual_seed(drawn)
    assert jj.rand(3).tolist() == first
