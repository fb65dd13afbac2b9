"""The order in which a contraction's jobs run decides what is read from memory once and what again and again."""

import itertools

import numpy as np
import pytest

import juanji as jj
from juanji.compiler import lower_contract
from juanji.compiler.lower_contract import Tables
from juanji.nn import functional as F

ROWS, BLOCK = 6, 64


def chunks(depth, blocks):
    """The jobs of an image's inner part and its borders, `depth` steps over k for each pixel."""
    tables = Tables()
    for columns, rows in itertools.product((25, 1), (25, 1)):
        tables.rect((columns, rows, 1), (0, 1, 32, 0), (0, 1, 32, 0), [(0, 0)], depth)
    starts, jobs = lower_contract._chunks(tables, ROWS, BLOCK, blocks)
    assert list(starts) == list(range(len(jobs) + 1))
    return jobs


@pytest.mark.parametrize(("depth", "blocks"), [(64, 1), (512, 4), (4608, 8)])
def test_every_pixel_and_column_once(depth, blocks):
    seen = [np.zeros((pixels, blocks), int) for pixels in (625, 25, 25, 1)]
    for rect, begin, end, first, last in chunks(depth, blocks):
        seen[rect][begin:end, first:last] += 1
    assert all((part == 1).all() for part in seen)


def test_weights_that_no_cache_holds_are_read_once():
    order = [(first, rect) for rect, _, _, first, _ in chunks(4608, 8)]
    assert order == sorted(order)


def test_small_weights_stay_while_pixels_pass():
    rects = [rect for rect, *_ in chunks(64, 1)]
    assert rects == sorted(rects)


def test_results():
    torch = pytest.importorskip("torch")
    jj.manual_seed(0)
    x, w = jj.randn(2, 160, 6, 5), jj.randn(136, 160, 3, 3)
    found = F.conv2d(x, w, padding=1).numpy()
    exact = torch.nn.functional.conv2d(
        torch.from_numpy(x.numpy()).double(), torch.from_numpy(w.numpy()).double(), padding=1
    ).numpy()
    np.testing.assert_allclose(found, exact, 1e-4, 1e-3)
