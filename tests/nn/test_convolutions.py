"""Convolution layers of every rank against PyTorch: arguments, padding modes, output sizes, errors."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn

RANKS = (1, 2, 3)
SIZES = {1: (9,), 2: (7, 6), 3: (5, 4, 6)}


def pair(torch, name, rank, *args, **arguments):
    """The same layer here and there, with the same parameters."""
    jj.manual_seed(rank)
    ours = getattr(nn, f"{name}{rank}d")(*args, **arguments)
    theirs = getattr(torch.nn, f"{name}{rank}d")(*args, **arguments)
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    return ours, theirs


def same(torch, ours, theirs, shape, **arguments):
    """Outputs and all gradients."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    a, b = jj.tensor(x).requires_grad_(), torch.tensor(x, requires_grad=True)
    y, z = ours(a, **arguments), theirs(b, **arguments)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), 1e-4, 1e-5)
    (y * y).sum().backward()
    (z * z).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), 1e-3, 1e-4)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), 1e-3, 1e-3)


@pytest.mark.parametrize("rank", RANKS)
def test_layers(torch, rank):
    for arguments in ({}, {"stride": 2, "padding": 1, "groups": 2}, {"dilation": 2, "bias": False, "padding": "same"}):
        ours, theirs = pair(torch, "Conv", rank, 4, 6, 2, **arguments)
        assert repr(ours) == repr(theirs)
        same(torch, ours, theirs, (2, 4, *SIZES[rank]))
        same(torch, ours, theirs, (4, *SIZES[rank]))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("rank", RANKS)
def test_padding_modes(torch, rank, mode):
    for arguments in ({"padding": 2, "stride": 2}, {"padding": "same", "dilation": 2}, {"padding": "valid"}):
        kernel = (4, 3, 2)[:rank] if mode != "reflect" else (2,) * rank
        ours, theirs = pair(torch, "Conv", rank, 2, 3, kernel, padding_mode=mode, **arguments)
        assert repr(ours) == repr(theirs)
        same(torch, ours, theirs, (2, 2, *SIZES[rank]))


def test_padding_modes_compiled():
    layer = nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")
    x = jj.randn(1, 1, 5, 6)
    assert jj.allclose(jj.compile(layer)(x), layer(x))


