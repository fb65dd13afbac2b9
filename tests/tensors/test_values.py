"""Element types, numbers, NumPy in and out, indexing, reductions, and how tensors are made and shown."""

import itertools
import math

import numpy as np
import pytest

import juanji as jj

DTYPES = (jj.bool, jj.uint8, jj.int8, jj.int16, jj.int32, jj.int64, jj.float32, jj.float64)


# -- element types -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("a", "b"), list(itertools.combinations_with_replacement(DTYPES, 2)), ids=str)
def test_promotion_equals_pytorch(torch, a, b):
    """Tensors with dimensions, without, and numbers, in every pairing."""
    for shape_a, shape_b in (((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())):
        mine = jj.zeros(shape_a, dtype=a) + jj.zeros(shape_b, dtype=b)
        theirs = torch.zeros(shape_a, dtype=getattr(torch, a.name)) + torch.zeros(shape_b, dtype=getattr(torch, b.name))
        assert str(theirs.dtype) == f"torch.{mine.dtype.name}"
    for number in (True, 2, 2.0):
        for shape in ((2,), ()):
            mine, theirs = jj.ones(shape, dtype=a) * number, torch.ones(shape, dtype=getattr(torch, a.name)) * number
            assert str(theirs.dtype) == f"torch.{mine.dtype.name}"


def test_results_of_division_and_functions_of_integers():
    x = jj.tensor([1, 2, 3])
    assert (x / 2).tolist() == [0.5, 1.0, 1.5]
    assert (x / 2).dtype is jj.float32
    assert (x // 2).tolist() == [0, 1, 1]
    assert (7 // x).tolist() == [7, 3, 2]
    assert (-x % 2).tolist() == [1, 0, 1]
    assert (jj.tensor([-7.0, 7.0]) % jj.tensor([3.0, -3.0])).tolist() == [2.0, -2.0]
    assert x.sqrt().dtype is jj.float32
    assert x.exp().dtype is jj.float32
    assert (x**2).dtype is jj.int64
    assert x.sum().dtype is jj.int64
    assert jj.tensor([True, True]).sum().item() == 2
    assert jj.tensor([200, 100], dtype=jj.uint8).sum().item() == 300
    assert (jj.tensor([200], dtype=jj.uint8) + 100).tolist() == [44]
    assert (x > 1).dtype is jj.bool
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        x // 0
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        x % jj.tensor([1, 0, 1])


def test_what_numbers_do_not_do():
    flags = jj.tensor([True, False])
    for refused in (
        lambda: -flags,
        lambda: flags - flags,
        lambda: flags - 1,
        lambda: abs(flags),
        lambda: flags.argmax(),
    ):
        with pytest.raises(RuntimeError, match="bool"):
            refused()
    for refused in (
        lambda: jj.ones(2) & jj.ones(2),
        lambda: ~jj.ones(2),
        lambda: jj.ones(2) | 1,
        lambda: 1 ^ jj.ones(2),
    ):
        with pytest.raises(TypeError, match="only for integers and bools"):
            refused()
    with pytest.raises(TypeError, match="complex numbers are not supported"):
        jj.ones(2) * 1j
    for refused in (
        lambda: jj.ones(2) + "1",
        lambda: "1" * jj.ones(2),
        lambda: jj.ones(2) < None,
        lambda: jj.ones(2) ** "2",
    ):
        with pytest.raises(TypeError):
            refused()
    assert (jj.ones(2) == "a") is False
    with pytest.raises(RuntimeError, match="mean: input must be floating point, not juanji.int64"):
        jj.tensor([1, 2]).mean()
    with pytest.raises(RuntimeError, match="negative integer powers"):
        jj.tensor([1, 2]) ** -1


def test_bits():
    a, b = jj.tensor([5, 3]), jj.tensor([6, 3])
    assert [(a & b).tolist(), (a | b).tolist(), (a ^ b).tolist(), (~a).tolist()] == [[4, 3], [7, 3], [3, 0], [-6, -4]]
    t, f = jj.tensor([True, True]), jj.tensor([True, False])
    assert [(t & f).tolist(), (t ^ f).tolist(), (~f).tolist()] == [[True, False], [False, True], [False, True]]
    assert jj.tensor([0.0, 2.0]).logical_not().tolist() == [True, False]
    assert jj.tensor([0.0, 2.0]).logical_and(jj.tensor([1, 1])).tolist() == [False, True]
    assert jj.tensor([0.0, 2.0]).logical_or(jj.tensor([0, 0])).tolist() == [False, True]
    assert jj.tensor([0.0, 2.0]).logical_xor(jj.tensor([3, 3])).tolist() == [True, False]


def test_casts():
    x = jj.tensor([-1.7, 0.0, 2.5, 300.0])
    assert x.int().tolist() == [-1, 0, 2, 300]
    assert x.bool().tolist() == [True, False, True, True]
    assert jj.tensor([math.nan]).bool().tolist() == [True]
    assert x.to(jj.float64).dtype is jj.float64
    assert x.to(torch_like := x.long()).dtype is torch_like.dtype
    assert x.type_as(jj.zeros(1, dtype=jj.int8)).dtype is jj.int8
    assert x.to("cpu", jj.int64).dtype is jj.int64
    assert x.to(dtype=jj.float64, device="cpu").dtype is jj.float64
    assert x.to(np.float64).dtype is jj.float64
    assert x.to(float).dtype is jj.float32


def test_python_numbers():
    x = jj.tensor(3)
    assert (int(x), float(x), bool(x), x.item(), [10, 20, 30, 40][x]) == (3, 3.0, True, 3, 40)
    assert type(jj.tensor(2.5).item()) is float
    assert type(jj.tensor(True).item()) is bool
    assert f"{jj.tensor(2.5):.2f}" == "2.50"
    assert round(jj.tensor([1.0])[0].item()) == 1
    assert sum(jj.tensor([1, 2, 3])).item() == 6
    with pytest.raises(RuntimeError, match="a Tensor with 2 elements cannot be converted to Scalar"):
        jj.ones(2).item()
    with pytest.raises(RuntimeError, match="Boolean value of Tensor with more than one value is ambiguous"):
        bool(jj.ones(2))
    with pytest.raises(TypeError, match="only integer tensors of a single element"):
        [1, 2][jj.tensor(1.0)]
    with pytest.raises(TypeError, match="0-d tensor"):
        len(x)
    with pytest.raises(TypeError, match="0-d tensor"):
        iter(x)
    assert len({x, x, jj.tensor(3)}) == 2  # by identity, as in PyTorch


# -- NumPy -------------------------------------------------------------------------------------------------------------
def test_from_numpy_shares_memory():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    x = jj.from_numpy(array)
    array[0, 0] = 9
    assert x[0, 0].item() == 9.0
    x[1, 2] = 7
    assert array[1, 2] == 7
    assert np.shares_memory(np.asarray(x), array)


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a.T,
        lambda a: a[::2, 1:],
        lambda a: a[::-1],
        lambda a: a[:, ::-2],
        lambda a: np.asfortranarray(a),
        lambda a: np.broadcast_to(a[0], (3, 6)),
        lambda a: a[:0],
        lambda a: a[1, 1],
        lambda a: a.astype(">f4"),
        lambda a: a.astype(np.float64)[1],
    ],
)
def test_arrays_of_any_layout(make):
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    view = make(array)
    for convert in (jj.tensor, jj.as_tensor, lambda v: jj.from_numpy(np.asarray(v))):
        x = convert(view)
        np.testing.assert_array_equal(x.numpy(), view)
        np.testing.assert_array_equal((x * 2).numpy(), view * 2)
        np.testing.assert_array_equal(x.sum().numpy(), view.sum())


def test_read_only_arrays():
    array = np.arange(3.0)
    array.flags.writeable = False
    x = jj.tensor(array)
    x.add_(1)
    assert array.tolist() == [0.0, 1.0, 2.0]


def test_numpy_functions_take_tensors():
    x = jj.arange(6.0).reshape(2, 3)
    assert np.mean(np.asarray(x.T)) == 2.5
    assert np.array(x, dtype=np.int32).dtype == np.int32
    copied = np.array(x)
    copied[:] = 0
    assert x.sum().item() == 15.0
    assert np.allclose(x, x.numpy())
    assert (x * x.numpy()).tolist() == (x * x).tolist()
    assert (x == x.numpy()).all()
    assert isinstance(x.numpy() * x, jj.Tensor)
    assert (np.float64(2) * x).dtype is jj.float32
    assert x[:, 1:].numpy().strides == (12, 4)
    assert jj.zeros(0, 3).numpy().shape == (0, 3)


def test_making_tensors():
    assert jj.tensor([1, 2]).dtype is jj.int64
    assert jj.tensor([1.0, 2]).dtype is jj.float32
    assert jj.tensor([True, False]).dtype is jj.bool
    assert jj.tensor(np.float64(1)).dtype is jj.float64
    assert jj.tensor([]).dtype is jj.float32
    assert jj.tensor([[1, 2], [3, 4]]).shape == (2, 2)
    assert jj.tensor((jj.tensor(1.0), jj.tensor(2.0))).tolist() == [1.0, 2.0]
    assert jj.tensor([1, 2], dtype=jj.float64).dtype is jj.float64
    assert jj.full((2, 2), 3).dtype is jj.int64
    assert jj.full((2,), 3.0).dtype is jj.float32
    assert jj.arange(5).tolist() == [0, 1, 2, 3, 4]
    assert jj.arange(1, 2, 0.25).tolist() == [1.0, 1.25, 1.5, 1.75]
    assert jj.arange(5, 0, -2).tolist() == [5, 3, 1]
    assert jj.linspace(0, 1, 5).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert jj.eye(2, 3).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert jj.zeros((2, 3)).shape == jj.zeros(2, 3).shape == jj.zeros([2, 3]).shape == (2, 3)
    assert jj.zeros_like(jj.ones(2, dtype=jj.int64)).dtype is jj.int64
    assert jj.ones(2).new_zeros(3, 4).shape == (3, 4)
    assert jj.ones(2, dtype=jj.float64).new_full((2,), 7).dtype is jj.float64
    assert jj.cat([jj.zeros(2), jj.ones(1, dtype=jj.int64)]).tolist() == [0.0, 0.0, 1.0]
    assert jj.cat([jj.zeros(0), jj.ones(2, 2)]).shape == (2, 2)
    assert jj.stack([jj.zeros(2), jj.ones(2)], -1).tolist() == [[0.0, 1.0]] * 2
    for data, error in (([[1], [1, 2]], ValueError), ("text", TypeError), (None, TypeError), ([1j], TypeError)):
        with pytest.raises(error):
            jj.tensor(data)


def test_random_tensors():
    jj.manual_seed(1)
    first = jj.rand(3, 4), jj.randn(5), jj.randint(0, 9, (6,)), jj.randperm(7)
    jj.manual_seed(1)
    again = jj.rand(3, 4), jj.randn(5), jj.randint(0, 9, (6,)), jj.randperm(7)
    assert all(jj.equal(a, b) for a, b in zip(first, again, strict=True))
    assert sorted(first[3].tolist()) == list(range(7))
    assert 0 <= first[0].min().item() <= first[0].max().item() < 1
    g = jj.Generator().manual_seed(5)
    assert not jj.equal(jj.rand(3, generator=g), jj.rand(3, generator=g))


def test_devices():
    for make in (lambda d: jj.zeros(2, device=d), lambda d: jj.tensor([1.0], device=d), lambda d: jj.ones(2).to(d)):
        assert str(make("cpu").device) == "cpu"
        for other in ("cuda", "cuda:0", "mps"):
            with pytest.raises(ValueError, match=f"device='{other}' is not available: Juanji computes on the CPU"):
                make(other)
    assert jj.ones(1).is_cuda is False


def test_shown_as_in_pytorch(torch):
    for make in (
        lambda lib: lib.tensor(3),
        lambda lib: lib.tensor([1.0, 2.0]),
        lambda lib: lib.tensor([1.5, -2.25]),
        lambda lib: lib.tensor([[True], [False]]),
        lambda lib: lib.tensor([1e-6, 1.0]),
        lambda lib: lib.tensor([1e10, 1.0]),
        lambda lib: lib.tensor([float("nan"), float("inf")]),
        lambda lib: lib.zeros(2, 2),
        lambda lib: lib.zeros(2, 0),
        lambda lib: lib.tensor([]),
        lambda lib: lib.arange(3),
        lambda lib: lib.ones(2, requires_grad=True),
    ):
        assert repr(make(jj)) == repr(make(torch))


# -- indexing ----------------------------------------------------------------------------------------------------------
KEYS = (
    0, -1, (1, 2), slice(1, None), slice(None, None, 2), (slice(None), -1), ..., (..., 1), (0, ..., slice(1, 3)), None,
    (slice(None), None, 1), (slice(5, 9),), (slice(-2, None), slice(0, -1)), [0, 2], ([0, 2], [1, 3]), (slice(None), [3, 0]),
    np.array([[0, 1], [2, 0]]), (), (slice(2, 1),), (None, ..., None),
)  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_equals_numpy(key):
    array = np.arange(24.0).reshape(3, 4, 2)
    x = jj.tensor(array)
    np.testing.assert_array_equal(x[key].numpy(), array[key])
    written, expected = jj.tensor(array), array.copy()
    written[key] = -1.0
    expected[key] = -1.0
    np.testing.assert_array_equal(written.numpy(), expected)
    value = np.random.default_rng(0).uniform(size=array[key].shape)
    written[key] = jj.tensor(value)
    expected[key] = value
    np.testing.assert_array_equal(written.numpy(), expected)


def test_boolean_masks():
    array = np.arange(12.0).reshape(3, 4)
    x = jj.tensor(array)
    mask = array % 3 == 0
    assert x[jj.tensor(mask)].tolist() == array[mask].tolist()
    assert x[x > 20].shape == (0,)
    assert x[jj.tensor([True, False, True])].tolist() == array[[0, 2]].tolist()
    x[x > 5] = 0
    array[array > 5] = 0
    assert x.tolist() == array.tolist()
    x[jj.tensor(mask)] = jj.arange(4.0)
    array[mask] = np.arange(4)
    assert x.tolist() == array.tolist()
    x[x > 100] += 1
    assert x.tolist() == array.tolist()


def test_broadcast_assignment():
    x = jj.zeros(2, 3)
    x[0] = jj.tensor([1.0, 2.0, 3.0])
    x[:, 1] = 9
    x[1:] = jj.tensor([[7], [8]])[:1]
    assert x.tolist() == [[1.0, 9.0, 3.0], [7.0, 7.0, 7.0]]
    x[...] = [4, 5, 6]
    assert x.tolist() == [[4.0, 5.0, 6.0]] * 2
    x[0, 0] = jj.tensor([[2]])
    assert x[0, 0].item() == 2.0


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (3, IndexError, "index 3 is out of bounds for dimension 0 with size 3"),
        ((0, -5), IndexError, "index -5 is out of bounds for dimension 1 with size 4"),
        ((0, 0, 0), IndexError, "too many indices for tensor of dimension 2"),
        ((..., ...), IndexError, "single ellipsis"),
        (slice(None, None, -1), ValueError, "step must be positive"),
        (1.5, IndexError, "1.5 is not an index"),
        ("a", IndexError, "'a' is not an index"),
        ([5], IndexError, "out of bounds"),
        (np.ones((2, 2), bool), IndexError, "boolean"),
    ],
    ids=str,
)
def test_indices_that_are_none(key, error, words):
    x = jj.zeros(3, 4)
    with pytest.raises(error, match=words):
        x[key]
    with pytest.raises(error, match=words):
        x[key] = 1.0


