"""The layer table: shapes, parameters, multiply-adds and receptive fields, against hand counts and gradients."""

import numpy as np
import pytest

import juanji as jj
from juanji import nn


class Residual(nn.Module):
    """Two convolutions beside a strided shortcut."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.shortcut = nn.Conv2d(2, 4, 1, stride=2)

    def forward(self, x):
        return (self.second(self.first(x).relu()) + self.shortcut(x)).relu()


def by_name(table):
    return {row.name: row for row in table.rows}


def test_lenet_by_hand():
    table = jj.summary(jj.zoo.create("lenet"), (1, 1, 28, 28))
    rows = by_name(table)
    assert rows["conv1"].output == (1, 6, 26, 26)
    assert rows["conv1"].parameters == 6 * 9 + 6
    assert rows["conv1"].multiply_adds == 26 * 26 * 6 * 9
    assert rows["conv2"].multiply_adds == 11 * 11 * 16 * 6 * 9
    assert rows["fc1"].multiply_adds == 400 * 120
    assert str(rows["conv2"].receptive_field) == "8x8"
    assert table.multiply_adds == sum(rows[n].multiply_adds for n in ("conv1", "conv2", "fc1", "fc2", "fc3"))
    assert table.parameters == sum(p.numel() for p in jj.zoo.create("lenet").parameters())


def extent(model, size, rank=2):
    """How much of the input the middle output depends on, by its gradient; all weights positive, so nothing cancels."""
    with jj.no_grad():
        for p in model.parameters():
            p.copy_(p.abs() + 0.1)
    x = jj.ones(1, 2, *[size] * rank, requires_grad=True)
    y = model(x)
    y[(0, 0, *[e // 2 for e in y.shape[2:]])].backward()
    hit = np.argwhere(x.grad.numpy()[0, 0])
    return tuple(int(v) for v in hit.max(0) - hit.min(0) + 1)


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 5, stride=2), nn.Conv2d(3, 1, 3)),
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3, dilation=3), nn.AvgPool2d(3, stride=2), nn.Conv2d(3, 1, 3)),
        Residual,
    ],
    ids=["stride", "dilation", "residual"],
)
def test_receptive_field_is_what_the_gradient_reaches(build):
    model = build()
    field = jj.summary(model, (1, 2, 41, 41)).rows[0].receptive_field
    assert tuple(map(int, field.size)) == extent(model, 41)


def mixed(*layers):
    return lambda: nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("rank", "build"),
    [
        (1, mixed(nn.Conv1d(2, 3, 3, padding=1, padding_mode="reflect"), nn.AvgPool1d(2), nn.Conv1d(3, 1, 3))),
        (3, mixed(nn.Conv3d(2, 2, (1, 3, 3)), nn.AvgPool3d((2, 2, 3)), nn.Conv3d(2, 1, (2, 1, 2)))),
        (2, mixed(nn.ReplicationPad2d(2), nn.Conv2d(2, 8, 3), nn.PixelShuffle(2), nn.Conv2d(2, 1, 3))),
        (2, mixed(nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 1, 3))),
        (2, mixed(nn.AvgPool2d(2), nn.Softmax(1), nn.Conv2d(2, 1, 3), nn.GELU())),
        (2, mixed(nn.CircularPad2d(1), nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2).eval(), nn.LPPool2d(2, 2))),
    ],
)
def test_receptive_field_through_compositions(rank, build):
    model = build().eval()
    field = jj.summary(model, (1, 2, *[16] * rank)).rows[0].receptive_field
    reach = extent(model, 16, rank)
    assert field.size == reach


@pytest.mark.parametrize(
    "layer",
    [
        nn.Softmax(2),
        nn.GroupNorm(1, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Unfold(3),
        nn.Upsample(9, mode="bilinear"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_mixes_all_places_sees_all(layer):
    field = jj.summary(nn.Sequential(nn.Conv2d(2, 2, 3), layer), (1, 2, 9, 9)).rows[0].receptive_field
    assert str(field) == "all"


def test_calls_add_up_and_the_model_is_left_as_it_was():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.Dropout(0.5), layer)
    model.train()
    layer.weight.requires_grad_(False)
    table = jj.summary(model, jj.ones(3, 4))
    rows = by_name(table)
    assert rows["0"].calls == 2
    assert rows["0"].multiply_adds == 2 * 3 * 16
    assert (table.parameters, table.trainable) == (20, 4)
    assert model.training
    assert model[1].training
    assert layer.weight.grad is None
    assert not layer._forward_hooks
    assert "16 of them frozen" in str(table)
    assert "<table>" in table._repr_html_()


def test_several_inputs_and_integers():
    class Two(nn.Module):
        def forward(self, a, index):
            return a[:, :, 1:] * 2 + index.sum()

    table = jj.summary(Two(), [(1, 1, 4, 4), jj.arange(3)])
    assert table.input == [(1, 1, 4, 4), (3,)]
    assert table.rows[0].output == (1, 1, 3, 4)


def test_errors_say_what_is_wanted():
    with pytest.raises(TypeError, match="must be a Module, not int"):
        jj.summary(3, (1, 1))
    with pytest.raises(TypeError, match="must be a tensor, a shape"):
        jj.summary(nn.ReLU(), "x")
