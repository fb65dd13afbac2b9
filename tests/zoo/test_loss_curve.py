"""Training a ResNet-18 gives PyTorch's losses: benchmarks/loss_curve.py does so for longer, on digits."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim, zoo
from juanji.interop.torchmodule import to_torch

STEPS, SIZE, RATE = 4, 48, 0.002


def ours(network, batches):
    optimizer = optim.SGD(network.parameters(), lr=RATE, momentum=0.9)

    @jj.compile
    def step(pictures, labels):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(pictures), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return np.array([step(jj.tensor(x), jj.tensor(y)).item() for x, y in batches])


def theirs(torch, peer, batches, form, dtype):
    peer = peer.to(memory_format=form, dtype=dtype)
    optimizer = torch.optim.SGD(peer.parameters(), lr=RATE, momentum=0.9)
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        given = torch.from_numpy(x).to(dtype).contiguous(memory_format=form)
        loss = torch.nn.functional.cross_entropy(peer(given), torch.from_numpy(y))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def test_losses_are_as_near_as_two_layouts_of_pytorch(torch):
    jj.manual_seed(0)
    network = zoo.create("resnet18", num_classes=5)
    random = np.random.default_rng(0)
    means = random.standard_normal((5, 3, SIZE, SIZE), np.float32)
    batches = []
    for _ in range(STEPS):
        labels = random.integers(0, 5, 8)
        batches.append((means[labels] + random.standard_normal((8, 3, SIZE, SIZE), np.float32), labels))
    exact = theirs(torch, to_torch(network), batches, torch.contiguous_format, torch.float64)
    layouts = [
        theirs(torch, to_torch(network), batches, form, torch.float32)
        for form in (torch.contiguous_format, torch.channels_last)
    ]
    found = ours(network, batches)
    assert found[0] == pytest.approx(exact[0], rel=1e-5)
    assert len(set(found)) == STEPS
    apart = max(np.abs(curve - exact).max() for curve in layouts)
    assert np.abs(found - exact).max() <= 2 * max(apart, 1e-4)
