"""Products of vectors and matrices beyond `matmul`: sums with products, outer products, Einstein's sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from juanji import dtypes
from juanji.errors import ShapeError
from juanji.ops import elementwise as ew
from juanji.spec import normal_dim, show
from juanji.tensors.arithmetic import cast, result_dtype
from juanji.tensors.base import need_tensor
from juanji.tensors.products import matmul
from juanji.tensors.public import public


def _ranks(function: str, **tensors: tuple[Any, int]) -> None:
    for name, (tensor, rank) in tensors.items():
        need_tensor(tensor, name, function)
        if tensor.ndim != rank:
            raise ShapeError(f"{function}: {name} of shape {show(tensor.shape)} must have {rank} dimensions")
    kinds = {t.dtype for t, _ in tensors.values()}
    if len(kinds) > 1:
        raise ShapeError(f"{function}: all tensors must have the same dtype, not {', '.join(map(str, kinds))}")


@public()
def mm(input: Any, mat2: Any) -> Any:
    """The product of two matrices."""
    _ranks("mm", input=(input, 2), mat2=(mat2, 2))
    return matmul(input, mat2)


@public()
def bmm(input: Any, mat2: Any) -> Any:
    """The products of matrices one by one: [b, n, m] @ [b, m, p]."""
    _ranks("bmm", input=(input, 3), mat2=(mat2, 3))
    if input.shape[0] != mat2.shape[0]:
        raise ShapeError(f"bmm: the batches {input.shape[0]} and {mat2.shape[0]} must be equal")
    return matmul(input, mat2)


@public()
def mv(input: Any, vec: Any) -> Any:
    """The product of a matrix and a vector."""
    _ranks("mv", input=(input, 2), vec=(vec, 1))
    return matmul(input, vec)


@public()
def dot(input: Any, tensor: Any) -> Any:
    """The sum of the products of two vectors' elements."""
    _ranks("dot", input=(input, 1), tensor=(tensor, 1))
    if input.shape != tensor.shape:
        raise ShapeError(f"dot: inconsistent tensor size, {show(input.shape)} and {show(tensor.shape)}")
    return matmul(input, tensor)


@public()
def vdot(input: Any, other: Any) -> Any:
    """`dot`: there are no complex numbers here."""
    return dot(input, other)


@public()
def inner(input: Any, other: Any) -> Any:
    """The sum of products over the last dimension of both."""
    need_tensor(other, "other", "inner")
    if not input.shape or not other.shape:
        return input * other
    if input.shape[-1] != other.shape[-1]:
        raise ShapeError(f"inner: the last dimensions of {show(input.shape)} and {show(other.shape)} must match")
    return tensordot(input, other, ([-1], [-1]))


@public()
def outer(input: Any, vec2: Any) -> Any:
    """The products of each element of one vector with each of another."""
    need_tensor(vec2, "vec2", "outer")
    for name, v in (("input", input), ("vec2", vec2)):
        if v.ndim != 1:
            raise ShapeError(f"outer: {name} of shape {show(v.shape)} must have 1 dimension")
    return input.unsqueeze(1) * vec2


ger = outer


def _sum(function: str, input: Any, product: Any, beta: Any, alpha: Any) -> Any:
    if input.dtype is not product.dtype:
        raise ShapeError(f"{function}: input is {input.dtype}, but the matrices are {product.dtype}")
    if not product.dtype.is_floating_point:
        beta, alpha = int(beta), int(alpha)  # as PyTorch does
    kind = product.dtype
    if alpha != 1:
        product = product * alpha
    if beta == 0:  # what is in `input`, NaN too, does not count
        result = product
    else:
        result = product + (input if beta == 1 else input * beta)
    if result.shape != product.shape:
        raise ShapeError(f"{function}: input of shape {show(input.shape)} does not stretch to {show(product.shape)}")
    return cast(result, kind)


