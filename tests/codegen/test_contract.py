"""The contraction kernel against a literal reading of its argument tables."""

from __future__ import annotations

import ctypes
import itertools
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from juanji import target as targets
from juanji.codegen.contract import ContractSpec, choose_vectors, column_blocks
from juanji.codegen.contract_tile import tile_rows
from juanji.runtime import jit

TARGETS = ("avx512", "avx2", "sse42", "portable")
NUMPY = {"f32": np.float32, "f64": np.float64}


def named(name: str) -> targets.Target:
    if name not in targets.available():
        pytest.skip(f"this machine cannot run {name}")
    return targets._named(name)


@dataclass
class Problem:
    """Buffers (flat, any dtype) and tables in elements; `scaled` gives the kernel's byte tables."""

    spec: ContractSpec
    a: np.ndarray[Any, Any]
    b: np.ndarray[Any, Any]
    c: np.ndarray[Any, Any]
    jobs: list[list[int]]
    rects: list[list[int]]
    taps: list[list[int]]
    a_k: int
    b_k: int
    b_block: int
    n: int
    segment: int
    extras: list[np.ndarray[Any, Any]] = field(default_factory=list)
    adds: int = 0
    starts: list[int] = field(default_factory=list)
    shift: int = 0  # elements from a line of memory to C

    def run(self, target: targets.Target) -> np.ndarray[Any, Any]:
        size = self.a.itemsize
        jobs = np.array(self.jobs, np.int64)
        starts = np.array(self.starts or range(len(self.jobs) + 1), np.int64)
        rects = np.array([[*rect, self.adds] for rect in self.rects], np.int64)
        rects[:, [2, 3, 4, 5, 6, 7, 8, 9, 13]] *= size
        taps = np.array(self.taps, np.int64).reshape(-1, 2) * size
        room = np.empty(self.c.nbytes + 128, np.uint8)
        first = -room.ctypes.data % 64 + self.shift * size
        c = room[first : first + self.c.nbytes].view(self.c.dtype)
        c[:] = self.c
        extras = [c if extra is self.c else extra for extra in self.extras]
        slots = [x.ctypes.data for x in (self.a, self.b, c, starts, jobs, rects, taps)]
        slots += [self.a_k * size, self.b_k * size, self.b_block * size, self.n, self.segment]
        slots += [x.ctypes.data for x in extras]
        if self.spec.copies:
            longest = min(self.segment, max(rect[11] for rect in self.rects)) * max(rect[12] for rect in self.rects)
            room = np.zeros((len(starts) - 1, longest * self.spec.block(target)), self.a.dtype)
            taps = np.concatenate([taps, np.repeat(taps[-1:], self.segment, 0)])
            slots[6] = taps.ctypes.data
            slots += [room.ctypes.data, room.strides[0]]
        arguments = (ctypes.c_int64 * len(slots))(*slots)
        kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(jit.address(self.spec, target))
        # Two calls that share the jobs unevenly: the division must not matter.
        chunks = len(starts) - 1
        cut = chunks // 3
        kernel(ctypes.addressof(arguments), cut, chunks)
        kernel(ctypes.addressof(arguments), 0, cut)
        return c

    def interpret(self, target: targets.Target) -> np.ndarray[Any, Any]:
        """What the tables say, one pixel, tap and k at a time."""
        nb, c = self.spec.block(target), self.c.copy()
        for rect, m_begin, m_end, block_begin, block_end in self.jobs:
            mx, my, a0, asx, asy, asn, c0, csx, csy, csn, t0, nt, kk, b0, n0 = self.rects[rect]
            for m in range(m_begin, m_end):
                x, y, i = m % mx, m // mx % my, m // (mx * my)
                a_at = a0 + x * asx + y * asy + i * asn
                c_at = c0 + x * csx + y * csy + i * csn
                for block in range(block_begin, block_end):
                    columns = np.arange(block * nb, min((block + 1) * nb, self.n))
                    acc = np.zeros(len(columns), self.a.dtype)
                    for a_off, b_off in self.taps[t0 : t0 + nt]:
                        for k in range(kk):
                            if self.spec.dots:
                                row = self.a[a_at + a_off + k * self.a_k]
                                acc += row * self.b[b0 + b_off + k + columns * self.b_k]
                                continue
                            row = b0 + block * self.b_block + b_off + k * self.b_k
                            acc += self.a[a_at + a_off + k * self.a_k] * self.b[row : row + len(columns)]
                    at = c_at + columns
                    if self.adds:
                        acc = c[at] + acc
                    inputs = []
                    for extra, (_, kind) in zip(self.extras, self.spec.extras, strict=True):
                        place = {"n": columns + n0, "c": at, "m": np.array([x + n0]), "s": np.zeros(1, int)}[kind]
                        inputs.append(extra[place])
                    c[at] = evaluate(self.spec.epilogue, acc, inputs)
        return c

    def check(self, target: targets.Target) -> None:
        got, want = self.run(target), self.interpret(target)
        assert (got == want).all(), np.argwhere(got != want)[:5].tolist()


