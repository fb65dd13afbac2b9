"""Memory formats are hints, refused where they make no sense; limits of element types are PyTorch's."""

import pytest

import juanji as jj
from juanji import nn


def test_memory_formats_are_hints():
    x = jj.arange(24.0).reshape(1, 2, 3, 4)
    for y in (
        x.contiguous(memory_format=jj.channels_last),
        x.to(memory_format=jj.channels_last),
        x.to(jj.float64, memory_format=jj.preserve_format).float(),
        x.clone(memory_format=jj.contiguous_format),
    ):
        assert jj.equal(x, y)
    assert jj.empty_like(x, memory_format=jj.preserve_format).shape == x.shape
    layer = nn.Conv2d(2, 3, 1).to(memory_format=jj.channels_last)
    assert tuple(layer(x).shape) == (1, 3, 3, 4)
    assert x.is_contiguous()
    assert not x.is_contiguous(memory_format=jj.channels_last)
    assert x.permute(0, 3, 1, 2).is_contiguous(memory_format=jj.channels_last)


def test_memory_formats_are_checked():
    with pytest.raises(TypeError, match="memory_format='nhwc' must be"):
        jj.zeros(1).contiguous(memory_format="nhwc")
    with pytest.raises(RuntimeError, match=r"needs a tensor of 4 dimensions, not of shape \[3\]"):
        jj.zeros(3).contiguous(memory_format=jj.channels_last)
    with pytest.raises(TypeError, match="memory_format"):
        nn.ReLU().to(memory_format=3)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_limits_of_floats(name):
    torch = pytest.importorskip("torch")
    ours, theirs = jj.finfo(getattr(jj, name)), torch.finfo(getattr(torch, name))
    for key in ("bits", "eps", "max", "min", "tiny", "smallest_normal", "resolution", "dtype"):
        assert getattr(ours, key) == getattr(theirs, key), key


@pytest.mark.parametrize("name", ["uint8", "int8", "int16", "int32", "int64"])
def test_limits_of_integers(name):
    torch = pytest.importorskip("torch")
    ours, theirs = jj.iinfo(getattr(jj, name)), torch.iinfo(getattr(torch, name))
    for key in ("bits", "max", "min", "dtype"):
        assert getattr(ours, key) == getattr(theirs, key), key


def test_limits_refuse_the_other_kind():
    with pytest.raises(TypeError, match=r"use jj\.iinfo"):
        jj.finfo(jj.int8)
    with pytest.raises(TypeError, match=r"use jj\.finfo"):
        jj.iinfo(jj.float32)
