"""Interpolation and sampling at given places against PyTorch, their gradients, and what they refuse."""

import itertools
import math

import numpy as np
import pytest

import juanji as jj
from juanji.nn import functional as F

MODES = [
    ("nearest", 1), ("nearest", 2), ("nearest", 3), ("nearest-exact", 2), ("area", 1), ("area", 2), ("area", 3),
    ("linear", 1), ("bilinear", 2), ("bicubic", 2), ("trilinear", 3),
]  # fmt: skip
SIZES = [
    {"size": (7, 5, 3)},
    {"size": 1},
    {"scale_factor": (1.7, 0.6, 2.0)},
    {"scale_factor": 2.0},
    {"scale_factor": 1.6, "recompute_scale_factor": True},
]


def same(torch, ours, theirs, *arrays, tolerance=1e-6):
    """Values and gradients of two functions of the same arrays."""
    mine = [jj.tensor(a, requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*mine), theirs(*other)
    assert tuple(y.shape) == tuple(z.shape)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=tolerance, atol=tolerance)
    g = np.random.default_rng(5).standard_normal(tuple(z.shape))
    first = jj.autograd.grad(y, mine, jj.tensor(g))
    second = torch.autograd.grad(z, other, torch.tensor(g))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("mode", "rank"), MODES)
def test_interpolation_is_pytorchs(torch, mode, rank):
    x = np.random.default_rng(rank).standard_normal((2, 2, 6, 4, 5)[: rank + 2])
    linear = mode in ("linear", "bilinear", "bicubic", "trilinear")
    for given in SIZES:
        chosen = {k: v[:rank] if isinstance(v, tuple) else v for k, v in given.items()}
        for corners in (None, True) if linear else (None,):
            for antialias in (False, True) if mode in ("bilinear", "bicubic") else (False,):
                arguments = {**chosen, "mode": mode, "align_corners": corners, "antialias": antialias}
                same(
                    torch,
                    lambda t, k=arguments: F.interpolate(t, **k),
                    lambda t, k=arguments: torch.nn.functional.interpolate(t, **k),
                    x,
                )


def test_what_is_not_read_does_not_spread():
    x = jj.tensor([[[1.0, 2.0, math.nan, 4.0, 5.0, 6.0]]])
    assert np.isnan(F.interpolate(x, size=3, mode="area").numpy()).ravel().tolist() == [False, True, False]
    smooth = F.interpolate(x.unsqueeze(2), size=(1, 2), mode="bilinear", antialias=True).numpy().ravel()
    assert np.isnan(smooth).tolist() == [True, True]
    assert F.interpolate(x, scale_factor=2).numpy().ravel()[:4].tolist() == [1, 1, 2, 2]


def test_bytes_are_rounded(torch):
    x = np.random.default_rng(0).integers(0, 256, (1, 2, 9, 7), np.uint8)
    for size in ((4, 4), (5, 13)):
        found = F.interpolate(jj.tensor(x), size, mode="bilinear", antialias=True)
        assert found.dtype is jj.uint8
        exact = torch.nn.functional.interpolate(torch.tensor(x), size, mode="bilinear", antialias=True).numpy()
        np.testing.assert_array_equal(found.numpy(), exact)


def test_interpolation_of_integers_by_whole_factors():
    x = jj.arange(4).reshape(1, 1, 2, 2)
    assert F.interpolate(x, scale_factor=(1, 2)).tolist() == [[[[0, 0, 1, 1], [2, 2, 3, 3]]]]
    with pytest.raises(RuntimeError, match="not available for juanji.int64"):
        F.interpolate(x, 3, mode="bilinear")


def test_upsampling_layers_and_old_names(torch):
    x = jj.tensor(np.random.default_rng(0).standard_normal((1, 2, 3, 4)))
    for made in (
        "Upsample(scale_factor=2)", "Upsample((4, 5), mode='bicubic')", "Upsample(scale_factor=(2, 3))",
        "UpsamplingNearest2d(scale_factor=2)", "UpsamplingBilinear2d((5, 7))",
    ):  # fmt: skip
        ours, theirs = eval(made, vars(jj.nn)), eval(made, vars(torch.nn))
        assert repr(ours) == repr(theirs)
        np.testing.assert_allclose(ours(x).numpy(), theirs(torch.tensor(x.numpy())).numpy(), rtol=1e-6, atol=1e-6)
    for call, expected in (
        (lambda: F.upsample(x, 6, mode="bilinear"), F.interpolate(x, 6, mode="bilinear")),
        (lambda: F.upsample_nearest(x, 6), F.interpolate(x, 6)),
        (lambda: F.upsample_bilinear(x, 6), F.interpolate(x, 6, mode="bilinear", align_corners=True)),
    ):
        with pytest.warns(UserWarning, match="is deprecated. Use `nn.functional.interpolate`") as caught:
            assert call().tolist() == expected.tolist()
        assert caught[0].filename == __file__


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_sampling_is_pytorchs(torch, mode, padding, corners):
    r = np.random.default_rng(3)
    for shape, places in (
        ((2, 3, 5, 4), (2, 6, 3, 2)),
        ((1, 2, 1, 1), (1, 2, 2, 2)),
        ((2, 2, 3, 4, 5), (2, 2, 3, 2, 3)),
    ):
        if len(shape) == 5 and mode == "bicubic":
            continue
        arguments = {"mode": mode, "padding_mode": padding, "align_corners": corners}
        same(
            torch,
            lambda x, g, k=arguments: F.grid_sample(x, g, **k),
            lambda x, g, k=arguments: torch.nn.functional.grid_sample(x, g, **k),
            r.standard_normal(shape),
            r.uniform(-2.5, 2.5, places),
        )


