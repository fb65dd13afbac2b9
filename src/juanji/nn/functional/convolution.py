"""Convolutions as functions."""

from juanji.tensors import conv2d

__all__ = ["conv2d"]
