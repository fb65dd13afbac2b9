"""What a captured step means: the same as running it eagerly, call after call."""

import threading
from collections import namedtuple

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim
from juanji.errors import CaptureError
from juanji.nn import functional as F


class Net(nn.Module):
    """A LeNet on small pictures."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 11, 3)
        self.fc1 = nn.Linear(11 * 9, 20)
        self.fc2 = nn.Linear(20, 10)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.relu(self.conv2(x))
        x = F.max_pool2d(x, 2, 1)
        return self.fc2(self.drop(F.relu(self.fc1(x.flatten(1)))))


def batches(count, size=5, seed=0):
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield (
            jj.from_numpy(random.standard_normal((size, 1, 12, 12), np.float32)),
            jj.from_numpy(random.integers(0, 10, size)),
        )


def training(net, optimizer, criterion=F.cross_entropy):
    def step(x, y):
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def twins(make=Net, **options):
    """(network, optimiser) twice, with equal weights."""
    pairs = []
    for _ in range(2):
        jj.manual_seed(3)
        net = make()
        pairs.append((net, optim.SGD(net.parameters(), **{"lr": 0.05, "momentum": 0.9, **options})))
    return pairs


def same_weights(a, b, tolerance=1e-5):
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), tolerance, tolerance)


def test_losses_equal_eager(kernel_target):
    (a, first), (b, second) = twins()
    eager, compiled = training(a, first), jj.compile(training(b, second))
    for x, y in batches(12):
        assert compiled(x, y).item() == pytest.approx(eager(x, y).item(), rel=1e-5)
    same_weights(a, b)
    assert compiled.traces == 1


def test_short_last_batch():
    (a, first), (b, second) = twins()
    eager, compiled = training(a, first), jj.compile(training(b, second))
    for size in (8, 8, 3, 8, 3, 1):
        for x, y in batches(1, size, size):
            assert compiled(x, y).item() == pytest.approx(eager(x, y).item(), rel=1e-5)
    same_weights(a, b)
    assert compiled.traces == 3


def test_scheduler_changes_the_learning_rate_without_a_trace():
    (a, first), (b, second) = twins()
    schedules = [optim.lr_scheduler.OneCycleLR(o, 0.2, total_steps=10) for o in (first, second)]
    eager, compiled = training(a, first), jj.compile(training(b, second))
    for x, y in batches(9):
        assert compiled(x, y).item() == pytest.approx(eager(x, y).item(), rel=1e-4)
        for schedule in schedules:
            schedule.step()
    same_weights(a, b, 1e-4)
    assert compiled.traces == 1


def test_float_argument_is_an_input():
    @jj.compile
    def scaled(x, factor):
        return x * factor

    for factor in (1.0, 2.5, -3.0):
        assert scaled(jj.tensor([1.0, 2.0]), factor).tolist() == [factor, 2 * factor]
    assert scaled.traces == 1


def test_float_that_decides_the_structure_is_a_guard():
    @jj.compile
    def scaled(x, factor):
        return x * factor if factor > 0 else x

    for factor, expected in ((2.0, 6.0), (-1.0, 3.0), (3.0, 9.0), (2.0, 6.0), (-1.0, 3.0)):
        assert scaled(jj.tensor(3.0), factor).item() == expected


# -- random state -----------------------------------------------------------------------------------------------------
def test_dropout_differs_between_replays_and_repeats_after_a_seed():
    drop = jj.compile(lambda x: F.dropout(x, 0.5))
    x = jj.ones(1000)

    def three():
        jj.manual_seed(5)
        return [drop(x).numpy().copy() for _ in range(3)]

    first, again = three(), three()
    assert not (first[0] == first[1]).all()
    assert not (first[1] == first[2]).all()
    for a, b in zip(first, again, strict=True):
        assert (a == b).all()
        assert 350 < (a == 0).sum() < 650


def test_dropout_equals_eager():
    x = jj.ones(4, 50)
    compiled = jj.compile(lambda x: F.dropout(x, 0.3) + F.dropout(x, 0.6))
    jj.manual_seed(9)
    eager = [(F.dropout(x, 0.3) + F.dropout(x, 0.6)).tolist() for _ in range(3)]
    jj.manual_seed(9)
    assert [compiled(x).tolist() for _ in range(3)] == eager


def test_training_with_dropout_equals_eager():
    (a, first), (b, second) = twins(lambda: Net(0.4))
    eager, compiled = training(a, first), jj.compile(training(b, second))
    data = list(batches(6))
    jj.manual_seed(1)
    losses = [eager(x, y).item() for x, y in data]
    jj.manual_seed(1)
    assert [compiled(x, y).item() for x, y in data] == pytest.approx(losses, rel=1e-5)


# -- results -----------------------------------------------------------------------------------------------------------
def test_results_are_never_overwritten():
    @jj.compile
    def step(x):
        y = x * 2
        return y, y.sum(), y[0]

    results = [step(jj.full((3, 2), float(i))) for i in range(6)]
    arrays = [r[0].numpy() for r in results]
    for i, (y, total, row) in enumerate(results):
        assert y.tolist() == [[2.0 * i] * 2] * 3
        assert total.item() == 12 * i
        assert row.tolist() == [2.0 * i] * 2
    results.clear()
    for _ in range(6):
        step(jj.zeros(3, 2))
    assert [a[0, 0] for a in arrays] == [2.0 * i for i in range(6)]


def test_results_that_are_views_share_memory():
    y, row = jj.compile(lambda x: (lambda y: (y, y[1]))(x + 1))(jj.zeros(2, 3))
    row.fill_(7)
    assert y.tolist() == [[1.0] * 3, [7.0] * 3]


def test_arguments_and_outer_tensors_come_back_as_themselves():
    outer = jj.ones(2)

    @jj.compile
    def step(x, y):
        return {"x": x, "outer": outer, "sum": x + y}, [y], 3, "text", None

    for i in range(3):
        x, y = jj.full((2,), float(i)), jj.ones(2)
        named, (same,), number, text, nothing = step(x, y)
        assert named["x"] is x
        assert same is y
        assert named["outer"] is outer
        assert (number, text, nothing) == (3, "text", None)
        assert named["sum"].tolist() == [i + 1.0] * 2


def test_nested_containers():
    Pair = namedtuple("Pair", ["left", "right"])

    @jj.compile
    def step(pair, options, *, scale):
        return Pair(pair.left * scale, [pair.right + options["shift"][0], (options["flag"],)])

    for i in range(3):
        out = step(Pair(jj.ones(2), jj.zeros(1)), {"shift": (jj.tensor([float(i)]),), "flag": True}, scale=2.0 + i)
        assert isinstance(out, Pair)
        assert out.left.tolist() == [2.0 + i] * 2
        assert out.right[0].tolist() == [float(i)]
        assert out.right[1] == (True,)
    assert step.traces == 1


def test_numpy_arguments():
    double = jj.compile(lambda x: x * 2)
    for i in range(3):
        assert double(np.full((2, 2), i, np.float32)[:, ::-1]).tolist() == [[2.0 * i] * 2] * 2


def test_arguments_of_any_layout():
    compiled = jj.compile(lambda x: (x * 2).sum(0))
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    for look in (lambda x: x, lambda x: x[:, ::2], lambda x: x.T, lambda x: x[1:, 3:], lambda x: x[:0]):
        for shift in (0, 1):
            x = look(jj.from_numpy(base + shift))
            assert compiled(x).tolist() == (look(base + shift) * 2).sum(0).tolist()
    assert compiled.traces == 5


# -- writes ------------------------------------------------------------------------------------------------------------
def test_swapping_two_tensors():
    a, b = jj.tensor([1.0, 2.0]), jj.tensor([3.0, 4.0])

    @jj.compile
    def swap():
        old = a.clone()
        a.copy_(b)
        b.copy_(old)

    for i in range(4):
        swap()
        expected = ([3.0, 4.0], [1.0, 2.0]) if i % 2 == 0 else ([1.0, 2.0], [3.0, 4.0])
        assert (a.tolist(), b.tolist()) == expected


def test_writes_to_arguments():
    @jj.compile
    def step(x, y):
        x += y
        y[0] = 9.0
        return x * 10

    x, y = jj.zeros(2), jj.ones(2)
    assert step(x, y).tolist() == [10.0, 10.0]
    assert (x.tolist(), y.tolist()) == ([1.0, 1.0], [9.0, 1.0])
    assert step(x, y).tolist() == [100.0, 20.0]
    assert (x.tolist(), y.tolist()) == ([10.0, 2.0], [9.0, 1.0])


def test_writes_count_versions():
    w = jj.tensor([1.0, 2.0], requires_grad=True)
    buffer = jj.ones(2)

    @jj.compile
    def step():
        buffer.mul_(2)

    for _ in range(3):
        loss = (w * buffer).sum()
        step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_reads_before_overwrites():
    """Shifts within one buffer, and a value read after its source has a new one."""
    a = jj.arange(500.0)

    @jj.compile
    def shift():
        before = a[:5].sum()
        a[1:] = a[:-1].clone()
        a[0] = before
        return before

    def reference(values):
        return [sum(values[:5]), *values[:-1]]

    expected = list(range(500))
    for _ in range(4):
        total = shift().item()
        assert total == sum(expected[:5])
        expected = reference(expected)
        assert a.tolist() == expected


def test_writes_through_views_of_outer_tensors():
    image = jj.zeros(3, 4)
    row = image[1]

    @jj.compile
    def step(x):
        row.add_(x)
        image[:, 2] *= 2
        return image.sum()

    assert [step(jj.ones(4)).item() for _ in range(3)] == [5.0, 12.0, 23.0]
    assert image.tolist() == [[0.0] * 4, [3.0, 3.0, 14.0, 3.0], [0.0] * 4]


# -- gradients ---------------------------------------------------------------------------------------------------------
def test_grad_after_the_step():
    (a, first), (b, second) = twins()
    eager, compiled = training(a, first), jj.compile(training(b, second))
    for x, y in batches(4):
        eager(x, y)
        compiled(x, y)
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), 1e-4, 1e-5)


def test_gradients_held_by_the_user_are_not_overwritten():
    w = jj.tensor([1.0, 2.0], requires_grad=True)

    @jj.compile
    def step(x):
        w.grad = None
        (w * x).sum().backward()

    held, arrays = [], []
    for i in range(6):
        step(jj.full((2,), float(i)))
        if i % 2:
            held.append((i, w.grad))
        else:
            arrays.append((i, w.grad.numpy()))
    assert [g.tolist() for _, g in held] == [[float(i)] * 2 for i, _ in held]
    assert [a.tolist() for _, a in arrays] == [[float(i)] * 2 for i, _ in arrays]


def test_accumulation_without_zero_grad():
    w = jj.tensor([1.0, 2.0], requires_grad=True)

    @jj.compile
    def step(x):
        (w * x).sum().backward()

    total = 0.0
    for i in range(6):
        step(jj.full((2,), float(i)))
        total += i
        assert w.grad.tolist() == [total] * 2
        if i == 3:
            w.grad = None
            total = 0.0
    same = w.grad
    step(jj.ones(2))
    assert w.grad is same, "an existing gradient is added to in its own memory, as eagerly"


def test_gradients_without_an_optimizer_then_outside():
    net = Net()
    compiled = jj.compile(lambda x, y: F.cross_entropy(net(x), y).backward())
    for x, y in batches(3):
        for p in net.parameters():
            p.grad = None
        F.cross_entropy(net(x), y).backward()
        expected = [p.grad.clone() for p in net.parameters()]
        net.zero_grad()
        compiled(x, y)
        for p, g in zip(net.parameters(), expected, strict=True):
            np.testing.assert_allclose(p.grad.numpy(), g.numpy(), 1e-4, 1e-5)


def test_clearing_gradients_inside():
    w = jj.tensor(2.0, requires_grad=True)

    @jj.compile
    def step(x):
        (w * x).backward()
        g = w.grad * 1
        w.grad = None
        return g

    for i in range(4):
        assert step(jj.tensor(float(i))).item() == i
        assert w.grad is None


def test_gradient_of_an_argument():
    @jj.compile
    def step(x):
        (x * x).sum().backward()

    for i in range(3):
        x = jj.tensor([1.0, float(i)], requires_grad=True)
        step(x)
        assert x.grad.tolist() == [2.0, 2.0 * i]
    step(x)
    assert x.grad.tolist() == [4.0, 8.0]


def test_second_order_inside_a_step():
    @jj.compile
    def penalty(x):
        (g,) = jj.autograd.grad((x * x * x).sum(), x, create_graph=True)
        (h,) = jj.autograd.grad((g * g).sum(), x)
        return h

    for value in (1.0, 2.0, 3.0):
        x = jj.tensor([value], requires_grad=True)
        assert penalty(x).tolist() == [36 * value**3]


def test_hooks_are_part_of_the_step():
    w = jj.tensor([1.0, 2.0], requires_grad=True)
    w.register_hook(lambda g: g * 10)

    @jj.compile
    def step(x):
        w.grad = None
        (w * x).sum().backward()

    for i in range(3):
        step(jj.full((2,), float(i)))
        assert w.grad.tolist() == [10.0 * i] * 2


# -- modes -------------------------------------------------------------------------------------------------------------
def test_forward_under_no_grad():
    net = Net(0.5)
    net.eval()
    forward = jj.compile(net)
    for x, _ in batches(3):
        with jj.no_grad():
            out = forward(x)
        assert not out.requires_grad
        np.testing.assert_allclose(out.numpy(), net(x).detach().numpy(), 1e-5, 1e-5)
    assert forward.traces == 1


def test_backward_across_the_border_is_refused():
    net = Net()
    out = jj.compile(net)(next(batches(1))[0])
    assert out.requires_grad
    with pytest.raises(CaptureError, match="border of a captured step"):
        out.sum().backward()


def test_no_grad_inside():
    w = jj.tensor([1.0, 2.0], requires_grad=True)

    @jj.compile
    def step(x):
        loss = (w * x).sum()
        loss.backward()
        with jj.no_grad():
            w.sub_(w.grad * 0.5)
            w.grad = None
        return loss

    v = w.detach().clone()
    for i in range(4):
        x = jj.full((2,), float(i))
        assert step(x).item() == (v * x).sum().item()
        v = v - x * 0.5
    assert w.tolist() == v.tolist()


def test_train_and_eval():
    net = nn.Sequential(nn.Linear(3, 50), nn.Dropout(0.5))
    forward = jj.compile(net)
    x = jj.ones(2, 3)
    net.eval()
    quiet = forward(x).detach().numpy().copy()
    net.train()
    assert (forward(x).detach().numpy() == 0).sum() > 20
    net.eval()
    np.testing.assert_array_equal(forward(x).detach().numpy(), quiet)
    net.train()
    assert (forward(x).detach().numpy() == 0).sum() > 20


def test_freezing_a_layer():
    (a, first), (b, second) = twins()
    eager, compiled = training(a, first), jj.compile(training(b, second))
    for number, (x, y) in enumerate(batches(8)):
        for net in (a, b):
            net.conv1.weight.requires_grad_(number % 4 < 2)
        assert compiled(x, y).item() == pytest.approx(eager(x, y).item(), rel=1e-4)
    same_weights(a, b, 1e-4)


def test_two_steps_share_weights():
    """A training step and an evaluation step of one network, alternating; loaded weights are seen by both."""
    net, optimizer = twins()[0]
    train, evaluate = jj.compile(training(net, optimizer)), jj.compile(net)
    for x, y in batches(3):
        train(x, y)
        with jj.no_grad():
            np.testing.assert_allclose(evaluate(x).numpy(), net(x).numpy(), 1e-5, 1e-5)
    net.load_state_dict({k: v * 0 for k, v in net.state_dict().items()})
    with jj.no_grad():
        assert (evaluate(x).numpy() == 0).all()


def test_replaced_parameter_data():
    w = jj.tensor([1.0, 2.0], requires_grad=True)
    step = jj.compile(lambda x: w * x)
    assert step(jj.ones(2)).tolist() == [1.0, 2.0]
    w.data = jj.tensor([5.0, 6.0])
    assert step(jj.ones(2)).tolist() == [5.0, 6.0]
    w.data = w.data.reshape(2, 1)
    assert step(jj.ones(2)).shape == (2, 2)


def test_a_compiled_step_inside_another():
    inner = jj.compile(lambda x: x * 2)
    outer = jj.compile(lambda x: inner(x) + 1)
    for i in range(3):
        assert outer(jj.tensor(float(i))).item() == 2 * i + 1


def test_compiled_methods():
    class Scaler:
        def __init__(self, factor):
            self.factor = jj.tensor(factor)

        @jj.compile
        def scale(self, x):
            return x * self.factor

    two, three = Scaler(2.0), Scaler(3.0)
    for i in range(3):
        x = jj.tensor(float(i))
        assert two.scale(x).item() == 2 * i
        assert three.scale(x).item() == 3 * i


def test_two_threads_share_a_compiled_step():
    compiled = jj.compile(lambda x: (x * x).sum() + x.mean())
    wrong = []

    def work(value):
        for i in range(60):
            x = jj.full((50,), float(value * 100 + i))
            if compiled(x).item() != pytest.approx(50.0 * (value * 100 + i) ** 2 + value * 100 + i, rel=1e-5):
                wrong.append((value, i))

    threads = [threading.Thread(target=work, args=(v,)) for v in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_an_exception_in_the_step_leaves_capturing():
    @jj.compile
    def step(x, fail):
        y = x * 2
        if fail:
            raise KeyError("mine")
        return y

    for _ in range(2):
        with pytest.raises(KeyError, match="mine"):
            step(jj.ones(2), True)
        assert (jj.ones(2) + 1).tolist() == [2.0, 2.0], "eager operations run again"
        assert step(jj.ones(2), False).tolist() == [2.0, 2.0]


def test_empty_and_scalar_steps():
    assert jj.compile(lambda: None)() is None
    assert jj.compile(lambda x: x)(3) == 3
    constant = jj.compile(lambda: jj.zeros(2, 2) + 1)
    first, second = constant(), constant()
    first.fill_(5)
    assert second.tolist() == [[1.0] * 2] * 2
    assert constant().tolist() == [[1.0] * 2] * 2
    assert jj.compile(lambda x: x.sum(0))(jj.zeros(0, 3)).tolist() == [0.0] * 3


def test_arguments_returned_and_written():
    @jj.compile
    def step(x):
        y = x.clone()
        x.add_(1)
        return x, y

    x = jj.zeros(2)
    for i in range(3):
        same, before = step(x)
        assert same is x
        assert x.tolist() == [i + 1.0] * 2
        assert before.tolist() == [float(i)] * 2


def test_decorator_forms():
    @jj.compile()
    def doubled(x):
        """Twice."""
        return x * 2

    assert doubled.__name__ == "doubled"
    assert doubled.__doc__ == "Twice."
    assert doubled(jj.tensor(2.0)).item() == 4.0
    with pytest.raises(TypeError, match="expected a function or Module, not int"):
        jj.compile(3)


def test_gradients_of_two_steps_that_take_turns_and_a_look_in_between():
    p = nn.Parameter(jj.tensor([1.0, 2.0]))

    def made(factor):
        def step(x):
            p.grad = None
            (p * x * factor).sum().backward()

        return jj.compile(step)

    once, thrice = made(1.0), made(3.0)
    x = jj.tensor([1.0, 10.0])
    for _ in range(3):
        once(x)
        thrice(x)
        assert p.grad.tolist() == [3.0, 30.0]
        once(x)
        once(x)
        held = p.grad
        once(x * 2)
        once(x * 3)
        assert held.tolist() == [1.0, 10.0]
        assert p.grad.tolist() == [3.0, 30.0]
        p.grad = jj.zeros(2)
        once(x)
        assert p.grad.tolist() == [1.0, 10.0]
