"""Sequential, ModuleList, ModuleDict and ParameterList."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import juanji as jj
from juanji import config, nn


def test_sequential():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert tuple(net(jj.zeros(5, 4)).shape) == (5, 2)
    assert len(net) == 3
    assert isinstance(net[-1], nn.Linear)
    assert isinstance(net[:2], nn.Sequential)
    assert net[:2][0] is net[0]
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    net[1] = nn.Tanh()
    assert isinstance(net[1], nn.Tanh)
    del net[0]
    assert [n for n, _ in net.named_children()] == ["0", "1"]
    net.append(nn.Identity()).insert(0, nn.Flatten())
    net.extend([nn.ReLU()])
    assert [type(m).__name__ for m in net] == ["Flatten", "Tanh", "Linear", "Identity", "ReLU"]
    assert isinstance(net.pop(0), nn.Flatten)
    assert len(net + nn.Sequential(nn.ReLU())) == 5
    with pytest.raises(IndexError, match="index 9 is out of range for a Sequential of 4"):
        net[9]
    with pytest.raises(TypeError, match="not a Module subclass"):
        nn.Sequential(nn.ReLU(), 3)


def test_sequential_with_names():
    net = nn.Sequential(OrderedDict(body=nn.Linear(2, 2), act=nn.ReLU()))
    assert [n for n, _ in net.named_children()] == ["body", "act"]
    assert net.act is net[1]
    assert repr(net) == ("Sequential(\n  (body): Linear(in_features=2, out_features=2, bias=True)\n  (act): ReLU()\n)")


def test_changes_are_reported():
    net = nn.Sequential(nn.ReLU(), nn.ReLU())
    net(jj.zeros(1))
    for action in (lambda: net.append(nn.ReLU()), lambda: net.pop(0), lambda: net.insert(0, nn.ReLU())):
        before = config.state.epoch
        action()
        assert config.state.epoch > before


def test_module_list():
    layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    layers.append(nn.ReLU())
    layers += [nn.ReLU()]
    assert len(layers) == 4
    assert [type(m).__name__ for m in layers[1:3]] == ["Linear", "ReLU"]
    assert repr(layers) == (
        "ModuleList(\n  (0-1): 2 x Linear(in_features=2, out_features=2, bias=True)\n  (2-3): 2 x ReLU()\n)"
    )
    del layers[:2]
    assert [n for n, _ in layers.named_children()] == ["0", "1"]
    assert len(layers + [nn.Tanh()]) == 3  # noqa: RUF005
    with pytest.raises(TypeError, match="iterable"):
        layers.extend(3)


def test_module_dict():
    d = nn.ModuleDict({"a": nn.Linear(2, 2)})
    d["b"] = nn.ReLU()
    d.update([("c", nn.Tanh())])
    assert list(d.keys()) == ["a", "b", "c"]
    assert "b" in d
    assert len(d) == 3
    assert d.pop("b").__class__ is nn.ReLU
    assert [name for name, _ in d.items()] == ["a", "c"]
    assert [n for n, _ in d.named_parameters()] == ["a.weight", "a.bias"]
    d.clear()
    assert len(list(d.values())) == 0
    with pytest.raises(KeyError):
        d["z"]
    with pytest.raises(TypeError, match="mapping"):
        d.update(3)


def test_parameter_list():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = nn.ParameterList([nn.Parameter(jj.ones(2)), jj.zeros(2)])

        def forward(self, x):
            for w in self.weights:
                x = x + w
            return x

    net = Net()
    assert net(jj.zeros(2)).tolist() == [1.0, 1.0]
    assert [n for n, _ in net.named_parameters()] == ["weights.0", "weights.1"]
    net.weights[1] = jj.ones(2)
    net.weights.append(jj.ones(3))
    assert len(net.weights) == 3
    assert len(net.weights[1:]) == 2
    assert isinstance(net.weights[-1], nn.Parameter)
    with pytest.raises(IndexError):
        net.weights[5]
