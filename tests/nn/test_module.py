"""Module: registration, traversal, state, hooks, modes, and what it reports as changed."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import juanji as jj
from juanji import config, nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.fc = nn.Linear(4, 3)
        self.scale = 2.0
        self.register_buffer("count", jj.zeros(1))
        self.register_buffer("scratch", jj.zeros(2), persistent=False)

    def forward(self, x):
        return self.fc(x) * self.scale


def epochs(action) -> int:
    before = config.state.epoch
    action()
    return config.state.epoch - before


class TestRegistration:
    def test_names(self):
        net = Net()
        assert [n for n, _ in net.named_parameters()] == ["conv.weight", "conv.bias", "fc.weight", "fc.bias"]
        assert [n for n, _ in net.named_buffers()] == ["count", "scratch"]
        assert [n for n, _ in net.named_modules()] == ["", "conv", "fc"]
        assert [n for n, _ in net.named_children()] == ["conv", "fc"]
        assert list(net.state_dict()) == ["count", "conv.weight", "conv.bias", "fc.weight", "fc.bias"]
        assert all(isinstance(p, nn.Parameter) and p.requires_grad and p.is_leaf for p in net.parameters())

    def test_shared_parameters_are_listed_once(self):
        net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        net[1].weight = net[0].weight
        assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
        assert len(list(net.named_parameters(remove_duplicate=False))) == 4
        assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]

    def test_a_name_moves_between_kinds(self):
        net = Net()
        net.scale = nn.Parameter(jj.ones(1))
        assert "scale" in dict(net.named_parameters())
        assert "scale" not in net.__dict__
        del net.scale
        assert not hasattr(net, "scale")

    def test_wrong_assignments(self):
        net = Net()
        with pytest.raises(TypeError, match="cannot assign 'Tensor' as parameter 'weight'"):
            net.fc.weight = jj.zeros(3, 4)
        with pytest.raises(TypeError, match="cannot assign 'int' as child module 'fc'"):
            net.fc = 3
        with pytest.raises(TypeError, match="cannot assign 'int' as buffer 'count'"):
            net.count = 3
        net.fc.bias = None
        assert net.fc.bias is None
        assert list(net.fc.state_dict()) == ["weight"]

    def test_before_init(self):
        class Early(nn.Module):
            def __init__(self):
                self.layer = nn.ReLU()

        with pytest.raises(AttributeError, match=r"cannot assign module before Module.__init__\(\) call"):
            Early()

        class Never(nn.Module):
            def __init__(self):
                self.size = 3

        with pytest.raises(AttributeError, match=r"super\(\).__init__"):
            Never()(1)

    def test_names_are_checked(self):
        net = Net()
        with pytest.raises(KeyError, match=r"must not contain"):
            net.add_module("a.b", nn.ReLU())
        with pytest.raises(KeyError, match="empty"):
            net.register_buffer("", None)
        with pytest.raises(KeyError, match="attribute 'scale' already exists"):
            net.register_parameter("scale", None)
        with pytest.raises(KeyError, match="attribute 'forward' already exists"):
            net.add_module("forward", nn.ReLU())
        with pytest.raises(TypeError, match="not a Module subclass"):
            net.add_module("x", 3)
        with pytest.raises(TypeError, match="Parameter or None required"):
            net.register_parameter("x", jj.zeros(1))
        with pytest.raises(AttributeError, match="'Net' object has no attribute 'nothing'"):
            _ = net.nothing

    def test_lookup_by_dotted_name(self):
        net = nn.Sequential(Net())
        assert net.get_submodule("0.fc") is net[0].fc
        assert net.get_submodule("") is net
        assert net.get_parameter("0.fc.bias") is net[0].fc.bias
        assert net.get_buffer("0.count") is net[0].count
        with pytest.raises(AttributeError, match="Net has no attribute `nope`"):
            net.get_submodule("0.nope")
        with pytest.raises(AttributeError, match="is not an nn"):
            net.get_parameter("0.count")

    def test_missing_forward(self):
        with pytest.raises(NotImplementedError, match='missing the required "forward"'):
            nn.Module()(1)

    def test_dir_lists_what_is_registered(self):
        assert {"conv", "count", "scale", "forward"} <= set(dir(Net()))


class TestState:
    def test_round_trip(self):
        a, b = Net(), Net()
        weight = b.fc.weight
        assert str(b.load_state_dict(a.state_dict())) == "<All keys matched successfully>"
        assert b.fc.weight is weight
        for name, value in a.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), b.state_dict()[name].numpy())

    def test_values_share_memory(self):
        net = Net()
        state = net.state_dict()
        assert not state["fc.weight"].requires_grad
        state["fc.bias"].fill_(5.0)
        assert net.fc.bias.tolist() == [5.0] * 3
        assert net.state_dict(keep_vars=True)["fc.bias"] is net.fc.bias

    def test_arrays_are_accepted(self):
        net = nn.Linear(2, 1)
        net.load_state_dict({"weight": np.array([[1.0, 2.0]]), "bias": np.array([3.0], np.float32)})
        assert net.weight.tolist() == [[1.0, 2.0]]
        assert net.bias.tolist() == [3.0]

    def test_refusals_leave_the_module_alone(self):
        net = nn.Sequential(nn.Linear(4, 3))
        before = net[0].bias.tolist()
        bad = {"0.weight": jj.zeros(3, 5), "0.bias": jj.zeros(3), "extra": jj.zeros(1)}
        with pytest.raises(RuntimeError) as error:
            net.load_state_dict(bad)
        assert str(error.value) == (
            "Error(s) in loading state_dict for Sequential:\n"
            '\tUnexpected key(s) in state_dict: "extra". \n'
            "\tsize mismatch for 0.weight: copying a param with shape (3, 5) from checkpoint, "
            "the shape in current model is (3, 4)."
        )
        assert net[0].bias.tolist() == before
        with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "0.weight", "0.bias"'):
            net.load_state_dict({})
        with pytest.raises(RuntimeError, match="size mismatch"):
            net.load_state_dict(bad, strict=False)
        with pytest.raises(RuntimeError, match="but received int"):
            net.load_state_dict({"0.weight": 3, "0.bias": jj.zeros(3)})
        with pytest.raises(TypeError, match="dict-like"):
            net.load_state_dict([1])

    def test_not_strict(self):
        net = nn.Linear(2, 1)
        result = net.load_state_dict({"bias": jj.ones(1), "other": jj.ones(1)}, strict=False)
        assert result.missing_keys == ["weight"]
        assert result.unexpected_keys == ["other"]
        assert net.bias.tolist() == [1.0]

    def test_assign_takes_the_tensors(self):
        net = nn.Linear(2, 1)
        weight, bias = nn.Parameter(jj.ones(1, 2)), jj.ones(1)
        assert epochs(lambda: net.load_state_dict({"weight": weight, "bias": bias}, assign=True)) > 0
        assert net.weight is weight
        assert isinstance(net.bias, nn.Parameter)
        bias.fill_(7.0)
        assert net.bias.tolist() == [7.0]

    def test_deepcopy(self):
        net = Net()
        net.fc(jj.ones(1, 4)).sum().backward()
        other = copy.deepcopy(net)
        assert other.fc.weight is not net.fc.weight
        assert isinstance(other.fc.weight, nn.Parameter)
        assert other.fc.weight.requires_grad
        np.testing.assert_array_equal(other.fc.weight.detach().numpy(), net.fc.weight.detach().numpy())
        other.fc.weight.detach().fill_(0.0)
        assert net.fc.weight.abs().sum().item() > 0
        assert list(other.state_dict()) == list(net.state_dict())

    def test_deepcopy_keeps_sharing(self):
        net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        net[1].weight = net[0].weight
        other = copy.deepcopy(net)
        assert other[1].weight is other[0].weight


class TestModes:
    def test_train_and_eval(self):
        net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
        assert net.eval() is net
        assert not any(m.training for m in net.modules())
        net.train()
        assert all(m.training for m in net.modules())
        with pytest.raises(ValueError, match="expected to be boolean"):
            net.train(1)

    def test_freeze(self):
        net = Net()
        assert net.freeze() is net
        assert not any(p.requires_grad for p in net.parameters())
        net.unfreeze()
        assert all(p.requires_grad for p in net.parameters())
        net.requires_grad_(False)
        assert not any(p.requires_grad for p in net.parameters())

    def test_zero_grad(self):
        net = nn.Linear(2, 1)
        net(jj.ones(1, 2)).sum().backward()
        net.zero_grad(set_to_none=False)
        assert net.weight.grad.tolist() == [[0.0, 0.0]]
        net.zero_grad()
        assert net.weight.grad is None

    def test_dtype(self):
        net = Net()
        weight = net.fc.weight
        net.fc(jj.ones(1, 4)).sum().backward()
        assert net.double() is net
        assert net.fc.weight is weight
        assert weight.dtype is jj.float64
        assert weight.is_leaf
        assert weight.requires_grad
        assert weight.grad.dtype is jj.float64
        assert net.count.dtype is jj.float64
        net.fc(jj.ones(1, 4, dtype=jj.float64)).sum().backward()
        assert net.to(jj.float32).fc.weight.dtype is jj.float32
        assert net.to("cpu", jj.float64).fc.weight.dtype is jj.float64
        assert net.to(jj.zeros(1)).fc.weight.dtype is jj.float32
        assert net.to(device="cpu") is net
        with pytest.raises(TypeError, match="floating point dtypes only"):
            net.to(jj.int64)
        with pytest.raises(ValueError, match="cuda"):
            net.to("cuda")

    def test_apply(self):
        seen = []
        net = nn.Sequential(nn.ReLU(), nn.Tanh())
        net.apply(lambda m: seen.append(type(m).__name__))
        assert seen == ["ReLU", "Tanh", "Sequential"]


class TestHooks:
    def test_order_and_replacement(self):
        layer, log = nn.Identity(), []
        layer.register_forward_pre_hook(lambda m, args: log.append("pre") or (args[0] + 1,))
        layer.register_forward_hook(lambda m, args, out: log.append("post") or out * 10)
        layer.register_forward_hook(lambda m, args, out: log.append("first"), prepend=True)
        assert layer(jj.tensor([1.0])).tolist() == [20.0]
        assert log == ["pre", "first", "post"]

    def test_keywords(self):
        class Scale(nn.Module):
            def forward(self, x, *, by):
                return x * by

        layer, seen = Scale(), []
        layer.register_forward_pre_hook(lambda m, a, k: (a, {"by": k["by"] + 1}), with_kwargs=True)
        layer.register_forward_hook(lambda m, a, k, out: seen.append(k["by"]), with_kwargs=True)
        assert layer(jj.tensor([2.0]), by=2).tolist() == [6.0]
        assert seen == [3]

    def test_removal(self):
        layer, log = nn.Identity(), []
        handle = layer.register_forward_hook(lambda m, a, out: log.append(1))
        layer(1)
        handle.remove()
        handle.remove()
        layer(1)
        with layer.register_forward_pre_hook(lambda m, a: log.append(2)):
            layer(1)
        layer(1)
        assert log == [1, 2]

    def test_always_call(self):
        class Fails(nn.Module):
            def forward(self, x):
                raise ValueError("no")

        layer, log = Fails(), []
        layer.register_forward_hook(lambda m, a, out: log.append("always"), always_call=True)
        layer.register_forward_hook(lambda m, a, out: log.append("never"))
        with pytest.raises(ValueError, match="no"):
            layer(1)
        assert log == ["always"]


class TestChanges:
    def test_reported_when_something_changes(self):
        net = Net()
        net.eval()
        assert epochs(net.eval) == 0
        assert epochs(net.train) == 3
        assert epochs(lambda: setattr(net, "scale", 2.0)) == 0
        assert epochs(lambda: setattr(net, "scale", 2)) == 1
        assert epochs(lambda: setattr(net, "scale", 0.0)) == 1
        assert epochs(lambda: setattr(net, "scale", -0.0)) == 1
        assert epochs(lambda: setattr(net, "fc", net.fc)) == 0
        assert epochs(lambda: setattr(net, "count", jj.zeros(1))) == 1
        assert epochs(lambda: setattr(net.fc, "bias", None)) == 1
        assert epochs(lambda: delattr(net, "scale")) == 1
        assert epochs(lambda: net.register_forward_hook(print)) == 1

    def test_first_assignments_count_once_someone_may_have_looked(self):
        net = Net()
        assert epochs(lambda: setattr(net, "more", 1)) == 0
        net(jj.zeros(1, 4))
        assert epochs(lambda: setattr(net, "later", 1)) == 1
        other = Net()
        assert not hasattr(other, "absent")
        assert epochs(lambda: setattr(other, "absent", 1)) == 1

    def test_loading_values_is_no_change(self):
        a, b = Net(), Net()
        assert epochs(lambda: b.load_state_dict(a.state_dict())) == 0


class TestParameter:
    def test_shares_memory(self):
        data = jj.zeros(2)
        p = nn.Parameter(data)
        data.fill_(1.0)
        assert p.tolist() == [1.0, 1.0]
        assert p.is_leaf
        assert p.requires_grad
        assert not data.requires_grad
        assert type(p + 1) is jj.Tensor
        assert type(p.detach()) is jj.Tensor

    def test_of_a_view(self):
        data = jj.zeros(2, 2)
        p = nn.Parameter(data[1])
        with jj.no_grad():
            p.add_(1.0)
        assert data.tolist() == [[0.0, 0.0], [1.0, 1.0]]

    def test_without_gradient(self):
        p = nn.Parameter(jj.zeros(2), requires_grad=False)
        assert isinstance(p, nn.Parameter)
        assert not p.requires_grad

    def test_repr_and_refusals(self):
        assert repr(nn.Parameter(jj.zeros(1))) == "Parameter containing:\ntensor([0.], requires_grad=True)"
        with pytest.raises(TypeError, match="data must be a Tensor, not list"):
            nn.Parameter([1.0])
        with pytest.raises(RuntimeError, match="floating point"):
            nn.Parameter(jj.zeros(2, dtype=jj.int64))

    def test_usable_as_dictionary_key(self):
        p, q = nn.Parameter(jj.zeros(2)), nn.Parameter(jj.zeros(2))
        assert {p: 1, q: 2}[p] == 1
