"""Window kernels against plain loops: ties, NaN, padding, dilation, overhang, odd channel counts."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np
import pytest

from juanji import target as targets
from juanji.codegen.window import WindowSpec
from juanji.runtime import jit

NUMPY = {"f32": "f4", "f64": "f8", "i8": "i1", "i16": "i2", "i32": "i4", "i64": "i8", "u8": "u1", "b1": "?"}


@pytest.fixture(params=["avx512", "avx2", "sse42", "portable"])
def target(request: pytest.FixtureRequest) -> targets.Target:
    if request.param not in targets.available():
        pytest.skip(f"this machine cannot run {request.param}")
    return targets._named(request.param)


def execute(
    spec: WindowSpec,
    target: targets.Target,
    inputs: list[np.ndarray],
    image: tuple[int, int],
    windows: tuple[int, int],
    extras: tuple[np.ndarray, ...] = (),
    out: np.ndarray | None = None,
    backwards: bool = False,
) -> np.ndarray:
    """Runs a kernel chunk by chunk, on images with a guard column and guard channels around the output."""
    n, channels = inputs[0].shape[0], inputs[0].shape[3]
    grad = spec.kind.endswith("grad")
    size = image if grad else windows
    dtype = np.dtype(NUMPY[spec.output])
    guard = np.full((n, *size, channels + 1), 77, dtype)
    result = guard[..., :channels] if out is None else out
    arrays = [*inputs, result, *extras]
    sizes = [n, *image, channels, *windows]
    strides = [s for a in [*inputs, result] for s in a.strides[:3]]
    slots = [a.ctypes.data for a in arrays] + sizes + strides
    args = (ctypes.c_int64 * len(slots))(*slots)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(jit.address(spec, target))
    chunks = n * spec.rows(image[0], windows[0])
    if backwards:
        for chunk in reversed(range(chunks)):
            kernel(ctypes.addressof(args), chunk, chunk + 1)
    else:
        kernel(ctypes.addressof(args), 0, chunks)
    if out is None:
        assert np.all(guard[..., channels] == dtype.type(77)), "the kernel wrote past the last channel"
    return result


def out_size(spec: WindowSpec, image: tuple[int, int], ceil: bool = False) -> tuple[int, int]:
    sizes = []
    for axis in (0, 1):
        free = image[axis] + 2 * spec.padding[axis] - spec.span(axis) - 1
        count = (-(-free // spec.stride[axis]) if ceil else free // spec.stride[axis]) + 1
        if ceil and (count - 1) * spec.stride[axis] >= image[axis] + spec.padding[axis]:
            count -= 1
        sizes.append(count)
    return sizes[0], sizes[1]


def taps(spec: WindowSpec, image: tuple[int, int], windows: tuple[int, int]) -> Any:
    """For every window: (its place, taps inside the image, count that averages divide by)."""
    for oy, ox in itertools.product(range(windows[0]), range(windows[1])):
        inside, padded = [], 0
        for i, j in itertools.product(range(spec.kernel[0]), range(spec.kernel[1])):
            y = oy * spec.stride[0] - spec.padding[0] + i * spec.dilation[0]
            x = ox * spec.stride[1] - spec.padding[1] + j * spec.dilation[1]
            padded += y < image[0] + spec.padding[0] and x < image[1] + spec.padding[1]
            if 0 <= y < image[0] and 0 <= x < image[1]:
                inside.append((y, x))
        count = spec.divisor or (padded if spec.count_include_pad else len(inside))
        yield (oy, ox), inside, count


def best(x: np.ndarray, inside: list[tuple[int, int]]) -> tuple[int, int]:
    """PyTorch's rule: the first maximum; a NaN takes over from anything before it."""
    place = inside[0]
    for y in inside[1:]:
        if x[y] > x[place] or x[y] != x[y]:
            place = y
    return place


