"""What several test folders share: the kernel targets, PyTorch where installed, and a gradient check."""

import signal

import numpy as np
import pytest

import recording
from juanji import target as targets
from juanji.autograd import grad
from juanji.gradmode import enable_grad, no_grad
from juanji.tensors import tensor

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore Ctrl-C, and so would every process that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

TARGETS = ("avx512", "avx2")


@pytest.fixture
def use_target(monkeypatch):
    """`use_target(name)`: kernels are written for that target until the test ends, as `JUANJI_TARGET` would have it."""

    def use(name):
        monkeypatch.setenv("JUANJI_TARGET", name)
        monkeypatch.setattr(targets, "_current", None)

    return use


@pytest.fixture(params=TARGETS)
def kernel_target(request, use_target):
    """Each vector target that this machine can run; eager plans are kept by target, so one process runs them all."""
    if request.param not in targets.available():
        pytest.skip(f"this machine cannot run {request.param}")
    use_target(request.param)
    return request.param


@pytest.fixture(scope="session")
def torch():
    """PyTorch, one thread; tests that ask for it are skipped where it is not installed."""
    module = pytest.importorskip("torch")
    module.set_num_threads(1)
    return module


def pytest_addoption(parser):
    parser.addoption("--operations", metavar="FILE", help="write what the tests have checked of each operation")


def pytest_configure(config):
    path = config.getoption("--operations")
    if path:
        recorder = recording.Recorder(path)
        recorder.start()
        recording.active[:] = [recorder]
        config.pluginmanager.register(recorder)


def check_gradients(function, *arrays, order=1, step=1e-5, tolerance=1e-6, constant=False):
    """Holds the gradients of `function` (tensors in, one tensor out) against central differences in float64.

    The output is weighted by random numbers and the inputs are moved along random directions, so that one number tests
    a whole Jacobian. With `order` 2 the gradients themselves are then differentiated in the same way. `constant` allows
    an output that does not depend on every input, as the gradients of a linear function do not.
    """
    with recording.checking():
        _check_gradients(function, arrays, order, step, tolerance, constant)


def _check_gradients(function, arrays, order, step, tolerance, constant):
    random = np.random.default_rng(len(arrays) + order)
    arrays = [np.asarray(a, np.float64) for a in arrays]
    leaves = [tensor(a).requires_grad_() for a in arrays]
    out = function(*leaves)
    weights = random.uniform(0.5, 1.5, tuple(out.shape))
    if constant and not out.requires_grad:
        gradients = [None] * len(leaves)
    else:
        gradients = grad(out, leaves, tensor(weights), allow_unused=constant)
    found = [np.zeros(a.shape) if g is None else g.detach().numpy() for g, a in zip(gradients, arrays, strict=True)]
    assert [g.shape for g in found] == [a.shape for a in arrays]

    def value(moved, sign):
        with no_grad():
            out = function(*[tensor(a + sign * step * d) for a, d in zip(arrays, moved, strict=True)])
        return out.detach().numpy()

    for chosen in (*range(len(arrays)), None, None):
        moved = [random.uniform(-1, 1, a.shape) * (chosen in (None, i)) for i, a in enumerate(arrays)]
        expected = ((value(moved, 1) - value(moved, -1)) * weights).sum() / (2 * step)
        got = sum((g * d).sum() for g, d in zip(found, moved, strict=True))
        scale = max(1.0, abs(expected), *(np.abs(g * d).sum() for g, d in zip(found, moved, strict=True)))
        assert abs(got - expected) <= tolerance * scale, f"order {order}, input {chosen}: {got} is not {expected}"
    if order == 1:
        return
    probes = [tensor(random.uniform(0.5, 1.5, a.shape)) for a in arrays]

    def slope(*inputs):
        with enable_grad():
            own = [x if x.requires_grad else x.detach().requires_grad_() for x in inputs]
            first = grad(function(*own), own, tensor(weights), create_graph=True)
            return sum((g * p).sum() for g, p in zip(first, probes, strict=True))

    _check_gradients(slope, arrays, order - 1, step, 10 * tolerance, True)


@pytest.fixture
def gradcheck():
    """`gradcheck(function, *arrays, order=1)`: see `check_gradients`."""
    return check_gradients
