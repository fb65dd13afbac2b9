"""Linear layers and class numbers, as functions."""

from juanji.tensors import linear, one_hot

__all__ = ["linear", "one_hot"]
