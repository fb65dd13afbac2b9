"""Layers and networks: what `torch.nn` is called in PyTorch."""

from __future__ import annotations

from juanji.nn import functional, init
from juanji.nn.activation import Dropout, LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from juanji.nn.containers import ModuleDict, ModuleList, ParameterList, Sequential
from juanji.nn.conv import Conv2d
from juanji.nn.linear import Flatten, Identity, Linear, Unflatten
from juanji.nn.loss import CrossEntropyLoss, MSELoss, NLLLoss
from juanji.nn.module import Module
from juanji.nn.parameter import Parameter
from juanji.nn.pooling import AvgPool2d, MaxPool2d

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Identity",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "NLLLoss",
    "Parameter",
    "ParameterList",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "Unflatten",
    "functional",
    "init",
]
