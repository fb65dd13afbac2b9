"""Matrix products, Einstein's sums, norms, statistics and operations on the host beside PyTorch's."""

import math

import numpy as np
import pytest

import juanji as jj

random = np.random.default_rng(8)
A, B, V = random.uniform(-1, 1, (3, 4)), random.uniform(-1, 1, (4, 5)), random.uniform(-1, 1, 4)
X = random.permutation(24).reshape(2, 3, 4) / 5.0 - 2
NAN = np.where(X > 2, np.nan, X)

EQUATIONS = {
    "ij,jk->ik": (A, B), "ij,jk": (A, B), "ij->ji": (A,), "ij->": (A,), "ii->i": (B[:, :4],), "ii": (B[:, :4],),
    "i,j->ij": (V, V), "bij,bjk->bik": (X, random.uniform(-1, 1, (2, 4, 2))), "...ij,jk->...ik": (X, B),
    "ij,jk,k->i": (A, B, random.uniform(-1, 1, 5)), "b...,b...->...": (X, X), "ij,ij->ij": (A, A), "i...->...": (X,),
    "nchw,ochw->no": (X[None], X[None]), "ab,cd->acbd": (A, B),
}  # fmt: skip


def compare(torch, function, *arrays, tolerance=1e-11):
    mine = [jj.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    theirs = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    pairs = []
    for library, leaves in ((jj, mine), (torch, theirs)):
        out = function(library, *leaves)
        out = list(out) if isinstance(out, tuple) else [out]
        total = [(r * r).sum() for r in out if r.requires_grad]
        if total:
            sum(total).backward()
        pairs.append([*(r.detach() for r in out), *(t.grad for t in leaves)])
    for a, b in zip(*pairs, strict=True):
        if a is None and b is None:
            continue
        if a is None or b is None:
            assert not np.any((a if b is None else b).numpy())  # no gradient is one of zero
            continue
        assert a.dtype.name == str(b.dtype).removeprefix("torch.")
        np.testing.assert_allclose(a.numpy(), b.numpy(), tolerance, tolerance)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(torch, equation):
    compare(torch, lambda t, *x: t.einsum(equation, *x), *EQUATIONS[equation])


def test_products(torch):
    compare(torch, lambda t, a, b, v: (t.mm(a, b), t.mv(a, v), t.dot(v, v), t.outer(v, v), t.kron(a, b)), A, B, V)
    c = random.uniform(-1, 1, 5)
    compare(torch, lambda t, c, a, b: t.addmm(c, a, b, beta=0.5, alpha=2), c, A, B)
    compare(torch, lambda t, c, a, b: t.baddbmm(c, a, b), c, np.stack([A, A]), np.stack([B, B]))
    compare(torch, lambda t, x, b: (t.tensordot(x, b, 1), t.inner(x, x)), X, B)
    compare(torch, lambda t, a, b: t.tensordot(a, b, ([0], [1])), A, X)
    compare(torch, lambda t, a, b: t.cross(a, b, dim=0), A, A[::-1].copy())
    nan = jj.full((3, 5), math.nan, dtype=jj.float64)
    assert jj.addmm(nan, jj.tensor(A), jj.tensor(B), beta=0).isfinite().all()
    compare(torch, lambda t, a: t.matrix_power(a, 5), B[:, :4])
    compare(
        torch, lambda t, a, b: (t.mm(a, b), t.addmm(b, a, b)), np.arange(9).reshape(3, 3), np.arange(9).reshape(3, 3)
    )


@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, math.inf, -math.inf, -1, -2])
def test_norms(torch, p):
    compare(torch, lambda t, x: (t.norm(x, p), t.norm(x, p, 1), t.linalg.vector_norm(x, p, (0, 2), True)), X + 0.03)
    if p in (1, -1, math.inf, -math.inf):
        compare(torch, lambda t, a: t.linalg.matrix_norm(a, p), A)


def test_norm_of_zero_has_no_gradient(torch):
    compare(torch, lambda t, x: t.norm(x, 3), np.zeros(3))
    compare(torch, lambda t, x: t.norm(x), np.zeros(3))


def test_statistics(torch):
    compare(torch, lambda t, x: (*t.var_mean(x, 1), *t.std_mean(x, (0, 2), correction=0), *t.aminmax(x, dim=1)), X)
    compare(torch, lambda t, x: (t.nansum(x), t.nanmean(x, 1), t.count_nonzero(x, 1), t.diff(x, 2)), NAN)
    compare(torch, lambda t, x: (t.dist(x, x * 2, 3), t.renorm(x, 2, 0, 1.0)), X)


def test_host_operations(torch):
    compare(torch, lambda t, x: (*t.sort(x, 1, descending=True), *t.topk(x, 2, 1), *t.kthvalue(x, 2)), X)
    compare(torch, lambda t, x: (*t.median(x, 1), t.median(x), *t.sort(x, -1), t.msort(x)), X)
    compare(torch, lambda t, x: (*t.median(x, 1), *t.nanmedian(x, 1), t.nanmedian(x), t.argsort(x)), NAN)
    for way in ("linear", "lower", "higher", "midpoint", "nearest"):
        compare(torch, lambda t, x, w=way: t.quantile(x, 0.3, 1, interpolation=w), X)
    compare(torch, lambda t, x: (t.nanquantile(x, 0.6), t.quantile(x, 0.6, 2, True)), NAN)
    w = np.array([3, 1, 1, 0, 3, 3])
    compare(torch, lambda t, w: (*t.unique(w, return_inverse=True, return_counts=True), t.bincount(w, minlength=6)), w)
    compare(torch, lambda t, w: (*t.unique_consecutive(w, return_counts=True), t.nonzero(w), *t.mode(w)), w)
    compare(torch, lambda t, w: (t.searchsorted(t.tensor([0, 1, 3]), w, right=True), t.isin(w, t.tensor([1]))), w)
    compare(torch, lambda t, x: (t.histc(x.detach(), 5), t.bucketize(x.detach(), t.tensor([0.0, 1.0]).double())), X)
    mask = X > 0
    compare(torch, lambda t, x, m, s: t.masked_scatter(x, m, s), X, mask, X[::-1].copy())


def test_host_operations_are_refused_in_a_capture():
    with pytest.raises(jj.CaptureError, match="sort runs on the host"):
        jj.compile(lambda x: x.sort().values)(jj.zeros(3))


def test_refusals():
    a = jj.zeros(2, 3)
    for error, call, message in (
        (ValueError, lambda: jj.einsum("ij,jk->ik", a), "names 2 operands"),
        (RuntimeError, lambda: jj.einsum("ij->k", a), "does not appear"),
        (RuntimeError, lambda: jj.einsum("ijk->i", a), "number of subscripts"),
        (RuntimeError, lambda: jj.mm(a, jj.zeros(3)), "2 dimensions"),
        (ValueError, lambda: a.topk(4), "k out of range"),
        (ValueError, lambda: jj.norm(a, "nuc"), "singular values"),
        (IndexError, lambda: jj.linalg.vector_norm(jj.zeros(0), math.inf), "empty"),
        (RuntimeError, lambda: a.kthvalue(0), "out of range"),
    ):
        with pytest.raises(error, match=message):
            call()
