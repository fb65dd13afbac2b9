"""`grad` and `backward`: reverse walks of the tape from several tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from juanji.errors import AutogradError
from juanji.tape import reverse
from juanji.tensors import Tensor, TensorBase
from juanji.tensors import differentiable as tensors
from juanji.tensors.base import need_tensor


def several(value: Any, name: str, function: str) -> tuple[Any, ...]:
    """One tensor or a sequence of tensors as a tuple.

    Raises:
        TypeError: something else. ValueError: an empty sequence.
    """
    many = (value,) if isinstance(value, TensorBase) else value
    if not isinstance(many, (tuple, list)):
        raise TypeError(f"{function}: {name} must be a Tensor or a sequence of tensors, not {type(value).__name__}")
    if not many:
        raise ValueError(f"{function}: {name} must not be empty")
    for i, t in enumerate(many):
        need_tensor(t, f"{name}[{i}]", function)
    return tuple(many)


def _given(value: Any, count: int, name: str, function: str) -> tuple[Any, ...]:
    if value is None:
        return (None,) * count
    many = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(many) != count:
        raise ValueError(f"{function}: got {count} outputs but {len(many)} {name}")
    for i, g in enumerate(many):
        if g is not None:
            need_tensor(g, f"{name}[{i}]", function)
    return many


def backward(
    tensors_: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Adds the gradients of the sum of several tensors to `.grad` of the leaves they were computed from.

    Args:
        tensors_: what is differentiated.
        grad_tensors: the incoming gradient of each; may be left out for tensors of one element.
        retain_graph: keep what the formulas read, to walk again; as `create_graph` unless given.
        create_graph: record the walk, for gradients of gradients.
        inputs: where given, only these receive a gradient.

    Raises:
        RuntimeError: a tensor without history; no incoming gradient for many elements; a value changed in place.

    >>> import juanji as jj
    >>> x = jj.tensor(3.0, requires_grad=True)
    >>> jj.autograd.backward([x * x, x * 2])
    >>> x.grad
    tensor(8.)
    """
    many = several(tensors_, "tensors", "backward")
    tensors.backward(
        many, _given(grad_tensors, len(many), "grad_tensors", "backward"), retain_graph, create_graph, inputs
    )


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, leaving every `.grad` as it is.

    Args:
        outputs: what is differentiated; several are summed.
        inputs: with respect to what; they must require gradients.
        grad_outputs: the incoming gradient of each output; may be left out for tensors of one element.
        retain_graph: keep what the formulas read, to walk again; as `create_graph` unless given.
        create_graph: record the walk, for gradients of gradients.
        only_inputs: always True: other leaves never receive anything.
        allow_unused: give None for an input the outputs do not depend on, instead of an error.
        is_grads_batched: always False: call `grad` once for each incoming gradient.
        materialize_grads: give zeros for an input the outputs do not depend on.

    Raises:
        RuntimeError: an input or no output requires a gradient, or an input is not used.
        ValueError: `is_grads_batched`, or counts that differ. TypeError: something that is no tensor.

    >>> import juanji as jj
    >>> x = jj.tensor(3.0, requires_grad=True)
    >>> (slope,) = jj.autograd.grad(x * x * x, x, create_graph=True)
    >>> slope.item(), jj.autograd.grad(slope, x)[0].item()
    (27.0, 18.0)
    """
    if is_grads_batched:
        raise ValueError("grad: is_grads_batched=True is not available; call grad once for each incoming gradient")
    if not only_inputs:
        raise ValueError("grad: only_inputs=False is not available; use backward() to fill .grad of other leaves")
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
    many, wanted = several(outputs, "outputs", "grad"), several(inputs, "inputs", "grad")
    given = _given(grad_outputs, len(many), "grad_outputs", "grad")
    edges: list[Any] = [x.edge() for x in wanted]
    if any(e is None for e in edges):
        raise AutogradError("One of the differentiated Tensors does not require grad")
    roots = [t.reverse_root(g, i) for i, (t, g) in enumerate(zip(many, given, strict=True))]
    keep = create_graph if retain_graph is None else retain_graph
    found = reverse(roots, bool(keep), bool(create_graph), lambda leaf, g: None, edges)
    if not (allow_unused or materialize_grads) and any(e not in found for e in edges):
        raise AutogradError(
            "One of the differentiated Tensors appears to not have been used in the graph. "
            "Set allow_unused=True if this is the desired behavior."
        )
    if materialize_grads:
        return tuple(found[e] if e in found else x.new_zeros(x.shape) for e, x in zip(edges, wanted, strict=True))
    return tuple(found.get(e) for e in edges)
