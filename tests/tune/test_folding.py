"""Frozen normalisations as part of the convolutions before them: the same values, the same gradients, no trace."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn, zoo
from juanji.nn import functional as F
from juanji.tune import recipes
from juanji.tune.folding import folded


def prepared(name, recipe="full"):
    jj.manual_seed(0)
    model = zoo.create(name, num_classes=3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            with jj.no_grad():
                module.running_mean.copy_(0.3 * jj.randn(module.num_features))
                module.running_var.copy_(jj.rand(module.num_features) + 0.5)
                module.bias.copy_(0.1 * jj.randn(module.num_features))
                module.weight.copy_(jj.rand(module.num_features) + 0.5)
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    recipes.groups(recipe, model, 1.0, 0.5)
    return model.train()


@pytest.mark.parametrize(("name", "size", "count"), [("tiny", 24, 2), ("mobilenet_v2", 32, 52), ("resnet18", 32, 20)])
def test_values_and_gradients_are_the_same(name, size, count):
    model = prepared(name)
    x, y = jj.randn(4, 3, size, size), jj.tensor([0, 1, 2, 0])

    def looked():
        for p in model.parameters():
            p.grad = None
        scores = model(x)
        F.cross_entropy(scores, y).backward()
        return scores.detach().numpy(), {n: p.grad.numpy().copy() for n, p in model.named_parameters()}

    names = list(model.state_dict())
    plain, gradients = looked()
    with folded(model, jj.zeros(1, 3, size, size)) as found:
        assert found == count
        together, others = looked()
        assert list(model.state_dict()) == names
    np.testing.assert_allclose(together, plain, rtol=1e-3, atol=1e-3 * np.abs(plain).max())
    for key, value in gradients.items():
        np.testing.assert_allclose(others[key], value, rtol=2e-3, atol=2e-3 * np.abs(value).max(), err_msg=key)
    again, _ = looked()
    np.testing.assert_array_equal(again, plain)


def test_what_is_not_frozen_or_read_elsewhere_stays():
    model = prepared("tiny", "bn")  # whose normalisations move
    with folded(model, jj.zeros(1, 3, 24, 24)) as found:
        assert found == 0

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.other = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + self.other(y)

    model = Twice().freeze()
    with folded(model, jj.zeros(1, 3, 4, 4)) as found:
        assert found == 0


def test_it_is_undone_after_an_error():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).freeze()
    with pytest.raises(KeyError), folded(model, jj.zeros(1, 1, 2, 2)):
        raise KeyError
    assert "forward" not in model[0].__dict__
    assert "forward" not in model[1].__dict__
