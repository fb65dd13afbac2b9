"""Filling tensors with initial values; every function changes its tensor in place and returns it.

Values are drawn from `juanji.random.default_generator` (set by `juanji.manual_seed`) unless `generator` is
given.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

import juanji.tensors as T
from juanji.random import Generator, generator_or_default
from juanji.tensors import Tensor
from juanji.tensors.base import need_tensor


class _State(threading.local):
    skipped = False


_state = _State()


@contextmanager
def skipped() -> Iterator[None]:
    """Within it random values are not drawn: for building a network whose weights are about to be loaded.

    What the tensors hold is arbitrary then, and the sequence of random numbers is left where it was.

    >>> import juanji as jj
    >>> with jj.nn.init.skipped():
    ...     layer = jj.nn.Linear(3, 2)
    >>> layer.load_state_dict({"weight": jj.ones(2, 3), "bias": jj.zeros(2)})
    <All keys matched successfully>
    """
    before, _state.skipped = _state.skipped, True
    try:
        yield
    finally:
        _state.skipped = before


#: How many numbers are drawn at once.
PIECE = 1 << 20


def _fill(
    tensor: Tensor,
    generator: Generator | None,
    draw: Callable[[np.random.Generator, int], NDArray[np.float64]],
) -> Tensor:
    need_tensor(tensor, "tensor", "init")
    if _state.skipped:
        return tensor
    # Drawn in float64 whatever the dtype, so that float32 and float64 networks of one seed start alike; in pieces, for
    # the first linear layer of VGG alone would take 800 MB.
    values = np.empty(tensor.numel(), tensor.dtype.numpy)
    source = generator_or_default(generator).numpy
    for at in range(0, len(values), PIECE):
        values[at : at + PIECE] = draw(source, min(PIECE, len(values) - at))
    with T.no_grad():
        return tensor.copy_(T.from_numpy(values.reshape(tensor.shape)))


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Draw from the uniform distribution over [a, b).

    >>> import juanji as jj
    >>> w = jj.nn.init.uniform_(jj.empty(1000), -0.5, 0.5)
    >>> bool(w.min() >= -0.5), bool(w.max() <= 0.5)
    (True, True)
    """
    return _fill(tensor, generator, lambda rng, shape: rng.uniform(a, b, shape))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Draw from the normal distribution with that mean and standard deviation."""
    return _fill(tensor, generator, lambda rng, shape: rng.normal(mean, std, shape))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with `val`.

    >>> import juanji as jj
    >>> jj.nn.init.constant_(jj.empty(2), 3.0)
    tensor([3., 3.])
    """
    need_tensor(tensor, "tensor", "init")
    with T.no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros."""
    return constant_(tensor, 0.0)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a nonlinearity shrinks the standard deviation, to be made up for by the weights.

    Raises `ValueError` for an unknown nonlinearity.

    >>> round(calculate_gain("relu"), 4), round(calculate_gain("leaky_relu", 0.2), 4)
    (1.4142, 1.3868)
    """
    if nonlinearity in (
        "linear",
        "sigmoid",
        *(f"conv{way}{rank}d" for way in ("", "_transpose") for rank in (1, 2, 3)),
    ):
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        if param is not None and (isinstance(param, bool) or not isinstance(param, (int, float))):
            raise ValueError(f"negative_slope {param} not a valid number")
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """How many inputs an output value has, and outputs an input value: (in, out) times the kernel's size."""
    if len(tensor.shape) < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions, "
            f"got shape {tuple(tensor.shape)}"
        )
    outputs, inputs, *kernel = tensor.shape
    field = math.prod(kernel)
    return inputs * field, outputs * field


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return fan_in if mode == "fan_in" else fan_out


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform over ±gain·sqrt(3 / fan) (He et al., 2015); `a` is the negative slope of a leaky ReLU.

    >>> import juanji as jj
    >>> w = jj.nn.init.kaiming_uniform_(jj.empty(64, 6))
    >>> bool(w.abs().max() <= 1.0)
    True
    """
    if tensor.numel() == 0:
        return tensor
    bound = math.sqrt(3.0 / _fan(tensor, mode)) * calculate_gain(nonlinearity, a)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with standard deviation gain / sqrt(fan) (He et al., 2015); `a` as for `kaiming_uniform_`."""
    if tensor.numel() == 0:
        return tensor
    std = calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return normal_(tensor, 0.0, std, generator)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform over ±gain·sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    bound = gain * math.sqrt(6.0 / max(sum(_calculate_fan_in_and_fan_out(tensor)), 1))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation gain·sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    std = gain * math.sqrt(2.0 / max(sum(_calculate_fan_in_and_fan_out(tensor)), 1))
    return normal_(tensor, 0.0, std, generator)
