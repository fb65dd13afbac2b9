"""Every operation of the table inside a captured step gives what it gives eagerly, gradients included."""

import numpy as np
import pytest

import juanji as jj
from juanji import ops

random = np.random.default_rng(11)
FRACTIONS = random.uniform(0.3, 2.0, (3, 20)) * np.where(random.random((3, 20)) < 0.4, -1, 1)
BITS = {"and", "or", "xor", "not"}
REDUCTIONS = {"argmax": (1,), "argmin": (1,), "max_first": (1,), "min_first": (1,)}
ATTRIBUTES = {
    "uniform": {"shape": (4, 5), "dtype": "f64"},
    **{name: {"low": -1.0, "high": 0.8} for name in ("hardtanh", "hardtanh_grad")},
    **{name: {"slope": 0.1} for name in ("leaky_relu", "leaky_relu_grad")},
}


def table(*kinds):
    jj.tensor(0)
    return sorted(op.name for op in ops.TABLE.values() if op.kind in kinds)


def attributes(name):
    op = ops.TABLE[name]
    if op.kind == "reduce":
        return {"dims": REDUCTIONS.get(name, (0, 1))}
    if name == "cast":
        return {"dtype": "i32"}
    return ATTRIBUTES.get(name, {})


def inputs(name, count):
    if name in BITS:
        return [jj.tensor(random.integers(-100, 100, (3, 20))) for _ in range(count)]
    if name in ("any", "all"):
        return [jj.tensor(FRACTIONS > 1.9)]
    if name == "truncdiv":
        return [jj.tensor(random.integers(-100, 100, (3, 20))), jj.tensor(random.integers(1, 9, (3, 20)))]
    if name == "uniform":
        return [jj.tensor(7), jj.tensor(3)]
    values = [jj.tensor(np.roll(FRACTIONS, 7 * i)) for i in range(count)]
    if name == "where":
        values[0] = values[0] > 0
    return values


def same(name, function, values):
    """Compares values and, where there are any, gradients; `function` is traced with its gradient."""

    def step(*args):
        leaves = [a.detach().requires_grad_() if a.dtype.is_floating_point else a for a in args]
        y = function(*leaves)
        wanted = [x for x in leaves if x.requires_grad]
        if not y.requires_grad:
            return [y]
        found = jj.grad((y * y).sum(), wanted, allow_unused=True)
        return [y, *[g for g in found if g is not None]]

    eager, compiled = step(*values), jj.compile(step)(*values)
    assert len(eager) == len(compiled)
    for a, b in zip(eager, compiled, strict=True):
        assert a.dtype is b.dtype, name
        np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", table("map", "reduce"))
def test_one_operation(name):
    op, attrs = ops.TABLE[name], attributes(name)
    same(name, lambda *x: op(*x, **attrs), inputs(name, len(op.grads)))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_rows(name):
    for dim in (0, 1):
        same(name, lambda x, d=dim: ops.TABLE[name](x, dim=d), [jj.tensor(FRACTIONS)])
