"""`jj.profile`: every kernel of a step, its time, its arithmetic, the machine's peak, a trace."""

import json

import pytest

import juanji as jj
from juanji import nn, optim


def training_step():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 5))
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    @jj.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_kernels_of_a_training_step(tmp_path):
    step, x, y = training_step(), jj.randn(6, 3, 8, 8), jj.tensor([0, 1, 2, 3, 4, 0])
    measured = jj.profile(step, x, y, repeat=2)
    plan = step.plans[0]
    assert [k.label for k in measured.kernels] == [c.label for c in plan.calls]
    assert measured.seconds == pytest.approx(sum(k.seconds for k in measured.kernels))
    assert all(k.seconds > 0 and k.bytes > 0 for k in measured.kernels)
    # The convolution forward and for its weight; the linear layer forward and for both gradients.
    convolution, linear = 2 * 6 * 64 * 8 * 27, 2 * 6 * 512 * 5
    assert sum(k.flops for k in measured.kernels) == 2 * convolution + 3 * linear
    assert measured.peak_flops > 1e8
    assert measured.peak_bytes > 1e7
    assert str(measured).count("\n") == len(measured.table())
    measured.save_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text("utf-8"))["traceEvents"]
    assert [e["name"] for e in events] == [k.label for k in measured.kernels]
    assert events[1]["ts"] == pytest.approx(events[0]["dur"])
    json.dumps(measured.as_dict(), allow_nan=False)
    before = step(x, y).item()
    assert step(x, y).item() < before  # the plan runs as it did before


def test_steady_kernels_are_not_measured():
    net, x = nn.Conv2d(3, 8, 3).eval(), jj.randn(1, 3, 8, 8)

    @jj.compile
    def step(x):
        with jj.no_grad():
            return net(x)

    labels = [k.label for k in jj.profile(step, x).kernels]
    assert any(label.startswith("conv") for label in labels)
    assert not any("pack weights" in label for label in labels)


def test_refusals():
    with pytest.raises(TypeError, match=r"a step that jj\.compile returned, not function"):
        jj.profile(lambda x: x, jj.ones(1))
    with pytest.raises(ValueError, match="repeat=0 must be at least 1"):
        jj.profile(jj.compile(lambda x: x + 1), jj.ones(1), repeat=0)


def test_ways_and_reasons():
    """What the table says of a convolution: its algorithm, its tile, and why it was no other."""
    step = jj.compile(lambda x, w: nn.functional.conv2d(x, w, padding=1))
    measured = jj.profile(step, jj.randn(2, 16, 8, 8), jj.randn(32, 16, 3, 3), repeat=1)
    (kernel,) = [k for k in measured.kernels if k.flops]
    assert kernel.algorithm == "contraction"
    assert kernel.way in str(measured)
    assert measured.reasons()[0] == f"conv, {kernel.way}:"
    assert "  not depthwise, one group (1 of 1)" in measured.reasons()
    # A copy has no way of its own and nothing was refused for it.
    assert {k.way for k in measured.kernels if not k.flops} == {""}


def test_a_roofline(tmp_path):
    pytest.importorskip("matplotlib").use("agg")
    from juanji.visual.roofline import roofline

    step = jj.compile(lambda a, b: (a @ b).relu())
    measured = jj.profile(step, jj.ones(64, 64), jj.ones(64, 64), repeat=1)
    figure = roofline(measured, tmp_path / "roof.svg", "a product")
    assert figure.axes[0].get_title() == "a product"
    assert figure.axes[0].collections[0].get_offsets().data[0] == pytest.approx(
        [2 * 64**3 / measured.kernels[0].bytes, 2 * 64**3 / measured.kernels[0].seconds / 1e9]
    )
    assert (tmp_path / "roof.svg").stat().st_size > 1000
    with pytest.raises(ValueError, match="no convolution or matrix product"):
        roofline(jj.profile(jj.compile(lambda a: a + 1), jj.ones(3), repeat=1))
