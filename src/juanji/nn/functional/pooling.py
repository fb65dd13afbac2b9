"""Pooling as functions."""

from juanji.tensors import avg_pool2d, max_pool2d

__all__ = ["avg_pool2d", "max_pool2d"]
