"""Every architecture of the zoo: outputs, a gradient for every parameter, its contract, and PyTorch's logits."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import juanji as jj
from juanji import zoo

MODELS = [name for name in zoo.list() if name != "lenet"]
SIZE = {"alexnet": 63}


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg11_bn", "alexnet", "mobilenet_v2", "efficientnet_lite0"])
def test_every_parameter_gets_a_gradient(light, name):
    jj.manual_seed(0)
    model = light(name, num_classes=3, in_channels=1)
    size = SIZE.get(name, 33)
    scores = model(jj.randn(2, 1, size, size))
    assert tuple(scores.shape) == (2, 3)
    scores.square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert np.isfinite(parameter.grad.numpy()).all(), key
        assert float(parameter.grad.abs().max()) > 0, key


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "alexnet", "mobilenet_v2", "efficientnet_lite0"])
def test_contract(light, name):
    model = light(name, num_classes=4).eval()
    size = SIZE.get(name, 64)
    x = jj.randn(1, 3, size, size)
    with jj.no_grad():
        features = model.forward_features(x)
        assert jj.equal(model.forward_head(features), model(x))
        pooled = model.forward_head(features, pre_logits=True)
        last, maps = model.forward_intermediates(x)
        assert jj.equal(last, features)
        assert jj.equal(maps[-1], features)
        sides = [m.shape[-1] for m in maps]
        assert sides == sorted(sides, reverse=True)
        assert len(set(sides)) >= 3
        (second,) = model.forward_intermediates(x, indices=[1], intermediates_only=True)
        assert jj.equal(second, maps[1])
        model.reset_classifier(7)
        assert tuple(model(x).shape) == (1, 7)
        assert zoo.architecture(model)["arguments"]["num_classes"] == 7
        model.reset_classifier(0)
        assert jj.equal(model(x), pooled)
    with pytest.raises(IndexError, match="stage 9 does not exist"):
        model.forward_intermediates(x, indices=[9])
    with pytest.raises(ValueError, match="num_classes=-1"):
        model.reset_classifier(-1)


@pytest.mark.parametrize("name", ["resnet34", "mobilenet_v2", "efficientnet_lite1"])
def test_state_goes_round(name):
    first, second = zoo.create(name, num_classes=5), zoo.create(**_named(zoo.create(name, num_classes=5)))
    second.load_state_dict(first.state_dict())
    x = jj.randn(1, 3, 33, 33)
    with jj.no_grad():
        assert jj.equal(first.eval()(x), second.eval()(x))


def _named(model):
    record = zoo.architecture(model)
    return {"name": record["name"], **record["arguments"]}


def test_input_sizes():
    assert zoo.input_size("resnet50") == 224
    assert zoo.input_size("efficientnet_lite4") == 300
    with pytest.raises(ValueError, match="no model named 'resnet19'"):
        zoo.input_size("resnet19")


def plain():
    spec = importlib.util.spec_from_file_location("plain_torch", Path(__file__).parent / "plain_torch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NETWORKS


@pytest.mark.parametrize("name", [n for n in MODELS if not n.startswith(("vgg", "alexnet"))])
def test_logits_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = plain()[name]().eval()
    state = theirs.state_dict()
    for key, value in state.items():
        if "running_mean" in key:
            value.normal_(0, 0.1)
        elif "running_var" in key:
            value.uniform_(0.5, 2)
    ours = zoo.create(name).eval()
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == {k: tuple(v.shape) for k, v in state.items()}
    ours.load_state_dict({key: jj.tensor(value.numpy()) for key, value in state.items()})
    x = np.random.default_rng(0).standard_normal((1, 3, 33, 33)).astype(np.float32)
    with torch.no_grad(), jj.no_grad():
        expected, scores = theirs(torch.tensor(x)).numpy(), ours(jj.tensor(x)).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("name", [n for n in MODELS if n.startswith(("vgg", "alexnet"))])
def test_feature_maps_are_pytorchs(name):
    """Of the heavy ones the convolutions are compared, and the names and shapes of the rest."""
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        shapes = {key: tuple(v.shape) for key, v in plain()[name]().state_dict().items()}
    small = {k: s for k, s in shapes.items() if k.startswith("features")}
    with jj.nn.init.skipped():
        ours = zoo.create(name).eval()
    assert {key: tuple(v.shape) for key, v in ours.state_dict().items()} == shapes
    theirs = plain_features(torch, name)
    assert set(small) == {f"features.{k}" for k in theirs.state_dict()}
    for key, value in theirs.state_dict().items():
        ours.features.state_dict()[key].copy_(jj.tensor(value.numpy()))
    x = np.random.default_rng(0).standard_normal((1, 3, 63, 63)).astype(np.float32)
    with torch.no_grad(), jj.no_grad():
        expected = theirs.eval()(torch.tensor(x)).numpy()
        maps = ours.forward_features(jj.tensor(x)).numpy()
    np.testing.assert_allclose(maps, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


def plain_features(torch, name):
    """The convolutions of a heavy network, with weights; its linear layers stay without memory."""
    with torch.device("meta"):
        network = plain()[name]()
    features = network.features.to_empty(device="cpu")
    for module in features:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return features
