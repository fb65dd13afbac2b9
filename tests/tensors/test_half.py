"""float16 and bfloat16: stored in two bytes, computed in float32, rounded once to the nearest even number."""

import numpy as np
import pytest

import juanji as jj


@pytest.mark.filterwarnings("ignore")
def test_every_float16(kernel_target):
    bits = np.arange(65536, dtype=np.uint16)
    array = bits.view(np.float16)
    number = ~np.isnan(array)
    wide = jj.from_numpy(array.copy()).float()
    np.testing.assert_array_equal(wide.numpy(), array.astype(np.float32))
    back = wide.half().numpy()
    np.testing.assert_array_equal(back.view(np.uint16)[number], bits[number])
    assert np.isnan(back[~number]).all()


@pytest.mark.filterwarnings("ignore")
def test_rounding(kernel_target):
    ends = np.float32([65519.99, 65520, 65504, 2**-14, 2**-24, 2**-25, 2.98e-8, -0.0, np.inf, -np.inf, np.nan])
    drawn = np.random.default_rng(0).integers(0, 2**32, 100_000, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([ends, drawn])
    x = x[(abs(x) >= np.finfo(np.float32).tiny) | (x == 0) | np.isnan(x)]
    number = ~np.isnan(x)
    half = jj.from_numpy(x).half().numpy()
    np.testing.assert_array_equal(half.view(np.uint16)[number], x.astype(np.float16).view(np.uint16)[number])
    assert np.isnan(half[~number]).all()
    brain = jj.from_numpy(x).bfloat16().float().numpy()
    bits = x.view(np.uint32).astype(np.uint64)
    expected = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
    np.testing.assert_array_equal(brain[number], expected[number])
    assert np.isnan(brain[~number]).all()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_against_pytorch(torch, name):
    mine, theirs = getattr(jj, name), getattr(torch, name)
    a, b = np.linspace(-3, 3, 12).reshape(3, 4), np.linspace(0.5, 2, 12).reshape(3, 4)

    def program(library, kind):
        x = library.tensor(a, dtype=kind, requires_grad=True)
        y = library.tensor(b, dtype=kind)
        results = [x + y, x * 0.1, (x / y).exp(), x.mean(), x.sum(1), x @ y.T, x.softmax(1), x.std(), x[1:, ::2], x > y]
        sum(r.float().sum() for r in results[:8]).backward()
        return [r.detach() for r in results] + [x.grad]

    tolerance = 2e-3 if name == "float16" else 1.6e-2
    for m, t in zip(program(jj, mine), program(torch, theirs), strict=True):
        assert m.dtype.name == str(t.dtype).removeprefix("torch.")
        np.testing.assert_allclose(m.float().numpy(), t.float().numpy(), tolerance, tolerance)


def test_promotion_and_storage():
    h, b = jj.ones(2, dtype=jj.half), jj.ones(2, dtype=jj.bfloat16)
    assert (h + b).dtype is jj.float32
    assert (h + jj.ones(2)).dtype is jj.float32
    assert (h * jj.tensor([1, 2])).dtype is jj.float16
    assert (b * 2.5).dtype is jj.bfloat16
    assert h.element_size() == b.element_size() == 2
    array = np.zeros(3, np.float16)
    jj.from_numpy(array).fill_(1.5)
    assert array.tolist() == [1.5] * 3
    with pytest.raises(TypeError, match="BFloat16"):
        b.numpy()
    assert b.tolist() == [1.0, 1.0]
    assert jj.full((2,), 60000.0, dtype=jj.half).mean().item() == 60000  # summed in float32
    x = jj.tensor([1.0, 2.0, 3.0], dtype=jj.bfloat16)
    assert x[jj.tensor([2, 0])].tolist() == [3.0, 1.0]
    x[1] = 0.1
    assert x.tolist() == [1.0, 0.10009765625, 3.0]
    assert jj.compile(lambda x: x * x + 1)(x).dtype is jj.bfloat16


def test_more_than_a_million_elements():
    """Their size is checked before memory is taken, by the name of an element type that NumPy does not know."""
    zeros = jj.zeros(1025, 1024, dtype=jj.bfloat16)
    assert zeros.shape == (1025, 1024)
    assert float(zeros.new_ones(1025, 1024).sum(dtype=jj.float32)) == 1025 * 1024
    joined = jj.cat([zeros, zeros + 1])
    assert joined.dtype is jj.bfloat16
    assert float(joined.sum(dtype=jj.float32)) == 1025 * 1024
