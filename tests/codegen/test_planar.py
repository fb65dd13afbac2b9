"""Planar window kernels against plain loops: ties, NaN, partial vectors, rows and columns outside every window."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np
import pytest

from juanji import target as targets
from juanji.codegen.planar import PlanarSpec
from juanji.runtime import jit

NUMPY = {"f32": "f4", "f64": "f8", "b1": "?"}
Array = np.ndarray[Any, Any]
#: (kernel, stride)
WINDOWS = [
    ((2, 2), (2, 2)),
    ((1, 1), (1, 1)),
    ((3, 3), (3, 3)),
    ((4, 4), (4, 4)),
    ((1, 2), (3, 4)),
    ((2, 1), (4, 2)),
    ((3, 2), (3, 3)),
    ((1, 1), (2, 2)),
]


@pytest.fixture(params=["avx512", "avx2", "portable"])
def target(request: pytest.FixtureRequest) -> targets.Target:
    if request.param not in targets.available():
        pytest.skip(f"this machine cannot run {request.param}")
    return targets._named(request.param)


def planes(shape: tuple[int, ...], dtype: str, seed: int, nan: bool = False) -> Array:
    """Small integers with many ties, rows and planes apart in memory; what lies between is NaN."""
    rng = np.random.default_rng(seed)
    n, c, h, w = shape
    whole = np.full((n, c + 1, h + 1, w + 3), np.nan, NUMPY[dtype])
    x = whole[:, :c, :h, :w]
    x[...] = rng.integers(-4, 5, shape)
    if nan:
        x[rng.random(shape) < 0.1] = np.nan
    return x


def windows_of(spec: PlanarSpec, image: tuple[int, int]) -> tuple[int, int]:
    sizes = [max(0, (size - k) // s + 1) for size, k, s in zip(image, spec.kernel, spec.stride, strict=True)]
    return sizes[0], sizes[1]


def execute(
    spec: PlanarSpec,
    target: targets.Target,
    inputs: list[Array],
    image: tuple[int, int],
    extras: tuple[Array, ...] = (),
) -> Array:
    """Runs a kernel in two calls; checks that nothing around the output's rows is written."""
    n, c = inputs[0].shape[:2]
    windows = windows_of(spec, image)
    h, w = image if spec.grad else windows
    whole = np.full((n, c + 1, h + 1, w + 5), 77, NUMPY[spec.output])
    out = whole[:, :c, :h, :w]
    arrays = [*inputs, out, *extras]
    strides = [s for a in [*inputs, out] for s in a.strides[:3]]
    slots = [a.ctypes.data for a in arrays] + [n, c, *image, *windows, *strides]
    args = (ctypes.c_int64 * len(slots))(*slots)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(jit.address(spec, target))
    kernel(ctypes.addressof(args), 1, n * c)
    kernel(ctypes.addressof(args), 0, 1)
    result = out.copy()
    out[...] = 77
    assert (whole == whole.dtype.type(77)).all(), "the kernel wrote beyond the rows of the output"
    return result


def reference(spec: PlanarSpec, inputs: list[Array], image: tuple[int, int]) -> Array:
    n, c = inputs[0].shape[:2]
    windows = windows_of(spec, image)
    out = np.zeros((n, c, *(image if spec.grad else windows)), inputs[0].dtype)
    count = out.dtype.type(spec.kernel[0] * spec.kernel[1])
    for oy, ox in itertools.product(*(range(size) for size in windows)):
        y, x = oy * spec.stride[0], ox * spec.stride[1]
        here = (slice(None), slice(None), slice(y, y + spec.kernel[0]), slice(x, x + spec.kernel[1]))
        taps = inputs[-1][here].reshape(n, c, -1)
        if spec.kind == "max":
            out[:, :, oy, ox] = taps.max(-1)
        elif spec.kind == "avg":
            out[:, :, oy, ox] = taps.sum(-1) / count
        elif spec.kind == "avg_grad":
            out[here] = (inputs[0][:, :, oy, ox] / count)[..., None, None]
        else:
            last_nan = taps.shape[-1] - 1 - np.isnan(taps[..., ::-1]).argmax(-1)
            best = np.where(np.isnan(taps).any(-1), last_nan, taps.argmax(-1))
            i, j = best // spec.kernel[1], best % spec.kernel[1]
            a, b = np.indices((n, c))
            out[a, b, y + i, x + j] = inputs[0][:, :, oy, ox]
    return out


