"""Convolution and pooling of few channels, pixels along the vector: exact on small integers, like every orientation."""

from __future__ import annotations

import numpy as np
import pytest

import juanji.tensors as T
from juanji import target as targets
from juanji.codegen.correlate import CorrelateSpec
from juanji.codegen.planar import PlanarSpec
from juanji.compiler.plan import build
from juanji.graph import Graph
from juanji.ops import TABLE
from juanji.ops.reference import reference
from juanji.spec import Spec, contiguous_strides


@pytest.fixture(params=["avx512", "avx2"], autouse=True)
def target(request, use_target):
    if request.param not in targets.available():
        pytest.skip(f"this machine cannot run {request.param}")
    use_target(request.param)
    return request.param


def whole(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pad", [0, 1, 2])
@pytest.mark.parametrize(("ins", "outs", "kernel"), [(1, 6, (3, 3)), (3, 2, (3, 2)), (6, 16, (3, 3)), (4, 4, (5, 5))])
def test_the_trio_is_exact(ins, outs, kernel, pad, dtype):
    x, w = whole(2, ins, 13, 19, dtype=dtype), whole(outs, ins, *kernel, seed=1, dtype=dtype)
    attrs = {"stride": (1, 1), "padding": ((pad, pad), (pad, pad)), "dilation": (1, 1), "groups": 1}
    want = reference("conv", [x, w], attrs)
    g = whole(*want.shape, seed=2, dtype=dtype)
    for name, arrays, extra in (
        ("conv", (x, w), {}),
        ("conv_input_grad", (g, w), {"size": x.shape[2:]}),
        ("conv_weight_grad", (g, x), {"kernel": kernel}),
    ):
        got = TABLE[name](*map(T.from_numpy, arrays), **attrs, **extra).numpy()
        np.testing.assert_array_equal(got, reference(name, arrays, {**attrs, **extra}), err_msg=name)


def run(outputs, graph, arrays):
    plan = build(graph, outputs, [], keep_arena=True)
    results = [np.empty(o.shape, np.float32) for o in plan.outputs]
    plan.run([a.ctypes.data for a in arrays], [r.ctypes.data for r in results])
    return plan, results


def test_a_first_layer_stays_planar_through_pooling_and_back():
    """conv + bias + relu, pooling, and their gradients, as LeNet has them: which kernels, and exact values."""
    graph = Graph()
    x, w, bias = whole(2, 1, 20, 20), whole(4, 1, 3, 3, seed=1), whole(4, seed=2)
    dy = whole(2, 4, 9, 9, seed=3)
    nodes = [graph.input(Spec(a.shape, "f32"), contiguous_strides(a.shape)) for a in (x, w, bias, dy)]
    conv = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    pool = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "ceil": False}

    def add(name, *inputs, **attrs):
        op = TABLE[name]
        return graph.node(op, inputs, tuple(sorted(attrs.items())), op.shape([n.spec for n in inputs], attrs))

    y = add("conv", nodes[0], nodes[1], **conv)
    y = add("relu", add("add", y, add("reshape", nodes[2], shape=(4, 1, 1))))
    pooled = add("max_pool", y, **pool)
    g = add("pool_scatter", nodes[3], add("max_pool_index", y, **pool), x=y.shape, **pool)
    g = add("relu_grad", g, y)
    dw = add("conv_weight_grad", g, nodes[0], kernel=(3, 3), **conv)
    db = add("sum", g, dims=(0, 2, 3))
    plan, (got_pooled, got_dw, got_db) = run([pooled, dw, db], graph, (x, w, bias, dy))
    relu = np.maximum(reference("conv", [x, w], conv) + bias.reshape(4, 1, 1), 0)
    index = reference("max_pool_index", [relu], pool)
    want_g = reference("pool_scatter", [dy, index], {"x": relu.shape, **pool}) * (relu > 0)
    np.testing.assert_array_equal(got_pooled, reference("max_pool", [relu], pool))
    np.testing.assert_array_equal(got_dw, reference("conv_weight_grad", [want_g, x], {**conv, "kernel": (3, 3)}))
    np.testing.assert_array_equal(got_db, want_g.sum((0, 2, 3), keepdims=True))
    kinds = [type(c.spec) for c in plan.calls]
    assert kinds.count(PlanarSpec) == 2
    assert kinds.count(CorrelateSpec) == 1
