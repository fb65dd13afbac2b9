"""Losses against PyTorch: every argument, edges, gradients; old arguments and refusals."""

import math

import numpy as np
import pytest

import juanji as jj
from juanji import nn
from juanji.nn import functional as F

random = np.random.default_rng(3)
A, B, C = (random.standard_normal((4, 5)) for _ in range(3))
P, Q = random.uniform(0.05, 0.95, (4, 5)), random.uniform(0, 1, (4, 5))
SIGNS = np.where(random.random((4, 5)) < 0.5, -1.0, 1.0)
WEIGHT = random.uniform(0.2, 2, (4, 5))
CLASSES = np.array([1, 0, 4, 2])
LABELS = np.array([[1, 3, -1, 2, 0], [-1, 0, 1, 2, 3], [4, 0, 1, 2, 3], [2, 2, -1, -1, 0]])

#: name -> (tensors that may have gradients, other tensors, arguments); one row a variant.
CASES = [
    ("mse_loss", (A, B), (), {}),
    ("mse_loss", (A, B), (), {"weight": WEIGHT}),
    ("l1_loss", (A, B), (), {}),
    ("l1_loss", (A, B), (), {"weight": WEIGHT}),
    ("smooth_l1_loss", (A, B), (), {"beta": 0.7}),
    ("smooth_l1_loss", (A, B), (), {"beta": 0}),
    ("huber_loss", (A, B), (), {"delta": 0.7}),
    ("huber_loss", (A, B), (), {"weight": WEIGHT}),
    ("binary_cross_entropy", (P, Q), (), {"weight": WEIGHT[0]}),
    ("binary_cross_entropy_with_logits", (A, Q), (), {"weight": WEIGHT[0], "pos_weight": WEIGHT}),
    ("binary_cross_entropy_with_logits", (A, Q), (), {}),
    ("kl_div", (A, P), (), {}),
    ("kl_div", (A, B), (), {"log_target": True}),
    ("poisson_nll_loss", (A, Q * 4), (), {"full": True}),
    ("poisson_nll_loss", (P, Q), (), {"log_input": False}),
    ("gaussian_nll_loss", (A, B, P), (), {"full": True}),
    ("gaussian_nll_loss", (A, B, P[:, :1]), (), {}),
    ("gaussian_nll_loss", (A, B, P[:, 0]), (), {"eps": 0.4}),
    ("hinge_embedding_loss", (A,), (SIGNS,), {"margin": 0.4}),
    ("margin_ranking_loss", (A, B), (SIGNS,), {"margin": 0.3}),
    ("soft_margin_loss", (A,), (SIGNS,), {}),
    ("multilabel_soft_margin_loss", (A,), (Q,), {"weight": WEIGHT[0]}),
    ("multilabel_margin_loss", (A,), (LABELS,), {}),
    ("multilabel_margin_loss", (A[0],), (LABELS[0],), {}),
    ("multi_margin_loss", (A,), (CLASSES,), {"margin": 0.6, "weight": WEIGHT[0]}),
    ("multi_margin_loss", (A,), (CLASSES,), {"p": 2}),
    ("multi_margin_loss", (A[0],), (CLASSES[0],), {}),
    ("triplet_margin_loss", (A, B, C), (), {"swap": True, "margin": 1.3}),
    ("triplet_margin_loss", (A, B, C), (), {"p": 1, "eps": 1e-3}),
    ("cosine_embedding_loss", (A, B), (SIGNS[:, 0],), {"margin": -0.1}),
    ("cosine_embedding_loss", (A[0], B[0]), (SIGNS[0, 0],), {}),
    ("nll_loss", (A,), (CLASSES,), {"weight": WEIGHT[0], "ignore_index": 0}),
    ("cross_entropy", (A,), (CLASSES,), {"weight": WEIGHT[0], "label_smoothing": 0.2}),
    ("pairwise_distance", (A, B), (), {"keepdim": True}),
]


