"""Input gradients of strided convolutions of few channels, all phases side by side: exact on small whole numbers."""

import numpy as np
import pytest

import juanji as jj
from juanji import ops
from juanji.compiler import lower_phases
from juanji.ops.reference import reference
from juanji.spec import conv_output
from juanji.tensors import from_numpy


def side_by_side(plan):
    return [call for call in plan.calls if call.label.startswith("phases to image")]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [((12, 14), (7, 7), (2, 2), (3, 3)), ((11, 13), (7, 7), (2, 2), (3, 3)), ((12, 12), (4, 4), (4, 4), (0, 0)),
     ((9, 10), (4, 5), (2, 3), (1, 0)), ((8, 6), (2, 2), (3, 3), (0, 0)), ((31,), (8,), (4,), (2,)),
     ((5, 6, 7), (3, 3, 3), (2, 2, 2), (1, 1, 1))],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_phases(kernel_target, monkeypatch, size, kernel, stride, padding, dtype):
    monkeypatch.setattr(lower_phases, "GAIN", 0)
    random = np.random.default_rng(0)
    attrs = {"stride": stride, "padding": tuple((p, p) for p in padding), "dilation": (1,) * len(size), "groups": 1}
    for channels in (1, 3):
        w = random.integers(-3, 4, (10, channels, *kernel)).astype(dtype)
        x_shape = (2, channels, *size)
        shape = conv_output(x_shape, w.shape, stride, attrs["padding"], attrs["dilation"], 1, "conv")
        g = random.integers(-3, 4, shape).astype(dtype)
        found = ops.TABLE["conv_input_grad"](from_numpy(g), from_numpy(w), size=size, **attrs).numpy()
        np.testing.assert_array_equal(found, reference("conv_input_grad", [g, w], {**attrs, "size": size}))


def test_where_it_gains():
    """A stem and a transposed convolution to a picture do; channels that fill vectors do not."""

    def plan_of(ins, outs):
        step = jj.compile(lambda y, w: jj.nn.functional.conv_transpose2d(y, w, stride=2, padding=1))
        step(jj.zeros(1, outs, 6, 6), jj.zeros(outs, ins, 4, 4))
        return step.plans[0]

    assert side_by_side(plan_of(3, 8))
    assert not side_by_side(plan_of(64, 16))
