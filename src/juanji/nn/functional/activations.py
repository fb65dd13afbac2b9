"""Activations as functions: elementwise ones, gates, and softmax with its relatives.

All are compositions of the operations of the table, so that derivatives of any order follow and a captured step
computes each in one loop. Where a formula has pieces, each piece only sees the arguments it is meant for, lest an
infinity of the piece not taken become NaN in the gradient.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from juanji import dtypes
from juanji import tensors as T
from juanji.dtypes import DType
from juanji.errors import ShapeError
from juanji.ops import activations as ops
from juanji.ops import elementwise as ew
from juanji.spec import normal_dim, show
from juanji.tensors import Tensor, sigmoid, tanh
from juanji.tensors import arithmetic as ar
from juanji.tensors.base import TensorBase, need_tensor


def floating(function: str, **tensors: Any) -> None:
    """Checks that arguments are floating point tensors.

    Raises:
        TypeError: not a tensor. RuntimeError: a tensor of integers or bools.
    """
    for name, value in tensors.items():
        need_tensor(value, name, function)
        if not value.dtype.is_floating_point:
            raise RuntimeError(f"{function}: {name} must be floating point, not {value.dtype}")


def _apply(name: str, input: Any, inplace: bool, formula: Callable[[Any], Any]) -> Tensor:
    """`formula` of the input; with `inplace` written over it."""
    floating(name, input=input)
    result: Tensor
    if not inplace:
        result = formula(input)
    else:
        result = ar.into(input, formula(ar.original(input)), name + "_")
    return result


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(input, 0), elementwise; `inplace` overwrites the input.

    Raises:
        TypeError: `input` is no tensor.

    >>> import juanji as jj
    >>> relu(jj.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    need_tensor(input, "input", "relu")
    x: Any = input
    result: Tensor = x.relu_() if inplace else x.relu()
    return result


def relu_(input: Tensor) -> Tensor:
    """`relu` in place."""
    return relu(input, inplace=True)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """The input cut to [min_val, max_val]; the gradient is zero at and beyond the bounds.

    Raises:
        TypeError: `input` is no tensor. ValueError: `min_val` above `max_val`. RuntimeError: a bool tensor, or an
        unsigned one with a negative bound.

    >>> import juanji as jj
    >>> hardtanh(jj.tensor([-3.0, 0.5, 3.0]))
    tensor([-1.0000,  0.5000,  1.0000])
    """
    need_tensor(input, "input", "hardtanh")
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val={min_val} cannot be greater than max_val={max_val}")
    if input.dtype is dtypes.bool_:
        raise RuntimeError("hardtanh: bool inputs are not supported; cast them first")
    if not input.dtype.is_signed and min(min_val, max_val) < 0:
        raise RuntimeError(f"hardtanh: min_val={min_val}, max_val={max_val}: limits of {input.dtype} are not negative")

    def formula(x: Any) -> Any:
        kind = float if x.dtype.is_floating_point else int
        return ops.hardtanh(x, low=kind(min_val), high=kind(max_val))

    if not inplace:
        result: Tensor = formula(input)
        return result
    written: Tensor = ar.into(input, formula(ar.original(input)), "hardtanh_")
    return written


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """`hardtanh` in place."""
    return hardtanh(input, min_val, max_val, inplace=True)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(input, 0), 6), elementwise.

    >>> import juanji as jj
    >>> relu6(jj.tensor([-1.0, 2.0, 9.0]))
    tensor([0., 2., 6.])
    """
    return hardtanh(input, 0.0, 6.0, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """The input where it is positive, `negative_slope` times it elsewhere.

    >>> import juanji as jj
    >>> leaky_relu(jj.tensor([-1.0, 2.0]), 0.25)
    tensor([-0.2500,  2.0000])
    """
    return _apply("leaky_relu", input, inplace, lambda x: _leaky(x, negative_slope))


def _leaky(x: Any, slope: Any) -> Any:
    if isinstance(slope, TensorBase):  # a float argument of a captured step
        return ew.where(ew.gt(x, x.new_scalar(0)), x, x * slope)
    return ops.leaky_relu(x, slope=float(slope))


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """`leaky_relu` in place."""
    return leaky_relu(input, negative_slope, inplace=True)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """`leaky_relu` with learnt slopes (He et al. 2015): one for all, or one for each channel (dimension 1).

    Shapes: input [N, C, ...] or any, weight [1], [C] or [].

    Raises:
        ShapeError: as many slopes as there are neither channels nor one.

    >>> import juanji as jj
    >>> prelu(jj.tensor([-4.0, 2.0]), jj.tensor([0.25]))
    tensor([-1.,  2.])
    """
    floating("prelu", input=input, weight=weight)
    if input.dtype is not weight.dtype:
        raise ShapeError(f"prelu: input is {input.dtype}, but weight is {weight.dtype}; they must have one type")
    if weight.ndim > 1:
        raise ShapeError(f"prelu: weight of shape {show(weight.shape)} must be one number or a vector")
    if weight.numel() != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if not input.ndim or weight.numel() != channels:
            raise ShapeError(
                f"prelu: weight of shape {show(weight.shape)} must have 1 or {channels} elements, one for each channel "
                f"of input {show(input.shape)}"
            )
    slopes = weight.reshape(()) if weight.numel() == 1 else weight.reshape(-1, *(1,) * (input.ndim - 2))
    positive = ew.gt(input, input.new_scalar(0))
    negative = ew.where(positive, input.new_scalar(0), input)
    result: Tensor = ew.where(positive, input, ew.mul(negative, slopes))
    return result


def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """`leaky_relu` with a random slope from [lower, upper] for each element in training, their mean otherwise.

    Raises:
        ValueError: `lower` above `upper`.
    """
    if not lower <= upper or math.isinf(lower) or math.isinf(upper):
        raise ShapeError(f"rrelu: lower={lower} and upper={upper} must be finite, and lower not above upper")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)

    def formula(x: Any) -> Any:
        slopes = T.rand(x.shape, dtype=x.dtype) * (upper - lower) + lower
        positive = ew.gt(x, x.new_scalar(0))
        return ew.where(positive, x, ew.mul(ew.where(positive, x.new_scalar(0), x), slopes))

    return _apply("rrelu", input, inplace, formula)


