"""Padding, shuffling, tables of vectors and bilinear layers against PyTorch and NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import juanji as jj
from juanji import nn
from juanji.nn import functional as F

NUMPY = {"reflect": "reflect", "replicate": "edge", "circular": "wrap", "constant": "constant"}


@settings(deadline=None, max_examples=25)
@given(
    mode=st.sampled_from(sorted(NUMPY)),
    rank=st.integers(1, 3),
    sizes=st.lists(st.integers(3, 4), min_size=5, max_size=5),
    borders=st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
def test_padding_is_numpys(mode, rank, sizes, borders):
    shape = tuple(sizes[: rank + 1])
    x = np.arange(float(np.prod(shape))).reshape(shape)
    pad = borders[: 2 * rank]
    widths = [(0, 0)] + [(pad[2 * k], pad[2 * k + 1]) for k in reversed(range(rank))]
    np.testing.assert_array_equal(F.pad(jj.tensor(x), pad, mode).numpy(), np.pad(x, widths, NUMPY[mode]))


@pytest.mark.parametrize("mode", sorted(NUMPY))
@pytest.mark.parametrize("pad", [(2, 1), (-1, 2), (1, -2), (-1, -1), (1, 2, -1, 0), (0, 0, 0, 0, 2, 1)], ids=str)
def test_padding_and_its_gradient_are_pytorchs(torch, mode, pad):
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 4)[: 2 + len(pad) // 2] + (() if len(pad) < 6 else (3,)))
    mine, theirs = jj.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    a, b = F.pad(mine, pad, mode), torch.nn.functional.pad(theirs, pad, mode)
    np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
    g = np.random.default_rng(1).standard_normal(tuple(b.shape))
    a.backward(jj.tensor(g))
    b.backward(torch.tensor(g))
    np.testing.assert_allclose(mine.grad.numpy(), theirs.grad.numpy(), rtol=1e-12, atol=1e-13)


def test_padding_of_any_type_with_a_value():
    assert F.pad(jj.tensor([True]), (1, 1), value=True).tolist() == [True, True, True]
    assert F.pad(jj.tensor([3], dtype=jj.uint8), (0, 2), value=7).tolist() == [3, 7, 7]
    assert F.pad(jj.tensor([1.0]), (1, 0), value=-np.inf).tolist() == [-np.inf, 1.0]
    x = jj.tensor([[1.0, 2.0]])
    assert F.pad(x, (0, 0)) is not x
    assert F.pad(x, (-2, 1)).tolist() == [[0.0]]


def test_second_derivatives_of_padding(gradcheck):
    x = np.random.default_rng(2).standard_normal((2, 3, 4))
    for mode in ("constant", "reflect", "circular"):
        gradcheck(lambda t, m=mode: F.pad(t * t, (2, -1), m), x, order=2)


def test_padding_layers_print_and_compute_as_pytorchs(torch):
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 4, 4)).astype(np.float32)
    for made, rank in (
        ("ConstantPad1d(2, 3.5)", 1), ("ConstantPad2d((1, 0, 2, -1), 3.5)", 2), ("ConstantPad3d(1, 0.5)", 3),
        ("ZeroPad1d((1, 2))", 1), ("ZeroPad2d(1)", 2), ("ZeroPad3d(2)", 3),
        ("ReflectionPad1d(2)", 1), ("ReflectionPad2d((1, 2, 3, 0))", 2), ("ReflectionPad3d(1)", 3),
        ("ReplicationPad1d((5, 0))", 1), ("ReplicationPad2d(2)", 2), ("ReplicationPad3d(1)", 3),
        ("CircularPad1d(4)", 1), ("CircularPad2d(1)", 2), ("CircularPad3d((0, 1, 2, 3, 4, 0))", 3),
    ):  # fmt: skip
        ours, theirs = eval("nn." + made), eval("torch.nn." + made)
        assert repr(ours) == repr(theirs)
        part = {1: x[:, :, 0, 0], 2: x[:, :, 0], 3: x}[rank]
        np.testing.assert_array_equal(ours(jj.tensor(part)).numpy(), theirs(torch.tensor(part)).numpy())


@pytest.mark.parametrize("shape", [(1, 8, 2, 3), (2, 3, 8, 4, 2), (8, 1, 1)], ids=str)
def test_shuffles(torch, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    up = F.pixel_shuffle(jj.tensor(x), 2)
    np.testing.assert_array_equal(up.numpy(), torch.nn.functional.pixel_shuffle(torch.tensor(x), 2).numpy())
    np.testing.assert_array_equal(F.pixel_unshuffle(up, 2).numpy(), x)
    if len(shape) == 4:
        mixed = F.channel_shuffle(jj.tensor(x), 4)
        np.testing.assert_array_equal(mixed.numpy(), torch.nn.functional.channel_shuffle(torch.tensor(x), 4).numpy())
        np.testing.assert_array_equal(F.channel_shuffle(mixed, 2).numpy(), x)
    for made in ("PixelShuffle(2)", "PixelUnshuffle(3)", "ChannelShuffle(2)"):
        assert repr(eval("nn." + made)) == repr(eval("torch.nn." + made))


# -- tables of vectors ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"padding_idx": 2},
        {"padding_idx": -1, "scale_grad_by_freq": True},
        {"scale_grad_by_freq": True},
        {"max_norm": 1.0},
        {"max_norm": 0.7, "norm_type": 1.0},
    ],
    ids=str,
)
def test_embedding_is_pytorchs(torch, arguments):
    w = np.random.default_rng(0).standard_normal((5, 3))
    index = np.array([[1, 2, 1], [4, 0, 1]])
    mine, theirs = nn.Embedding(5, 3, _weight=jj.tensor(w), **arguments), torch.nn.Embedding(
        5, 3, _weight=torch.tensor(w.copy()), **arguments
    )  # fmt: skip
    a, b = mine(jj.tensor(index)), theirs(torch.tensor(index))
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)
    g = np.random.default_rng(1).standard_normal((2, 3, 3))
    a.backward(jj.tensor(g))
    b.backward(torch.tensor(g))
    np.testing.assert_allclose(mine.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-12)
    np.testing.assert_allclose(mine.weight.detach().numpy(), theirs.weight.detach().numpy(), rtol=1e-12)
    assert repr(mine) == repr(theirs)


def test_embedding_in_a_captured_step():
    layer = nn.Embedding(6, 4, padding_idx=0)
    assert layer.weight[0].tolist() == [0, 0, 0, 0]

    @jj.compile
    def step(index):
        loss = (layer(index) ** 2).sum()
        loss.backward()
        return loss

    index = jj.tensor([0, 3, 3, 5])
    step(index)
    expected = 2 * layer.weight.detach().numpy() * np.array([0, 0, 0, 2, 0, 1])[:, None]
    np.testing.assert_allclose(layer.weight.grad.numpy(), expected, rtol=1e-6)


def test_pretrained_vectors():
    layer = nn.Embedding.from_pretrained(jj.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert layer(jj.tensor(1, dtype=jj.int32)).tolist() == [3.0, 4.0]
    assert not layer.weight.requires_grad
    assert nn.Embedding.from_pretrained(jj.ones(2, 2), freeze=False).weight.requires_grad


def test_bilinear(torch, gradcheck):
    r = np.random.default_rng(0)
    x, y, w, b = (r.standard_normal(s) for s in ((2, 5, 3), (2, 5, 4), (6, 3, 4), (6,)))
    expected = torch.nn.functional.bilinear(*map(torch.tensor, (x, y, w, b))).numpy()
    np.testing.assert_allclose(F.bilinear(*map(jj.tensor, (x, y, w, b))).numpy(), expected, rtol=1e-12, atol=1e-13)
    gradcheck(F.bilinear, x[0], y[0], w, b, order=2)
    layer = nn.Bilinear(3, 4, 6)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert repr(layer) == repr(torch.nn.Bilinear(3, 4, 6))
    assert abs(layer.weight.detach().numpy()).max() <= 3**-0.5


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.pad(jj.ones(1, 3), (3, 0), "reflect"), RuntimeError, "at most 2 is valid"),
        (lambda: F.pad(jj.ones(1, 3), (0, 4), "circular"), ValueError, "at most 3 is valid"),
        (lambda: F.pad(jj.ones(3), (1, 1), "replicate"), ValueError, "one or two more"),
        (lambda: F.pad(jj.ones(3), (1,)), RuntimeError, "has 1 numbers"),
        (lambda: F.pad(jj.ones(3), (1, 1, 1, 1)), RuntimeError, "has 4 numbers"),
        (lambda: F.pad(jj.ones(3), (-2, -2)), RuntimeError, "negative size -1"),
        (lambda: F.pad(jj.ones(3), (1, 1), "same"), ValueError, "mode='same' is not valid"),
        (lambda: F.pad(jj.ones(1, 3), (1, 1), "reflect", 2.0), ValueError, "does not take a value"),
        (lambda: F.pad(jj.ones(3), (1.5, 1)), TypeError, "must hold integers"),
        (lambda: F.pad([1], (1, 1)), TypeError, "must be a Tensor"),
        (lambda: F.pixel_shuffle(jj.ones(3, 2, 2), 2), RuntimeError, "divisible by the square"),
        (lambda: F.pixel_shuffle(jj.ones(4, 2, 2), 0), RuntimeError, "must be positive"),
        (lambda: F.pixel_unshuffle(jj.ones(1, 3, 2), 2), RuntimeError, "divisible by downscale_factor=2"),
        (lambda: F.channel_shuffle(jj.ones(1, 4, 2), 3), RuntimeError, "must divide the 4 channels"),
        (lambda: F.embedding(jj.tensor([5]), jj.ones(5, 2)), IndexError, "index 5 is out of bounds"),
        (lambda: F.embedding(jj.tensor([1.0]), jj.ones(5, 2)), RuntimeError, "int64 or int32"),
        (lambda: F.embedding(jj.tensor([1]), jj.ones(5, 2), sparse=True), ValueError, "sparse=True"),
        (lambda: F.embedding(jj.tensor([1]), jj.ones(5, 2), 5), ValueError, "padding_idx=5"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), ValueError, "padding_idx=3"),
        (lambda: F.bilinear(jj.ones(1, 2), jj.ones(1, 3), jj.ones(1, 3, 3)), RuntimeError, "must end in 3 and 3"),
    ],
)
def test_refusals(call, error, text):
    with pytest.raises(error, match=text):
        call()
