"""Memory: how much a training takes, that nothing grows, that dead buffers are not read, that too much is refused."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import juanji as jj
from juanji import nn
from juanji.nn import functional as F
from juanji.runtime import memory, system

LINUX = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")

#: What every script below begins with.
START = """
    import numpy as np
    import juanji as jj
    from juanji import nn, optim, zoo
    from juanji.nn import functional as F

    def mib(name="VmRSS"):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))
"""


def run(script, *arguments, **environment):
    """What a script prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(START) + textwrap.dedent(script), *map(str, arguments)],
        env={**os.environ, "JUANJI_DEBUG": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# -- how much --------------------------------------------------------------------------------------------------------
@LINUX
def test_training_a_lenet_takes_less_than_200_mb(tmp_path):
    """With its pictures, which are as many as MNIST's and are held once, as bytes (55 MB), and an empty cache."""
    from juanji.data import write_idx

    random = np.random.default_rng(0)
    for stem, count in (("train", 60_000), ("t10k", 10_000)):
        images = random.integers(0, 255, (count, 28, 28), np.uint8)
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8))
    script = """
        import sys
        from juanji.cli.main import app
        sys.argv[0] = "juanji"
        try:
            app()
        except SystemExit as done:
            assert not done.code
        print(mib("VmHWM"))
    """
    options = ("--epochs", 1, "--lr", 1e-4, "--out", tmp_path / "m.safetensors")
    out = run(script, "train", "--data", tmp_path, *options, JUANJI_HOME=str(tmp_path / "home"))
    assert 60 < float(out.splitlines()[-1]) < 200


@LINUX
def test_ten_thousand_steps_take_no_more_memory_than_one_thousand():
    out = run("""
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
        optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        @jj.compile
        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        x, y = jj.randn(4, 4), jj.tensor([0, 1, 2, 0])
        for i in range(11_000):
            step(x, y)
            if i == 1_000:
                before = mib()
        print(mib() - before)
    """)
    assert float(out) < 1


@LINUX
def test_a_thousand_shapes_and_then_a_thousand_more():
    """Every eager plan is some 10 KB, and their number is bounded: filled once, the cache grows no more."""
    out = run("""
        from juanji.tensors import eager
        from juanji.runtime import jit

        w = jj.randn(3, 2, 3, 3, requires_grad=True)

        def use(first, count):
            for n in range(first, first + count):
                (jj.ones(n + 1) * 2 + 1).sum()
                if n % 5 == 0:
                    F.conv2d(jj.ones(1, 2, 4 + n % 31, 4 + n // 31), w).sum().backward()

        use(0, 30)
        before, kernels = mib(), jit.statistics.kernels
        use(30, 1_000)
        print(mib() - before, len(eager._plans) <= eager.MAX_PLANS)
        eager.MAX_PLANS = 500
        use(2_000, 300)  # throws away down to the smaller bound
        before = mib()
        use(3_000, 1_000)
        print(mib() - before, len(eager._plans) <= 500, jit.statistics.kernels - kernels)
    """)
    first, second = (line.split() for line in out.splitlines())
    assert float(first[0]) < 40
    assert float(second[0]) < 3
    assert first[1] == second[1] == "True"
    assert int(second[2]) < 50  # extents are arguments: a new shape is no new machine code


@LINUX
def test_a_hundred_captures_leave_nothing_behind():
    out = run("""
        import gc

        def capture():
            w = jj.randn(16, 16, requires_grad=True)

            @jj.compile
            def step(x):
                w.grad = None
                loss = (x @ w).relu().sum()
                loss.backward()
                return loss.detach()

            step(jj.ones(4, 16))
            step(jj.ones(4, 16))

        for i in range(120):
            capture()
            if i == 20:
                before = mib()
        gc.collect()
        print(mib() - before)
    """)
    assert float(out) < 3


def test_a_step_keeps_a_bounded_number_of_plans(monkeypatch):
    from juanji.capture import compile as capture

    step = jj.compile(lambda x: (x * 2).sum())
    monkeypatch.setattr(capture, "MAX_SHAPES", 4)
    for n in (*range(1, 9), 1):
        assert step(jj.ones(n)).item() == 2 * n
        assert len(step.plans) <= 4
    assert step.traces == 9
    monkeypatch.setattr(capture, "MAX_ARENA_BYTES", -1)
    step(jj.ones(20))
    assert len(step.plans) == 1


# -- dead buffers ----------------------------------------------------------------------------------------------------
LENET = """
    jj.manual_seed(0)
    model = zoo.create("lenet")
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    compiled = jj.compile(step)
    random = np.random.default_rng(0)
    for run in (compiled, compiled, compiled, step, step):
        x = jj.tensor(random.normal(size=(6, 1, 28, 28)).astype(np.float32))
        print(run(x, jj.tensor(random.integers(0, 10, 6))).item().hex())
"""


def test_with_dead_buffers_full_of_nan_a_lenet_learns_the_same():
    poisoned = """
        from juanji.runtime import memory
        import sys
        if sys.argv[1] == "4":
            assert (compiled.plans[0]._arena == 255).all()  # after a step, nothing in it is alive
            buffer, address = memory.acquire(1000)
            buffer[:] = 0
            memory.release(buffer, address)
            assert (buffer == 255).all()
    """
    script = textwrap.dedent(LENET) + textwrap.dedent(poisoned)
    plain, full = (run(script, level, JUANJI_DEBUG=level) for level in ("0", "4"))
    assert plain == full
    assert "nan" not in plain
    assert len(set(plain.split())) == 5