def reference(
    spec: WindowSpec, inputs: list[np.ndarray], image: tuple[int, int], windows: tuple[int, int]
) -> np.ndarray:
    n, channels = inputs[0].shape[0], inputs[0].shape[3]
    grad = spec.kind.endswith("grad")
    dtype = "i8" if spec.kind == "max_index" else NUMPY[spec.dtype]
    out = np.zeros((n, *(image if grad else windows), channels), dtype)
    for b, c in itertools.product(range(n), range(channels)):
        first = inputs[0][b, :, :, c]
        for place, inside, count in taps(spec, image, windows):
            at = (b, *place, c)
            if spec.kind == "max":
                out[at] = first[best(first, inside)]
            elif spec.kind == "max_index":
                y, x = best(first, inside)
                out[at] = y * image[1] + x
            elif spec.kind == "avg":
                total = sum((first[p] for p in inside), np.zeros((), dtype)[()])
                out[at] = total / count if total.dtype.kind == "f" else int(int(total) / count)
            elif spec.kind == "gather":
                out[at] = first[divmod(int(inputs[1][at]), image[1])]
            elif spec.kind == "max_grad":
                out[(b, *best(inputs[1][b, :, :, c], inside), c)] = first[place]
            elif spec.kind == "index_grad":
                out[(b, *divmod(int(inputs[1][at]), image[1]), c)] += first[place]
            else:
                for p in inside:
                    out[(b, *p, c)] += first[place] / first.dtype.type(count)
    return out


def images(shape: tuple[int, ...], dtype: str, seed: int, nan: bool = False) -> np.ndarray:
    """Small integers with many ties, in memory with a gap after the channels and after every row."""
    rng = np.random.default_rng(seed)
    n, h, w, c = shape
    low = 0 if dtype == "u8" else -4
    x = np.empty((n, h, w + 1, c + 3), NUMPY[dtype])
    x[...] = rng.integers(low, 5, x.shape)
    if nan:
        x[rng.random(x.shape) < 0.1] = np.nan
    return x[:, :, :w, :c]


def case(
    spec: WindowSpec, image: tuple[int, int], windows: tuple[int, int], n: int, c: int, nan: bool = False
) -> list[np.ndarray]:
    """Inputs of the right shapes for a kind."""
    large, small = (n, *image, c), (n, *windows, c)
    if spec.kind in ("max", "avg", "max_index"):
        return [images(large, spec.dtype, 1, nan)]
    dy = images(small, spec.dtype, 2)
    if spec.kind == "avg_grad":
        return [dy]
    x = images(large, spec.dtype, 1, nan)
    if spec.kind == "max_grad":
        return [dy, x]
    index = WindowSpec("max_index", spec.dtype, spec.kernel, spec.stride, spec.padding, spec.dilation)
    where = reference(index, [x], image, windows)
    return [x if spec.kind == "gather" else dy, where]


