"""The short ways of eager operations give what the long ones do."""

import gc
import math

import numpy as np
import pytest

import juanji as jj
from juanji import target as targets
from juanji.runtime import memory
from juanji.tensors import base


def test_the_environment_is_read_once(monkeypatch):
    chosen = targets.current()
    monkeypatch.setenv("JUANJI_TARGET", "abacus")
    assert targets.current() is chosen
    assert (jj.ones(2) + 1).tolist() == [2.0, 2.0]


def test_numbers_that_compare_alike_are_not_mixed_up():
    x = jj.ones(3)
    for zero in (0.0, -0.0, 0, -0.0, 0.0):
        assert math.copysign(1, (x * zero)[0].item()) == math.copysign(1, zero)
    assert (x + True).tolist() == (x + 1).tolist() == (x + 1.0).tolist() == [2.0] * 3
    for _ in range(3):
        assert (x * math.nan).isnan().all()
    with pytest.raises(RuntimeError, match="bool"):
        x - True
    assert (jj.tensor(2.0) + 1.5).dtype is jj.float32
    assert (jj.tensor([1, 2]) + 1.5).dtype is jj.float32
    assert (jj.ones(2, dtype=jj.float64) * jj.tensor(2.0)).dtype is jj.float64


def test_new_data_has_a_layout_of_its_own():
    x = jj.arange(6.0)
    assert (x + x).tolist() == [0, 2, 4, 6, 8, 10]
    x.data = jj.arange(8.0).reshape(2, 4).t()
    assert x.spec.shape == (4, 2)
    assert (x + x).tolist() == [[0, 8], [2, 10], [4, 12], [6, 14]]


def test_views_of_one_layout_at_different_places():
    x = jj.arange(12.0).reshape(3, 4)
    for i in range(3):
        for j in range(4):
            assert x[i].view(2, 2)[j // 2, j % 2].item() == 4 * i + j
    assert (x[1:] + x[:2]).tolist() == (x.numpy()[1:] + x.numpy()[:2]).tolist()


def test_memory_that_numpy_shows_is_not_used_again():
    shown = (jj.ones(4) * 3).numpy()
    part = (jj.ones(8) * 5).detach().numpy()[2:4]
    gc.collect()
    for _ in range(50):
        jj.ones(4) * 7
        jj.ones(8) * 7
    assert shown.tolist() == [3.0] * 4
    assert part.tolist() == [5.0] * 2


def test_small_buffers_are_kept_up_to_a_number():
    memory.trim()
    buffers = [memory.acquire(100) for _ in range(memory.SMALL_NUMBER + 10)]
    for buffer in buffers:
        memory.release(*buffer)
    assert memory.kept_bytes() == memory.SMALL_NUMBER * 128
    assert memory.acquire(128)[1] in {address for _, address in buffers}
    memory.trim()
    assert memory.kept_bytes() == 0


@pytest.mark.parametrize("size", [5, base.MOVED_BYTES // 4, base.MOVED_BYTES // 4 + 1])
def test_writes_copy_small_and_large_values(size):
    x, y = jj.zeros(size + 3), jj.arange(float(size))
    x[2 : 2 + size] = y
    np.testing.assert_array_equal(x.numpy()[2:-1], y.numpy())
    assert (x[0].item(), x[1].item(), x[-1].item()) == (0, 0, 0)
    before = x._version
    x[1:] = x[:-1]
    np.testing.assert_array_equal(x.numpy()[3:], y.numpy())
    assert x._version == before + 1


def test_a_value_of_a_trace_is_refused_as_operand_and_as_goal():
    class Left(Exception):
        pass

    @jj.compile
    def step(x):
        raise Left(x * 2)

    with pytest.raises(Left) as left:
        step(jj.ones(3))
    (kept,) = left.value.args
    for use in (
        lambda: kept + 1,
        lambda: kept[1:] + 1,
        lambda: kept.add_(1),
        lambda: kept.copy_(jj.ones(3)),
    ):
        with pytest.raises(RuntimeError, match="was tracing and has no value"):
            use()


def test_gradients_read_outputs_and_inputs_at_their_versions():
    x = jj.tensor([0.5, 1.0], requires_grad=True)
    y = x.exp()
    z = y * 2
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
    y = x.exp()
    (y + 1).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


def test_the_corrections_of_adam_are_small_kernels(use_target):
    use_target("portable")
    model = jj.nn.Sequential(*(jj.nn.Linear(2, 2) for _ in range(5)))
    optimizer = jj.optim.Adam(model.parameters())

    @jj.compile
    def step(x):
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    step(jj.ones(1, 2))
    corrections = [call for call in step.plans[0].calls if "exp" in call.label]
    assert corrections
    assert not any(call.label.count("exp") > 2 for call in corrections)