@pytest.mark.parametrize("rank", RANKS)
def test_transposed_layers(torch, rank):
    cases = ({}, {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2}, {"dilation": 3, "output_padding": 2})
    for arguments in cases:
        ours, theirs = pair(torch, "ConvTranspose", rank, 4, 6, 3, **arguments)
        assert repr(ours) == repr(theirs)
        same(torch, ours, theirs, (2, 4, *(n // 2 for n in SIZES[rank])))
    ours, theirs = pair(torch, "ConvTranspose", rank, 2, 3, 3, stride=2)
    for extra in (7, 8):
        same(torch, ours, theirs, (1, 2, *(3,) * rank), output_size=[extra] * rank)
    same(torch, ours, theirs, (1, 2, *(3,) * rank), output_size=[1, 3, *[8] * rank])
    for wrong in ([6] * rank, [9] * rank, [7] * (rank + 3)):
        with pytest.raises(ValueError, match="output_size"):
            ours(jj.ones(1, 2, *(3,) * rank), output_size=wrong)


def test_a_transposed_convolution_undoes_the_shape_of_a_convolution():
    for size in range(8, 14):
        down = nn.Conv2d(1, 2, 4, stride=3, padding=1)
        up = nn.ConvTranspose2d(2, 1, 4, stride=3, padding=1)
        x = jj.randn(1, 1, size, size)
        assert up(down(x), output_size=x.shape).shape == x.shape


@pytest.mark.parametrize("rank", RANKS)
def test_second_derivatives(gradcheck, rank):
    random = np.random.default_rng(0)
    x, w = random.standard_normal((1, 4, *(4, 3, 3)[-rank:])), random.standard_normal((4, 2, *(2, 2, 1)[-rank:]))
    b = random.standard_normal(4)
    forward, back = getattr(nn.functional, f"conv{rank}d"), getattr(nn.functional, f"conv_transpose{rank}d")
    gradcheck(lambda x, w, b: forward(x, w, b, stride=2, padding=1, groups=2) ** 2, x, w, b, order=2)
    more = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
    gradcheck(lambda x, w, b: back(x, w, b, **more) ** 2, x, w, b, order=2)
    extra = {"dilation": 3, "output_padding": 2}  # more than the stride: not a size that the convolution would take
    gradcheck(lambda x, w: back(x[:, :2], w[:2, :1], **extra) ** 2, x, w, order=2)


def test_empty_batches(torch):
    for rank in RANKS:
        for name in ("Conv", "ConvTranspose"):
            ours, theirs = pair(torch, name, rank, 2, 3, 2)
            x = jj.zeros(0, 2, *SIZES[rank]).requires_grad_()
            y = ours(x)
            assert tuple(y.shape) == tuple(theirs(torch.zeros(0, 2, *SIZES[rank])).shape)
            y.sum().backward()
            assert ours.weight.grad.abs().sum() == 0
            assert x.grad.shape == x.shape


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: nn.Conv1d(3, 4, 2, groups=2), ValueError, "in_channels must be divisible by groups"),
        (lambda: nn.Conv3d(4, 3, 2, groups=2), ValueError, "out_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 4, 2, groups=0), ValueError, "groups must be at least 1"),
        (lambda: nn.Conv2d(4, 4, 2, padding="full"), ValueError, "padding string 'full'"),
        (lambda: nn.Conv2d(4, 4, 2, stride=2, padding="same"), ValueError, "strided"),
        (lambda: nn.Conv2d(4, 4, (2, 2, 2)), ValueError, "kernel_size=\\(2, 2, 2\\) must be one integer or 2"),
        (lambda: nn.Conv2d(4, 4, 2, dilation=0), ValueError, "dilation=0"),
        (lambda: nn.ConvTranspose2d(4, 4, 2, padding="same"), TypeError, "no 'same'"),
        (lambda: nn.ConvTranspose2d(4, 4, 2, padding_mode="reflect"), ValueError, 'Only "zeros"'),
        (lambda: nn.ConvTranspose1d(2, 2, 2, output_padding=1)(jj.ones(1, 2, 3)), RuntimeError, "output padding must"),
        (lambda: nn.ConvTranspose1d(2, 2, 2, padding=3)(jj.ones(1, 2, 3)), ValueError, "would have an output of"),
        (lambda: nn.ConvTranspose1d(2, 2, 2)(jj.ones(1, 3, 3)), ValueError, "has 3 channels"),
        (lambda: nn.Conv1d(2, 2, 5)(jj.ones(1, 2, 3)), RuntimeError, "padded input is 3 .* reaches over 5"),
        (lambda: nn.Conv2d(1, 1, 3, padding=3, padding_mode="reflect")(jj.ones(1, 1, 3, 3)), RuntimeError, "pad"),
        (lambda: nn.Conv2d(1, 1, 1)(jj.ones(1, 1)), ValueError, "3D .unbatched. or 4D"),
        (lambda: nn.Conv2d(1, 1, 1)(jj.ones(1, 1, 2, 2, dtype=jj.float64)), RuntimeError, "weight is juanji.float32"),
        (lambda: nn.Conv2d(1, 1, 1)(np.ones((1, 1, 2, 2))), TypeError, "must be a Tensor"),
        (lambda: nn.Conv1d(1, 1, 1, padding=2**40)(jj.ones(1, 1, 1)), MemoryError, "2199023255553"),
    ],
)  # fmt: skip
def test_errors(make, error, words):
    with pytest.raises(error, match=words):
        make()