# (kernel, stride, padding, dilation, image, ceil mode)
GEOMETRY = [
    ((2, 2), (2, 2), (0, 0), (1, 1), (6, 8), False),
    ((2, 2), (2, 2), (0, 0), (1, 1), (7, 5), False),
    ((2, 2), (2, 2), (1, 1), (1, 1), (7, 6), True),
    ((3, 3), (2, 2), (1, 1), (1, 1), (8, 9), False),
    ((3, 3), (2, 2), (0, 1), (1, 1), (6, 8), True),
    ((3, 2), (1, 1), (1, 0), (1, 1), (5, 6), False),
    ((2, 3), (3, 4), (1, 1), (1, 1), (9, 11), True),
    ((2, 2), (3, 5), (1, 1), (2, 3), (8, 10), False),
    ((3, 3), (1, 2), (1, 1), (2, 2), (9, 8), False),
    ((5, 4), (5, 4), (2, 0), (1, 1), (9, 9), True),
    ((7, 7), (7, 7), (0, 0), (1, 1), (7, 7), False),
    ((1, 1), (2, 3), (0, 0), (1, 1), (5, 7), False),
    ((3, 3), (3, 3), (1, 1), (1, 1), (2, 2), False),
]
KINDS = ["max", "avg", "max_index", "gather", "max_grad", "index_grad", "avg_grad"]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("kind", KINDS)
def test_geometry(target: targets.Target, kind: str, dtype: str) -> None:
    for k, (kernel, stride, padding, dilation, image, ceil) in enumerate(GEOMETRY):
        if kind == "max_grad" and any(stride[a] <= dilation[a] * (kernel[a] - 1) for a in (0, 1)):
            continue
        spec = WindowSpec(kind, dtype, kernel, stride, padding, dilation)
        windows = out_size(spec, image, ceil)
        c = (3, 17, 6, 1, 40)[k % 5]
        inputs = case(spec, image, windows, 2, c)
        found = execute(spec, target, inputs, image, windows)
        expected = reference(spec, inputs, image, windows)
        if kind == "avg_grad":
            np.testing.assert_allclose(found, expected, rtol=3e-6, atol=1e-6, err_msg=str(GEOMETRY[k]))
        else:
            np.testing.assert_array_equal(found, expected, err_msg=str(GEOMETRY[k]))


@pytest.mark.parametrize("kind", KINDS)
def test_channels(target: targets.Target, kind: str) -> None:
    spec = WindowSpec(kind, "f32", (2, 2), (2, 2), (0, 0), (1, 1))
    for c in (1, 3, 6, 8, 15, 16, 17, 64, 100):
        inputs = case(spec, (5, 6), (2, 3), 1, c)
        found = execute(spec, target, inputs, (5, 6), (2, 3), backwards=True)
        np.testing.assert_array_equal(found, reference(spec, inputs, (5, 6), (2, 3)))


@pytest.mark.parametrize("kind", ["max", "max_index", "max_grad"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((2, 2), (2, 2), (0, 0)), ((3, 3), (3, 3), (1, 1)), ((2, 3), (3, 3), (1, 1)), ((5, 5), (5, 5), (2, 2))],
)
def test_nan(
    target: targets.Target,
    kind: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> None:
    spec = WindowSpec(kind, "f32", kernel, stride, padding)
    image = (10, 11)
    windows = out_size(spec, image)
    inputs = case(spec, image, windows, 3, 20, nan=True)
    inputs[-1][0, :, :, 0] = -np.inf
    found = execute(spec, target, inputs, image, windows)
    np.testing.assert_array_equal(found, reference(spec, inputs, image, windows))


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32", "i64", "u8"])
@pytest.mark.parametrize("kind", ["max", "avg", "max_index", "gather"])
def test_integers(target: targets.Target, kind: str, dtype: str) -> None:
    spec = WindowSpec(kind, dtype, (3, 2), (2, 2), (1, 1))
    image = (6, 7)
    windows = out_size(spec, image)
    for c in (5, 70):
        inputs = case(spec, image, windows, 1, c)
        if kind != "gather" and (kind != "avg" or inputs[0].itemsize < 4):  # sums are at least 32 bits wide
            inputs[0][:, 1, 1] = np.iinfo(inputs[0].dtype).max
            inputs[0][:, 2, 3] = np.iinfo(inputs[0].dtype).min
        found = execute(spec, target, inputs, image, windows)
        if kind == "avg":
            wide = WindowSpec("avg", "i64", (3, 2), (2, 2), (1, 1))
            expected = reference(wide, [inputs[0].astype("i8")], image, windows)
        else:
            expected = reference(spec, inputs, image, windows)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["avg", "avg_grad"])
