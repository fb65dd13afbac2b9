"""Normalisation, lengths and distances: against PyTorch, by differences, by their invariances, and compiled."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import juanji as jj
import juanji.nn.functional as F
from juanji import nn
from juanji.errors import ShapeError

SHAPES = {1: (4, 3, 5), 2: (3, 4, 5, 2), 3: (2, 2, 3, 4, 2)}


def numbers(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(mine, theirs, tolerance=1e-9):
    np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), tolerance, tolerance)


def both(torch, name, *arrays, tolerance=1e-9, **kwargs):
    """Values, gradients and gradients of gradients of one function of PyTorch and of ours; None passes through."""
    mine = [None if a is None else jj.tensor(a).requires_grad_() for a in arrays]
    theirs = [None if a is None else torch.tensor(a, requires_grad=True) for a in arrays]
    a, b = getattr(F, name)(*mine, **kwargs), getattr(torch.nn.functional, name)(*theirs, **kwargs)
    assert tuple(a.shape) == tuple(b.shape)
    assert str(a.dtype).split(".")[-1] == str(b.dtype).split(".")[-1]
    close(a, b, tolerance)
    mine, theirs = ([v for v in values if v is not None] for values in (mine, theirs))
    first = jj.autograd.grad((a * a * a).sum(), mine, create_graph=True)
    expected = torch.autograd.grad((b * b * b).sum(), theirs, create_graph=True)
    for x, y in zip(first, expected, strict=True):
        close(x, y, 100 * tolerance)
    second = jj.autograd.grad(sum((g * g).sum() for g in first), mine)
    for x, y in zip(second, torch.autograd.grad(sum((g * g).sum() for g in expected), theirs), strict=True):
        close(x, y, 10000 * tolerance)


@pytest.mark.parametrize("rank", SHAPES)
def test_batch_norm_is_pytorchs(torch, rank):
    shape = SHAPES[rank]
    weight, bias = numbers(1, shape[1]), numbers(2, shape[1])
    for w, b in ((weight, bias), (weight, None), (None, None)):  # PyTorch cannot differentiate (None, bias) twice
        x = jj.tensor(numbers(0, *shape))
        both(torch, "batch_norm", numbers(0, *shape), None, None, w, b, training=True, eps=1e-2)
        mean, var = numbers(3, shape[1]), np.abs(numbers(4, shape[1]))
        mine, theirs = (
            functional.batch_norm(
                t(numbers(0, *shape)), t(mean), t(var), w if w is None else t(w), b if b is None else t(b)
            )
            for functional, t in ((F, jj.tensor), (torch.nn.functional, torch.tensor))
        )
        close(mine, theirs)
        assert mine.shape == x.shape


@pytest.mark.parametrize("rank", SHAPES)
def test_other_norms_are_pytorchs(torch, rank):
    shape = SHAPES[rank]
    weight, bias = numbers(1, shape[1]), numbers(2, shape[1])
    both(torch, "instance_norm", numbers(0, *shape), None, None, weight, bias, eps=1e-2)
    both(torch, "group_norm", numbers(0, *shape[:1], 6, *shape[2:]), num_groups=3, eps=1e-2)
    x, w, b = numbers(0, *shape), numbers(5, *shape[-2:]), numbers(6, *shape[-2:])
    for pair in ((w, b), (w, None), (None, None)):
        mine = [jj.tensor(v) if v is not None else None for v in pair]
        theirs = [torch.tensor(v) if v is not None else None for v in pair]
        close(
            F.layer_norm(jj.tensor(x), shape[-2:], *mine),
            torch.nn.functional.layer_norm(torch.tensor(x), shape[-2:], *theirs),
        )
    both(torch, "layer_norm", x, normalized_shape=shape[-1:], eps=1e-2)
    both(torch, "rms_norm", x, normalized_shape=shape[-2:])
    for size in (1, 2, 3, 5):
        both(torch, "local_response_norm", x, size=size, alpha=0.3, beta=0.6, k=1.5)


def test_lengths_and_distances_are_pytorchs(torch):
    x, y = numbers(0, 3, 4), numbers(1, 3, 4)
    for p, dim in ((1.0, 1), (2.0, 0), (3.0, -1), (math.inf, 1)):
        both(torch, "normalize", x, p=p, dim=dim)
    for p in (2.0, 1.0, -math.inf):
        both(torch, "pairwise_distance", x, y, p=p, keepdim=p == 2.0)
    both(torch, "cosine_similarity", x, y, dim=0)
    both(torch, "cosine_similarity", numbers(0, 3, 1, 4), numbers(1, 2, 4), dim=-1, eps=0.1)
    whole = jj.tensor([[1, 5], [2, 2]]), jj.tensor([[4, 1], [2, 2]])
    close(
        F.pairwise_distance(*whole),
        torch.nn.functional.pairwise_distance(*(torch.tensor(v.tolist()) for v in whole)),
        1e-6,
    )


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0, 3.0, math.inf])
def test_no_gradient_of_a_zero_vector_is_nan(torch, p):
    mine, theirs = jj.zeros(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    F.normalize(mine, p).sum().backward()
    torch.nn.functional.normalize(theirs, p).sum().backward()
    close(mine.grad, theirs.grad, 1e-6)


def test_gradients_by_differences(gradcheck):
    x, w, b = numbers(0, 3, 4, 2, 2), numbers(1, 4), numbers(2, 4)
    mean, var = jj.tensor(numbers(3, 4)), jj.tensor(np.abs(numbers(4, 4)) + 0.5)
    gradcheck(lambda x, w, b: F.batch_norm(x, None, None, w, b, True) ** 3, x, w, b, order=2)
    gradcheck(lambda x, w, b: F.batch_norm(x, mean, var, w, b) ** 3, x, w, b, order=2)
    gradcheck(lambda x, w, b: F.group_norm(x, 2, w, b) ** 3, x, w, b, order=2)
    gradcheck(lambda x, w, b: F.instance_norm(x, None, None, w, b) ** 3, x, w, b, order=2)
    gradcheck(lambda x, w, b: F.layer_norm(x.permute(0, 2, 3, 1), (4,), w, b) ** 3, x, w, b, order=2)
    gradcheck(lambda x, w: F.rms_norm(x.permute(0, 2, 3, 1), (4,), w) ** 3, x, w, order=2)
    gradcheck(lambda x: F.local_response_norm(x, 3, 0.5), x, order=2)
    gradcheck(lambda x: F.normalize(x, 3.0), x, order=2)
    gradcheck(lambda x, y: F.cosine_similarity(x, y), x, numbers(5, 3, 4, 2, 2), order=2)
    gradcheck(lambda x, y: F.pairwise_distance(x, y), x, numbers(5, 3, 4, 2, 2), order=2)


def test_large_means_lose_no_more_digits_than_pytorchs(torch):
    """The mean of squares less the square of the mean would be all noise here."""
    x = (numbers(0, 8, 6, 20, 20) + 1e4).astype(np.float32)
    wide = x.astype(np.float64)
    for dims, mine, theirs in (
        (
            (0, 2, 3),
            lambda x: F.batch_norm(x, None, None, training=True),
            lambda x: torch.nn.functional.batch_norm(x, None, None, training=True),
        ),
        ((1, 2, 3), lambda x: F.layer_norm(x, x.shape[1:]), lambda x: torch.nn.functional.layer_norm(x, x.shape[1:])),
        ((2, 3), F.instance_norm, torch.nn.functional.instance_norm),
    ):
        exact = (wide - wide.mean(dims, keepdims=True)) / np.sqrt(wide.var(dims, keepdims=True) + 1e-5)
        error = np.abs(mine(jj.tensor(x)).numpy() - exact).max()
        assert error < 2 * np.abs(theirs(torch.tensor(x)).numpy() - exact).max() + 1e-4
        assert error < 3e-3


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), scale=st.floats(0.5, 20), shift=st.floats(-50, 50), rank=st.sampled_from([1, 2, 3]))
def test_scale_and_shift_of_the_input_do_not_matter(seed, scale, shift, rank):
    x = numbers(seed, *SHAPES[rank])
    y = jj.tensor(x * scale + shift)
    for norm in (
        lambda x: F.batch_norm(x, None, None, training=True, eps=0.0),
        lambda x: F.layer_norm(x, x.shape[1:], eps=0.0),
        lambda x: F.group_norm(x, 1, eps=0.0),
        lambda x: F.instance_norm(x, eps=0.0),
    ):
        np.testing.assert_allclose(norm(y).numpy(), norm(jj.tensor(x)).numpy(), 1e-7, 1e-7)
    np.testing.assert_allclose(
        F.normalize(jj.tensor(x * scale)).numpy(), F.normalize(jj.tensor(x)).numpy(), 1e-9, 1e-12
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), rank=st.sampled_from([1, 2, 3]))
def test_moments_of_the_output_and_order_of_the_batch(seed, rank):
    x = numbers(seed, *SHAPES[rank])
    dims = (0, *range(2, x.ndim))
    out = F.batch_norm(jj.tensor(x), None, None, training=True, eps=0.0).numpy()
    np.testing.assert_allclose(out.mean(dims), 0, atol=1e-10)
    np.testing.assert_allclose(out.var(dims), 1, rtol=1e-10)
    order = np.random.default_rng(seed).permutation(len(x))
    turned = F.batch_norm(jj.tensor(x[order]), None, None, training=True, eps=0.0).numpy()
    np.testing.assert_allclose(turned, out[order], 1e-9, 1e-9)
    same = [F.group_norm(jj.tensor(x), x.shape[1], eps=0.1), F.instance_norm(jj.tensor(x), eps=0.1)]
    np.testing.assert_allclose(same[0].numpy(), same[1].numpy(), 1e-9, 1e-9)


LAYERS = (
    ("BatchNorm1d", (3,), {}, 1),
    ("BatchNorm2d", (4,), {"momentum": None}, 2),
    ("BatchNorm2d", (4,), {"affine": False, "momentum": 0.3, "eps": 1e-3}, 2),
    ("BatchNorm3d", (2,), {"track_running_stats": False}, 3),
    ("InstanceNorm1d", (3,), {}, 1),
    ("InstanceNorm2d", (4,), {"affine": True, "track_running_stats": True}, 2),
    ("InstanceNorm3d", (2,), {"track_running_stats": True, "momentum": 0.5}, 3),
    ("LayerNorm", ((5, 2),), {}, 2),
    ("LayerNorm", (5,), {"bias": False}, 1),
    ("GroupNorm", (2, 4), {}, 2),
    ("RMSNorm", ((5, 2),), {"eps": 1e-3}, 2),
    ("LocalResponseNorm", (2,), {"alpha": 0.2}, 2),
)


@pytest.mark.parametrize(("name", "args", "kwargs", "rank"), LAYERS, ids=[f"{n}-{k}" for n, _, k, _ in LAYERS])
def test_layers_and_their_state_are_pytorchs(torch, name, args, kwargs, rank):
    """Three batches of training, with the state after each, then evaluation, which changes nothing."""
    mine, theirs = getattr(nn, name)(*args, **kwargs).double(), getattr(torch.nn, name)(*args, **kwargs).double()
    assert list(mine.state_dict()) == list(theirs.state_dict())
    with torch.no_grad():
        for p in theirs.parameters():
            p.uniform_(0.5, 1.5)
    mine.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    compiled = copy.deepcopy(mine)
    step = jj.compile(lambda x: compiled(x))
    for batch in range(5):
        x = numbers(batch, *SHAPES[rank]) * (batch + 1) + batch
        if batch == 3:
            mine.eval(), theirs.eval(), compiled.eval()
        expected = theirs(torch.tensor(x))
        close(mine(jj.tensor(x)), expected, 1e-8)
        close(step(jj.tensor(x)), expected, 1e-8)
        for key, value in theirs.state_dict().items():
            close(mine.state_dict()[key], value, 1e-9)
            close(compiled.state_dict()[key], value, 1e-9)


def test_texts():
    assert (
        repr(nn.BatchNorm1d(3))
        == "BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)"
    )
    assert repr(nn.GroupNorm(2, 4, bias=False)) == "GroupNorm(2, 4, eps=1e-05, affine=True, bias=False)"
    assert repr(nn.RMSNorm(4)) == "RMSNorm((4,), eps=None, elementwise_affine=True)"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.late = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)

    def forward(self, x):
        return self.late(self.norm(self.conv(x)).relu())


@pytest.mark.parametrize("compiled", [False, True])
def test_freeze_stops_parameters_and_statistics(compiled):
    net = Net()
    optimiser = jj.optim.SGD(net.parameters(), lr=0.1)

    def train(x):
        optimiser.zero_grad()
        loss = (net(x) ** 2).mean()
        if loss.requires_grad:
            loss.backward()
            optimiser.step()
        return loss

    step = jj.compile(train) if compiled else train
    batches = [jj.tensor(numbers(i, 3, 2, 6, 6, dtype=np.float32)) for i in range(4)]

    def state():
        return {k: v.numpy().copy() for k, v in net.state_dict().items()}

    before = state()
    step(batches[0])
    moved = state()
    assert {k for k in moved if not np.array_equal(before[k], moved[k])} >= {
        "conv.weight", "norm.weight", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
        "late.running_mean", "late.running_var",
    }  # fmt: skip
    net.freeze()
    net.train()
    for x in batches[1:3]:
        step(x)
    for key, value in state().items():
        np.testing.assert_array_equal(value, moved[key])
    frozen = net(batches[3])
    net.eval()
    np.testing.assert_array_equal(net(batches[3]).detach().numpy(), frozen.detach().numpy())
    net.train()
    net.unfreeze()
    step(batches[3])
    assert not np.array_equal(state()["norm.running_mean"], moved["norm.running_mean"])
    assert not np.array_equal(state()["conv.weight"], moved["conv.weight"])


def test_freezing_a_part():
    net = Net()
    net.norm.freeze()
    net(jj.tensor(numbers(0, 3, 2, 6, 6, dtype=np.float32)))
    assert net.norm.num_batches_tracked.item() == 0
    assert net.conv.weight.requires_grad
    assert not net.norm.weight.requires_grad
    assert (net.late.running_mean != 0).any().item()
    alone = nn.BatchNorm1d(2, track_running_stats=False).freeze()  # nothing to use but the batch itself
    np.testing.assert_allclose(alone(jj.tensor([[1.0, 5.0], [3.0, 9.0]])).numpy(), [[-1, -1], [1, 1]], 1e-4)


def test_training_a_net_with_norms_compiled_is_eager():
    """Statistics, gradients and updates of several steps."""

    def run(compiled):
        jj.manual_seed(0)
        net = Net()
        optimiser = jj.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

        def step(x, y):
            optimiser.zero_grad()
            loss = F.mse_loss(net(x), y)
            loss.backward()
            optimiser.step()
            return loss

        step = jj.compile(step) if compiled else step
        losses = [
            step(
                jj.tensor(numbers(i, 3, 2, 6, 6, dtype=np.float32)), jj.tensor(numbers(9, 3, 4, 4, 4, dtype=np.float32))
            ).item()
            for i in range(4)
        ]
        return losses, {k: v.numpy() for k, v in net.state_dict().items()}

    (eager, state), (compiled, other) = run(False), run(True)
    np.testing.assert_allclose(compiled, eager, 1e-5)
    for key in state:
        np.testing.assert_allclose(other[key], state[key], 1e-4, 1e-5)


def test_a_compiled_step_uses_the_statistics_that_are_there():
    """Loaded, reset or replaced between calls; and a layer used twice in one step moves its statistics twice."""
    layer = nn.BatchNorm1d(2)
    step = jj.compile(lambda x: layer(layer(x) * 2))
    twin = nn.BatchNorm1d(2)
    changes = (
        lambda n: None,
        lambda n: n.load_state_dict({**n.state_dict(), "running_mean": jj.tensor([3.0, 4.0])}),
        lambda n: n.reset_running_stats(),
        lambda n: setattr(n, "running_var", jj.tensor([5.0, 6.0])),
        lambda n: setattr(n, "momentum", None),
        lambda n: n.eval(),
    )
    for i, change in enumerate(changes):
        change(layer), change(twin)
        x = jj.tensor(numbers(i, 5, 2, dtype=np.float32) + i)
        close(step(x), twin(twin(x) * 2), 1e-5)
        for key, value in twin.state_dict().items():
            close(layer.state_dict()[key], value, 1e-6)
    assert twin.num_batches_tracked.item() == 6


def test_statistics_that_move_later_do_not_disturb_a_gradient():
    layer = nn.BatchNorm1d(2)
    x = jj.tensor(numbers(0, 5, 2, dtype=np.float32)).requires_grad_()
    out = layer.eval()(x)
    layer.train()(x)
    out.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full((5, 2), 1 / math.sqrt(1 + 1e-5)), 1e-6)


def test_empty_batches_change_no_statistics():
    layer = nn.BatchNorm2d(3)
    x = jj.zeros(0, 3, 4, 4, requires_grad=True)
    out = layer(x)
    assert tuple(out.shape) == (0, 3, 4, 4)
    out.sum().backward()
    assert layer.running_mean.tolist() == [0, 0, 0]
    assert tuple(F.layer_norm(jj.zeros(0, 4), (4,)).shape) == (0, 4)
    assert tuple(F.group_norm(jj.zeros(0, 4, 2), 2).shape) == (0, 4, 2)
    assert tuple(F.local_response_norm(jj.zeros(0, 4, 2), 2).shape) == (0, 4, 2)


def test_old_states_without_a_count_of_batches_load():
    layer = nn.BatchNorm1d(2)
    state = {k: v for k, v in layer.state_dict().items() if k != "num_batches_tracked"}
    assert layer.load_state_dict(state).missing_keys == []


X, W = jj.zeros(2, 3, 4, 4), jj.ones(3)
WRONG = (
    (lambda: F.batch_norm(jj.zeros(1, 3), None, None, training=True), ValueError, r"Expected more than 1 value per channel when training, got input size \[1, 3\]"),
    (lambda: F.batch_norm(X, None, None), RuntimeError, r"batch_norm: Expected running_mean to be defined"),
    (lambda: F.batch_norm(X, W, None), RuntimeError, r"batch_norm: Expected running_var to be defined"),
    (lambda: F.batch_norm(X, jj.ones(4), W), RuntimeError, r"running_mean should contain 3 elements.*\[4\]"),
    (lambda: F.batch_norm(X, W, W, jj.ones(2)), RuntimeError, r"weight should contain 3 elements.*\[2\]"),
    (lambda: F.batch_norm(jj.zeros(3), None, None, training=True), ShapeError, r"shape \[3\] must have at least 2 dimensions"),
    (lambda: F.batch_norm(X.long(), W, W), TypeError, r"batch_norm: input must be floating point, not"),
    (lambda: F.batch_norm([1.0], W, W), TypeError, r"batch_norm: input must be a Tensor, not list"),
    (lambda: F.instance_norm(jj.zeros(2, 3, 1)), ValueError, r"Expected more than 1 spatial element when training, got input size \[2, 3, 1\]"),
    (lambda: F.instance_norm(X, use_input_stats=False), RuntimeError, r"instance_norm: Expected running_mean to be defined"),
    (lambda: F.layer_norm(X, (3, 4)), RuntimeError, r"normalized_shape=\[3, 4\] expects .*\[2, 3, 4, 4\]"),
    (lambda: F.layer_norm(X, ()), RuntimeError, r"normalized_shape to be at least 1-dimensional"),
    (lambda: F.layer_norm(X, (4,), jj.ones(3)), RuntimeError, r"weight to be of the same shape as normalized_shape, \[4\]"),
    (lambda: F.group_norm(X, 2), RuntimeError, r"divisible by num_groups.*\[2, 3, 4, 4\] and num_groups=2"),
    (lambda: F.group_norm(X, 0), ValueError, r"num_groups=0 must not be below 1"),
    (lambda: F.rms_norm(X, (5,)), RuntimeError, r"rms_norm: normalized_shape=\[5\]"),
    (lambda: F.local_response_norm(jj.zeros(2, 3), 2), ValueError, r"Expected 3D or higher dimensionality input \(got 2 dimensions\)"),
    (lambda: F.local_response_norm(X, 0), ValueError, r"size=0 must not be below 1"),
    (lambda: F.normalize(X.long()), TypeError, r"normalize: input must be floating point"),
    (lambda: F.normalize(X, dim=4), IndexError, r"dim=4 is out of range"),
    (lambda: F.cosine_similarity(X, jj.zeros(5)), ShapeError, r"do not broadcast"),
    (lambda: F.pairwise_distance(X.bool(), X), TypeError, r"pairwise_distance: x1 must be floating point or of integers"),
    (lambda: nn.BatchNorm2d(3)(jj.zeros(2, 3)), ValueError, r"BatchNorm2d: expected 4D input \(got 2D input\)"),
    (lambda: nn.BatchNorm2d(4)(X), RuntimeError, r"running_mean should contain 3 elements"),
    (lambda: nn.InstanceNorm2d(4, affine=True)(X), ValueError, r"num_features=4 channels, but it has 3"),
    (lambda: nn.GroupNorm(2, 3), ValueError, r"num_channels must be divisible by num_groups"),
    (lambda: nn.BatchNorm2d(2.5), TypeError, r"num_features must be an integer, got 2.5"),
    (lambda: nn.LayerNorm(()), ValueError, r"normalized_shape=\(\) must have at least one dimension"),
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_arguments(number):
    call, error, words = WRONG[number]
    with pytest.raises(error, match=words):
        call()


def test_instance_norm_warns_of_another_number_of_channels():
    with pytest.warns(UserWarning, match="num_features=5"):
        nn.InstanceNorm2d(5)(X)
