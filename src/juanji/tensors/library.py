"""The functions of `jj` beyond convolution, pooling and losses, gathered from their modules, and `Tensor`'s methods."""

from __future__ import annotations

from typing import Any

from juanji.tensors import (
    algebra,
    diagonals,
    elementary,
    joining,
    ordering,
    pairs,
    sampling,
    scans,
    shaping,
    statistics,
    tables,
)
from juanji.tensors import linalg as linalg
from juanji.tensors.algebra import *  # noqa: F403
from juanji.tensors.base import need_tensor
from juanji.tensors.diagonals import *  # noqa: F403
from juanji.tensors.elementary import *  # noqa: F403
from juanji.tensors.joining import *  # noqa: F403
from juanji.tensors.methods import Tensor
from juanji.tensors.ordering import *  # noqa: F403
from juanji.tensors.pairs import *  # noqa: F403
from juanji.tensors.public import METHODS, refuse_out
from juanji.tensors.sampling import *  # noqa: F403
from juanji.tensors.scans import *  # noqa: F403
from juanji.tensors.shaping import *  # noqa: F403
from juanji.tensors.statistics import *  # noqa: F403
from juanji.tensors.tables import *  # noqa: F403

for _name, _method in METHODS.items():
    setattr(Tensor, _name, _method)

#: Methods that are functions too, with the tensor as first argument.
_FUNCTIONS = (
    "abs", "absolute", "add", "ceil", "clamp", "clip", "cos", "detach", "eq", "erf", "exp", "expm1", "fix", "floor",
    "ge", "greater", "greater_equal", "gt", "isnan", "le", "less", "less_equal", "log", "log1p", "logical_and",
    "logical_not", "logical_or", "logical_xor", "lt", "maximum", "minimum", "mul", "multiply", "ne", "neg", "negative",
    "not_equal", "pow", "reciprocal", "relu", "remainder", "rsqrt", "sigmoid", "sign", "sin", "sqrt", "square", "sub",
    "subtract", "tanh", "trunc", "permute", "transpose", "t", "squeeze", "unsqueeze", "flatten", "unflatten", "clone",
)  # fmt: skip
_ALIASES = {
    "absolute": "abs", "clip": "clamp", "fix": "trunc", "greater": "gt", "greater_equal": "ge", "less": "lt",
    "less_equal": "le", "multiply": "mul", "negative": "neg", "not_equal": "ne", "subtract": "sub",
}  # fmt: skip
for _name, _of in _ALIASES.items():
    for _end in ("", "_"):
        if hasattr(Tensor, _of + _end):
            setattr(Tensor, _name + _end, getattr(Tensor, _of + _end))


Tensor.__rdiv__ = Tensor.__rtruediv__  # type: ignore[attr-defined]


def _function(name: str) -> Any:
    method = getattr(Tensor, name)

    def function(input: Any, *args: Any, **kwargs: Any) -> Any:
        need_tensor(input, "input", name)
        if "out" in kwargs:
            refuse_out(name, kwargs)
        return method(input, *args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{method.__doc__ or name}\n\nSee `Tensor.{name}`."
    return function


globals().update({name: _function(name) for name in _FUNCTIONS})
divide = pairs.div
_MODULES = (diagonals, elementary, joining, algebra, ordering, pairs, sampling, scans, shaping, statistics, tables)
__all__ = sorted({"divide", "linalg", *_FUNCTIONS, *(name for module in _MODULES for name in module.__all__)})