@pytest.mark.parametrize(("include", "divisor"), [(True, 0), (False, 0), (True, 3), (False, 4)])
def test_average_counts(target: targets.Target, kind: str, include: bool, divisor: int) -> None:
    for kernel, stride, padding, image, ceil in [
        ((3, 3), (2, 2), (1, 1), (6, 7), True),
        ((2, 4), (2, 3), (1, 2), (6, 8), True),
        ((5, 5), (3, 3), (2, 2), (9, 10), False),
    ]:
        spec = WindowSpec(kind, "f64", kernel, stride, padding, (1, 1), include, divisor)
        windows = out_size(spec, image, ceil)
        inputs = case(spec, image, windows, 2, 9)
        found = execute(spec, target, inputs, image, windows)
        np.testing.assert_allclose(found, reference(spec, inputs, image, windows), rtol=1e-14, atol=1e-14)


RELU = (
    "select",
    "f32",
    ("gt", "b1", ("load", "f32", 0), ("const", "f32", 0.0)),
    ("acc", "f32"),
    ("const", "f32", 0.0),
)


@pytest.mark.parametrize("kind", ["max_grad", "index_grad", "avg_grad", "max", "avg"])
def test_epilogue_with_an_operand_like_the_output(target: targets.Target, kind: str) -> None:
    spec = WindowSpec(kind, "f32", (2, 2), (2, 2), (1, 1), epilogue=RELU, extras=(("f32", "c"),))
    plain = WindowSpec(kind, "f32", (2, 2), (2, 2), (1, 1))
    image, windows, c = (7, 9), (4, 5), 19
    inputs = case(spec, image, windows, 2, c)
    out = np.empty((2, *(image if kind.endswith("grad") else windows), c), "f4")
    gate = images(out.shape, "f32", 5).copy()
    found = execute(spec, target, inputs, image, windows, (gate,), out)
    np.testing.assert_array_equal(found, np.where(gate > 0, reference(plain, inputs, image, windows), 0))


def test_epilogue_with_every_class_of_operand(target: targets.Target) -> None:
    # (max * per channel + scalar) < f64 operand laid out like the boolean output
    scaled = ("mul", "f32", ("acc", "f32"), ("load", "f32", 0))
    value = ("cast", "f64", ("add", "f32", scaled, ("load", "f32", 1)))
    spec = WindowSpec(
        "max",
        "f32",
        (3, 3),
        (2, 2),
        (1, 1),
        epilogue=("lt", "b1", value, ("load", "f64", 2)),
        extras=(("f32", "n"), ("f32", "s"), ("f64", "c")),
    )
    image, windows, c = (8, 8), (4, 4), 21
    inputs = case(spec, image, windows, 2, c)
    scale, shift = np.arange(c, dtype="f4"), np.full(1, 2.5, "f4")
    other = images((2, *windows, c), "f64", 6).copy()
    out = np.empty((2, *windows, c), "?")
    found = execute(spec, target, inputs, image, windows, (scale, shift, other), out)
    plain = reference(WindowSpec("max", "f32", (3, 3), (2, 2), (1, 1)), inputs, image, windows)
    np.testing.assert_array_equal(found, plain * scale + shift < other)


def test_gather_from_contiguous_images(target: targets.Target) -> None:
    spec = WindowSpec("gather", "f32", (2, 2), (2, 2))
    inputs = [a.copy() for a in case(spec, (4, 6), (2, 3), 2, 18)]
    np.testing.assert_array_equal(
        execute(spec, target, inputs, (4, 6), (2, 3)), reference(spec, inputs, (4, 6), (2, 3))
    )


def test_impossible_specifications() -> None:
    with pytest.raises(ValueError, match="not one of"):
        WindowSpec("median", "f32", (2, 2), (2, 2))
    with pytest.raises(ValueError, match="dtype 'i32'"):
        WindowSpec("avg_grad", "i32", (2, 2), (2, 2))
    with pytest.raises(ValueError, match="overlap"):
        WindowSpec("max_grad", "f32", (3, 3), (2, 2))
    with pytest.raises(ValueError, match="at least 1"):
        WindowSpec("max", "f32", (2, 0), (2, 2))
