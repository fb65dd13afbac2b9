"""`to_torch`: the same network computes the same numbers in PyTorch, and what is not known is named."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn, zoo
from juanji.kernels import sobel
from juanji.nn import functional as F
from juanji.nn.functional import relu6

torch = pytest.importorskip("torch")
to_torch = pytest.importorskip("juanji.interop.torchmodule").to_torch


class Net(nn.Module):
    """Inherited methods, a shared layer, a buffer, a flag, layers in lists and by name."""

    def __init__(self, add=True):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=1, bias=False)
        self.norm, self.add = nn.BatchNorm2d(4, eps=0.1), add
        self.again = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.LeakyReLU(0.3)])
        self.named = nn.ModuleDict({"pool": nn.AvgPool2d(2, count_include_pad=False), "act": nn.Hardswish()})
        self.twice = self.again[0]
        self.register_buffer("shift", jj.tensor([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1))
        self.scale = nn.Parameter(jj.tensor(0.5))

    def between(self, x):
        return x

    def forward(self, x):
        x = F.relu(self.norm(self.first(x))) * self.scale
        for layer in self.again:
            x = x + layer(x) if self.add else layer(x)
        x = self.between(self.twice(x) + self.shift)
        return jj.cat([self.named["act"](self.named["pool"](x)).flatten(1), x.mean((2, 3))], dim=1)


class Deeper(Net):
    def between(self, x):
        return relu6(super().between(x).tanh())


class Odd(nn.Module):
    def forward(self, x):
        return relu6(x) if x.ndim > 3 else sobel(x)


def same(net, x):
    ours = net(x)
    theirs = to_torch(net)
    np.testing.assert_allclose(ours.detach().numpy(), theirs(torch.from_numpy(x.numpy())).detach().numpy(), 1e-4, 1e-5)
    return theirs


@pytest.mark.parametrize("training", [True, False])
def test_a_network_of_ones_own(training):
    jj.manual_seed(0)
    net = Deeper().train(training)
    theirs = same(net, jj.randn(2, 2, 8, 8))
    assert theirs.training == training
    assert theirs.twice is theirs.again[0]
    assert list(theirs.state_dict()) == list(net.state_dict())
    assert [name for name, _ in theirs.named_parameters()] == [name for name, _ in net.named_parameters()]
    # The copies are PyTorch's own: training one leaves the other.
    with torch.no_grad():
        theirs.scale += 1
    assert net.scale.item() == 0.5


@pytest.mark.parametrize("name", ["lenet", "resnet18", "mobilenet_v2", "efficientnet_lite0"])
def test_networks_of_the_zoo(name):
    jj.manual_seed(0)
    net = zoo.create(name, num_classes=4)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    same(net, jj.randn(2, 1, 28, 28) if name == "lenet" else jj.randn(2, 3, 40, 40))


def test_refusals():
    with pytest.raises(TypeError, match="does not know the layer Embedding; it knows Adaptive"):
        to_torch(nn.Sequential(nn.Embedding(3, 4)))

    class Derived(nn.Conv2d):
        pass

    with pytest.raises(TypeError, match="derived from the layer Conv2d"):
        to_torch(Derived(1, 1, 1))
    with pytest.raises(TypeError, match=r"Odd\.forward uses juanji\.kernels\.sobel, which PyTorch does not have"):
        to_torch(nn.Sequential(Odd()))
