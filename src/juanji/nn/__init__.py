"""Layers and networks: what `torch.nn` is called in PyTorch."""

from __future__ import annotations

from juanji.nn import activation, dropout, functional, init
from juanji.nn.activation import *  # noqa: F403
from juanji.nn.containers import ModuleDict, ModuleList, ParameterList, Sequential
from juanji.nn.conv import Conv2d
from juanji.nn.dropout import *  # noqa: F403
from juanji.nn.linear import Flatten, Identity, Linear, Unflatten
from juanji.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss
from juanji.nn.module import Module
from juanji.nn.parameter import Parameter
from juanji.nn.pooling import AvgPool2d, MaxPool2d

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Flatten",
    "Identity",
    "Linear",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ParameterList",
    "Sequential",
    "Unflatten",
    "functional",
    "init",
]
__all__ += activation.__all__
__all__ += dropout.__all__
