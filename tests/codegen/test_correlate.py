"""The correlation kernel against sums of products, and the order of its sums."""

from __future__ import annotations

import ctypes
import itertools
import re
from typing import Any

import numpy as np
import pytest

from juanji import target as targets
from juanji.codegen.correlate import CorrelateSpec, tiles
from juanji.runtime import jit

NUMPY = {"f32": "f4", "f64": "f8"}
Array = np.ndarray[Any, Any]


@pytest.fixture(params=["avx512", "avx2", "portable"])
def target(request: pytest.FixtureRequest) -> targets.Target:
    if request.param not in targets.available():
        pytest.skip(f"this machine cannot run {request.param}")
    return targets._named(request.param)


def planes(values: Array) -> Array:
    """The values with gaps of NaN between rows and planes."""
    n, c, h, w = values.shape
    whole = np.full((n, c + 1, h + 1, w + 2), np.nan, values.dtype)
    whole[:, :c, :h, :w] = values
    return whole[:, :c, :h, :w]


def operands(spec: CorrelateSpec, n: int, channels: int, size: tuple[int, int], integers: bool) -> list[Array]:
    """dy and x; small integers make sums exact."""
    rng = np.random.default_rng(size[1])
    (oh, ow), (kh, kw) = size, spec.kernel
    shapes = [(n, spec.outs, oh, ow), (n, channels, oh + kh - 1, ow + kw - 1)]
    values = [rng.integers(-4, 5, shape) if integers else rng.standard_normal(shape) for shape in shapes]
    return [planes(value.astype(NUMPY[spec.dtype])) for value in values]


def execute(spec: CorrelateSpec, target: targets.Target, dy: Array, x: Array, cuts: tuple[int, ...] = ()) -> Array:
    """Runs a kernel; checks that nothing around dw is written."""
    whole = np.full((spec.outs + 1, x.shape[1] + 1, spec.kernel[0] * spec.kernel[1] + 1), 77, dy.dtype)
    dw = whole[: spec.outs, : x.shape[1], :-1]
    slots = [a.ctypes.data for a in (dy, x, dw)] + [x.shape[0], x.shape[1], *dy.shape[2:]]
    slots += [*dy.strides[:3], *x.strides[:3], *dw.strides[:2]]
    args = (ctypes.c_int64 * len(slots))(*slots)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(jit.address(spec, target))
    bounds = [0, *cuts, x.shape[1] * spec.kernel[0]]
    for begin, end in reversed(list(itertools.pairwise(bounds))):
        kernel(ctypes.addressof(args), begin, end)
    result = dw.copy().reshape(spec.outs, x.shape[1], *spec.kernel)
    dw[...] = 77
    assert (whole == 77).all(), "the kernel wrote beyond dw"
    return result


def reference(spec: CorrelateSpec, dy: Array, x: Array) -> Array:
    dy, x = dy.astype("f8"), x.astype("f8")
    windows = np.lib.stride_tricks.sliding_window_view(x, dy.shape[2:], axis=(2, 3))
    products: Array = np.einsum("noyx,nihwyx->oihw", dy, windows)
    return products


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize(
    ("outs", "kernel"), [(6, (3, 3)), (8, (5, 5)), (1, (1, 1)), (7, (2, 4)), (3, (1, 17)), (8, (2, 32)), (5, (9, 1))]
)
def test_rows_of_every_length(target: targets.Target, dtype: str, outs: int, kernel: tuple[int, int]) -> None:
    spec = CorrelateSpec(dtype, outs, kernel)
    for width in (1, 3, 4, 7, 8, 9, 15, 16, 17, 26, 32, 50):
        dy, x = operands(spec, 2, 1 + width % 3, (3 + width % 4, width), True)
        np.testing.assert_array_equal(execute(spec, target, dy, x), reference(spec, dy, x), err_msg=str(width))


def test_blocks_of_rows(target: targets.Target) -> None:
    spec = CorrelateSpec("f32", 4, (3, 3))
    for size in [(300, 26), (9, 3000)]:
        dy, x = operands(spec, 2, 1, size, True)
        np.testing.assert_array_equal(execute(spec, target, dy, x), reference(spec, dy, x))


def test_division_into_calls_changes_no_bit(target: targets.Target) -> None:
    spec = CorrelateSpec("f32", 6, (3, 3))
    dy, x = operands(spec, 3, 4, (40, 70), False)
    whole = execute(spec, target, dy, x)
    for cuts in [(1,), (3, 6), (2, 4, 7, 11), tuple(range(1, 12)), (5, 5)]:
        assert execute(spec, target, dy, x, cuts).tobytes() == whole.tobytes()


def test_long_sums_stay_accurate(target: targets.Target) -> None:
    spec = CorrelateSpec("f32", 2, (3, 3))
    dy, x = operands(spec, 60, 1, (50, 50), False)
    dy, x = abs(dy), abs(x)
    np.testing.assert_allclose(execute(spec, target, dy, x), reference(spec, dy, x), rtol=4e-6)


def test_no_images_give_zero(target: targets.Target) -> None:
    spec = CorrelateSpec("f32", 2, (3, 3))
    dy, x = operands(spec, 0, 2, (4, 4), True)
    assert not execute(spec, target, dy, x).any()


@pytest.mark.parametrize("name", ["avx512", "avx2"])
@pytest.mark.parametrize(("outs", "kernel"), [(6, (3, 3)), (8, (3, 3)), (6, (5, 5)), (8, (7, 7))])
def test_inner_loops_keep_every_sum_in_a_register(name: str, outs: int, kernel: tuple[int, int]) -> None:
    if name not in targets.available():
        pytest.skip(f"this machine cannot run {name}")
    for dtype in ("f32", "f64"):
        assembly = jit.assembly(CorrelateSpec(dtype, outs, kernel), targets._named(name))
        loops = re.findall(r"^(\.LBB\S+):((?:(?!^\.LBB).*\n)*?)\s+j\w+\s+\1\n", assembly, flags=re.MULTILINE)
        bodies = [body for _, body in loops if "vfmadd" in body]
        assert bodies
        for body in bodies:
            assert not re.search(r"[xyz]mm.*\(%rsp\)|\(%rsp\).*[xyz]mm", body), body


def test_tiles_fit_and_cover() -> None:
    for outs in range(1, 9):
        for width in range(1, 65):
            for registers in (16, 32):
                tall, wide = tiles(outs, width, registers)
                assert tall * wide + min(tall, wide) + 2 <= registers


def test_impossible_specifications() -> None:
    with pytest.raises(ValueError, match="not 'i32'"):
        CorrelateSpec("i32", 1, (3, 3))
    with pytest.raises(ValueError, match="1 to 8 output channels, not 9"):
        CorrelateSpec("f32", 9, (3, 3))
    with pytest.raises(ValueError, match="1 to 64 weights"):
        CorrelateSpec("f32", 6, (9, 9))
