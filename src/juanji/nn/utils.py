"""Helpers around parameters: gradients clipped, all parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import juanji.tensors as T
from juanji.errors import ShapeError
from juanji.spec import show
from juanji.tensors import Tensor


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Any]:
    several = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for p in several:
        if not isinstance(p, Tensor):
            raise TypeError(f"parameters must be tensors, not {type(p).__name__}")
    return [p.grad for p in several if p.grad is not None]


def get_total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
    """The norm of all elements of all tensors, as if they were one vector; 0 for no tensors.

    Args:
        tensors: whose elements.
        norm_type: p of the p-norm; infinity for the largest absolute value.
        error_if_nonfinite: raise where the norm is NaN or infinite (reads the value, so outside `jj.compile` only).

    Raises:
        RuntimeError: the norm is not finite and `error_if_nonfinite` is set.

    >>> import juanji as jj
    >>> jj.nn.utils.get_total_norm([jj.tensor([3.0]), jj.tensor([[4.0]])])
    tensor(5.)
    """
    p = float(norm_type)
    given: list[Any] = list(tensors)
    if not given:
        return T.tensor(0.0)
    if p == math.inf:
        total = T.stack([g.abs().max() for g in given]).max()
    elif p == 2:
        total = T.stack([(g * g).sum() for g in given]).sum().sqrt()
    else:
        total = (T.stack([(g.abs() ** p).sum() for g in given]).sum()) ** (1.0 / p)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients is non-finite, so it cannot be clipped. To disable "
            "this error and scale the gradients by the non-finite norm anyway, set error_if_nonfinite=False"
        )
    return total  # type: ignore[no-any-return]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scales all gradients down, in place, so that their norm taken together is at most `max_norm`.

    Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013.

    Args:
        parameters: whose gradients.
        max_norm: the largest norm to keep.
        norm_type: p of the p-norm.
        error_if_nonfinite: raise where the norm is not finite.
        foreach: accepted; changes nothing.

    Returns:
        The norm before.

    >>> import juanji as jj
    >>> p = jj.tensor([3.0, 4.0], requires_grad=True)
    >>> (p * p / 2).sum().backward()
    >>> jj.nn.utils.clip_grad_norm_(p, 1.0), p.grad
    (tensor(5.), tensor([0.6000, 0.8000]))
    """
    gradients = _gradients(parameters)
    with T.no_grad():
        total = get_total_norm(gradients, norm_type, error_if_nonfinite)
        factor = (float(max_norm) / (total + 1e-6)).clamp(max=1.0)
        for g in gradients:
            g.mul_(factor.to(g.dtype))
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Cuts every element of the gradients, in place, to between -clip_value and clip_value.

    >>> import juanji as jj
    >>> p = jj.tensor([3.0, -4.0], requires_grad=True)
    >>> (p * p / 2).sum().backward()
    >>> jj.nn.utils.clip_grad_value_(p, 3.5)
    >>> p.grad
    tensor([ 3.0000, -3.5000])
    """
    with T.no_grad():
        for g in _gradients(parameters):
            g.clamp_(-float(clip_value), float(clip_value))


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All elements of all parameters one after another.

    >>> import juanji as jj
    >>> jj.nn.utils.parameters_to_vector(jj.nn.Linear(2, 3).parameters()).shape
    (9,)
    """
    return T.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Writes consecutive pieces of a vector into parameters.

    Raises:
        ShapeError: the vector has another number of elements than the parameters.
    """
    several: list[Any] = list(parameters)
    count = sum(p.numel() for p in several)
    if tuple(vec.shape) != (count,):
        raise ShapeError(f"vector_to_parameters: vec of shape {show(vec.shape)} must be [{count}], one number a weight")
    at = 0
    with T.no_grad():
        for p in several:
            p.copy_(vec[at : at + p.numel()].reshape(p.shape))
            at += p.numel()


__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "get_total_norm",
    "parameters_to_vector",
    "vector_to_parameters",
]
