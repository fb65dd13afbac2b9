"""What a replay depends on: when one of these is another, the step is traced again; otherwise it is not."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim
from juanji.errors import CaptureError

scale = 2.0
power = 2
table = {"offset": 1.0}
names = ["double"]


def test_integers_and_strings_and_booleans_are_guards():
    @jj.compile
    def step(x, times, mode, negate):
        for _ in range(times):
            x = x * 2 if mode == "double" else x + 1
        return -x if negate else x

    cases = [
        ((1, "double", False), 6.0),
        ((3, "double", False), 24.0),
        ((3, "add", True), -6.0),
        ((0, "add", False), 3.0),
    ]
    for _ in range(2):
        for arguments, expected in cases:
            assert step(jj.tensor(3.0), *arguments).item() == expected
    assert step.traces == 4
    assert step(jj.tensor(3.0), True, "double", False).item() == 6.0  # True is not 1


def test_shapes_and_types_and_layouts():
    step = jj.compile(lambda x: x + x.dim())
    for x in (
        jj.ones(2),
        jj.ones(2, 1),
        jj.ones(2, dtype=jj.float64),
        jj.ones(2, 3).T,
        jj.ones(4)[::2],
        jj.tensor([1, 1]),
    ):
        for _ in range(2):
            y = step(x)
            assert y.tolist() == (x + x.dim()).tolist()
            assert y.dtype is x.dtype
    assert step.traces == 6


def test_structure_of_arguments():
    @jj.compile
    def step(*args, **kwargs):
        return sum(args, jj.zeros(1)) + kwargs.get("bias", 0.0)

    one = jj.ones(1)
    assert step(one).item() == 1.0
    assert step(one, one).item() == 2.0
    assert step(one, bias=one).item() == 2.0
    assert step(one, one, one, bias=one).item() == 4.0
    assert step.traces == 4


def test_globals():
    step = jj.compile(lambda x: x * scale**power)
    assert step(jj.tensor(1.0)).item() == 4.0
    globals()["power"] = 3
    assert step(jj.tensor(1.0)).item() == 8.0
    globals()["scale"] = 3.0
    assert step(jj.tensor(1.0)).item() == 27.0
    globals().update(power=2, scale=2.0)
    assert step(jj.tensor(1.0)).item() == 4.0
    assert step.traces == 3


def test_closures():
    factor, tensor = 2.0, jj.tensor(10.0)

    @jj.compile
    def step(x):
        return x * factor + tensor

    assert step(jj.tensor(1.0)).item() == 12.0
    factor = 5.0
    assert step(jj.tensor(1.0)).item() == 15.0
    tensor.fill_(20.0)
    assert step(jj.tensor(1.0)).item() == 25.0
    tensor = jj.tensor(30.0)
    assert step(jj.tensor(1.0)).item() == 35.0


def test_contents_of_outer_containers():
    step = jj.compile(lambda x: (x * 2 if names[0] == "double" else x) + table["offset"])
    assert step(jj.tensor(1.0)).item() == 3.0
    table["offset"] = 4.0
    assert step(jj.tensor(1.0)).item() == 6.0
    names[0] = "same"
    assert step(jj.tensor(1.0)).item() == 5.0
    table["offset"], names[0] = 1.0, "double"
    assert step(jj.tensor(1.0)).item() == 3.0


def test_defaults_and_inner_functions():
    factors = [2.0]

    @jj.compile
    def step(x, shift=1.0):
        def inner(y):
            return y * factors[0] + shift

        return inner(x)

    assert step(jj.tensor(1.0)).item() == 3.0
    factors[0] = 4.0
    assert step(jj.tensor(1.0)).item() == 5.0
    assert step(jj.tensor(1.0), 2.0).item() == 6.0


def test_module_attributes_changed_outside():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = 2.0
            self.weight = nn.Parameter(jj.ones(1))
            self.inner = nn.Identity()

        def forward(self, x):
            return self.inner(x) * self.factor * self.weight

    net = Scale()
    step = jj.compile(net)
    assert step(jj.ones(1)).item() == 2.0
    net.factor = 3.0
    assert step(jj.ones(1)).item() == 3.0
    net.weight = nn.Parameter(jj.full((1,), 10.0))
    assert step(jj.ones(1)).item() == 30.0
    net.inner = nn.ReLU()
    assert step(-jj.ones(1)).item() == 0.0
    with jj.no_grad():
        net.weight.fill_(2.0)
    assert step(jj.ones(1)).item() == 6.0


def test_unrelated_changes_do_not_trace_anew():
    net, other = nn.Linear(2, 2), nn.Linear(3, 3)
    step = jj.compile(net)
    step(jj.ones(1, 2))
    for _ in range(3):
        other.train()
        other.eval()
        other.weight.requires_grad_(False)
        other.anything = 3
        step(jj.ones(1, 2))
    assert step.traces == 1


def test_grad_mode():
    w = jj.ones(2, requires_grad=True)
    step = jj.compile(lambda x: w * x)
    assert step(jj.ones(2)).requires_grad
    with jj.no_grad():
        assert not step(jj.ones(2)).requires_grad
    assert step(jj.ones(2)).requires_grad
    assert step.traces == 2


def test_requires_grad_of_an_argument():
    def step(x):
        return x.requires_grad, x * 2

    compiled = jj.compile(step)
    assert compiled(jj.ones(2))[0] is False
    assert compiled(jj.ones(2, requires_grad=True))[0] is True
    assert compiled(jj.ones(2))[0] is False


@pytest.mark.parametrize(("key", "values"), [("momentum", (0.0, 0.9, 0.5, 0.0)), ("weight_decay", (0.0, 0.1, 0.3))])
def test_hyper_parameters_that_become_zero(key, values):
    losses = []
    for compiled in (False, True):
        w = jj.tensor([1.0, -2.0], requires_grad=True)
        optimizer = optim.SGD([w], lr=0.1)

        def step(w=w, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (w * w).sum()
            loss.backward()
            optimizer.step()
            return loss

        run = jj.compile(step) if compiled else step
        losses.append([])
        for value in values:
            optimizer.param_groups[0][key] = value
            losses[-1] += [run().item(), run().item()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_guard_that_keeps_changing_is_named():
    step = jj.compile(lambda x, n: x * n)
    with pytest.raises(CaptureError, match=r"argument 1 of the step <lambda> has had 9 different integer values"):
        for n in range(20):
            step(jj.ones(2), n)

    count = 0
    step = jj.compile(lambda x: x * count)
    with pytest.raises(CaptureError, match="count"):
        for count in range(20):  # noqa: B007
            step(jj.ones(2))


def test_sharing_of_arguments_is_a_guard():
    @jj.compile
    def step(x, y, z):
        return x + 2 * y + 4 * z

    a, b = jj.tensor(1.0), jj.tensor(10.0)
    for arguments in ((a, b, a), (a, b, b), (a, a, b), (a, a, a), (b, a, a)):
        x, y, z = (t.item() for t in arguments)
        assert step(*arguments).item() == x + 2 * y + 4 * z


def test_gradients_present_or_absent():
    w = jj.tensor(2.0, requires_grad=True)
    step = jj.compile(lambda x: (w * x).backward())
    for grad, expected in ((None, 3.0), (jj.tensor(1.0), 4.0), (None, 3.0), (jj.tensor([5.0, 6.0])[1], 9.0)):
        w.grad = grad
        if grad is not None and grad.storage_offset():
            with pytest.raises(CaptureError, match="view of another tensor"):
                step(jj.tensor(3.0))
            continue
        step(jj.tensor(3.0))
        assert w.grad.item() == expected


def test_optimizer_state_loaded_from_elsewhere():
    w = jj.tensor([1.0, -2.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)

    @jj.compile
    def step():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        optimizer.step()
        return loss

    losses = []
    saved = None
    for i in range(4):
        if i == 2:
            saved = optimizer.state_dict(), w.detach().clone()
            saved = (
                {**saved[0], "state": {k: {n: v.clone() for n, v in s.items()} for k, s in saved[0]["state"].items()}},
                saved[1],
            )
        losses.append(step().item())
    optimizer.load_state_dict(saved[0])
    with jj.no_grad():
        w.copy_(saved[1])
    assert [step().item() for _ in range(2)] == losses[2:]
    np.testing.assert_allclose(losses[0], 5.0)
