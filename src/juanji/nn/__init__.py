"""Layers and networks: what `torch.nn` is called in PyTorch."""

from __future__ import annotations

from juanji.nn import (
    activation,
    conv,
    dropout,
    embedding,
    functional,
    init,
    lazy,
    loss,
    normalisation,
    padding,
    patches,
    pooling,
    special_conv,
    upsampling,
    utils,
)
from juanji.nn.activation import *  # noqa: F403
from juanji.nn.containers import ModuleDict, ModuleList, ParameterList, Sequential
from juanji.nn.conv import *  # noqa: F403
from juanji.nn.dropout import *  # noqa: F403
from juanji.nn.embedding import *  # noqa: F403
from juanji.nn.lazy import *  # noqa: F403
from juanji.nn.linear import Flatten, Identity, Linear, Unflatten
from juanji.nn.loss import *  # noqa: F403
from juanji.nn.module import Module
from juanji.nn.normalisation import *  # noqa: F403
from juanji.nn.padding import *  # noqa: F403
from juanji.nn.parameter import Parameter, UninitializedBuffer, UninitializedParameter
from juanji.nn.patches import *  # noqa: F403
from juanji.nn.pooling import *  # noqa: F403
from juanji.nn.special_conv import *  # noqa: F403
from juanji.nn.upsampling import *  # noqa: F403

__all__ = [
    "Flatten",
    "Identity",
    "Linear",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ParameterList",
    "Sequential",
    "Unflatten",
    "UninitializedBuffer",
    "UninitializedParameter",
    "functional",
    "init",
    "utils",
]
__all__ += activation.__all__
__all__ += conv.__all__
__all__ += dropout.__all__
__all__ += embedding.__all__
__all__ += lazy.__all__
__all__ += loss.__all__
__all__ += normalisation.__all__
__all__ += padding.__all__
__all__ += patches.__all__
__all__ += pooling.__all__
__all__ += special_conv.__all__
__all__ += upsampling.__all__