def computed(library, functional, case, reduction):
    name, leaves, others, arguments = case
    as_tensor = lambda v: library.tensor(v) if isinstance(v, (np.ndarray, np.number)) else v  # noqa: E731
    tensors = [library.tensor(v, requires_grad=True) for v in leaves]
    extra = {} if name == "pairwise_distance" else {"reduction": reduction}
    loss = getattr(functional, name)(
        *tensors, *map(as_tensor, others), **{k: as_tensor(v) for k, v in arguments.items()}, **extra
    )
    seed = library.tensor(np.linspace(0.5, 1.5, loss.numel()).reshape(tuple(loss.shape)))
    grads = library.autograd.grad(loss, tensors, seed)
    return [t.detach().numpy() for t in (loss, *grads)]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_values_and_gradients_are_pytorchs(torch, case, reduction):
    expected = computed(torch, torch.nn.functional, case, reduction)
    found = computed(jj, F, case, reduction)
    for theirs, ours in zip(expected, found, strict=True):
        assert theirs.shape == ours.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("case", [CASES[i] for i in (4, 6, 9, 13, 15, 20, 24, 27, 29)], ids=lambda c: c[0])
def test_second_derivatives(gradcheck, case):
    name, leaves, others, arguments = case
    fixed = [jj.tensor(v) for v in others]
    given = {k: jj.tensor(v) if isinstance(v, np.ndarray) else v for k, v in arguments.items()}
    gradcheck(lambda *x: getattr(F, name)(*x, *fixed, **given), *leaves, order=2)


def test_edges_of_probabilities():
    x = jj.tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True)
    t = jj.tensor([0.0, 1.0, 1.0, 0.0])
    loss = F.binary_cross_entropy(x, t, reduction="none")
    assert loss.tolist() == [0, 0, 100, 100]
    loss.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [0, 0, -1e12, 1e12], rtol=1e-6)
    x = jj.tensor([1e4, -1e4, math.inf], requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(x, jj.tensor([0.0, 0.0, 1.0]), reduction="none")
    assert loss.tolist()[:2] == [1e4, 0]
    t = jj.tensor([0.0, 0.5], requires_grad=True)
    F.kl_div(jj.tensor([-3.0, -1.0]), t, reduction="sum").backward()
    assert np.isfinite(t.grad.numpy()).all()


def test_large_differences_have_finite_gradients():
    x = jj.tensor([3e30, -3e30], requires_grad=True)
    (F.smooth_l1_loss(x, jj.zeros(2), reduction="sum") + F.huber_loss(x, jj.zeros(2), "sum", delta=2.0)).backward()
    assert x.grad.tolist() == [3, -3]


def test_batchmean():
    x, t = jj.tensor(np.log(P)), jj.tensor(Q)
    total = F.kl_div(x, t, reduction="sum").item()
    assert F.kl_div(x, t, reduction="batchmean").item() == pytest.approx(total / 4)
    assert nn.KLDivLoss(reduction="batchmean")(x, t).item() == pytest.approx(total / 4)


@pytest.mark.parametrize(
    ("size_average", "reduce", "reduction"),
    [(True, True, "mean"), (False, None, "sum"), (None, False, "none"), (True, False, "none"), (None, True, "mean")],
)
def test_old_arguments_warn_and_mean_what_they_meant(size_average, reduce, reduction):
    x, y = jj.tensor(A), jj.tensor(B)
    expected = F.mse_loss(x, y, reduction=reduction).tolist()
    with pytest.warns(UserWarning, match=f"please use reduction='{reduction}' instead") as caught:
        assert F.mse_loss(x, y, size_average, reduce).tolist() == expected
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="size_average and reduce args will be deprecated") as caught:
        layer = nn.MSELoss(size_average, reduce)
    assert layer(x, y).tolist() == expected


def test_shapes_that_differ_warn():
    for function in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss):
        with pytest.warns(UserWarning, match="is different to the input size") as caught:
            assert function(jj.zeros(3, 1), jj.ones(3), reduction="none").shape == (3, 3)
        assert caught[0].filename == __file__


def test_a_distance_of_ones_own():
    def distance(a, b):
        return (a - b).abs().sum(-1)

    tensors = [jj.tensor(v) for v in (A, B, C)]
    expected = F.triplet_margin_loss(*tensors, p=1, eps=0.0).item()
    assert F.triplet_margin_with_distance_loss(*tensors, distance_function=distance).item() == pytest.approx(expected)
    layer = nn.TripletMarginWithDistanceLoss(distance_function=distance)
    assert layer(*tensors).item() == pytest.approx(expected)
    usual = nn.TripletMarginWithDistanceLoss()(*tensors).item()
    assert usual == pytest.approx(F.triplet_margin_loss(*tensors).item())


def test_losses_in_a_captured_step():
    def step(x, labels, classes):
        return (
            F.multilabel_margin_loss(x, labels)
            + F.multi_margin_loss(x, classes)
            + F.binary_cross_entropy(F.sigmoid(x), x * 0)
            + F.gaussian_nll_loss(x, x * 2, 2.0)
        )

    arguments = jj.tensor(A), jj.tensor(LABELS), jj.tensor(CLASSES)
    assert jj.compile(step)(*arguments).item() == pytest.approx(step(*arguments).item(), rel=1e-12)


