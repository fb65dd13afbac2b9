"""Jacobians, Hessians and their products with vectors, of functions of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from juanji.autograd.walk import grad
from juanji.gradmode import enable_grad
from juanji.spec import show
from juanji.tensors import TensorBase, stack


def _several(value: Any, name: str, function: str) -> tuple[bool, tuple[Any, ...]]:
    many = isinstance(value, tuple)
    items = value if many else (value,)
    for i, t in enumerate(items):
        if not isinstance(t, TensorBase):
            what = f"the value at index {i} of the given tuple" if many else "the given value"
            raise TypeError(
                f"{function}: the {name} must be a Tensor or a tuple of tensors, but {what} is {type(t).__name__}"
            )
    return many, tuple(items)


def _fresh(items: tuple[Any, ...], create_graph: bool) -> tuple[Any, ...]:
    """Inputs whose gradients can be asked for: with `create_graph` still connected to what they came from."""
    return tuple(x.view(x.shape) if create_graph and x.requires_grad else x.detach().requires_grad_() for x in items)


def _called(func: Callable[..., Any], inputs: Any, create_graph: bool, name: str) -> tuple[bool, Any, bool, Any]:
    many_inputs, given = _several(inputs, "inputs", name)
    fresh = _fresh(given, create_graph)
    with enable_grad():
        many_outputs, outputs = _several(func(*fresh), "outputs of the user-provided function", name)
    return many_inputs, fresh, many_outputs, outputs


def _slopes(outputs: Any, inputs: Any, weights: Any, create_graph: bool, strict: bool, name: str) -> tuple[Any, ...]:
    """The gradients of outputs . weights; zeros where there is no dependence, unless that is an error."""
    pairs = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
    found: tuple[Any, ...] = (None,) * len(inputs)
    if pairs:
        found = grad(
            [y for y, _ in pairs], inputs, [w for _, w in pairs], retain_graph=True, create_graph=create_graph,
            allow_unused=True,
        )  # fmt: skip
    for i, g in enumerate(found):
        if g is None and strict:
            raise RuntimeError(f"{name}: the output of the user-provided function is independent of input {i}. "
                               "This is not allowed in strict mode.")  # fmt: skip
    return tuple(x.detach().new_zeros(x.shape) if g is None else g for g, x in zip(found, inputs, strict=True))


def _vectors(v: Any, like: tuple[Any, ...], many: bool, name: str, what: str) -> tuple[Any, ...]:
    if v is None:
        if many or like[0].numel() != 1:
            raise RuntimeError(
                f"{name}: the vector v can only be None if the {what} is a single Tensor with one element."
            )
        return (like[0].detach().new_ones(like[0].shape),)
    _, given = _several(v, "vector v", name)
    if len(given) != len(like):
        raise RuntimeError(f"{name}: v has invalid length: should be {len(like)} but got {len(given)}.")
    for i, (a, b) in enumerate(zip(given, like, strict=True)):
        if a.shape != b.shape:
            raise RuntimeError(
                f"{name}: v[{i}] has the shape {show(a.shape)} but must have that of the {what}, {show(b.shape)}."
            )
    return given


def _out(values: tuple[Any, ...], many: bool, create_graph: bool) -> Any:
    kept = values if create_graph else tuple(v.detach() for v in values)
    return kept if many else kept[0]


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian of `func` at `inputs`, one reverse walk an element of the output.

    Args:
        func: takes tensors and returns a tensor or a tuple of tensors.
        inputs: a tensor or a tuple of tensors.
        create_graph: make the result differentiable.
        strict: an output independent of an input is an error instead of zeros.
        vectorize: without effect.
        strategy: "reverse-mode", the only one.

    Returns:
        for each output and input a tensor of the output's shape followed by the input's; tuples where there are many.

    >>> import juanji as jj
    >>> jj.autograd.functional.jacobian(lambda x: x * x, jj.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if strategy != "reverse-mode":
        raise ValueError(f"jacobian: strategy={strategy!r} is not available; valid is 'reverse-mode'")
    many_in, fresh, many_out, outputs = _called(func, inputs, create_graph, "jacobian")
    result = []
    for y in outputs:
        if strict and not y.requires_grad:
            raise RuntimeError("jacobian: an output is independent of the inputs. This is not allowed in strict mode.")
        rows: list[list[Any]] = [[] for _ in fresh]
        flat = y.reshape(-1)
        for k in range(y.numel()):
            found = _slopes((flat[k],), fresh, (flat.detach().new_ones(()),), create_graph, strict, "jacobian")
            for row, g in zip(rows, found, strict=True):
                row.append(g)
        result.append(
            tuple(
                stack(row).reshape((*y.shape, *x.shape)) if row else x.detach().new_zeros((*y.shape, *x.shape))
                for row, x in zip(rows, fresh, strict=True)
            )
        )
    kept = tuple(_out(row, many_in, create_graph) for row in result)
    return kept if many_out else kept[0]


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The matrix of second derivatives of `func`, which returns one number, at `inputs`.

    Args:
        func: takes tensors and returns a tensor of one element.
        inputs: a tensor or a tuple of tensors.
        create_graph: make the result differentiable.
        strict: a gradient independent of an input is an error instead of zeros.
        vectorize: without effect.
        outer_jacobian_strategy: "reverse-mode", the only one.

    >>> import juanji as jj
    >>> jj.autograd.functional.hessian(lambda x: (x**3).sum(), jj.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    if outer_jacobian_strategy != "reverse-mode":
        raise ValueError(
            f"hessian: outer_jacobian_strategy={outer_jacobian_strategy!r} is not available; valid is 'reverse-mode'"
        )
    many, _ = _several(inputs, "inputs", "hessian")

    def slope(*args: Any) -> Any:
        with enable_grad():
            _, outputs = _several(func(*args), "outputs of the user-provided function", "hessian")
        _scalar(outputs, "hessian")
        return _slopes(outputs, args, (outputs[0].detach().new_ones(outputs[0].shape),), True, strict, "hessian")

    found = jacobian(slope, inputs if many else (inputs,), create_graph, strict)
    return found if many else found[0][0]


def _scalar(outputs: tuple[Any, ...], name: str) -> None:
    if len(outputs) != 1 or outputs[0].numel() != 1:
        raise RuntimeError(f"{name}: the function must return a single Tensor with one element")


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(inputs), v times the Jacobian of `func`).

    Args:
        func: takes tensors and returns a tensor or a tuple of tensors.
        inputs: a tensor or a tuple of tensors.
        v: in the shape of the output; may be left out for one element.
        create_graph: make both results differentiable.
        strict: an output independent of an input is an error instead of zeros.

    >>> import juanji as jj
    >>> jj.autograd.functional.vjp(lambda x: x * x, jj.tensor([1.0, 2.0]), jj.tensor([1.0, 10.0]))[1]
    tensor([ 2., 40.])
    """
    many_in, fresh, many_out, outputs = _called(func, inputs, create_graph, "vjp")
    weights = _vectors(v, outputs, many_out, "vjp", "output")
    found = _slopes(outputs, fresh, weights, create_graph, strict, "vjp")
    return _out(outputs, many_out, create_graph), _out(found, many_in, create_graph)


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(inputs), the Jacobian of `func` times v), by differentiating a reverse walk with respect to its weights.

    Args:
        func: takes tensors and returns a tensor or a tuple of tensors.
        inputs: a tensor or a tuple of tensors.
        v: in the shape of the inputs; may be left out for one element.
        create_graph: make both results differentiable.
        strict: an output independent of an input is an error instead of zeros.

    >>> import juanji as jj
    >>> jj.autograd.functional.jvp(lambda x: x * x, jj.tensor([1.0, 2.0]), jj.tensor([1.0, 10.0]))[1]
    tensor([ 2., 40.])
    """
    many_in, given = _several(inputs, "inputs", "jvp")
    vectors = _vectors(v, given, many_in, "jvp", "input")
    _, fresh, many_out, outputs = _called(func, inputs, create_graph, "jvp")
    weights = tuple(y.detach().new_zeros(y.shape).requires_grad_() for y in outputs)
    with enable_grad():
        found = _slopes(outputs, fresh, weights, True, strict, "jvp")
        back = _slopes(found, weights, vectors, create_graph, strict, "jvp")
    return _out(outputs, many_out, create_graph), _out(back, many_out, create_graph)


def vhp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(inputs), v times the Hessian of `func`, which returns one number).

    Args:
        func: takes tensors and returns a tensor of one element.
        inputs: a tensor or a tuple of tensors.
        v: in the shape of the inputs; may be left out for one element.
        create_graph: make both results differentiable.
        strict: a gradient independent of an input is an error instead of zeros.

    >>> import juanji as jj
    >>> jj.autograd.functional.vhp(lambda x: (x**3).sum(), jj.tensor([1.0, 2.0]), jj.tensor([1.0, 1.0]))[1]
    tensor([ 6., 12.])
    """
    many_in, fresh, many_out, outputs = _called(func, inputs, create_graph, "vhp")
    _scalar(outputs, "vhp")
    vectors = _vectors(v, fresh, many_in, "vhp", "input")
    with enable_grad():
        ones = (outputs[0].detach().new_ones(outputs[0].shape),)
        first = _slopes(outputs, fresh, ones, True, strict, "vhp")
        second = _slopes(first, fresh, vectors, create_graph, strict, "vhp")
    return _out(outputs, many_out, create_graph), _out(second, many_in, create_graph)


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """(func(inputs), the Hessian of `func` times v): the same as `vhp`, for a Hessian is symmetric.

    Args:
        func: takes tensors and returns a tensor of one element.
        inputs: a tensor or a tuple of tensors.
        v: in the shape of the inputs; may be left out for one element.
        create_graph: make both results differentiable.
        strict: a gradient independent of an input is an error instead of zeros.

    >>> import juanji as jj
    >>> jj.autograd.functional.hvp(lambda x: (x**3).sum(), jj.tensor([1.0, 2.0]), jj.tensor([1.0, 1.0]))[1]
    tensor([ 6., 12.])
    """
    return vhp(func, inputs, v, create_graph, strict)
