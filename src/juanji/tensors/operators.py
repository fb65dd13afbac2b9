"""The operators and elementwise methods of `Tensor`, made from the records of the op table."""

from __future__ import annotations

from typing import Any

from juanji import dtypes
from juanji.dtypes import DType
from juanji.ops import elementwise as ew
from juanji.tensors import arithmetic as ar
from juanji.tensors import reductions
from juanji.tensors.base import TensorBase


def _operator(op: Any) -> tuple[Any, Any, Any]:
    name = op.name

    def forward(self: Any, other: Any) -> Any:
        value = ar.operand(other, name)
        return value if value is NotImplemented else ar.arithmetic(op, self, value)

    def reflected(self: Any, other: Any) -> Any:
        value = ar.operand(other, name)
        return value if value is NotImplemented else ar.arithmetic(op, value, self)

    def inplace(self: Any, other: Any) -> Any:
        value = ar.operand(other, name)
        if value is NotImplemented:
            return value
        return ar.into(self, ar.arithmetic(op, ar.original(self, op, value), value), name + "_")

    return forward, reflected, inplace


def _named(op: Any, method: str, text: str, alpha: bool = False) -> tuple[Any, Any]:
    pair = method in ("maximum", "minimum")

    def forward(self: Any, other: Any, *, alpha: float = 1) -> Any:
        if not isinstance(other, TensorBase if pair else ar.OPERANDS):
            wanted = "a Tensor" if pair else "a Tensor or a number"
            raise TypeError(f"{method}: other must be {wanted}, not {type(other).__name__}")
        return ar.scaled(op, self, other, alpha)

    def inplace(self: Any, other: Any, *, alpha: float = 1) -> Any:
        return ar.into(self, forward(ar.original(self, op, other), other, alpha=alpha), method + "_")

    forward.__name__, inplace.__name__ = method, method + "_"
    forward.__doc__ = text
    inplace.__doc__ = f"In place: {text[0].lower()}{text[1:]}"
    return forward, inplace


def _logical(op: Any, method: str, text: str) -> tuple[Any, Any]:
    def forward(self: Any, other: Any) -> Any:
        if not isinstance(other, TensorBase):
            raise TypeError(f"{method}: other must be a Tensor, not {type(other).__name__}")
        return op(ar.cast(self, dtypes.bool_), ar.cast(other, dtypes.bool_))

    def inplace(self: Any, other: Any) -> Any:
        return ar.into(self, forward(self, other), method + "_")

    forward.__name__, inplace.__name__ = method, method + "_"
    forward.__doc__ = text
    inplace.__doc__ = f"In place: {text[0].lower()}{text[1:]}"
    return forward, inplace


def install(cls: type[Any]) -> None:
    """Gives class `cls` its operators and elementwise methods, in-place forms included."""
    for symbol, op in {
        "add": ew.add,
        "sub": ew.sub,
        "mul": ew.mul,
        "truediv": ew.div,
        "floordiv": ew.floordiv,
        "mod": ew.rem,
        "and": ew.bitwise_and,
        "or": ew.bitwise_or,
        "xor": ew.bitwise_xor,
    }.items():
        forward, reflected, inplace = _operator(op)
        setattr(cls, f"__{symbol}__", forward)
        setattr(cls, f"__r{symbol}__", reflected)
        setattr(cls, f"__i{symbol}__", inplace)
    for symbol, op in {"lt": ew.lt, "le": ew.le, "gt": ew.gt, "ge": ew.ge, "eq": ew.eq, "ne": ew.ne}.items():
        forward, _, _ = _operator(op)
        setattr(cls, f"__{symbol}__", forward)
        setattr(cls, symbol, _named(op, symbol, f"Elementwise comparison `{symbol}`.")[0])
    for method, op, text_ in (
        ("add", ew.add, "Adds `alpha * other`."),
        ("sub", ew.sub, "Subtracts `alpha * other`."),
        ("mul", ew.mul, "Multiplies by `other`."),
        ("div", ew.div, "Divides by `other`."),
        ("maximum", ew.maximum, "The larger of each pair; NaN wins."),
        ("minimum", ew.minimum, "The smaller of each pair; NaN wins."),
        ("remainder", ew.rem, "Remainder with the sign of the divisor."),
    ):
        forward, inplace = _named(op, method, text_)
        setattr(cls, method, forward)
        setattr(cls, method + "_", inplace)
    for method, op, text_ in (
        ("logical_and", ew.bitwise_and, "True where both are other than zero."),
        ("logical_or", ew.bitwise_or, "True where one is other than zero."),
        ("logical_xor", ew.bitwise_xor, "True where exactly one is other than zero."),
    ):
        forward, inplace = _logical(op, method, text_)
        setattr(cls, method, forward)
        setattr(cls, method + "_", inplace)
    for method, op in {
        "exp": ew.exp,
        "log": ew.log,
        "log1p": ew.log1p,
        "expm1": ew.expm1,
        "sqrt": ew.sqrt,
        "rsqrt": ew.rsqrt,
        "reciprocal": ew.reciprocal,
        "tanh": ew.tanh,
        "sigmoid": ew.sigmoid,
        "erf": ew.erf,
        "sin": ew.sin,
        "cos": ew.cos,
    }.items():
        _unary(cls, method, lambda x, op=op: ar.unary_float(op, x), op)
    for method, op in {"neg": ew.neg, "abs": ew.abs_, "relu": ew.relu}.items():
        _unary(cls, method, lambda x, op=op: ar.signed(op, x), op)
    _unary(cls, "sign", ew.sign, ew.sign)
    for method, op in {"floor": ew.floor, "ceil": ew.ceil, "round": ew.round_, "trunc": ew.trunc}.items():
        _unary(cls, method, lambda x, op=op: op(x) if x.dtype.is_floating_point else ew.copy(x), op)
    _unary(cls, "square", lambda x: ar.power(x, 2))
    for method, dtype in {
        "float": dtypes.float32,
        "half": dtypes.float16,
        "bfloat16": dtypes.bfloat16,
        "double": dtypes.float64,
        "long": dtypes.int64,
        "int": dtypes.int32,
        "short": dtypes.int16,
        "char": dtypes.int8,
        "byte": dtypes.uint8,
        "bool": dtypes.bool_,
    }.items():
        setattr(cls, method, _caster(dtype))
    for name in reductions.METHODS:
        setattr(cls, name, getattr(reductions, name))
    for name, function in _METHODS.items():
        setattr(cls, name, function)