def rrelu_(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Tensor:
    """`rrelu` in place."""
    return rrelu(input, lower, upper, training, inplace=True)


def _exponential_unit(x: Any, negative: float, positive: float, inside: float) -> Any:
    """positive * x above zero, negative * (exp(inside * x) - 1) elsewhere."""
    zero = x.new_scalar(0)
    above = ew.gt(x, zero)
    rest = ew.where(above, zero, x)
    curve = ew.expm1(rest if inside == 1 else rest * inside)
    return ew.where(above, x if positive == 1 else x * positive, curve if negative == 1 else curve * negative)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """The input where it is positive, alpha * (exp(input) - 1) elsewhere (Clevert et al. 2016).

    >>> import juanji as jj
    >>> elu(jj.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.0000])
    """
    return _apply("elu", input, inplace, lambda x: _exponential_unit(x, alpha, 1.0, 1.0))


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`elu` in place."""
    return elu(input, alpha, inplace=True)


#: The fixed point of mean 0 and variance 1 (Klambauer et al. 2017).
SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """The self-normalising unit of Klambauer et al. 2017: a scaled `elu`.

    >>> import juanji as jj
    >>> selu(jj.tensor([-1.0, 2.0]))
    tensor([-1.1113,  2.1014])
    """
    return _apply("selu", input, inplace, lambda x: _exponential_unit(x, SELU_ALPHA * SELU_SCALE, SELU_SCALE, 1.0))


def selu_(input: Tensor) -> Tensor:
    """`selu` in place."""
    return selu(input, inplace=True)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """The input where it is positive, alpha * (exp(input / alpha) - 1) elsewhere (Barron 2017).

    Raises:
        ValueError: `alpha` is zero.

    >>> import juanji as jj
    >>> celu(jj.tensor([-1.0, 2.0]), 2.0)
    tensor([-0.7869,  2.0000])
    """
    if alpha == 0:
        raise ShapeError(f"celu: alpha={alpha} must not be zero")
    return _apply("celu", input, inplace, lambda x: _exponential_unit(x, alpha, 1.0, 1.0 / alpha))


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`celu` in place."""
    return celu(input, alpha, inplace=True)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """The input times the normal distribution's probability below it (Hendrycks and Gimpel 2016).

    `approximate="tanh"`: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).

    Raises:
        ValueError: another `approximate`.

    >>> import juanji as jj
    >>> gelu(jj.tensor([-1.0, 2.0]))
    tensor([-0.1587,  1.9545])
    """
    floating("gelu", input=input)
    if approximate not in ("none", "tanh"):
        raise ShapeError(f"gelu: approximate={approximate!r} must be 'none' or 'tanh'")
    x: Any = input
    if approximate == "none":
        share = ew.erf(x * math.sqrt(0.5))
    else:
        share = ew.tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi))
    result: Tensor = x * 0.5 * (share + 1)
    return result


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """input * sigmoid(input), also known as swish.

    >>> import juanji as jj
    >>> silu(jj.tensor([-1.0, 2.0]))
    tensor([-0.2689,  1.7616])
    """
    return _apply("silu", input, inplace, ops.silu)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """input * tanh(softplus(input)) (Misra 2019).

    >>> import juanji as jj
    >>> mish(jj.tensor([-1.0, 2.0]))
    tensor([-0.3034,  1.9440])
    """
    return _apply("mish", input, inplace, lambda x: ew.mul(x, ew.tanh(ew.softplus(x))))


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(input)), without overflow.

    >>> import juanji as jj
    >>> logsigmoid(jj.tensor([-1000.0, 0.0]))
    tensor([-1.0000e+03, -6.9315e-01])
    """
    floating("logsigmoid", input=input)
    result: Tensor = ew.neg(ew.softplus(ew.neg(input)))
    return result


def _gate(x: Any) -> Any:
    """min(max(x + 3, 0), 6) with gradient zero at -3 and 3."""
    low, high = x.new_scalar(-3), x.new_scalar(3)
    return ew.where(ew.le(x, low), x.new_scalar(0), ew.where(ew.ge(x, high), x.new_scalar(6), x + 3))


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(input + 3, 0), 6) / 6.

    >>> import juanji as jj
    >>> hardsigmoid(jj.tensor([-4.0, 0.0, 1.5]))
    tensor([0.0000, 0.5000, 0.7500])
    """
    return _apply("hardsigmoid", input, inplace, lambda x: _gate(x) / 6)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """input * hardsigmoid(input) (Howard et al. 2019).

    >>> import juanji as jj
    >>> hardswish(jj.tensor([-4.0, 0.0, 3.0]))
    tensor([-0., 0., 3.])
    """
    return _apply("hardswish", input, inplace, lambda x: ew.mul(x, _gate(x)) / 6)


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta * input)) / beta; the input itself where beta * input exceeds `threshold`.

    >>> import juanji as jj
    >>> softplus(jj.tensor([-1.0, 50.0]))
    tensor([ 0.3133, 50.0000])
    """
    floating("softplus", input=input)
    scaled = input if beta == 1 else input * beta
    curve = ew.softplus(scaled)
    result: Tensor = ew.where(ew.gt(scaled, input.new_scalar(threshold)), input, curve if beta == 1 else curve / beta)
    return result


def softsign(input: Tensor) -> Tensor:
    """input / (1 + |input|).

    >>> import juanji as jj
    >>> softsign(jj.tensor([-1.0, 3.0]))
    tensor([-0.5000,  0.7500])
    """
    need_tensor(input, "input", "softsign")
    return input / (abs(input) + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """input - tanh(input).

    >>> import juanji as jj
    >>> tanhshrink(jj.tensor([0.0, 1.0]))
    tensor([0.0000, 0.2384])
    """
    need_tensor(input, "input", "tanhshrink")
    result: Tensor = input - T.tanh(input)
    return result


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Zero where |input| <= lambd, the input elsewhere.

    >>> import juanji as jj
    >>> hardshrink(jj.tensor([-1.0, 0.3, 0.7]))
    tensor([-1.0000,  0.0000,  0.7000])
    """
    floating("hardshrink", input=input)
    zero = input.new_scalar(0)
    result: Tensor = ew.where(_within(input, lambd), zero, input)
    return result