def _sum_with(name: str, product: Any, text: str) -> Any:
    def operation(input: Any, a: Any, b: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
        return _sum(name, input, product(a, b), beta, alpha)

    operation.__name__, operation.__doc__ = name, text
    return public(inplace=True)(operation)


addmm = _sum_with("addmm", mm, "beta * input + alpha * (a @ b) for two matrices.")
addmv = _sum_with("addmv", mv, "beta * input + alpha * (a @ b) for a matrix and a vector.")
baddbmm = _sum_with("baddbmm", bmm, "beta * input + alpha * (a @ b) for matrices one by one.")
addbmm = _sum_with(
    "addbmm", lambda a, b: cast(bmm(a, b).sum(0), a.dtype), "beta * input + alpha * sum of the a[i] @ b[i]."
)


@public(inplace=True)
def addr(input: Any, vec1: Any, vec2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """beta * input + alpha * outer(vec1, vec2)."""
    product = outer(vec1, vec2)
    kind = result_dtype((input, product))
    if kind is dtypes.bool_:
        return ew.bitwise_or(input, product) if beta else ew.copy(product.expand(product.shape))
    return _sum("addr", cast(input, kind), cast(product, kind), beta, alpha)


@public()
def kron(input: Any, other: Any) -> Any:
    """Kronecker's product: each element of `input` times all of `other`."""
    need_tensor(other, "other", "kron")
    rank = max(input.ndim, other.ndim)
    a, b = ((1,) * (rank - t.ndim) + tuple(t.shape) for t in (input, other))
    left = input.reshape(tuple(e for s in a for e in (s, 1)))
    right = other.reshape(tuple(e for s in b for e in (1, s)))
    return (left * right).reshape(tuple(x * y for x, y in zip(a, b, strict=True)))


def tensordot(a: Any, b: Any, dims: Any = 2, out: Any = None) -> Any:
    """The sum of products over `dims`: so many last of `a` and first of `b`, or a pair of lists of dimensions."""
    need_tensor(a, "a", "tensordot")
    need_tensor(b, "b", "tensordot")
    if out is not None:
        raise TypeError("tensordot: out= is not available; assign the result")
    if isinstance(dims, int):
        if dims < 0 or dims > min(a.ndim, b.ndim):
            raise ShapeError(f"tensordot: dims={dims} must be 0 to {min(a.ndim, b.ndim)}")
        pairs: Any = (list(range(a.ndim - dims, a.ndim)), list(range(dims)))
    else:
        pairs = dims.tolist() if hasattr(dims, "tolist") else [[d] if isinstance(d, int) else list(d) for d in dims]
    left, right = ([normal_dim(d, t.ndim) for d in ds] for d_, (t, ds) in enumerate(zip((a, b), pairs, strict=True)))
    if len(left) != len(right):
        raise ShapeError("tensordot: both dimension lists should have same length")
    if a.dtype is not b.dtype:
        raise ShapeError(f"tensordot: both inputs should have same dtype, but they are {a.dtype} and {b.dtype}")
    for x, y in zip(left, right, strict=True):
        if a.shape[x] != b.shape[y]:
            if a.shape[x] != 1 and b.shape[y] != 1:
                raise ShapeError(f"tensordot: the sizes {a.shape[x]} and {b.shape[y]} of contracted dimensions differ")
            a = a.sum(x, True) if a.shape[x] != 1 else a
            b = b.sum(y, True) if b.shape[y] != 1 else b
    free_a = [d for d in range(a.ndim) if d not in left]
    free_b = [d for d in range(b.ndim) if d not in right]
    rows, columns = math.prod(a.shape[d] for d in free_a), math.prod(b.shape[d] for d in free_b)
    inner_size = math.prod(a.shape[d] for d in left)
    matrix_a = a.permute((*free_a, *left)).reshape(rows, inner_size)
    matrix_b = b.permute((*right, *free_b)).reshape(inner_size, columns)
    return matmul(matrix_a, matrix_b).reshape((*(a.shape[d] for d in free_a), *(b.shape[d] for d in free_b)))


def _parsed(equation: str, operands: Sequence[Any]) -> tuple[list[list[Any]], list[Any]]:
    """The labels of each operand and of the result; dimensions of an ellipsis are labels 0, 1, 2 ... from its end."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise ShapeError(f"einsum(): {equation!r} names {len(terms)} operands, but {len(operands)} were given")

    def labels(term: str, rank: int | None) -> list[Any]:
        before, dots, after = term.partition("...")
        for c in before + after:
            if not c.isalpha():
                raise ShapeError(f"einsum(): invalid subscript {c!r} in {equation!r}, must be letters")
        spare = 0 if rank is None else rank - len(before) - len(after)
        if rank is not None and (spare < 0 or (spare and not dots)):
            raise ShapeError(
                f"einsum(): the number of subscripts in {term!r} does not match the number of dimensions ({rank})"
            )
        hidden = range(spare if rank is not None else most) if dots else ()
        return [*before, *(len(hidden) - 1 - k for k in range(len(hidden))), *after]

    most = 0
    given = []
    for term, x in zip(terms, operands, strict=True):
        given.append(labels(term, x.ndim))
        most = max([most, *(label + 1 for label in given[-1] if isinstance(label, int))])
    if arrow:
        wanted = labels(right, None)
    else:
        letters = [label for term in given for label in term if isinstance(label, str)]
        wanted = [*reversed(range(most)), *sorted({c for c in letters if letters.count(c) == 1})]
    known = {label for term in given for label in term}
    for label in wanted:
        if wanted.count(label) > 1:
            raise ShapeError(f"einsum(): output subscript {label} appears more than once in the output")
        if label not in known and isinstance(label, str):
            raise ShapeError(f"einsum(): output subscript {label} does not appear for any input operand")
    return given, [label for label in wanted if label in known]


def einsum(*args: Any) -> Any:
    """Einstein's summation: products of `operands`, summed over every label that the result does not name.

    Operands are joined from the left, two at a time, each pair as one matrix product.

    Raises:
        ShapeError: labels that do not fit the operands.

    >>> import juanji as jj
    >>> einsum("ij,kj->ik", jj.tensor([[1, 2]]), jj.tensor([[3, 4], [5, 6]]))
    tensor([[11, 17]])
    """
    if not args or not isinstance(args[0], str):
        raise TypeError("einsum: the first argument must be the equation, such as 'ij,jk->ik'")
    equation, given = args[0], args[1:]
    operands = list(given[0]) if len(given) == 1 and isinstance(given[0], (tuple, list)) else list(given)
    if not operands:
        raise ShapeError("einsum(): must provide at least one operand")
    for i, x in enumerate(operands):
        need_tensor(x, f"operands[{i}]", "einsum")
    terms, wanted = _parsed(equation, operands)
    sizes: dict[Any, int] = {}
    for term, x in zip(terms, operands, strict=True):
        for label, extent in zip(term, x.shape, strict=True):
            if sizes.setdefault(label, extent) != extent:
                if 1 not in (extent, sizes[label]):
                    raise ShapeError(
                        f"einsum(): subscript {label} has size {extent}, which does not broadcast with previously seen "
                        f"size {sizes[label]}"
                    )
                sizes[label] = max(extent, sizes[label]) if 0 not in (extent, sizes[label]) else 0
    pieces = [_distinct(x, term) for x, term in zip(operands, terms, strict=True)]
    value, labels = pieces[0]
    for k, (other, theirs) in enumerate(pieces[1:], 2):
        later = {label for _, term in pieces[k:] for label in term} | set(wanted)
        value, labels = _contract(value, labels, other, theirs, later)
    gone = [d for d, label in enumerate(labels) if label not in wanted]
    if gone:
        value = cast(value.sum(tuple(gone)), value.dtype)
        labels = [label for label in labels if label in wanted]
    value = value.permute(tuple(labels.index(label) for label in wanted))
    return value.expand(tuple(sizes[label] for label in wanted)) if wanted else value


def _distinct(x: Any, term: list[Any]) -> tuple[Any, list[Any]]:
    """An operand in which every label stands once: repeated ones are a diagonal."""
    labels = list(term)
    for label in dict.fromkeys(term):
        while labels.count(label) > 1:
            a = labels.index(label)
            b = labels.index(label, a + 1)
            if x.shape[a] != x.shape[b]:
                if 1 not in (x.shape[a], x.shape[b]):
                    raise ShapeError(f"einsum(): subscript {label} is repeated, but its sizes differ: {show(x.shape)}")
                extent = max(x.shape[a], x.shape[b])
                x = x.expand(tuple(extent if d in (a, b) else e for d, e in enumerate(x.shape)))
            x = x.diagonal(0, a, b)
            labels = [name for d, name in enumerate(labels) if d not in (a, b)] + [label]
    return x, labels


def _contract(a: Any, mine: list[Any], b: Any, theirs: list[Any], later: set[Any]) -> tuple[Any, list[Any]]:
    """The product of two operands, summed over what nothing later names."""

    def reduced(x: Any, labels: list[Any], others: list[Any]) -> tuple[Any, list[Any]]:
        gone = tuple(d for d, label in enumerate(labels) if label not in others and label not in later)
        kept = [label for d, label in enumerate(labels) if d not in gone]
        return (cast(x.sum(gone), x.dtype) if gone else x), kept

    a, mine = reduced(a, mine, theirs)
    b, theirs = reduced(b, theirs, mine)
    shared = [label for label in mine if label in theirs]
    for label in shared:  # a size of 1 that stretches is summed or kept as the other's
        x, y = a.shape[mine.index(label)], b.shape[theirs.index(label)]
        if x != y:
            a = a.expand(tuple(y if n == label and x == 1 else e for n, e in zip(mine, a.shape, strict=True)))
            b = b.expand(tuple(x if n == label and y == 1 else e for n, e in zip(theirs, b.shape, strict=True)))
    batch = [label for label in shared if label in later]
    summed = [label for label in shared if label not in later]
    rows = [label for label in mine if label not in shared]
    columns = [label for label in theirs if label not in shared]
    left = a.permute(tuple(mine.index(n) for n in (*batch, *rows, *summed)))
    right = b.permute(tuple(theirs.index(n) for n in (*batch, *summed, *columns)))
    sizes = [tuple(left.shape[: len(batch)]), tuple(left.shape[len(batch) : len(batch) + len(rows)])]
    wide = tuple(right.shape[len(batch) + len(summed) :])
    depth = math.prod(left.shape[len(batch) + len(rows) :])
    count, m, n = (math.prod(s) for s in (*sizes, wide))
    if not summed:
        shape = (*sizes[0], *sizes[1], *(1 for _ in wide)), (*sizes[0], *(1 for _ in rows), *wide)
        return left.reshape(shape[0]) * right.reshape(shape[1]), [*batch, *rows, *columns]
    product = matmul(left.reshape(count, m, depth), right.reshape(count, depth, n))
    return product.reshape((*sizes[0], *sizes[1], *wide)), [*batch, *rows, *columns]


def chain_matmul(*matrices: Any) -> Any:
    """The product of several matrices, from the left."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = mm(result, matrix)
    return result


@public()
def matrix_power(input: Any, n: int) -> Any:
    """A square matrix times itself `n` times (by squaring); `n` must not be negative."""
    if input.ndim < 2 or input.shape[-1] != input.shape[-2]:
        raise ShapeError(f"matrix_power: input of shape {show(input.shape)} must be square matrices")
    if n < 0:
        raise ShapeError(f"matrix_power: n={n} must not be negative: there is no inverse here")
    from juanji.tensors.creation import eye

    result = None
    square, left = input, int(n)
    while left:
        if left & 1:
            result = square if result is None else matmul(result, square)
        left >>= 1
        square = matmul(square, square) if left else square
    if result is None:
        return ew.copy(eye(input.shape[-1], dtype=input.dtype).expand(input.shape))
    return ew.copy(result) if result is input else result


@public(method=False)
def cross(input: Any, other: Any, dim: int | None = None) -> Any:
    """The cross product of vectors of three elements along `dim` (by default the first of size 3)."""
    need_tensor(other, "other", "cross")
    if dim is None:
        found = [d for d, e in enumerate(input.shape) if e == 3]
        if not found:
            raise ShapeError(f"no dimension of size 3 in input of shape {show(input.shape)}")
        dim = found[0]
    if input.ndim != other.ndim:
        raise ShapeError(f"cross: inputs must have the same number of dimensions, got {input.ndim} and {other.ndim}")
    d = normal_dim(dim, input.ndim)
    if input.shape[d] != 3 or other.shape[d] != 3:
        raise ShapeError(f"cross: inputs dimension {dim} must have length 3. Got {input.shape[d]} and {other.shape[d]}")
    a, b = input.unbind(d), other.unbind(d)
    from juanji.tensors.creation import stack

    return stack([a[(k + 1) % 3] * b[(k + 2) % 3] - a[(k + 2) % 3] * b[(k + 1) % 3] for k in range(3)], d)


@public(method=False)
def vecdot(x: Any, y: Any, *, dim: int = -1) -> Any:
    """The sum of products along `dim`."""
    need_tensor(y, "y", "linalg.vecdot")
    if x.dtype is not y.dtype:
        raise ShapeError(f"linalg.vecdot: Expected x and y to have the same dtype, but got {x.dtype} and {y.dtype}")
    product = x * y
    if not product.shape:
        raise ShapeError("linalg.vecdot: x and y need at least one dimension")
    return cast(product.sum(dim), x.dtype)


__all__ = [
    "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "chain_matmul", "cross", "dot", "einsum", "ger", "inner",
    "kron", "matrix_power", "mm", "mv", "outer", "tensordot", "vdot",
]  # fmt: skip