def _unary(cls: type[Any], method: str, function: Any, op: Any = None) -> None:
    def forward(self: Any) -> Any:
        return function(self)

    def inplace(self: Any) -> Any:
        return ar.into(self, function(ar.original(self, op)), method + "_")

    forward.__name__, inplace.__name__ = method, method + "_"
    forward.__doc__ = f"Elementwise `{method}`."
    inplace.__doc__ = f"Elementwise `{method}`, in place."
    setattr(cls, method, forward)
    setattr(cls, method + "_", inplace)


def _caster(dtype: DType) -> Any:
    def method(self: Any) -> Any:
        return ar.cast(self, dtype)

    method.__doc__ = f"This tensor in {dtype.name}; itself where it already is."
    return method


def _clamp(self: Any, min: Any = None, max: Any = None) -> Any:
    """Limits every element to [`min`, `max`]; gradients pass where nothing was cut.

    Raises:
        ValueError: neither bound is given.
    """
    if min is None and max is None:
        raise ValueError("clamp: at least one of 'min' or 'max' must not be None")
    result: Any = self
    # where() rather than maximum(): at a bound PyTorch passes the whole gradient, and NaN stays NaN.
    for bound, below in ((min, True), (max, False)):
        if bound is not None:
            dtype = ar.result_dtype((result, bound))
            value, limit = ar.together(dtype, result, bound)
            outside = ew.lt(value, limit) if below else ew.gt(value, limit)
            result = ew.where(outside, limit, value)
    return result


def _clamp_(self: Any, min: Any = None, max: Any = None) -> Any:
    """Limits every element to [`min`, `max`], in place."""
    return ar.into(self, _clamp(ar.original(self), min, max), "clamp_")


def _pow(self: Any, exponent: Any) -> Any:
    """Raises every element to the power of `exponent`."""
    return ar.power(self, exponent)


def _pow_(self: Any, exponent: Any) -> Any:
    """Raises every element to the power of `exponent`, in place."""
    return ar.into(self, ar.power(ar.original(self, None, exponent), exponent), "pow_")


def _logical_not(self: Any) -> Any:
    """True where an element is zero."""
    return ew.bitwise_not(ar.cast(self, dtypes.bool_))


def _isnan(self: Any) -> Any:
    """True where an element is not a number."""
    return ew.isnan(self)


def _refusing(function: Any) -> Any:
    """An operator that leaves operands it does not know to the other side."""

    def operator(self: Any, other: Any) -> Any:
        value = ar.operand(other, "pow")
        return value if value is NotImplemented else function(self, value)

    return operator


_METHODS = {
    "__pow__": _refusing(_pow),
    "__rpow__": lambda self, other: ar.power(other, self),
    "__ipow__": _refusing(_pow_),
    "pow": _pow,
    "pow_": _pow_,
    "__neg__": lambda self: ar.signed(ew.neg, self),
    "__pos__": lambda self: self,
    "__abs__": lambda self: ar.signed(ew.abs_, self),
    "__invert__": lambda self: ew.bitwise_not(self),
    "logical_not": _logical_not,
    "isnan": _isnan,
    "clamp": _clamp,
    "clamp_": _clamp_,
    "softmax": reductions.softmax,
    "log_softmax": reductions.log_softmax,
}