def test_modules_have_pytorchs_arguments_and_state(torch):
    for made in (
        "L1Loss(reduction='sum')", "SmoothL1Loss(beta=2.0)", "HuberLoss('none', 2.0)", "MSELoss()", "BCELoss()",
        "BCEWithLogitsLoss(lib.ones(5))", "KLDivLoss(log_target=True)", "PoissonNLLLoss(False, True)",
        "GaussianNLLLoss(full=True)", "HingeEmbeddingLoss(2.0)", "MarginRankingLoss(0.5)", "SoftMarginLoss()",
        "MultiLabelSoftMarginLoss(lib.ones(5))", "MultiLabelMarginLoss()", "MultiMarginLoss(2, 0.5)",
        "TripletMarginLoss(0.5, 1)", "CosineEmbeddingLoss(0.1)", "NLLLoss(lib.ones(5))", "CrossEntropyLoss(lib.ones(5))",
    ):  # fmt: skip
        ours = eval("lib.nn." + made, {"lib": jj})
        theirs = eval("lib.nn." + made, {"lib": torch})
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert repr(ours) == repr(theirs)
        assert ours.reduction == theirs.reduction


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.l1_loss(jj.zeros(2), jj.zeros(2), reduction="avg"), ValueError, "'avg' is not a valid value"),
        (lambda: F.mse_loss(jj.zeros(2), jj.zeros(2), weight=jj.ones(3)), ValueError, "weight \\[3\\] must have"),
        (lambda: F.mse_loss(jj.arange(2), jj.arange(2)), RuntimeError, "must be floating point"),
        (lambda: F.smooth_l1_loss(jj.zeros(2), jj.zeros(2), beta=-1), RuntimeError, "beta=-1 must not be negative"),
        (lambda: F.huber_loss(jj.zeros(2), jj.zeros(2), delta=0), RuntimeError, "delta=0 must be greater"),
        (lambda: F.binary_cross_entropy(jj.ones(2) * 2, jj.ones(2)), RuntimeError, "reach from 2.0 to 2.0"),
        (lambda: F.binary_cross_entropy(jj.ones(2), jj.ones(3)), ValueError, "target of shape \\[3\\]"),
        (lambda: F.binary_cross_entropy_with_logits(jj.ones(2), jj.ones(3)), ValueError, "must be the input size"),
        (lambda: F.gaussian_nll_loss(jj.ones(2), jj.ones(2), jj.ones(3)), ValueError, "var of shape \\[3\\]"),
        (lambda: F.gaussian_nll_loss(jj.ones(2), jj.ones(2), -jj.ones(2)), ValueError, "negative entries"),
        (lambda: F.gaussian_nll_loss(jj.ones(2), jj.ones(2), -1.0), ValueError, "var=-1.0"),
        (lambda: F.multi_margin_loss(jj.ones(2, 3), jj.tensor([0, 3])), RuntimeError, "classes from 0 to 3"),
        (lambda: F.multi_margin_loss(jj.ones(2, 3), jj.tensor([0])), RuntimeError, "expected \\[2\\] but got \\[1\\]"),
        (lambda: F.multi_margin_loss(jj.ones(2, 3), jj.tensor([0, 1]), p=3), ValueError, "not p=3"),
        (lambda: F.multilabel_margin_loss(jj.ones(2, 3), jj.ones(2).long()), RuntimeError, "inconsistent target size"),
        (lambda: F.margin_ranking_loss(jj.ones(2), jj.ones(2), jj.ones(1, 2)), RuntimeError, "same dimension"),
        (lambda: F.cosine_embedding_loss(jj.ones(2), jj.ones(2), jj.ones(2)), RuntimeError, "expects 2D input"),
        (lambda: nn.TripletMarginLoss(0.0), ValueError, "margin=0.0 must be greater than 0"),
        (lambda: F.nll_loss([1.0], jj.tensor(0)), TypeError, "must be a Tensor"),
    ],
)
def test_refusals(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_linear_of_integers():
    x, w = jj.arange(6).reshape(2, 3), jj.tensor([[1, 0, -1], [2, 2, 2]])
    assert F.linear(x, w, jj.tensor([10, 20])).tolist() == [[8, 26], [8, 44]]