def test_poison_shows_a_buffer_that_is_read_too_late():
    out = run(
        """
        from juanji.runtime import memory
        storage = jj.ones(1000).exp()._var.storage
        kept = storage.array
        address = storage.ptr
        memory.release(kept, address)
        print(kept.view(np.float32)[:3])
        storage.array = None
        """,
        JUANJI_DEBUG="4",
    )
    assert out == "[nan nan nan]\n"


# -- too much --------------------------------------------------------------------------------------------------------
HUGE = {
    "zeros": (lambda: jj.zeros(2**40), "[1099511627776]"),
    "beyond the machine": (lambda: jj.zeros(2**37), "[137438953472]"),
    "empty": (lambda: jj.empty(2**20, 2**17), "[1048576, 131072]"),
    "randn": (lambda: jj.randn(2**20, 2**18), "[1048576, 262144]"),
    "arange": (lambda: jj.arange(2**37), "[137438953472]"),
    "eye": (lambda: jj.eye(2**19), "[524288, 524288]"),
    "randperm": (lambda: jj.randperm(2**37), "[137438953472]"),
    "like": (lambda: jj.zeros_like(jj.ones(1).expand(2**37)), "[137438953472]"),
    "clone": (lambda: jj.ones(1).expand(2**37).clone(), "[137438953472]"),
    "clone beyond all": (lambda: jj.ones(1).expand(2**41).clone(), "[2199023255552]"),
    "tensor": (lambda: jj.tensor(jj.ones(1).expand(2**37)), "[137438953472]"),
    "reshape": (lambda: jj.ones(1, 2).expand(2**36, 2).reshape(2, 2**36), "[68719476736, 2]"),
    "broadcast": (lambda: jj.ones(2**19, 1) + jj.ones(1, 2**18), "[524288, 262144]"),
    "matmul": (lambda: jj.ones(2**19, 1) @ jj.ones(1, 2**18), "[524288, 262144]"),
    "conv2d": (lambda: F.conv2d(jj.ones(1, 1, 4, 4), jj.ones(1, 1, 3, 3), padding=2**18), "[1, 1, 524290, 524290]"),
    "pool": (lambda: F.avg_pool2d(jj.ones(1, 1, 1, 1).expand(1, 1, 2**20, 2**17), 1), "[1, 1, 1048576, 131072]"),
    "cat": (lambda: jj.cat([jj.ones(1).expand(2**36)] * 2), "[137438953472]"),
    "layer": (lambda: nn.Linear(2**19, 2**18), "[262144, 524288]"),
    "cast": (lambda: jj.ones(1).expand(2**37).double(), "[137438953472] and dtype float64"),
    "compiled result": (lambda: jj.compile(lambda a: a + 1)(jj.ones(1).expand(2**37)), "[137438953472]"),
    "compiled matmul": (lambda: jj.compile(lambda a, b: (a @ b).exp().sum())(*tall_and_wide()), "[524288, 262144]"),
}


def tall_and_wide():
    return jj.ones(2**19, 8), jj.ones(8, 2**18)


@pytest.mark.parametrize("name", HUGE)
def test_impossible_sizes_name_the_shape(name):
    make, shape = HUGE[name]
    with pytest.raises(MemoryError) as error:
        make()
    assert f"a tensor of shape {shape}" in str(error.value)


def test_a_huge_view_is_no_huge_tensor():
    huge = jj.ones(1).expand(2**37)
    assert huge.reshape(2**20, 2**17)[:3, :2].sum().item() == 6


def test_what_is_free_decides(monkeypatch):
    memory.trim()
    monkeypatch.setattr(memory, "available", lambda: 100 * 10**6)
    jj.zeros(2**24)
    with pytest.raises(MemoryError, match=r"shape \[33554432\] and dtype float32 takes 134 MB; there are 100 MB"):
        jj.zeros(2**25)
    buffer, address = memory.acquire(2**27)
    memory.release(buffer, address)
    memory.require(2**27, "what is kept for reuse")
    monkeypatch.setattr(memory, "available", lambda: None)
    memory.require(2**60, "on a system that does not say")
    memory.trim()


@LINUX
def test_what_is_free_is_known():
    free = memory.available()
    assert free is not None
    assert 0 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_bounds_what_is_free(version, tmp_path):
    top = tmp_path / "memory" if version == 1 else tmp_path
    inner = top / "outer" / "inner"
    inner.mkdir(parents=True)
    limit, used, key = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    for folder, most in ((inner, "max" if version == 2 else str(2**62)), (inner.parent, "1000")):
        (folder / limit).write_text(f"{most}\n")
        (folder / used).write_text("700\n")
        (folder / "memory.stat").write_text(f"anon 1\n{key} 50\nfile 3\n")
    member = tmp_path / "cgroup"
    member.write_text("3:cpu:/else\n4:memory:/outer/inner\n" if version == 1 else "0::/outer/inner\n")
    assert system.cgroup_memory(tmp_path, member) == 350
    assert system.cgroup_memory(tmp_path, tmp_path / "none") is None