def test_places_that_are_no_numbers_are_pytorchs(torch):
    x = np.random.default_rng(0).standard_normal((1, 1, 3, 4))
    g = np.array([[[[np.nan, 0.0], [np.inf, 0], [-np.inf, 0.5], [1e30, 0], [-1.0, 1.0], [1.0, -1.0]]]])
    for mode, padding in itertools.product(("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")):
        expected = torch.nn.functional.grid_sample(torch.tensor(x), torch.tensor(g), mode, padding, False).numpy()
        found = F.grid_sample(jj.tensor(x), jj.tensor(g), mode, padding, False).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior has changed:UserWarning")
@pytest.mark.parametrize("corners", [False, True])
def test_affine_grids_are_pytorchs(torch, corners):
    r = np.random.default_rng(4)
    for size, shape in (((2, 3, 4, 5), (2, 2, 3)), ((2, 1, 2, 3, 4), (2, 3, 4)), ((1, 1, 1, 1), (1, 2, 3))):
        same(
            torch,
            lambda t, s=size: F.affine_grid(t, s, corners),
            lambda t, s=size: torch.nn.functional.affine_grid(t, s, corners),
            r.standard_normal(shape),
        )


def test_second_derivatives(gradcheck):
    r = np.random.default_rng(6)
    x, g = r.standard_normal((1, 2, 4, 3)), r.uniform(-0.9, 0.9, (1, 2, 2, 2))
    gradcheck(lambda a, b: F.grid_sample(a, b, align_corners=False), x, g, order=2)
    gradcheck(lambda a, b: F.grid_sample(a, b, "bicubic", "border", True), x, g, order=2, tolerance=1e-5)
    gradcheck(lambda a: F.interpolate(a * a, (3, 5), mode="bicubic"), x, order=2)


def test_a_spatial_transformer_in_a_captured_step():
    theta = jj.tensor([[[0.8, 0.1, 0.05], [-0.1, 0.9, 0.0]]], requires_grad=True)
    x = jj.randn(1, 2, 6, 5)

    def step(image):
        grid = F.affine_grid(theta, (1, 2, 4, 4), align_corners=False)
        warped = F.grid_sample(image, grid, align_corners=False)
        loss = (F.interpolate(warped, scale_factor=2.0, mode="bilinear") ** 2).mean()
        return loss, *jj.autograd.grad(loss, theta)

    compiled = jj.compile(step)
    for _ in range(3):
        for a, b in zip(compiled(x), step(x), strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: F.interpolate(x), ValueError, "only one of size and scale_factor"),
        (lambda x: F.interpolate(x, 2, 2.0), ValueError, "only one of size and scale_factor"),
        (lambda x: F.interpolate(x, (2, 3, 4)), ValueError, "must be one number or 2"),
        (lambda x: F.interpolate(x, 0), RuntimeError, "must be greater than 0"),
        (lambda x: F.interpolate(x, 2.5), TypeError, "must be integers"),
        (lambda x: F.interpolate(x, scale_factor=0.1), RuntimeError, "leaves nothing"),
        (lambda x: F.interpolate(x, 2, mode="linear"), ValueError, "needs an input of 3 dimensions"),
        (lambda x: F.interpolate(x, 2, mode="cubic"), ValueError, "mode='cubic' is not valid"),
        (lambda x: F.interpolate(x, 2, align_corners=True), ValueError, "can only be set"),
        (lambda x: F.interpolate(x, 2, antialias=True), ValueError, "antialias needs mode"),
        (lambda x: F.interpolate(x, 2, recompute_scale_factor=True), ValueError, "not meaningful"),
        (lambda x: F.interpolate(x[:, :0], 2), RuntimeError, "non-empty"),
        (lambda x: F.grid_sample(x, jj.zeros(1, 2, 2, 3), align_corners=False), RuntimeError, "and 2 coordinates"),
        (lambda x: F.grid_sample(x, jj.zeros(2, 2, 2, 2), align_corners=False), RuntimeError, "the batch size 1"),
        (lambda x: F.grid_sample(x, jj.zeros(1, 2, 2), align_corners=False), RuntimeError, "expected 4D or 5D"),
        (lambda x: F.grid_sample(x, jj.zeros(1, 2, 2, 2), "cubic"), ValueError, "mode='cubic' must be"),
        (lambda x: F.grid_sample(x, jj.zeros(1, 2, 2, 2), padding_mode="edge"), ValueError, "padding_mode='edge'"),
        (lambda x: F.affine_grid(jj.zeros(1, 2, 3), (1, 1, 0, 2), False), ValueError, "non-zero, positive"),
        (lambda x: F.affine_grid(jj.zeros(1, 2, 2), (1, 1, 2, 2), False), RuntimeError, "batch of 2D affine"),
        (lambda x: F.affine_grid(jj.zeros(1, 2, 3), (1, 1, 2), False), ValueError, "must be"),
    ],
)
def test_refusals(call, error, text):
    with pytest.raises(error, match=text):
        call(jj.zeros(1, 2, 3, 4))


def test_alignment_not_given_warns():
    with pytest.warns(UserWarning, match="align_corners=False since 1.3.0") as caught:
        F.grid_sample(jj.zeros(1, 1, 2, 2), jj.zeros(1, 1, 1, 2))
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="align_corners=False since 1.3.0"):
        F.affine_grid(jj.zeros(1, 2, 3), (1, 1, 2, 2))
