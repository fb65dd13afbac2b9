"""How weight gradients of convolutions are cut: every row once, in equal shares, and the sums of the parts right."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import juanji as jj
from juanji.compiler import lower_weight_grad
from juanji.compiler.lower_contract import Tables
from juanji.nn import functional as F
from juanji.ops import TABLE
from juanji.ops.reference import reference


def tables_of(work):
    tables = Tables()
    for rows, taps, depth in work:
        tables.rect((rows, 1, 1), (0, 1, 0, 0), (0, 1, 0, 0), [(t, t) for t in range(taps)], depth)
    return tables


rects = st.lists(
    st.tuples(st.integers(1, 200), st.integers(0, 40), st.integers(1, 30)), min_size=1, max_size=12
).filter(lambda work: any(taps for _, taps, _ in work))
bytes_of = st.integers(1, 10**8)


@given(rects, st.integers(1, 12), st.integers(1, 5), st.integers(1, 16))
def test_groups_are_of_equal_work_and_have_every_tile_once(work, rows, blocks, count):
    tables = tables_of(work)
    groups = lower_weight_grad._groups(tables.work, rows, blocks, count)
    cells = sorted(
        (r, m, b) for group in groups for r, m0, m1, b0, b1 in group for m in range(m0, m1) for b in range(b0, b1)
    )
    assert cells == [(r, m, b) for r, (m, *_) in enumerate(work) for m in range(m) for b in range(blocks)]
    assert all(m0 % rows == 0 for group in groups for _, m0, *_ in group)
    few = sum(-(-m // rows) for m, *_ in work) < 8 * count
    tile = max(k for _, k in tables.work) * (1 if few else blocks)
    costs = [sum(-(-(m1 - m0) // rows) * tables.work[r][1] * (b1 - b0) for r, m0, m1, b0, b1 in g) for g in groups]
    assert max(costs) <= sum(costs) / count + tile


@given(rects, bytes_of, bytes_of, st.integers(1, 512))
def test_slices_take_every_tap_once_and_the_first_of_a_partial_overwrites(work, read, written, columns):
    tables = tables_of(work)
    cut = lower_weight_grad._cut([tables], read, written, columns)
    assert cut.slices % cut.partials == 0
    assert cut.partials * cut.groups <= lower_weight_grad.GRADIENT_CHUNKS
    parts = lower_weight_grad._slices([tables], cut, 10**6)
    count = len(work)
    for r, i in itertools.product(range(count), range(cut.slices)):
        rect = parts.rects[i * count + r]
        assert rect[6] == i // (cut.slices // cut.partials) * 10**6
        assert rect[15] == (i % (cut.slices // cut.partials) > 0)
    for r in range(count):
        taps = np.concatenate([parts.taps[rect[10] : rect[10] + rect[11]] for rect in parts.rects[r::count]])
        begin, number = tables.rects[r][10:12]
        np.testing.assert_array_equal(taps, tables.taps[begin : begin + number])
    starts, jobs = lower_weight_grad._chunks([tables], cut, 6, 2)
    assert starts[0] == 0
    assert starts[-1] == len(jobs)
    for begin, end in itertools.pairwise(starts):  # one chunk, one partial result, slices in their order
        slices = (jobs[begin:end, 0] // count).tolist()
        assert slices
        assert slices == sorted(slices)
        assert len({i // (cut.slices // cut.partials) for i in slices}) == 1


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((8, 16, 44, 44), (24, 16, 3, 3), {"padding": 1}),
        ((8, 64, 30, 30), (40, 64, 1, 1), {}),
        ((6, 3, 90, 90), (32, 3, 7, 7), {"stride": 2, "padding": 3}),
        ((8, 32, 31, 31), (48, 8, 3, 3), {"groups": 4, "padding": 1}),
        ((2, 8, 6, 1500), (8, 8, 3, 3), {"padding": 1}),
        ((16, 24, 8, 8), (24, 24, 11, 11), {"padding": 5}),
    ],
)
def test_partial_results_add_up(x, w, options):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    images, weights = (random.standard_normal(shape, np.float32) for shape in (x, w))

    @jj.compile
    def gradient(images, weights):
        leaf = weights.detach().requires_grad_()
        F.conv2d(images, leaf, **options).square().sum().backward()
        return leaf.grad

    got = gradient(jj.tensor(images), jj.tensor(weights)).numpy()
    leaf = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.conv2d(torch.tensor(images).double(), leaf, **options).square().sum().backward()
    np.testing.assert_allclose(got, leaf.grad.numpy(), rtol=1e-5, atol=1e-5 * float(leaf.grad.abs().max()))
    calls = [call for call in gradient.plans[0].calls if "conv_weight_grad" in call.label]
    assert len(calls) == 1
    assert calls[0].chunks >= 8


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((3, 47, 9, 10), (7, 47, 3, 3), {"stride": 2, "padding": 1}),
        ((2, 40, 11, 9), (1, 40, 3, 2), {"stride": (2, 3), "padding": (3, 0), "dilation": (1, 2)}),
        ((2, 37, 7, 8), (5, 37, 1, 1), {"stride": 2}),
        ((41, 36, 5, 4), (3, 36, 3, 3), {"stride": (1, 2), "padding": 1}),
        ((2, 33, 4, 5, 6), (2, 33, 3, 1, 3), {"stride": 2, "padding": (1, 0, 1)}),
        ((1, 35, 2200), (4, 35, 5), {"stride": 2, "padding": 2}),
        ((3, 2, 11, 7), (4, 2, 1, 1), {}),
        ((2, 15, 13, 11), (1, 15, 1, 1), {}),
        ((2, 3, 9, 23), (3, 3, 1, 1), {}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_few_channels(x, w, options, dtype, kernel_target):
    """Kernel positions apart where there is a stride, several chains of sums: those of small integers are exact."""
    random, rank = np.random.default_rng(0), len(x) - 2
    images, weights = (random.integers(-3, 4, shape).astype(dtype) for shape in (x, w))
    both = {name: value if isinstance(value, tuple) else (value,) * rank for name, value in options.items()}
    attrs = {"stride": (1,) * rank, "padding": (0,) * rank, "dilation": (1,) * rank, **both, "groups": 1}
    attrs["padding"] = tuple((p, p) for p in attrs["padding"])
    outputs = reference("conv", [images, weights], attrs)
    g = random.integers(-3, 4, outputs.shape).astype(dtype)
    attrs["kernel"] = w[2:]
    found = TABLE["conv_weight_grad"](jj.tensor(g), jj.tensor(images), **attrs).numpy()
    np.testing.assert_array_equal(found, reference("conv_weight_grad", [g, images], attrs))
