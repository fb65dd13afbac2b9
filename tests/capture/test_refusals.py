"""What a captured step cannot mean is refused, with the line and the remedy, and nothing has changed."""

import linecache
import random
import re

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim
from juanji.errors import CaptureError
from juanji.nn import functional as F

log = []
counter = 0
settings = {"scale": 2.0}


def refused(step, *args, match, line=None):
    """The message of the CaptureError that `step` raises; with `line`, the source of the named line holds that text."""
    with pytest.raises(CaptureError, match=match) as caught:
        jj.compile(step)(*args)
    message = str(caught.value)
    if line is not None:
        found = re.search(r"([^\s:]+\.py):(\d+)", message)
        assert found, f"no line in: {message}"
        assert line in linecache.getline(found[1], int(found[2])), message
    return message


def test_item():
    def step(x):
        total = x.sum()
        return x / total.item()

    message = refused(step, jj.ones(2), match="value is needed", line="total.item()")
    assert "where()" in message
    assert "outside the step" in message


@pytest.mark.parametrize(
    "convert",
    [float, int, bool, str, print, format, np.asarray, jj.Tensor.tolist, jj.Tensor.numpy, range],
    ids=lambda c: c.__name__,
)
def test_conversions(convert):
    def step(x):
        y = x * 2
        convert(y.long().sum())
        return y

    refused(step, jj.ones(2), match="while the step is being traced", line="convert(y")


def test_what_is_known_while_tracing():
    def step(x):
        rows = list(x)
        assert len(rows) == len(x) == x.shape[0] == x.size(0) == 2
        assert (x.numel(), x.dtype, x.requires_grad, x.is_contiguous()) == (2, jj.float32, False, True)
        assert "traced" in repr(x)  # for debuggers
        return rows[0] + rows[1]

    assert jj.compile(step)(jj.tensor([2.0, 3.0])).item() == 5.0


def test_branches_on_values():
    def branch(x):
        if x.sum() > 0:
            return x
        return -x

    def loop(x):
        while (x > 1).any():
            x = x / 2
        return x

    def extreme(x):
        return max(x[0], x[1])

    refused(branch, jj.ones(2), match="branch", line="if x.sum() > 0")
    refused(loop, jj.ones(2), match="where", line="while (x > 1)")
    refused(extreme, jj.ones(2), match="branch", line="return max")


def test_shapes_that_depend_on_values():
    def masked(x):
        return x[x > 0]

    def assigned(x):
        y = x * 1
        y[y > 0] = x[:1]
        return y

    def counted(x):
        return jj.one_hot(x)

    refused(masked, jj.ones(2), match="indexing with a mask", line="return x[x > 0]")
    refused(assigned, jj.ones(2), match="indexing with a mask", line="y[y > 0] = x[:1]")
    refused(counted, jj.tensor([0, 2]), match="value", line="jj.one_hot")


def test_tensors_as_indices_and_sizes():
    def chosen(x, i):
        return x[i]

    def sized(x, n):
        return jj.zeros(n, 2)

    assert jj.compile(chosen)(jj.arange(3.0), jj.tensor(1)).item() == 1  # an index is looked up by the step
    refused(sized, jj.ones(3), jj.tensor(1), match="value", line="jj.zeros")


def test_outer_objects():
    def append(x):
        log.append(x)
        return x

    def assign(x):
        global counter
        counter += 1
        return x

    total = 0

    def nonlocal_(x):
        nonlocal total
        total += 1
        return x

    def store(x):
        settings["scale"] = 3.0
        return x

    assert "log" in refused(append, jj.ones(2), match="outer object 'log'")
    log.clear()
    refused(assign, jj.ones(2), match="assigns the outer variable 'counter'", line="counter += 1")
    assert counter == 0
    refused(nonlocal_, jj.ones(2), match="assigns the outer variable 'total'", line="total += 1")
    assert total == 0
    refused(store, jj.ones(2), match="outer object 'settings'")
    settings["scale"] = 2.0


def test_module_attributes():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0
            self.weight = nn.Parameter(jj.ones(2))

        def forward(self, x):
            self.calls += 1
            return self.weight * x

    net = Counting()
    refused(net, jj.ones(2), match="calls", line="self.calls += 1")


def test_mode_switches():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())

    def evaluate(x):
        net.eval()
        return net(x)

    def freeze(x):
        net[0].weight.requires_grad_(False)
        return net(x)

    refused(evaluate, jj.ones(1, 2), match="inside a step captured", line="net.eval()")
    assert net.training
    refused(freeze, jj.ones(1, 2), match="requires_grad", line="requires_grad_(False)")
    assert net[0].weight.requires_grad


def test_schedulers():
    net = nn.Linear(2, 1)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    scheduler = optim.lr_scheduler.StepLR(optimizer, 1)

    def step(x):
        optimizer.zero_grad()
        loss = net(x).sum()
        loss.backward()
        optimizer.step()
        scheduler.step()
        return loss

    before = net.weight.tolist(), optimizer.param_groups[0]["lr"], scheduler.last_epoch
    refused(step, jj.ones(1, 2), match="learning rate changes", line="scheduler.step()")
    assert net.weight.tolist() == before[0]


def test_rebinding_data():
    w = jj.ones(2)

    def step(x):
        w.data = x
        return w

    refused(step, jj.zeros(2), match="data changes", line="w.data = x")
    assert w.tolist() == [1.0, 1.0]


