"""Large results of loops are written past the caches; small ones and those in memory just read are not."""

import numpy as np
import pytest

import juanji as jj
from juanji.codegen.loops import LoopSpec


def loops(step):
    return [call.spec for call in step.plans[0].calls if isinstance(call.spec, LoopSpec)]


@pytest.mark.parametrize("shape", [(600_001,), (7000, 96), (600, 1009), (3, 40, 70, 80)])
@pytest.mark.parametrize("threads", [1, 3])
def test_large_results_are_those_of_numpy(shape, threads):
    before = jj.get_num_threads()
    jj.set_num_threads(threads)
    try:
        x, y = jj.randn(*shape), jj.randn(shape[-1])
        step = jj.compile(lambda x, y: (x * y, (x - y).clamp(-1, 1)))
        product, difference = step(x, y)
    finally:
        jj.set_num_threads(before)
    np.testing.assert_array_equal(product.numpy(), x.numpy() * y.numpy())
    np.testing.assert_array_equal(difference.numpy(), (x.numpy() - y.numpy()).clip(-1, 1))
    whole_lines = len(shape) == 1 or shape[-1] % 16 == 0
    assert any(spec.streams for spec in loops(step)) == whole_lines


def test_small_results_stay_in_the_caches():
    step = jj.compile(lambda x: x * 2)
    step(jj.randn(1000, 96))
    assert not any(spec.streams for spec in loops(step))
