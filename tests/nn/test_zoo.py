"""The registry of architectures."""

from __future__ import annotations

import copy
import json

import pytest

import juanji as jj
from juanji import nn, zoo


def test_create_and_record():
    net = zoo.create("lenet", num_classes=3, in_channels=2)
    assert isinstance(net, zoo.LeNet)
    assert tuple(net(jj.zeros(4, 2, 28, 28)).shape) == (4, 3)
    record = json.loads(json.dumps(zoo.architecture(net)))
    again = zoo.create(record["name"], **record["arguments"])
    again.load_state_dict(net.state_dict())
    assert zoo.architecture(copy.deepcopy(again)) == record
    assert zoo.architecture(zoo.LeNet(7)) == {
        "name": "lenet",
        "arguments": {"num_classes": 7, "in_channels": 1},
    }


def test_names():
    assert "lenet" in zoo.list()
    with pytest.raises(ValueError, match=r"no model named 'lenett'; there are: .*lenet"):
        zoo.create("lenett")
    with pytest.raises(TypeError, match="classes"):
        zoo.create("lenet", classes=3)


def test_unregistered_models_have_no_record():
    class Mine(zoo.LeNet):
        def __init__(self):
            super().__init__(num_classes=2)

    for model in (nn.Linear(1, 1), Mine()):
        with pytest.raises(TypeError, match="not a registered architecture"):
            zoo.architecture(model)
    with pytest.raises(ValueError, match="is taken by LeNet"):
        zoo.register("lenet")(Mine)


def test_lenet_is_the_articles():
    names = [name for name, _ in zoo.LeNet().named_parameters()]
    layers = ("conv1", "conv2", "fc1", "fc2", "fc3")
    assert names == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
