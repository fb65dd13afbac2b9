"""Reading, writing and adding by every kind of index beside PyTorch's; NumPy arrays of every layout and type."""

import numpy as np
import pytest

import juanji as jj

random = np.random.default_rng(0)
X = np.arange(120.0).reshape(4, 5, 6)
ROWS, COLUMNS, ALL = np.array([0, 3, 1]), np.array([[1], [-2]]), slice(None)
MASK, LAST = random.random((4, 5)) < 0.5, random.random(6) < 0.5
KEYS = (
    ROWS, (ALL, ROWS), (ROWS, ROWS), (ROWS, ALL, ROWS), (0, ALL, ROWS), (ROWS, 0), (ALL, ROWS, 0), (None, ROWS), (ROWS, None, ROWS), (COLUMNS % 4, ROWS),
    (slice(1, 3), COLUMNS, ROWS), (..., ROWS), MASK, (ALL, ALL, LAST), (0, ..., LAST), (ROWS, ALL, np.array([1, 2, 3])), (MASK, 0),
    np.array([-1, 2]), (slice(0, 4, 2), ALL, [0, 1]), ([0, 1], [1, 2]), np.zeros(0, np.int64), (..., None, ROWS),
)  # fmt: skip


def made(library, key):
    if isinstance(key, tuple):
        return tuple(made(library, k) for k in key)
    return library.tensor(key) if isinstance(key, np.ndarray) else key


def run(library, key, how, values):
    x = library.tensor(X, requires_grad=True)
    v = library.tensor(values, requires_grad=True)
    y, index = x * 1, made(library, key)
    if how == "read":
        y = y[index] * v
    elif how == "write":
        y[index] = v * 2
    elif how == "add":
        y[index] += v
    else:
        y = y.index_put(index if isinstance(index, tuple) else (index,), v, accumulate=True)
    (y * y).sum().backward()
    return [t.detach().numpy() for t in (y, x.grad, v.grad)]


@pytest.mark.parametrize("number", range(len(KEYS)))
def test_against_pytorch(torch, number):
    key = KEYS[number]
    values = random.uniform(1, 2, tuple(torch.tensor(X)[made(torch, key)].shape))
    arrays = all(isinstance(k, np.ndarray) for k in (key if isinstance(key, tuple) else (key,)))
    for how in ("read", "write", "add", "put") if arrays else ("read", "write", "add"):
        for mine, theirs in zip(run(jj, key, how, values), run(torch, key, how, values), strict=True):
            np.testing.assert_allclose(mine, theirs, 1e-12, err_msg=how)


def test_captured_indices_are_inputs():
    step = jj.compile(lambda t, i, j: (t[i], t[:, j], t[i, j], t[j[0]]))
    x, i = jj.tensor(X), jj.tensor(ROWS)
    for last in (2, 4):
        j = jj.tensor([1, -1, last])
        for mine, theirs in zip(step(x, i, j), (x[i], x[:, j], x[i, j], x[1]), strict=True):
            assert (mine == theirs).all()
    assert len(step.plans) == 1
    assert np.isnan(jj.compile(lambda t, i: t[i])(x, jj.tensor([4]))[0].numpy()).all()
    with pytest.raises(jj.CaptureError, match="mask"):
        jj.compile(lambda t: t[t > 2])(x)

    @jj.compile
    def clipped(t):
        y = t * 1
        y[y > 2] = 0  # a mask and one value: no shape depends on them
        return y

    assert clipped(x).sum().item() == 3


def test_refusals():
    x = jj.zeros(2, 3)
    for error, call, message in (
        (IndexError, lambda: x[jj.tensor([2])], "index 2 is out of bounds for dimension 0 with size 2"),
        (IndexError, lambda: x[jj.tensor([0.0])], "integer or bool"),
        (IndexError, lambda: x[jj.tensor([True, False, True])], "mask"),
        (IndexError, lambda: x[jj.tensor([0, 1]), jj.tensor([0, 1, 2])], "broadcast"),
        (IndexError, lambda: x[0, 0, 0], "too many indices"),
        (TypeError, lambda: x.index_put(jj.tensor([0]), x), "tuple of tensors"),
    ):
        with pytest.raises(error, match=message):
            call()


LAYOUTS = {
    "transposed": X.T, "negative": X[::-1, :, ::-1], "strided": X[::2, 1:4, ::3], "fortran": np.asfortranarray(X),
    "empty": X[:0], "scalar": np.array(3.0), "big-endian": X.astype(">f8"), "float16": X.astype(np.float16),
    "uint16": X.astype(np.uint16), "uint32": X.astype(np.uint32), "uint64": X.astype(np.uint64),
    "bool": X > 3, "int8": X.astype(np.int8), "expanded": np.broadcast_to(X[0], (3, 5, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_arrays_of_every_layout(name):
    array = LAYOUTS[name]
    for make in (jj.tensor, jj.as_tensor, jj.from_numpy):
        made_ = make(array)
        np.testing.assert_array_equal(made_.numpy(), array)
        assert made_.is_contiguous()
    x = jj.zeros(array.shape, dtype=jj.float64)
    x[...] = array
    np.testing.assert_array_equal(x.numpy(), array.astype(np.float64))
    np.testing.assert_array_equal((x * 0 + array).numpy(), array.astype(np.float64))


def test_arrays_shared_and_refused():
    array = np.zeros(3, np.float32)
    jj.from_numpy(array)[0] = 5
    assert array[0] == 5
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    jj.from_numpy(frozen)[0] = 5
    assert frozen[0] == 0
    for bad in (np.array(["2020-01-01"], "datetime64[D]"), np.array([object()]), np.zeros(2, np.complex64)):
        with pytest.raises(TypeError):
            jj.from_numpy(bad)
    with pytest.raises(ValueError, match="does not fit int64"):
        jj.tensor(np.array([2**64 - 1], np.uint64))