def test_history_from_outside():
    w = jj.ones(2, requires_grad=True)
    hidden = w * 2

    def closed(x):
        return (hidden * x).sum()

    def argument(x):
        return x * 2

    refused(closed, jj.ones(2), match="history")
    refused(argument, w * 2, match="argument 0 of the step has a history")


def test_outer_tensor_given_a_history():
    w, buffer = jj.ones(2, requires_grad=True), jj.zeros(2)

    def step(x):
        buffer.add_(w * x)
        return buffer.sum()

    refused(step, jj.ones(2), match="gives a tensor from outside the step a history", line="buffer.add_")
    assert not buffer.requires_grad
    assert buffer.tolist() == [0.0, 0.0]


def test_shared_memory():
    base = jj.zeros(4)

    def step(x, y):
        x += 1
        return y * 2

    x = jj.zeros(4)
    refused(step, x, x[:], match="view|memory is also that of another")
    compiled = jj.compile(step)
    compiled(jj.zeros(4), jj.ones(4))
    with pytest.raises(CaptureError, match="memory"):
        compiled(x, x.detach())
    assert x.tolist() == [0.0] * 4

    def outer(x):
        base.add_(1)
        return x * 2

    compiled = jj.compile(outer)
    assert compiled(jj.ones(4)).tolist() == [2.0] * 4
    with pytest.raises(CaptureError, match="memory"):
        compiled(base.detach())
    with pytest.raises(CaptureError, match="memory"):
        jj.compile(outer)(base)


def test_one_tensor_given_twice():
    def step(x, y):
        return x * y

    compiled = jj.compile(step)
    x = jj.tensor([2.0, 3.0])
    assert compiled(x, jj.ones(2)).tolist() == [2.0, 3.0]
    assert compiled(x, x).tolist() == [4.0, 9.0]
    w = jj.tensor([2.0, 3.0], requires_grad=True)
    jj.compile(lambda a, b: (a * b).sum().backward())(w, w)
    assert w.grad.tolist() == [4.0, 6.0]

    @jj.compile
    def add(a, b):
        a += b
        return a

    assert add(x, x).tolist() == [4.0, 6.0]


def test_draws_on_the_host():
    refused(lambda: jj.randperm(5), match="randperm draws on the host")
    refused(lambda: jj.randint(5, (3,)), match="randint draws on the host")
    refused(lambda: jj.rand(2, generator=jj.Generator()), match="leave generator out")


def test_values_of_a_finished_trace():
    leaked = []

    class Box:
        value = None

    box = Box()

    def step(x):
        box.value = x * 2
        return x

    jj.compile(step)(jj.ones(2))
    leaked.append(box.value)
    for use in (lambda t: t + 1, lambda t: t.sum(), lambda t: t.numpy(), lambda t: t[0].item()):
        with pytest.raises(RuntimeError, match="was tracing and has no value"):
            use(leaked[0])
    assert "traced" in repr(leaked[0])
    with pytest.raises(CaptureError, match="no value"):
        jj.compile(lambda x: x + box.value)(jj.ones(2))
    with pytest.raises(CaptureError, match="no value"):
        jj.compile(lambda x: x)(leaked[0])


# -- what cannot be seen -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("late", [2, 4, 8, 16])
def test_random_numbers_of_python(late):
    calls = 0

    class Source:
        def draw(self):
            nonlocal calls
            calls += 1
            return 1.0 if calls < {2: 2, 4: 3, 8: 4, 16: 5}[late] else 2.0

    source = Source()
    step = jj.compile(lambda x: x * source.draw())
    for call in range(1, 20):
        if call == late:
            with pytest.raises(CaptureError, match=r"test_refusals.py:\d+.*traced again") as caught:
                step(jj.ones(2))
            assert "1.0" in str(caught.value)
            assert "2.0" in str(caught.value)
            return
        assert step(jj.ones(2)).tolist() == [1.0, 1.0]


def test_branch_on_random_numbers_of_python():
    random.seed(0)

    def step(x):
        return x * 2 if random.random() < 0.5 else x + 1

    compiled = jj.compile(step)
    with pytest.raises(CaptureError, match="traced again"):
        for _ in range(16):
            compiled(jj.ones(2))


# -- nothing has changed -------------------------------------------------------------------------------------------------
def test_a_refused_trace_changes_nothing():
    jj.manual_seed(4)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3))
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    x, y = jj.ones(2, 4), jj.tensor([0, 2])
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    optimizer.step()

    def state():
        tensors = [*net.parameters(), *(s for p in net.parameters() for s in optimizer.state[p].values())]
        tensors = [t for t in tensors if isinstance(t, jj.Tensor)]
        return (
            [t.tolist() for t in tensors],
            [t._version for t in tensors],
            [id(p.grad) for p in net.parameters()],
            [p.grad.tolist() for p in net.parameters()],
            jj.tensors.creation.counter["offset"].item(),
            jj.Generator().get_state()["seed"],
        )

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    before = state()
    compiled = jj.compile(step)
    for _ in range(2):
        with pytest.raises(CaptureError):
            compiled(x, y)
        assert state() == before
    assert compiled.traces == 0
    F.cross_entropy(net(x), y).backward()  # and eager work goes on


def test_a_step_can_be_mended():
    """After a refusal the same compiled step works once its reason is gone."""
    flag = {"item": True}

    def step(x):
        y = x * 2
        return y.sum().item() if flag["item"] else y

    compiled = jj.compile(step)
    with pytest.raises(CaptureError):
        compiled(jj.ones(2))
    flag["item"] = False
    assert compiled(jj.ones(2)).tolist() == [2.0, 2.0]