def _within(x: Any, bound: float) -> Any:
    return ew.bitwise_and(ew.ge(x, x.new_scalar(-bound)), ew.le(x, x.new_scalar(bound)))


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """The input moved towards zero by `lambd`, and zero where it is no larger than that.

    Raises:
        ValueError: a negative `lambd`.

    >>> import juanji as jj
    >>> softshrink(jj.tensor([-1.0, 0.25, 0.75]))
    tensor([-0.5000,  0.0000,  0.2500])
    """
    floating("softshrink", input=input)
    if not lambd >= 0:
        raise ShapeError(f"softshrink: lambd={lambd} must be at least 0")
    zero, bound = input.new_scalar(0), input.new_scalar(lambd)
    shifted = ew.where(ew.gt(input, zero), ew.sub(input, bound), ew.add(input, bound))
    result: Tensor = ew.where(_within(input, lambd), zero, shifted)
    return result


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """The input where it is above `threshold`, `value` elsewhere.

    >>> import juanji as jj
    >>> import juanji.nn.functional as F
    >>> F.threshold(jj.tensor([0.5, 2.0]), 1.0, 20.0)
    tensor([20.,  2.])
    """
    need_tensor(input, "input", "threshold")
    if input.dtype is dtypes.bool_:
        raise RuntimeError("threshold: bool inputs are not supported; cast them first")

    def formula(x: Any) -> Any:
        return ew.where(ew.le(x, x.new_scalar(threshold)), x.new_scalar(value), x)

    result: Tensor
    if not inplace:
        result = formula(input)
    else:
        result = ar.into(input, formula(ar.original(input)), "threshold_")
    return result


