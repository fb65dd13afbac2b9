"""Running a network in evaluation mode and leaving it as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from juanji.nn.module import Module


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """A context in which the model is in evaluation mode; each of its modules has its own mode again after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
