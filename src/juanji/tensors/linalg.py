"""`jj.linalg`: norms and products under the names of PyTorch's `torch.linalg`."""

from juanji.tensors.algebra import cross as _cross
from juanji.tensors.algebra import matrix_power, vecdot
from juanji.tensors.diagonals import diagonal as _diagonal
from juanji.tensors.products import matmul
from juanji.tensors.statistics import linalg_norm as norm
from juanji.tensors.statistics import matrix_norm, vector_norm


def diagonal(A: object, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> object:
    """The diagonals of the last two dimensions."""
    return _diagonal(A, offset, dim1, dim2)


def cross(input: object, other: object, *, dim: int = -1) -> object:
    """The cross product along `dim`."""
    return _cross(input, other, dim)


__all__ = ["cross", "diagonal", "matmul", "matrix_norm", "matrix_power", "norm", "vecdot", "vector_norm"]
