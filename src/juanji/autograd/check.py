"""Gradients held against differences: `gradcheck` and `gradgradcheck`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji import dtypes
from juanji.autograd.walk import grad
from juanji.gradmode import enable_grad, no_grad
from juanji.spec import show
from juanji.tensors import Tensor, from_numpy
from juanji.tensors.base import as_array


class GradcheckError(RuntimeError):
    """A gradient that is not what differences say."""


def _tensors(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _wanted(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _inputs(given: Any, name: str) -> tuple[Any, ...]:
    inputs = _tensors(given)
    if not any(_wanted(x) for x in inputs):
        raise ValueError(
            f"{name} expects at least one input tensor to require gradient, but none of them have requires_grad=True."
        )
    for i, x in enumerate(inputs):
        if not _wanted(x):
            continue
        if x.dtype is not dtypes.float64:
            warnings.warn(
                f"Input #{i} requires gradient and is not a double precision floating point tensor. This check will "
                "likely fail if all the inputs are not of double precision floating point.",
                stacklevel=3,
            )
        if any(s == 0 and e > 1 for s, e in zip(x.strides, x.shape, strict=True)):
            raise RuntimeError(
                f"The {i}th input has a dimension with stride 0. {name} only supports inputs that are non-overlapping "
                "to be able to compute the numerical gradients correctly. You should call .contiguous on the input "
                f"before passing it to {name}."
            )
    return inputs


def _outputs(function: Callable[..., Any], inputs: Sequence[Any]) -> list[Any]:
    with enable_grad():
        found = _tensors(function(*inputs))
    return [y for y in found if isinstance(y, Tensor) and y.dtype.is_floating_point and y.requires_grad]


def _values(function: Callable[..., Any], inputs: Sequence[Any], count: int) -> list[NDArray[Any]]:
    with no_grad():
        found = _tensors(function(*inputs))
    floating = [y for y in found if isinstance(y, Tensor) and y.dtype.is_floating_point]
    return [np.array(as_array(y.detach()), np.float64) for y in floating][:count]


def _differences(
    function: Callable[..., Any], inputs: Sequence[Any], x: Any, moves: NDArray[Any], eps: float, count: int
) -> list[NDArray[Any]]:
    """For each output the change along each row of `moves`, a direction in the space of `x`: [direction, output]."""
    memory = as_array(x.detach())
    before = memory.copy()
    rows: list[list[NDArray[Any]]] = []
    try:
        for move in moves:
            step = eps * move.reshape(before.shape)
            memory[...] = before + step
            above = _values(function, inputs, count)
            memory[...] = before - step
            below = _values(function, inputs, count)
            rows.append([((a - b) / (2 * eps)).reshape(-1) for a, b in zip(above, below, strict=True)])
    finally:
        memory[...] = before
    return [np.array([row[k] for row in rows]) for k in range(count)]


def _rows(y: Any, x: Any, weights: NDArray[Any], check_dtypes: bool) -> NDArray[Any]:
    """The gradient of `weights @ y` with respect to `x` for each row of weights: [weights, input]."""
    rows = []
    for weight in weights:
        g = from_numpy(weight.copy()).reshape(y.shape).to(y.dtype)
        (found,) = grad(y, x, g, retain_graph=True, allow_unused=True)
        if found is None:
            rows.append(np.zeros(x.numel()))
            continue
        if found.shape != x.shape or (check_dtypes and found.dtype is not x.dtype):
            raise GradcheckError(
                f"the gradient of shape {show(found.shape)} and {found.dtype} must have the input's shape "
                f"{show(x.shape)} and {x.dtype}"
            )
        rows.append(np.array(as_array(found.detach()), np.float64).reshape(-1))
    return np.array(rows).reshape(len(weights), x.numel())


def _check(
    function: Callable[..., Any], inputs: tuple[Any, ...], eps: float, atol: float, rtol: float, nondet_tol: float,
    check_grad_dtypes: bool, fast_mode: bool,
) -> None:  # fmt: skip
    outputs = _outputs(function, inputs)
    if not outputs:
        raise GradcheckError("no Tensors requiring grad found among the outputs of the function")
    random = np.random.default_rng(0)
    for i, x in enumerate(inputs):
        if not _wanted(x):
            continue
        moves = random.standard_normal((1, x.numel())) if fast_mode else np.eye(x.numel())
        numerical = _differences(function, inputs, x, moves, eps, len(outputs))
        for o, y in enumerate(outputs):
            if numerical[o].shape[-1:] != (y.numel(),) and x.numel():
                raise GradcheckError(f"output {o} of the function has another shape without recording")
            weights = random.standard_normal((1, y.numel())) if fast_mode else np.eye(y.numel())
            found = _rows(y, x, weights, check_grad_dtypes)
            again = _rows(y, x, weights, check_grad_dtypes)
            if found.size and np.nanmax(np.abs(found - again)) > nondet_tol:
                raise GradcheckError(
                    f"Backward is not reentrant: two walks for output {o} and input {i} differ by more than "
                    f"nondet_tol={nondet_tol}"
                )
            expected = (numerical[o].reshape(len(moves), -1) @ weights.T).T
            analytical = found @ moves.T
            if not np.allclose(analytical, expected, rtol, atol, equal_nan=True):
                raise GradcheckError(
                    f"Jacobian mismatch for output {o} with respect to input {i},\nnumerical:{expected}\n"
                    f"analytical:{analytical}\n"
                )


def _refuse(**options: Any) -> None:
    for name, value in options.items():
        if value:
            raise ValueError(f"gradcheck: {name}={value!r} is not available; gradients are checked in reverse only")


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Holds the gradients of `func` against central differences, for each input that requires a gradient.

    Args:
        func: takes the inputs and returns a tensor or a tuple of tensors.
        inputs: a tensor or a tuple; those to check require gradients and should be float64.
        eps: the step of the differences.
        atol: the largest absolute difference allowed.
        rtol: the largest relative difference allowed.
        raise_exception: raise where they differ, instead of returning False.
        nondet_tol: by how much two walks may differ.
        check_undefined_grad: without effect: a gradient that nothing sends is never asked for.
        check_grad_dtypes: compare element types too.
        check_batched_grad: not available.
        check_batched_forward_grad: not available.
        check_forward_ad: not available.
        check_backward_ad: False checks nothing.
        fast_mode: one random direction instead of every element.
        masked: without effect: tensors are dense.

    Returns:
        whether all agree.

    Raises:
        GradcheckError: they differ (a RuntimeError). ValueError: no input requires a gradient.

    >>> import juanji as jj
    >>> x = jj.tensor([0.5, 1.5], dtype=jj.float64, requires_grad=True)
    >>> jj.autograd.gradcheck(lambda x: x.exp() * x, x)
    True
    """
    _refuse(
        check_batched_grad=check_batched_grad,
        check_batched_forward_grad=check_batched_forward_grad,
        check_forward_ad=check_forward_ad,
    )
    checked = _inputs(inputs, "gradcheck")
    if not check_backward_ad:
        return True
    try:
        _check(func, checked, eps, atol, rtol, nondet_tol, check_grad_dtypes, fast_mode)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Holds the gradients of the gradients of `func` against central differences of its gradients.

    Args:
        func: takes the inputs and returns a tensor or a tuple of tensors.
        inputs: as for `gradcheck`.
        grad_outputs: the incoming gradients, drawn at random unless given.
        eps: the step of the differences.
        atol: the largest absolute difference allowed.
        rtol: the largest relative difference allowed.
        gen_non_contig_grad_outputs: draw gradients whose elements do not lie in C order.
        raise_exception: raise where they differ, instead of returning False.
        nondet_tol: by how much two walks may differ.
        check_undefined_grad: without effect.
        check_grad_dtypes: compare element types too.
        check_batched_grad: not available.
        check_fwd_over_rev: not available.
        check_rev_over_rev: False checks nothing.
        fast_mode: one random direction instead of every element.
        masked: without effect.

    Raises:
        GradcheckError: they differ (a RuntimeError). ValueError: no input requires a gradient.

    >>> import juanji as jj
    >>> x = jj.tensor([0.5, 1.5], dtype=jj.float64, requires_grad=True)
    >>> jj.autograd.gradgradcheck(lambda x: x.exp() * x, x)
    True
    """
    _refuse(check_batched_grad=check_batched_grad, check_fwd_over_rev=check_fwd_over_rev)
    given = _inputs(inputs, "gradgradcheck")
    if not check_rev_over_rev:
        return True
    outputs = _outputs(func, given)
    if grad_outputs is None:
        incoming = tuple(_random_like(y, gen_non_contig_grad_outputs, k) for k, y in enumerate(outputs))
    else:
        incoming = _tensors(grad_outputs)
    count = len(incoming)

    def slopes(*args: Any) -> tuple[Any, ...]:
        own = tuple(
            x if x.requires_grad or not _wanted(original) else x.detach().requires_grad_()
            for x, original in zip(args[:-count], given, strict=True)
        )
        with enable_grad():
            results = _outputs(func, own)
            found = grad(results, [x for x in own if _wanted(x)], args[-count:], create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(
        slopes, (*given, *incoming), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
        nondet_tol=nondet_tol, check_grad_dtypes=check_grad_dtypes, fast_mode=fast_mode,
    )  # fmt: skip


def _random_like(y: Any, apart: bool, seed: int) -> Any:
    random = np.random.default_rng(seed + 1)
    if not apart or not y.shape:
        return from_numpy(np.asarray(random.standard_normal(tuple(y.shape)))).to(y.dtype).requires_grad_()
    wide = from_numpy(random.standard_normal((*y.shape, 2))).to(y.dtype)
    return wide[..., 0].detach().requires_grad_()
