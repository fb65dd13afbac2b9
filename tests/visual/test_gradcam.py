"""Grad-CAM: its definition in NumPy, PyTorch's hooks, and that a model is left as it was."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn


def network():
    jj.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5),
    )  # fmt: skip


def enlarged(maps, size):
    return nn.functional.interpolate(jj.tensor(maps)[:, None], size=size, mode="bilinear")[:, 0].numpy()


def test_its_definition():
    model = network().eval()
    x = jj.randn(4, 3, 12, 10)
    with jj.no_grad():
        maps = model[:5](x).numpy()
    # The score is linear in every small change: finite differences of the tail give the gradient of each map's mean.
    target = [0, 3, 2, 1]
    weights = np.zeros((4, 8))
    tail = nn.Sequential(*(layer.double() for layer in model[5:]))
    for c in range(8):
        for y in range(maps.shape[2]):
            for column in range(maps.shape[3]):
                moved = maps.astype(np.float64)
                moved[:, c, y, column] += 1e-6
                with jj.no_grad():
                    up = tail(jj.tensor(moved)).numpy()
                    down = tail(jj.tensor(moved - 2 * (moved - maps))).numpy()
                weights[:, c] += (up - down)[np.arange(4), target] / 2e-6
    weights /= maps.shape[2] * maps.shape[3]
    expected = np.maximum((weights[:, :, None, None] * maps).sum(1), 0).astype(np.float32)
    for layer in tail:
        layer.float()
    found = jj.grad_cam(model, x, target, layer="4", normalize=False).numpy()
    np.testing.assert_allclose(found, enlarged(expected, (12, 10)), rtol=1e-3, atol=1e-6)
    scaled = jj.grad_cam(model, x, target, layer=model[4]).numpy()
    np.testing.assert_allclose(scaled, found / found.max(axis=(1, 2), keepdims=True), rtol=1e-5)


def test_a_class_that_counts_one_map_shows_that_map():
    # Global mean pooling and a linear layer: the map's weight is the layer's, over the places (the paper, section 3.1).
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2, bias=False)
    )
    with jj.no_grad():
        model[0].weight.copy_(jj.tensor([[[[1.0]]], [[[-1.0]]]]))
        model[3].weight.copy_(jj.eye(2))
    x = jj.randn(2, 1, 6, 6)
    found = jj.grad_cam(model, x, target=0, normalize=False).numpy()
    np.testing.assert_allclose(found, np.maximum(x.numpy()[:, 0], 0) / 36, rtol=1e-5, atol=1e-8)
    other = jj.grad_cam(model, x, target=1, normalize=False).numpy()
    np.testing.assert_allclose(other, np.maximum(-x.numpy()[:, 0], 0) / 36, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("layer", ["0", "4", "3"])
def test_the_same_as_pytorch_hooks(layer):
    torch = pytest.importorskip("torch")
    mine = network().train()
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(32, 5),
    ).eval()  # fmt: skip
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in mine.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(3, 3, 17, 16)).astype(np.float32)
    kept = {}
    module = theirs.get_submodule(layer)
    module.register_forward_hook(lambda m, a, o: kept.update(maps=o.detach()))
    module.register_full_backward_hook(lambda m, gi, go: kept.update(slopes=go[0]))
    scores = theirs(torch.tensor(x, requires_grad=True))
    scores.gather(1, scores.argmax(1, keepdim=True)).sum().backward()
    map_ = (kept["slopes"].mean((2, 3), keepdim=True) * kept["maps"]).sum(1, keepdim=True).relu()
    expected = torch.nn.functional.interpolate(map_, size=(17, 16), mode="bilinear")[:, 0]
    found = jj.grad_cam(mine, jj.tensor(x), layer=layer, normalize=False)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-3, atol=1e-6)


def test_the_model_is_left_as_it_was():
    model = network().train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = jj.ones_like(model[4].weight)
    state = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    found = jj.grad_cam(model, jj.randn(3, 8, 8))
    assert found.shape == (1, 8, 8)
    assert not found.requires_grad
    assert [m.training for m in model] == [True, False, *[True] * 7]
    assert all(np.array_equal(v.numpy(), state[k]) for k, v in model.state_dict().items())
    assert model[8].weight.grad is None
    assert (model[4].weight.grad.numpy() == 1).all()
    assert not any(m._forward_hooks for m in model.modules())


def test_a_frozen_network_and_no_grad():
    model = network()
    for p in model.parameters():
        p.requires_grad_(False)
    x = jj.randn(2, 3, 8, 8)
    with jj.no_grad():
        found = jj.grad_cam(model, x)
    assert 0 < found.max().item() <= 1
    assert found.min().item() >= 0


@pytest.mark.parametrize(("name", "shape", "layer"), [("lenet", (2, 1, 28, 28), None), ("resnet18", (1, 3, 64, 64), "layer4"), ("mobilenet_v2", (1, 3, 64, 64), "features.18")])  # fmt: skip
def test_the_zoos_last_maps(name, shape, layer):
    model = jj.zoo.create(name, num_classes=3).eval()
    x = jj.randn(*shape)
    found = jj.grad_cam(model, x, target=1, normalize=False)
    assert found.shape == (shape[0], *shape[2:])
    if layer is not None:
        same = jj.grad_cam(model, x, target=1, layer=layer, normalize=False)
        np.testing.assert_allclose(found.numpy(), same.numpy(), rtol=1e-4, atol=1e-7)


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.used(x).mean((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jj.grad_cam(3, jj.zeros(1, 1, 4, 4)), TypeError, "must be a Module"),
        (lambda: jj.grad_cam(Odd(), np.zeros((1, 1, 4, 4))), TypeError, "not ndarray"),
        (lambda: jj.grad_cam(Odd(), jj.zeros(1, 1, 4, 4, dtype=jj.int64)), TypeError, "not a tensor of int64"),
        (lambda: jj.grad_cam(Odd(), jj.zeros(4, 4)), ValueError, r"inputs of shape \[4, 4\]"),
        (lambda: jj.grad_cam(Odd(), jj.zeros(1, 1, 4, 4), layer="conv"), ValueError, "no layer 'conv'; there are used, unused"),
        (lambda: jj.grad_cam(Odd(), jj.zeros(1, 1, 4, 4), layer=nn.ReLU()), ValueError, "no part of the model"),
        (lambda: jj.grad_cam(Odd(), jj.zeros(1, 1, 4, 4), layer="unused"), ValueError, "did not use the layer"),
        (lambda: jj.grad_cam(Odd(), jj.zeros(1, 1, 4, 4), target=2), ValueError, "between 0 and 1"),
        (lambda: jj.grad_cam(Odd(), jj.zeros(1, 1, 4, 4), target=[0, 1]), ValueError, "one for each of 1"),
        (lambda: jj.grad_cam(nn.Flatten(), jj.zeros(1, 1, 4, 4)), ValueError, "no layer of Flatten returns maps"),
        (lambda: jj.grad_cam(nn.Conv2d(1, 2, 1), jj.zeros(1, 1, 4, 4), layer=""), ValueError, "must return scores"),
        (lambda: jj.grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), jj.zeros(1, 1, 4, 4), layer="1"), ValueError, r"returns shape \[1, 2\]"),
    ],
)  # fmt: skip
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()