def test_values_that_cannot_be_assigned():
    x = jj.zeros(2, 3)
    for value, error in (
        (jj.zeros(4), RuntimeError),
        ("text", TypeError),
        (None, TypeError),
        (jj.zeros(2, 2, 3), RuntimeError),
    ):
        with pytest.raises(error):
            x[0] = value
    with pytest.raises(IndexError, match="must be integer or bool tensors"):
        x[jj.tensor([0.0])]


# -- reductions --------------------------------------------------------------------------------------------------------
def test_reductions_over_dimensions():
    array = np.random.default_rng(0).integers(-4, 5, (2, 3, 4)).astype(np.float32)
    x = jj.tensor(array)
    for dim in (None, 0, 1, -1, (0, 2), (1, -1), (0, 1, 2)):
        for keep in (False, True):
            for name, theirs in (("sum", np.sum), ("amax", np.max), ("amin", np.min), ("mean", np.mean)):
                got = getattr(x, name)(dim, keepdim=keep) if dim is not None else getattr(x, name)()
                expected = theirs(array, axis=dim, keepdims=keep and dim is not None)
                np.testing.assert_allclose(got.numpy(), expected, 1e-6)
    np.testing.assert_allclose(x.var(1).numpy(), array.var(1, ddof=1), 1e-5)
    np.testing.assert_allclose(x.std((0, 2), correction=0).numpy(), array.std((0, 2)), 1e-5)
    np.testing.assert_allclose(x.norm(dim=1).numpy(), np.sqrt((array**2).sum(1)), 1e-5)
    np.testing.assert_allclose(x.norm(1).numpy(), abs(array).sum(), 1e-5)
    assert x.norm(math.inf).item() == abs(array).max()


