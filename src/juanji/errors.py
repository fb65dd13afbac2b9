"""The exceptions that Juanji raises on bad input. Each message names the argument, its value and what is valid."""

from __future__ import annotations


class ShapeError(ValueError, RuntimeError):
    """Shapes that do not fit together; also a `RuntimeError`, as PyTorch's users catch it."""


class DtypeError(TypeError, RuntimeError):
    """An element type an operation has no meaning for; also a `RuntimeError`, as PyTorch's users catch it."""


class AutogradError(RuntimeError):
    """A gradient that cannot be computed: a value changed in place, a graph already freed."""


class CaptureError(RuntimeError):
    """Something `jj.compile` cannot mean, such as a branch on a value; names the line and the remedy."""


class DataError(ValueError):
    """A file or folder that is not the data it should be: truncated, foreign or lying about its sizes."""


class MissingExtraError(ImportError):
    """An optional package is needed for what was asked; the message says how to install it."""


class BoundsError(IndexError, RuntimeError):
    """An index outside of what it points into; also a `RuntimeError`, which PyTorch raises from some operations."""
