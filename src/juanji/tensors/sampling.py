"""Random numbers of other distributions, drawn on the host, and tensors made in place of values."""

from __future__ import annotations

from typing import Any

import numpy as np

from juanji import dtypes
from juanji.config import state
from juanji.errors import ShapeError
from juanji.random import generator_or_default
from juanji.spec import show
from juanji.tensors.base import as_array
from juanji.tensors.creation import concat, randint_like
from juanji.tensors.filling import (
    check_arguments,
    checked_shape,
    logspace,
    new_tensor,
    scalar_tensor,
    tril_indices,
    triu_indices,
)
from juanji.tensors.public import METHODS, is_tensor, public


def _host(name: str, generator: Any) -> Any:
    if state.capture is not None:
        state.capture.refuse(f"{name} draws on the host", f"call {name} outside the step and pass the result in")
    return generator_or_default(generator).numpy


@public()
def bernoulli(input: Any, p: float | None = None, *, generator: Any = None) -> Any:
    """Ones with the probability that each element says (or `p`), zeros elsewhere."""
    source = _host("bernoulli", generator)
    chances = as_array(input.detach()) if p is None else np.full(input.shape, p)
    if p is None and not input.dtype.is_floating_point:
        raise RuntimeError(f"bernoulli: probabilities must be floating point, not {input.dtype}")
    if not ((chances >= 0) & (chances <= 1)).all():
        raise ShapeError("bernoulli: expected 0 <= p <= 1")
    return new_tensor(dtypes.encode(source.random(input.shape) < chances, input.dtype), input.dtype, False)


@public()
def multinomial(input: Any, num_samples: int, replacement: bool = False, *, generator: Any = None) -> Any:
    """`num_samples` class numbers for each row of weights, each drawn with the probability its weight says."""
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {input.dtype}")
    if input.ndim not in (1, 2):
        raise ShapeError(f"multinomial: prob_dist must be 1 or 2 dim, not {show(input.shape)}")
    if num_samples <= 0:
        raise ShapeError(f"multinomial: cannot sample n_sample <= 0 samples: {num_samples}")
    if not replacement and num_samples > input.shape[-1]:
        raise ShapeError("multinomial: cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    source = _host("multinomial", generator)
    weights = as_array(input.detach()).astype(np.float64)
    rows = np.atleast_2d(weights)
    if not np.isfinite(rows).all() or (rows < 0).any():
        raise ShapeError("multinomial: probability tensor contains either `inf`, `nan` or element < 0")
    if rows.size and (rows.sum(1) <= 0).any():
        raise ShapeError("multinomial: invalid multinomial distribution (sum of probabilities <= 0)")
    if not replacement and ((rows > 0).sum(1) < num_samples).any():
        raise ShapeError("multinomial: fewer classes of a weight above zero than samples without replacement")
    drawn = [source.choice(r.size, num_samples, replacement, r / r.sum()) for r in rows]
    array = np.array(drawn, np.int64).reshape(*weights.shape[:-1], num_samples)
    return new_tensor(array, dtypes.int64, False)


def normal(
    mean: Any, std: Any = 1.0, size: Any = None, *, generator: Any = None, dtype: Any = None, **hints: Any
) -> Any:
    """Normal numbers of the given means and deviations: tensors, or numbers with a `size`."""
    check_arguments("normal", hints.pop("device", None), hints)
    source = _host("normal", generator)
    middle = as_array(mean.detach()) if is_tensor(mean) else np.asarray(mean)
    width = as_array(std.detach()) if is_tensor(std) else np.asarray(std)
    if (width < 0).any():
        raise ShapeError("normal expects all elements of std >= 0.0")
    if size is None and not (is_tensor(mean) or is_tensor(std)):
        raise TypeError("normal: numbers as mean and std need a size")
    kind = mean.dtype if is_tensor(mean) else std.dtype if is_tensor(std) else dtypes.float32
    kind = kind if dtype is None else dtypes.as_dtype(dtype)
    shape = np.broadcast_shapes(middle.shape, width.shape) if size is None else checked_shape((size,), kind)
    return new_tensor(dtypes.encode(source.standard_normal(shape) * width + middle, kind), kind, False)


def _drawn(name: str, draw: Any, text: str) -> Any:
    def method(self: Any, *args: Any, generator: Any = None, **kwargs: Any) -> Any:
        source = _host(name, generator)
        try:
            values = draw(source, self.shape, *args, **kwargs)
        except (ArithmeticError, AttributeError, TypeError) as error:
            given = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
            raise ValueError(f"{name}: nothing can be drawn with the arguments ({given:.80}): {error}") from None
        return self.copy_(new_tensor(np.asarray(values).astype(np.float64), dtypes.float64, False).to(self.dtype))

    method.__name__, method.__doc__ = name, text
    METHODS[name] = method
    return method


def _between(source: Any, shape: Any, low: Any = 0, high: Any = None) -> Any:
    if high is None:
        low, high = (0, low) if low else (0, 2**24)
    return source.integers(low, high, shape)


_drawn("uniform_", lambda g, s, a=0.0, b=1.0: g.uniform(a, b, s), "Fills with uniform numbers in [`a`, `b`).")
_drawn("normal_", lambda g, s, mean=0.0, std=1.0: g.normal(mean, std, s), "Fills with normal numbers.")
_drawn("exponential_", lambda g, s, lambd=1.0: g.exponential(1 / lambd, s), "Fills with exponential numbers.")
_drawn(
    "cauchy_", lambda g, s, median=0.0, sigma=1.0: median + sigma * g.standard_cauchy(s), "Fills with Cauchy numbers."
)
_drawn("geometric_", lambda g, s, p: g.geometric(p, s), "Fills with geometric numbers.")
_drawn("log_normal_", lambda g, s, mean=1.0, std=2.0: g.lognormal(mean, std, s), "Fills with log-normal numbers.")
_drawn("bernoulli_", lambda g, s, p=0.5: g.random(s) < p, "Fills with ones with probability `p`, else zeros.")
_drawn("random_", _between, "Fills with integers from `low` to below `high`.")

concatenate = concat

__all__ = [
    "bernoulli", "concat", "concatenate", "logspace", "multinomial", "normal", "randint_like", "scalar_tensor",
    "tril_indices", "triu_indices",
]  # fmt: skip
