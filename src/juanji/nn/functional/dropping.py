"""Dropout as functions."""

from juanji.tensors import dropout

__all__ = ["dropout"]
