"""Activations as layers: those of `functional`, with their arguments kept."""

from __future__ import annotations

import warnings

import juanji.tensors as T
from juanji.dtypes import DType
from juanji.errors import ShapeError
from juanji.nn import functional as F
from juanji.nn._arguments import integer
from juanji.nn.module import Module
from juanji.nn.parameter import Parameter
from juanji.spec import show
from juanji.tensors import Tensor
from juanji.tensors.base import need_tensor


class ReLU(Module):
    """max(input, 0), elementwise.

    >>> import juanji as jj
    >>> jj.nn.ReLU()(jj.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.relu(input, self.inplace)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return "inplace=True" if self.inplace else ""


class LeakyReLU(Module):
    """The input where it is positive, `negative_slope` times it elsewhere."""

    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.leaky_relu(input, self.negative_slope, self.inplace)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class RReLU(Module):
    """`LeakyReLU` with a random slope from [lower, upper] for each element in training, their mean in evaluation."""

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower = lower
        self.upper = upper
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.rrelu(input, self.lower, self.upper, self.training, self.inplace)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"lower={self.lower}, upper={self.upper}" + (", inplace=True" if self.inplace else "")


class ELU(Module):
    """The input where it is positive, alpha * (exp(input) - 1) elsewhere."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.elu(input, self.alpha, self.inplace)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class CELU(Module):
    """The input where it is positive, alpha * (exp(input / alpha) - 1) elsewhere."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.celu(input, self.alpha, self.inplace)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class SELU(Module):
    """The self-normalising unit: a scaled `ELU`."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.selu(input, self.inplace)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return "inplace=True" if self.inplace else ""


class GELU(Module):
    """The input times the normal distribution's probability below it; `approximate` is "none" or "tanh"."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.gelu(input, self.approximate)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """input * sigmoid(input), also known as swish."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.silu(input, self.inplace)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return "inplace=True" if self.inplace else ""


class Mish(Module):
    """input * tanh(softplus(input))."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.mish(input, self.inplace)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return "inplace=True" if self.inplace else ""


class Hardswish(Module):
    """input * min(max(input + 3, 0), 6) / 6."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.hardswish(input, self.inplace)
        return output


class Hardsigmoid(Module):
    """min(max(input + 3, 0), 6) / 6."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.hardsigmoid(input, self.inplace)
        return output


class Sigmoid(Module):
    """1 / (1 + exp(-input)), elementwise."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.sigmoid(input)
        return output


class LogSigmoid(Module):
    """log(sigmoid(input)), without overflow."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.logsigmoid(input)
        return output


class Tanh(Module):
    """Hyperbolic tangent, elementwise."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.tanh(input)
        return output


class Tanhshrink(Module):
    """input - tanh(input)."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.tanhshrink(input)
        return output


class Softsign(Module):
    """input / (1 + |input|)."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.softsign(input)
        return output


class Softplus(Module):
    """log(1 + exp(beta * input)) / beta; the input itself where beta * input exceeds `threshold`."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.softplus(input, self.beta, self.threshold)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"beta={self.beta}, threshold={self.threshold}"


class Hardshrink(Module):
    """Zero where |input| <= lambd, the input elsewhere."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.hardshrink(input, self.lambd)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"{self.lambd}"


class Softshrink(Module):
    """The input moved towards zero by `lambd`, and zero where it is no larger than that."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.softshrink(input, self.lambd)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"{self.lambd}"


class Threshold(Module):
    """The input where it is above `threshold`, `value` elsewhere."""

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__()
        self.threshold = threshold
        self.value = value
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        output: Tensor = F.threshold(input, self.threshold, self.value, self.inplace)
        return output

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"threshold={self.threshold}, value={self.value}" + (", inplace=True" if self.inplace else "")


class Hardtanh(Module):
    """The input cut to [min_val, max_val]; `min_value` and `max_value` are old names of these.

    Raises:
        ValueError: `max_val` not above `min_val`.
    """

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__()
        if min_value is not None:
            warnings.warn(
                "keyword argument `min_value` is deprecated and renamed to `min_val`", FutureWarning, stacklevel=2
            )
            min_val = min_value
        if max_value is not None:
            warnings.warn(
                "keyword argument `max_value` is deprecated and renamed to `max_val`", FutureWarning, stacklevel=2
            )
            max_val = max_value
        if not max_val > min_val:
            raise ValueError(f"Hardtanh: max_val={max_val} must be larger than min_val={min_val}")
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Apply to any shape."""
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"min_val={self.min_val}, max_val={self.max_val}" + (", inplace=True" if self.inplace else "")


class ReLU6(Hardtanh):
    """min(max(input, 0), 6), elementwise."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0.0, 6.0, inplace)

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return "inplace=True" if self.inplace else ""


class PReLU(Module):
    """`LeakyReLU` with learnt slopes: one for all, or one for each channel (dimension 1).

    >>> import juanji as jj
    >>> jj.nn.PReLU(3)
    PReLU(num_parameters=3)
    """

    weight: Parameter

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: str | None = None, dtype: DType | None = None
    ) -> None:
        super().__init__()
        T.check_device(device)
        self.num_parameters = integer("num_parameters", num_parameters, 1)
        self.init = init
        self.weight = Parameter(T.empty(self.num_parameters, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set every slope to `init`."""
        with T.no_grad():
            self.weight.fill_(self.init)

    def forward(self, input: Tensor) -> Tensor:
        """Apply to (N, C, ...) or, with one slope, to any shape."""
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"num_parameters={self.num_parameters}"


class GLU(Module):
    """The first half along `dim` times the sigmoid of the second."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Halve the size of dimension `dim`."""
        return F.glu(input, self.dim)

    def extra_repr(self) -> str:
        """The arguments, as PyTorch prints them."""
        return f"dim={self.dim}"


class Softmax(Module):
    """exp(input) divided by its sum along `dim`; without `dim` one is chosen, with a warning."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Apply along `dim`."""
        return F.softmax(input, self.dim, _stacklevel=5)

    def extra_repr(self) -> str:
        """`dim`."""
        return f"dim={self.dim}"


class Softmin(Softmax):
    """`Softmax` of the negative input."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply along `dim`."""
        return F.softmin(input, self.dim, _stacklevel=5)


class LogSoftmax(Softmax):
    """The logarithm of `Softmax`, computed without overflow."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply along `dim`."""
        return F.log_softmax(input, self.dim, _stacklevel=5)


class Softmax2d(Module):
    """`Softmax` over the channels of each pixel: (N, C, H, W) or (C, H, W).

    Raises:
        ShapeError: another number of dimensions.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply over the channels."""
        need_tensor(input, "input", "Softmax2d")
        if input.ndim not in (3, 4):
            raise ShapeError(f"Softmax2d: expected input to be 3D or 4D, got {input.ndim}D: {show(input.shape)}")
        return F.softmax(input, -3)


__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]
