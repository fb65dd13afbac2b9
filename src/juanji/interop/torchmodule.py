"""A network as PyTorch computes it: the same modules, the same numbers in them, `forward` run on PyTorch's tensors.

Layers become PyTorch's of the same name with the same arguments (`LAYERS`). A module with a `forward` of its own
becomes a PyTorch module whose methods are its own, but for what they mean by `nn`, `F` and `jj`: since Juanji has
PyTorch's names, that is `torch.nn`, `torch.nn.functional` and `torch`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import CellType, FunctionType, ModuleType
from typing import Any

from juanji import nn
from juanji.zoo.efficientnet_lite import Conv2dSame

_CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_MEAN = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
#: Layers by name: the attributes that are their arguments in PyTorch. A bias is added where there is one.
LAYERS: dict[str, tuple[str, ...]] = {
    **{f"Conv{d}d": _CONV for d in (1, 2, 3)},
    **{f"ConvTranspose{d}d": (*_CONV, "output_padding") for d in (1, 2, 3)},
    **{f"BatchNorm{d}d": _NORM for d in (1, 2, 3)},
    **{f"MaxPool{d}d": _POOL for d in (1, 2, 3)},
    **{f"AvgPool{d}d": _MEAN for d in (1, 2, 3)},
    **{f"AdaptiveAvgPool{d}d": ("output_size",) for d in (1, 2, 3)},
    **{f"Dropout{d}": ("p",) for d in ("", "1d", "2d", "3d")},
    **dict.fromkeys(("Identity", "ReLU", "ReLU6", "Sigmoid", "Tanh", "SiLU", "Hardswish", "Hardsigmoid", "Mish"), ()),
    "Linear": ("in_features", "out_features"),
    "Flatten": ("start_dim", "end_dim"),
    "GroupNorm": ("num_groups", "num_channels", "eps", "affine"),
    "LeakyReLU": ("negative_slope",),
    "GELU": ("approximate",),
}
_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")


def to_torch(module: nn.Module) -> Any:
    """A `torch.nn.Module` with a copy of a module's parameters and buffers, in the same mode.

    Args:
        module: layers of `LAYERS`, containers, and modules of one's own whose methods use nothing of Juanji but its
            layers and what they call `nn`, `F`, `functional`, `jj` or `juanji`.

    Raises:
        ImportError: PyTorch is not installed.
        TypeError: there is something in it that is not known here; the message names it.
    """
    try:
        import torch
    except ImportError:
        raise ImportError('a network in PyTorch needs torch: pip install "juanji[torch]"') from None
    made = _module(module, {})
    state = {}
    for name, tensor in module.state_dict().items():
        state[name] = torch.from_numpy(tensor.detach().numpy()).clone()
    made.load_state_dict(state)
    return made.train(module.training)


def _module(module: nn.Module, known: dict[int, Any]) -> Any:
    if id(module) not in known:
        name = type(module).__name__
        if type(module) is Conv2dSame:
            made = _same(module)
        elif type(module) is not getattr(nn, name, None):
            made = _own(module, known)
        elif name in LAYERS:
            made = _layer(name, module)
        elif name in _CONTAINERS:
            made = _container(name, module, known)
        else:
            raise TypeError(f"to_torch does not know the layer {name}; it knows {', '.join(sorted(LAYERS))}")
        known[id(module)] = made
    return known[id(module)]


def _layer(name: str, module: nn.Module) -> Any:
    import torch

    arguments = {key: getattr(module, key) for key in LAYERS[name]}
    if "bias" in module._parameters and name not in ("GroupNorm", *(f"BatchNorm{d}d" for d in (1, 2, 3))):
        arguments["bias"] = module._parameters["bias"] is not None
    return getattr(torch.nn, name)(**arguments)


def _container(name: str, module: nn.Module, known: dict[int, Any]) -> Any:
    import torch

    children = {key: _module(child, known) for key, child in module._modules.items() if child is not None}
    if name == "ModuleDict":
        return torch.nn.ModuleDict(children)
    made = getattr(torch.nn, name)()
    for key, child in children.items():
        made.add_module(key, child)
    return made


def _same(module: Conv2dSame) -> Any:
    """TensorFlow's "same" padding, which PyTorch has for a stride of 1 only: a copy with zeros around it."""
    import torch

    base: Any = torch.nn.Conv2d

    class Same(base):  # type: ignore[misc]
        """A convolution of a padded copy."""

        def forward(self, x: Any) -> Any:
            """Pads, then convolves."""
            pads: list[int] = []
            rows = zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
            for size, kernel, stride, dilation in reversed(list(rows)):
                total = max(0, (-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size)
                pads += [total // 2, total - total // 2]
            return super().forward(torch.nn.functional.pad(x, pads))

    arguments: dict[str, Any] = {key: getattr(module, key) for key in _CONV if key != "padding"}
    return Same(**arguments, bias=module.bias is not None)


def _own(module: nn.Module, known: dict[int, Any]) -> Any:
    """A module with a `forward` of its own: an object of the mirrored class with the same attributes."""
    import torch

    cls = _mirrored(type(module))  # type: ignore[arg-type]
    made = cls.__new__(cls)
    torch.nn.Module.__init__(made)
    fresh = vars(nn.Module())
    for name, value in vars(module).items():
        if name not in fresh:
            setattr(made, name, value)
    for name, parameter in module._parameters.items():
        value = None if parameter is None else torch.nn.Parameter(torch.from_numpy(parameter.detach().numpy()).clone())
        made.register_parameter(name, value)
    for name, buffer in module._buffers.items():
        value = None if buffer is None else torch.from_numpy(buffer.numpy()).clone()
        made.register_buffer(name, value, persistent=name not in module._non_persistent)
    for name, child in module._modules.items():
        setattr(made, name, None if child is None else _module(child, known))
    return made


@functools.cache
def _mirrored(cls: Any) -> Any:
    """The class on `torch.nn.Module` with the methods of `cls` and of what it inherits from."""
    import torch

    if cls is nn.Module:
        return torch.nn.Module
    if cls.__module__.split(".")[:2] == ["juanji", "nn"]:
        raise TypeError(f"to_torch does not know what is derived from the layer {cls.__name__}")
    bases = tuple(_mirrored(base) for base in cls.__bases__ if issubclass(base, nn.Module))
    cell = CellType()
    skipped = ("__init__", "__dict__", "__weakref__", "__annotations__", "__annotate__")
    body = {name: _rebound(value, cell) for name, value in vars(cls).items() if name not in skipped}
    made = type(cls.__name__, bases, body)
    cell.cell_contents = made
    return made


def _rebound(value: Any, cell: CellType) -> Any:
    """A function with PyTorch's modules instead of Juanji's, and whose `super()` is that of the new class."""
    if not isinstance(value, FunctionType):
        return value
    names = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
    closure = tuple(cell if name == "__class__" else held for name, held in names.items())
    used = set(value.__code__.co_names)
    # Without a name, so that torch.compile does not look for these globals in the module they are from.
    made: Callable[..., Any] = FunctionType(
        value.__code__,
        {
            name: _counterpart(held, name in used, value)
            for name, held in value.__globals__.items()
            if name != "__name__"
        },
        value.__name__,
        value.__defaults__,
        closure,
    )
    made.__kwdefaults__ = value.__kwdefaults__
    return made


def _counterpart(value: Any, used: bool, function: Any) -> Any:
    import torch

    if isinstance(value, ModuleType):
        modules = {"juanji": torch, "juanji.nn": torch.nn, "juanji.nn.functional": torch.nn.functional}
        return modules.get(value.__name__, value)
    origin = str(getattr(value, "__module__", ""))
    if not used or not callable(value) or isinstance(value, type) or not origin.startswith("juanji"):
        return value
    name = getattr(value, "__name__", type(value).__name__)
    if origin.startswith("juanji.nn.functional") and hasattr(torch.nn.functional, name):
        return getattr(torch.nn.functional, name)
    raise TypeError(f"to_torch: {function.__qualname__} uses {origin}.{name}, which PyTorch does not have")


__all__ = ["LAYERS", "to_torch"]
