"""Network architectures by name: `juanji.zoo.create("lenet")`."""

from __future__ import annotations

from juanji.zoo.lenet import LeNet
from juanji.zoo.registry import architecture, create, list, register

__all__ = ["LeNet", "architecture", "create", "list", "register"]
