"""Between a network's input and its head no feature map is copied into another order; weights are packed once.

Where a head flattens maps of several pixels, as VGG's, these few numbers are put into the order of its weights, which
are a thousand times as many.
"""

import pytest

import juanji as jj
from juanji import optim, zoo
from juanji.compiler import lower_copy
from juanji.compiler.plan import Plan
from juanji.nn import functional as F

#: No number of channels, groups or blocks of weights, so that what has so many is a batch.
BATCH = 5
#: VGG and AlexNet average their last maps down to these sizes: here nothing is left to average.
LAST = {"lenet": (16, 5, 5), "alexnet": (256, 6, 6), "vgg": (512, 7, 7)}


@pytest.fixture
def copies(monkeypatch):
    """(shape, label) of each copy that plans make while the test runs. Plans are made, and not run."""
    seen, copy = [], lower_copy.copy

    def watched(program, source, target, label):
        seen.append((target.shape, label))
        copy(program, source, target, label)

    monkeypatch.setattr(lower_copy, "copy", watched)
    monkeypatch.setattr(Plan, "run", lambda *_: None)
    return seen


def between(copies, name, images):
    """The copies of values of the whole batch, but for the network's input, and how many of what the head flattens."""
    maps = [(shape, label) for shape, label in copies if len(shape) > 2 and shape[0] == BATCH]
    assert len([m for m in maps if m[0] == images.shape]) <= 1
    # Convolutions of the few pixels that small pictures end with are products of patches.
    inner = [m for m in maps if m[0] != images.shape and m[1] not in ("zeros", "pad", "patches")]
    last = (BATCH, *LAST.get(name[:3] if name.startswith("vgg") else name, ()))
    return [m for m in inner if m[0] != last], len([m for m in inner if m[0] == last])


@pytest.mark.parametrize("name", zoo.list())
def test_nothing_is_converted_between_input_and_head(copies, light, name):
    net = light(name, num_classes=4)
    size = {"lenet": 28, "alexnet": 224}.get(name, 224 if name.startswith("vgg") else 64)
    x = jj.zeros(BATCH, 1 if name == "lenet" else 3, size, size)
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    @jj.compile
    def train(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    copies.clear()
    train(x, jj.zeros(BATCH, dtype=jj.int64))
    inner, flattened = between(copies, name, x)
    assert inner == []
    assert flattened <= 2  # there and back

    net.eval()

    @jj.compile
    @jj.no_grad()
    def infer(x):
        return net(x)

    copies.clear()
    infer(x)
    inner, flattened = between(copies, name, x)
    assert inner == []
    assert flattened <= 1
    plan = infer.plans[0]
    packed = [i for i, call in enumerate(plan.calls) if call.label.startswith(("pack", "transpose", "phases"))]
    assert packed
    assert max(packed) < plan.steady, "weights are packed once, not at each call"