def evaluate(expr: Any, acc: Any, inputs: list[Any]) -> Any:
    if expr is None or expr[0] == "acc":
        return acc
    if expr[0] == "load":
        return inputs[expr[2]]
    if expr[0] == "const":
        return expr[2]
    operands = [evaluate(e, acc, inputs) for e in expr[2:]]
    return {"add": np.add, "mul": np.multiply, "max": np.maximum, "sub": np.subtract}[expr[0]](*operands)


def small(rng: np.random.Generator, count: int, dtype: str) -> np.ndarray[Any, Any]:
    """Integers so small that sums are exact."""
    return rng.integers(-4, 5, count).astype(NUMPY[dtype])


def matmul(
    target: targets.Target,
    m: int,
    k: int,
    n: int,
    dtype: str = "f32",
    vectors: int | None = None,
    cut: int | None = None,
    **options: Any,
) -> Problem:
    """A plain product; rows of B as they are, and nothing readable after its last element."""
    rng = np.random.default_rng(m * 10007 + k * 101 + n)
    vectors = vectors or choose_vectors(n, target, dtype)
    tail, full = column_blocks(n, vectors, target, dtype)
    spec = ContractSpec(dtype, vectors, tail, full, **options)
    nb = spec.block(target)
    blocks = -(-n // nb)
    cut = cut or max(m, 1)
    jobs = [[0, i, min(i + cut, m), 0, blocks] for i in range(0, m, cut)]
    rects = [[max(m, 1), 1, 0, k, 0, 0, 0, n, 0, 0, 0, 1, k, 0, 0]]
    problem = Problem(spec, small(rng, m * k, dtype), small(rng, k * n, dtype), small(rng, m * n, dtype),
                      jobs, rects, [[0, 0]], 1, n, nb, n, 1)  # fmt: skip
    for kind_dtype, kind in spec.extras:
        count = {"n": n, "c": m * n, "s": 1}[kind]
        problem.extras.append(small(rng, count, kind_dtype))
    return problem


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("n", [1, 6, 16, 17, 33, 64, 100])
def test_products_of_every_width_and_tail(name: str, dtype: str, n: int) -> None:
    target = named(name)
    rows = tile_rows(choose_vectors(n, target, dtype), target)
    for m in sorted({1, 2, rows // 2, rows // 2 + 1, rows - 1, rows, rows + 1, 2 * rows + 3, 29}):
        if m > 0:
            matmul(target, m, 5, n, dtype).check(target)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("vectors", [1, 2, 3, 4])
def test_every_block_width_with_every_partial_block(name: str, vectors: int) -> None:
    target = named(name)
    lanes = target.lanes("f32")
    for n in [vectors * lanes * 2 + extra for extra in range(0, vectors * lanes, lanes // 2 + 1)]:
        matmul(target, 15, 3, n, vectors=vectors).check(target)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("k", [0, 1, 2, 3, 7, 40])
def test_reductions_of_every_length(name: str, k: int) -> None:
    target = named(name)
    for m in (1, 5, 13):
        matmul(target, m, k, 20).check(target)
        problem = matmul(target, m, k, 20)
        problem.adds = 1
        problem.check(target)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("most", [1, 2, 4])
def test_tiles_of_few_rows(name: str, most: int) -> None:
    target = named(name)
    for m in range(1, most + 1):
        matmul(target, m, 5, 70, most=most).check(target)
        matmul(target, m, 5, 6, most=most).check(target)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_steps_written_out(name: str, dtype: str) -> None:
    target = named(name)
    size = 4 if dtype == "f32" else 8
    for n, k in ((3, 1), (target.lanes(dtype), 18)):
        for m in (1, 5, 29):
            matmul(target, m, k, n, dtype, vectors=1, steps=(k, size, n * size)).check(target)


@pytest.mark.parametrize("name", TARGETS)
def test_jobs_of_any_size_give_the_same_result(name: str) -> None:
    target = named(name)
    for cut in (1, 4, 6, 7, 12, 40):
        matmul(target, 40, 9, 70, cut=cut).check(target)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("n", [16, 96, 208])
def test_results_past_the_caches_and_what_is_read_asked_for(name: str, n: int) -> None:
    """Neither changes a bit, wherever C begins."""
    target = named(name)
    epilogue = ("add", "f32", ("acc", "f32"), ("load", "f32", 0))
    options = {"epilogue": epilogue, "extras": (("f32", "n"),)}
    plain = matmul(target, 31, 20, n, **options).run(target)
    for asks, shift in itertools.product((0, 1, 6, 12), (0, 1)):
        problem = matmul(target, 31, 20, n, streams=True, asks=asks, **options)
        problem.shift = shift
        problem.check(target)
        np.testing.assert_array_equal(problem.run(target), plain)
    assembly = jit.assembly(matmul(target, 31, 20, n, streams=True, **options).spec, target)
    assert name == "portable" or "vmovntps" in assembly or "movntps" in assembly


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_read_is_asked_for_between_steps_written_out(name: str) -> None:
    target = named(name)
    for asks in (1, 12):
        problem = matmul(target, 31, 9, target.lanes("f32"), steps=(9, 4, 4 * target.lanes("f32")), asks=asks)
        problem.check(target)
        assert jit.assembly(problem.spec, target).count("prefetch")


def conv(target: targets.Target, dtype: str, n: int, shape: tuple[int, int, int], channels: int,
         segment: int, stride: int = 1, packed: bool = True, **options: Any) -> Problem:  # fmt: skip
    """A 3x3 convolution with padding 1 over channels-last images, as nine rectangles."""
    rng = np.random.default_rng(n * 1009 + channels)
    vectors = choose_vectors(n, target, dtype)
    tail, full = column_blocks(n, vectors, target, dtype)
    spec = ContractSpec(dtype, vectors, tail, full, **options)
    nb = spec.block(target)
    blocks = -(-n // nb)
    images, height, width = shape
    out_h, out_w = (height - 1) // stride + 1, (width - 1) // stride + 1
    jobs, rects, taps = [], [], []

    def parts(size: int, out: int) -> list[tuple[int, int, list[int]]]:
        found: list[tuple[int, int, list[int]]] = []
        for o in range(out):
            valid = [k for k in range(3) if 0 <= o * stride + k - 1 < size]
            if found and found[-1][2] == valid:
                found[-1] = (found[-1][0], o + 1, valid)
            else:
                found.append((o, o + 1, valid))
        return found

    b_row = nb if packed else n
    for y0, y1, ys in parts(height, out_h):
        for x0, x1, xs in parts(width, out_w):
            mx, my = x1 - x0, y1 - y0
            a_base = ((y0 * stride - 1) * width + x0 * stride - 1) * channels
            c_base = (y0 * out_w + x0) * n
            rects.append([mx, my, a_base, stride * channels, stride * width * channels,
                          height * width * channels, c_base, n, out_w * n, out_h * out_w * n,
                          len(taps), len(ys) * len(xs), channels, 0, 0])  # fmt: skip
            taps += [[(y * width + x) * channels, (y * 3 + x) * channels * b_row] for y in ys for x in xs]
            pixels = mx * my * images
            jobs += [[len(rects) - 1, 0, pixels // 2, 0, blocks]]
            jobs += [[len(rects) - 1, pixels // 2, pixels, q, q + 1] for q in range(blocks)]
    weights = small(rng, 9 * channels * (blocks * nb if packed else n), dtype)
    c = small(rng, images * out_h * out_w * n, dtype)
    problem = Problem(spec, small(rng, images * height * width * channels, dtype), weights, c, jobs, rects,
                      taps, 1, b_row, 9 * channels * nb if packed else nb, n, segment)  # fmt: skip
    for kind_dtype, kind in spec.extras:
        count = {"n": n, "m": shape[2], "c": len(c), "s": 1}[kind]
        problem.extras.append(small(rng, count, kind_dtype))
    return problem


def relu(dtype: str, expr: Any) -> Any:
    return ("max", dtype, expr, ("const", dtype, 0.0))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("n", [6, 40])
@pytest.mark.parametrize("segment", [1, 4, 100])
def test_padded_convolution_with_bias_and_relu(name: str, dtype: str, n: int, segment: int) -> None:
    epilogue = relu(dtype, ("add", dtype, ("acc", dtype), ("load", dtype, 0)))
    problem = conv(named(name), dtype, n, (2, 9, 16), 3, segment, epilogue=epilogue, extras=((dtype, "n"),))
    problem.check(named(name))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("shape", [(3, 1, 1), (2, 2, 3), (2, 4, 5), (1, 7, 33)])
def test_strided_convolution_of_maps_narrower_than_a_tile(name: str, shape: tuple[int, int, int]) -> None:
    target = named(name)
    conv(target, "f32", 17, shape, 4, 3, stride=2, packed=False).check(target)
    problem = conv(target, "f32", 17, shape, 4, 3)
    problem.adds = 1
    problem.check(target)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("adds", [0, 1])
def test_residual_scale_and_groups(name: str, adds: int) -> None:
    target, dt = named(name), "f32"
    scaled = ("mul", dt, ("acc", dt), ("load", dt, 2))
    epilogue = relu(dt, ("add", dt, ("add", dt, scaled, ("load", dt, 0)), ("load", dt, 1)))
    problem = matmul(target, 17, 6, 21, epilogue=epilogue, extras=((dt, "n"), (dt, "c"), (dt, "s")))
    problem.adds = adds
    problem.rects[0][14] = 5
    problem.extras[0] = small(np.random.default_rng(3), 26, dt)
    problem.check(target)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("shape", [(2, 7, 1), (2, 5, 3), (2, 2, 6), (1, 3, 40)])
@pytest.mark.parametrize("terms", [1, 9])
def test_value_for_each_row(name: str, dtype: str, shape: tuple[int, int, int], terms: int) -> None:
    """Inputs of class "m", written once for each row (one term) or in a loop over rows (many)."""
    epilogue: Any = ("acc", dtype)
    for _ in range(terms):
        epilogue = ("sub", dtype, ("add", dtype, epilogue, ("load", dtype, 0)), ("load", dtype, 1))
    extras = ((dtype, "m"), (dtype, "n"))
    for n in (6, 40):
        problem = conv(named(name), dtype, n, shape, 3, 4, epilogue=epilogue, extras=extras)
        problem.extras[0] = small(np.random.default_rng(4), shape[2] + 2, dtype)
        problem.extras[1] = small(np.random.default_rng(5), n + 2, dtype)
        for rect in problem.rects:
            rect[14] = 2
        problem.check(named(name))


@pytest.mark.parametrize("name", TARGETS)
def test_long_epilogue_may_read_what_it_replaces(name: str) -> None:
    target, dt = named(name), "f32"
    epilogue: Any = ("add", dt, ("acc", dt), ("load", dt, 0))
    for _ in range(4):
        epilogue = relu(dt, ("sub", dt, ("mul", dt, epilogue, ("const", dt, 2.0)), ("load", dt, 1)))
    for n in (6, 40):
        problem = matmul(target, 16, 4, n, epilogue=epilogue, extras=((dt, "c"), (dt, "n")))
        problem.extras[0] = problem.c
        problem.check(target)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("segment", [1, 3, 1000])
@pytest.mark.parametrize("copies", [False, True])
def test_weight_gradient_with_free_strides_and_many_taps(name: str, segment: int, copies: bool) -> None:
    """dW[c, n] += sum over images and lines (taps) and x (k) of X[line, x, c] * dY[line, x, n]."""
    target = named(name)
    rng = np.random.default_rng(5)
    for channels, n in ((3, 6), (18, 16), (7, 50)):
        lines, width, taps = 10, 11, [[i * 14 * channels, i * 11 * n] for i in range(10)]
        vectors = choose_vectors(n, target, "f32")
        tail, full = column_blocks(n, vectors, target, "f32")
        spec = ContractSpec("f32", vectors, tail, full, copies=copies)
        nb = spec.block(target)
        rects = [[channels, 1, kx * channels, 1, 0, 0, kx * channels * n, n, 0, 0, 0, lines, width, 0, 0]
                 for kx in range(3)]  # fmt: skip
        jobs = [[kx, 0, channels, 0, -(-n // nb)] for kx in range(3)]
        Problem(spec, small(rng, lines * 14 * channels, "f32"), small(rng, lines * 11 * n, "f32"),
                small(rng, 3 * channels * n, "f32"), jobs, rects, taps, channels, n, nb, n,
                segment, adds=1).check(target)  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_jobs_of_one_chunk_add_to_the_same_result_in_order(name: str) -> None:
    target = named(name)
    problem = matmul(target, 40, 9, 70, cut=10)
    problem.adds = 1
    problem.jobs = problem.jobs * 3
    problem.jobs.sort(key=lambda job: job[1])
    problem.starts = [0, 3, 6, 12]
    problem.check(target)


@pytest.mark.parametrize("name", TARGETS)
def test_inner_loops_keep_every_sum_in_a_register(name: str) -> None:
    target = named(name)
    for dtype in ("f32", "f64"):
        for vectors in (1, 2, 3, 4) if name == "avx512" else (1, 2):
            for tail in {0, 1, vectors}:
                loops = inner_loops(jit.assembly(ContractSpec(dtype, vectors, tail, True), target))
                assert loops
                for loop in loops:
                    assert not re.search(r"[xyz]mm.*\(%rsp\)|\(%rsp\).*[xyz]mm", loop), loop


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_sums_along_the_lanes(name: str, dtype: str) -> None:
    """Every number of columns, tiles of all heights, taps shorter and longer than a vector, more than one segment."""
    target = named(name)
    lanes = target.lanes(dtype)
    extras = ((dtype, "n"), (dtype, "c"), (dtype, "s"))
    load = [("load", dtype, i) for i in range(3)]
    epilogue = ("add", dtype, ("mul", dtype, ("add", dtype, ("acc", dtype), load[0]), load[2]), load[1])
    for n in range(1, max(1, lanes // 2) + 1):
        for m, k, adds in ((1, 1, 0), (13, lanes, 0), (29, 2 * lanes + 3, 1)):
            rng = np.random.default_rng(m + n)
            for spec in (
                ContractSpec(dtype, 1, 1, False, dots=n),
                ContractSpec(dtype, 1, 1, False, epilogue, extras, dots=n),
            ):
                inputs = [small(rng, count, dtype) for count in (n, m * n, 1)] if spec.extras else []
                taps = [[0, 0], [2, k], [1, 2 * k]]
                rects = [[m, 1, 0, k, 0, 0, 0, n, 0, 0, 0, 3, k, 0, 0]]
                a, b, c = (small(rng, count, dtype) for count in (m * k + 2, 3 * k * n, m * n))
                jobs = [[0, 0, m // 2, 0, 1], [0, m // 2, m, 0, 1]]
                Problem(spec, a, b, c, jobs, rects, taps, 1, 3 * k, 0, n, 2, inputs, adds).check(target)


def test_sums_along_the_lanes_stay_in_registers() -> None:
    for name in ("avx512", "avx2"):
        target = named(name)
        for n in range(1, target.lanes("f32") // 2 + 1):
            loops = inner_loops(jit.assembly(ContractSpec("f32", 1, 1, False, dots=n), target))
            assert loops
            for loop in loops:
                assert not re.search(r"[xyz]mm.*\(%rsp\)|\(%rsp\).*[xyz]mm", loop), loop


def test_steps_written_out_keep_the_sums_in_registers() -> None:
    target = named("avx512")
    for tail, full in ((0, True), (1, False)):
        text = jit.assembly(ContractSpec("f32", 1, tail, full, steps=(18, 4, target.vector_bytes)), target)
        tiles = [body for body in re.split(r"^\.LBB\S+:", text, flags=re.MULTILINE) if body.count("vfmadd") >= 18]
        assert tiles
        for body in tiles:
            assert not re.search(r"[xyz]mm.*\(%rsp\)|\(%rsp\).*[xyz]mm", body), body


def inner_loops(assembly: str) -> list[str]:
    """What lies between a label and a branch back to it, where it multiplies."""
    found = re.findall(r"^(\.LBB\S+):((?:(?!^\.LBB).*\n)*?)\s+j\w+\s+\1\n", assembly, flags=re.MULTILINE)
    return [body for _, body in found if "vfmadd" in body or "mulp" in body]


def test_specifications_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="dtype is that of numbers, not 'b1'"):
        ContractSpec("b1", 1)
    with pytest.raises(ValueError, match="at least 1, not 0"):
        ContractSpec("f32", 1, steps=(0, 4, 64))
    with pytest.raises(ValueError, match="at least one row"):
        ContractSpec("f32", 1, most=-1)
    with pytest.raises(ValueError, match="dot products are of"):
        ContractSpec("f32", 2, 1, False, dots=3)
    with pytest.raises(ValueError, match="tail is 3"):
        ContractSpec("f32", 2, 3)
    with pytest.raises(ValueError, match="full blocks, a partial block"):
        ContractSpec("f32", 2, 0, False)
    with pytest.raises(ValueError, match="class of an extra"):
        ContractSpec("f32", 2, extras=(("f32", "x"),))