_threshold = threshold  # the arguments have its name


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """`threshold` in place."""
    return _threshold(input, threshold, value, inplace=True)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along `dim` times the sigmoid of the second (Dauphin et al. 2017).

    Raises:
        ShapeError: an odd extent, or no dimensions.

    >>> import juanji as jj
    >>> glu(jj.tensor([2.0, 4.0, 0.0, 0.0]))
    tensor([1., 2.])
    """
    floating("glu", input=input)
    if not input.ndim:
        raise ShapeError("glu does not support 0-dimensional tensors")
    d = normal_dim(dim, input.ndim)
    if input.shape[d] % 2:
        raise ShapeError(f"glu: dimension {d} of input {show(input.shape)} must have an even size to be halved")
    half = input.shape[d] // 2
    lead = (slice(None),) * d
    result: Tensor = ew.mul(input[(*lead, slice(0, half))], ew.sigmoid(input[(*lead, slice(half, None))]))
    return result


def _implicit_dim(function: str, input: Tensor, stacklevel: int) -> int:
    warnings.warn(
        f"Implicit dimension choice for {function} has been deprecated. Change the call to include dim=X as an "
        "argument.",
        stacklevel=stacklevel,
    )
    return 0 if input.ndim in (0, 1, 3) else 1


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """exp(input) divided by its sum along `dim`; `dtype` converts the input first.

    Without `dim` it is 0 for inputs of 0, 1 and 3 dimensions and 1 for others, with a warning.

    Raises:
        TypeError: `input` is no tensor. IndexError: no such dimension.

    >>> import juanji as jj
    >>> softmax(jj.tensor([0.0, 0.0]), dim=0)
    tensor([0.5000, 0.5000])
    """
    need_tensor(input, "input", "softmax")
    d = _implicit_dim("softmax", input, _stacklevel) if dim is None else dim
    result: Tensor = T.softmax(input, d, dtype)
    return result


def softmin(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """`softmax` of the negative input.

    >>> import juanji as jj
    >>> softmin(jj.tensor([0.0, 0.0]), dim=0)
    tensor([0.5000, 0.5000])
    """
    need_tensor(input, "input", "softmin")
    d = _implicit_dim("softmin", input, _stacklevel) if dim is None else dim
    result: Tensor = T.softmax(-input, d, dtype)
    return result


def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None) -> Tensor:
    """The logarithm of `softmax`, computed without overflow; arguments as there.

    >>> import juanji as jj
    >>> log_softmax(jj.tensor([1000.0, 1000.0]), dim=0)
    tensor([-0.6931, -0.6931])
    """
    need_tensor(input, "input", "log_softmax")
    d = _implicit_dim("log_softmax", input, _stacklevel) if dim is None else dim
    result: Tensor = T.log_softmax(input, d, dtype)
    return result


def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """A sample of the Gumbel-softmax distribution (Jang et al. 2017); `hard`: one-hot, with the soft one's gradient.

    `eps` does nothing and is there for old calls.
    """
    floating("gumbel_softmax", logits=logits)
    # rand() may be 0, never 1: 1 - rand() has a logarithm, and its negative is positive but for 1, where it is 0.
    exponential = -ew.log(1 - T.rand(logits.shape, dtype=logits.dtype))
    tiny = logits.new_scalar(1e-38)
    noise = -ew.log(ew.where(ew.lt(exponential, tiny), tiny, exponential))
    soft: Tensor = T.softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    d = normal_dim(dim, logits.ndim)
    place = soft.detach().argmax(d, keepdim=True)
    shape = tuple(logits.shape[d] if i == d else 1 for i in range(logits.ndim))
    ones: Any = ew.eq(T.arange(logits.shape[d]).reshape(shape), place).to(logits.dtype)
    return ones - soft.detach() + soft  # type: ignore[no-any-return]


for _method in (hardshrink, prelu):  # methods of tensors too, as in PyTorch
    setattr(Tensor, _method.__name__, _method)

__all__ = [
    "celu", "celu_", "elu", "elu_", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish",
    "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "log_softmax", "logsigmoid", "mish", "prelu", "relu",
    "relu6", "relu_", "rrelu", "rrelu_", "selu", "selu_", "sigmoid", "silu", "softmax", "softmin", "softplus",
    "softshrink", "softsign", "tanh", "tanhshrink", "threshold", "threshold_",
]  # fmt: skip