def case(spec: PlanarSpec, image: tuple[int, int], n: int, c: int, nan: bool = False) -> list[Array]:
    windows = windows_of(spec, image)
    x, dy = planes((n, c, *image), spec.dtype, 1, nan), planes((n, c, *windows), spec.dtype, 2)
    return {"max": [x], "avg": [x], "max_grad": [dy, x], "avg_grad": [dy]}[spec.kind]


@pytest.mark.parametrize("kind", ["max", "avg", "max_grad", "avg_grad"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(("kernel", "stride"), WINDOWS)
def test_rows_of_every_length(
    target: targets.Target, kind: str, dtype: str, kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    spec = PlanarSpec(kind, dtype, kernel, stride)
    for width in [*range(kernel[1], 20), 26, 31, 32, 33, 47, 63, 64, 65, 66, 67, 130]:
        image = (kernel[0] + 2 * stride[0] + width % stride[0], width)
        inputs = case(spec, image, 2, 2, nan=kind.startswith("max"))
        np.testing.assert_allclose(
            execute(spec, target, inputs, image), reference(spec, inputs, image), rtol=1e-6, err_msg=str(image)
        )


def relu_mask(dtype: str) -> Any:
    zero = ("const", dtype, 0.0)
    return ("select", dtype, ("gt", "b1", ("load", dtype, 0), zero), ("acc", dtype), zero)


@pytest.mark.parametrize("kind", ["max", "max_grad", "avg_grad"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_relu_mask(target: targets.Target, kind: str, dtype: str) -> None:
    spec = PlanarSpec(kind, dtype, (2, 2), (2, 2), relu_mask(dtype), ((dtype, "c"),))
    for image in [(26, 26), (5, 33)]:
        inputs = case(spec, image, 2, 6)
        h, w = image if spec.grad else windows_of(spec, image)
        # The same strides in elements as `execute` gives the output.
        gate = np.zeros((2, 7, h + 1, w + 5), NUMPY[dtype])[:, :6, :h, :w]
        gate[...] = np.random.default_rng(3).integers(-2, 3, gate.shape)
        found = execute(spec, target, inputs, image, (gate,))
        np.testing.assert_array_equal(found, np.where(gate > 0, reference(spec, inputs, image), 0))


def test_every_class_of_operand_and_another_dtype(target: targets.Target) -> None:
    # max * per channel + scalar < an f64 operand laid out like the boolean output
    scaled = ("mul", "f32", ("acc", "f32"), ("load", "f32", 0))
    value = ("cast", "f64", ("add", "f32", scaled, ("load", "f32", 1)))
    spec = PlanarSpec(
        "max",
        "f32",
        (2, 2),
        (2, 2),
        ("lt", "b1", value, ("load", "f64", 2)),
        (("f32", "m"), ("f32", "s"), ("f64", "c")),
    )
    image, c = (8, 37), 5
    inputs = case(spec, image, 2, c)
    scale, shift = np.arange(c, dtype="f4"), np.full(1, 2.5, "f4")
    other = np.zeros((2, c + 1, 5, 18 + 5))[:, :c, :4, :18]
    other[...] = np.random.default_rng(6).integers(-9, 9, other.shape)
    found = execute(spec, target, inputs, image, (scale, shift, other))
    expected = reference(spec, inputs, image) * scale[:, None, None] + shift < other
    np.testing.assert_array_equal(found, expected)


def test_impossible_specifications() -> None:
    with pytest.raises(ValueError, match="not one of"):
        PlanarSpec("median", "f32", (2, 2), (2, 2))
    with pytest.raises(ValueError, match="not 'i32'"):
        PlanarSpec("max", "i32", (2, 2), (2, 2))
    with pytest.raises(ValueError, match="kernel <= stride <= 4"):
        PlanarSpec("max", "f32", (3, 3), (2, 2))
    with pytest.raises(ValueError, match="class of an extra"):
        PlanarSpec("max", "f32", (2, 2), (2, 2), extras=(("f32", "n"),))
