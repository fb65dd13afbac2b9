"""Every network of the zoo gives the same bits on 1, 2, 3 and 4 threads: forward, loss and all gradients."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn, zoo
from juanji.nn import functional as F
from juanji.runtime import schedule

SIZE = {"lenet": 28, "alexnet": 63}


@pytest.fixture
def shared(monkeypatch):
    """Every kernel of several chunks is shared, however short it is; the number of threads is put back."""
    monkeypatch.setattr(schedule, "always_share", True)
    before = jj.get_num_threads()
    yield
    jj.set_num_threads(before)


@pytest.mark.parametrize("name", zoo.list())
def test_bits_do_not_depend_on_threads(light, shared, name):
    jj.manual_seed(0)
    net = light(name, num_classes=3)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    size = SIZE.get(name, 32)
    pictures, labels = jj.randn(2, 1 if name == "lenet" else 3, size, size), jj.tensor([0, 2])

    @jj.compile
    def step(pictures, labels):
        net.zero_grad()
        scores = net(pictures)
        loss = F.cross_entropy(scores, labels)
        loss.backward()
        return scores.detach(), loss.detach()

    expected = None
    for threads in (1, 2, 3, 4):
        jj.set_num_threads(threads)
        # The first runs of a plan find out how long its kernels take; what they compute counts as well.
        for _ in range(1 if threads > 1 else 3):
            found = [t.numpy().tobytes() for t in (*step(pictures, labels), *(p.grad for p in net.parameters()))]
            expected = expected or found
            assert found == expected, f"{threads} threads"
        if threads > 1:
            plan = step.plans[0]
            assert plan._schedule.on_team
            assert (plan._schedule.shared > 1).sum() >= 3
    assert len(step.plans) == 1
    assert np.isfinite(np.frombuffer(expected[1], np.float32)).all()