def test_ties_and_nan():
    x = jj.tensor([[1.0, 3.0, 3.0], [math.nan, 2.0, math.nan]])
    values, indices = x.max(1)
    assert values[0].item() == 3.0
    assert math.isnan(values[1].item())
    assert indices.tolist() == [1, 0]
    assert x.argmax().item() == 3
    assert x.argmin(1).tolist() == [0, 0]
    assert math.isnan(x.min().item())
    assert math.isnan(x.sum().item())
    assert jj.maximum(x, jj.zeros(3)).isnan().tolist() == x.isnan().tolist()
    assert jj.tensor([math.nan, -1.0]).relu().tolist()[1] == 0.0
    assert math.isnan(jj.tensor([math.nan]).relu().item())
    assert jj.tensor([math.nan]).sign().item() == 0.0
    assert jj.tensor([math.nan, 5.0]).clamp(0, 1).tolist()[1] == 1.0
    assert (jj.tensor(math.nan) == jj.tensor(math.nan)).item() is False


def test_reductions_of_nothing():
    empty = jj.zeros(0, 3)
    assert empty.sum().item() == 0.0
    assert empty.sum(0).tolist() == [0.0] * 3
    assert empty.prod(0).tolist() == [1.0] * 3
    assert math.isnan(empty.mean().item())
    assert empty.any().item() is False
    assert empty.all().item() is True
    assert empty.amax(1).shape == (0,)
    assert empty.logsumexp(0).tolist() == [-math.inf] * 3
    for name in ("amax", "argmax", "max", "amin", "min", "argmin"):
        with pytest.raises((IndexError, RuntimeError), match="elements"):
            getattr(empty, name)(0)
    with pytest.raises(RuntimeError, match="expected the input to have elements"):
        empty.max()


def test_extreme_rows_of_softmax():
    x = jj.tensor([[1000.0, 1000.0], [-1000.0, 0.0], [-math.inf, 0.0]])
    assert x.softmax(1).tolist() == [[0.5, 0.5], [0.0, 1.0], [0.0, 1.0]]
    assert x.log_softmax(1)[0].tolist() == pytest.approx([-math.log(2)] * 2)
    assert x.logsumexp(1).tolist() == pytest.approx([1000 + math.log(2), 0.0, 0.0])
    assert math.isnan(jj.tensor([-math.inf, -math.inf]).softmax(0)[0].item())


def test_dimensions_that_are_none():
    x = jj.zeros(2, 3)
    for call in (
        lambda: x.sum(2),
        lambda: x.amax(-3),
        lambda: x.softmax(5),
        lambda: x.transpose(0, 2),
        lambda: x.size(2),
    ):
        with pytest.raises(IndexError, match="is out of range for a tensor of 2 dimensions; valid are -2 to 1"):
            call()
    with pytest.raises(RuntimeError, match="names a dimension twice"):
        x.sum((0, 0))
    with pytest.raises(TypeError, match="dim=1.0 must be an integer"):
        x.sum(1.0)
