"""The thread team: the same bits on any number of threads, and nothing that callers do breaks it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy as np
import pytest

import juanji as jj
from juanji import nn, optim, target
from juanji.nn import functional as F
from juanji.runtime import schedule, system, team

pytestmark = pytest.mark.skipif(system.thread_support()[0] is None, reason=system.thread_support()[1])
COUNTS = (1, 2, 3, 4)


@contextlib.contextmanager
def threads(number):
    """So many threads, and every kernel of several chunks shared whether it pays or not."""
    before = jj.get_num_threads()
    schedule.always_share = True
    jj.set_num_threads(number)
    try:
        yield
    finally:
        schedule.always_share = False
        jj.set_num_threads(before)


def in_process(code, *, env=None, timeout=120):
    """Runs code in a Python of its own; its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={**os.environ, "JUANJI_THREADS": "4", **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-3000:]}"
    return done.stdout


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def trained(steps, batch, compiled=True):
    """The bytes of all parameters, optimiser state and losses after some steps of a LeNet."""
    jj.manual_seed(3)
    net = lenet()
    optimizer = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step(images, labels):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    run = jj.compile(step) if compiled else step
    random = np.random.default_rng(0)
    found = []
    for _ in range(steps):
        images = jj.tensor(random.standard_normal((batch, 1, 28, 28), np.float32))
        found.append(run(images, jj.tensor(random.integers(0, 10, batch))).numpy().tobytes())
    if compiled and jj.get_num_threads() > 1:
        assert all(p._schedule.on_team for p in run.plans)
    return b"".join([*found, *(p.detach().numpy().tobytes() for p in net.parameters())])


# -- the same bits ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("batch", [4, 32])
def test_lenet_is_the_same_on_any_number_of_threads(batch, kernel_target):
    results = []
    for count in COUNTS:
        with threads(count):
            results.append(trained(12, batch))
    assert all(r == results[0] for r in results[1:])


def test_eager_training_is_the_same_on_any_number_of_threads():
    results = []
    for count in COUNTS:
        with threads(count):
            results.append(trained(4, 32, compiled=False))
    assert all(r == results[0] for r in results[1:])


def test_eager_compiled_and_all_targets_agree(use_target):
    # The same numbers added in another order, twelve steps long: stated for float32.
    expected = None
    for name in target.available():
        use_target(name)
        for compiled in (True, False):
            with threads(1):
                found = np.frombuffer(trained(12, 8, compiled), np.float32)
            expected = found if expected is None else expected
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6, err_msg=f"{name}, compiled {compiled}")


def _conv(x, w):
    return F.conv2d(x, w, stride=2, padding=1)


def _gradients(function):
    def run(*arrays):
        leaves = [a.detach().requires_grad_() for a in arrays]
        function(*leaves).square().sum().backward()
        return jj.cat([leaf.grad.reshape(-1) for leaf in leaves])

    return run


OPERATIONS = {
    "conv2d": (lambda x, w: F.conv2d(x, w, padding=1), (4, 8, 40, 40), (24, 8, 3, 3)),
    "conv2d gradients": (_gradients(_conv), (4, 16, 31, 31), (24, 16, 3, 3)),
    "matmul": (lambda a, b: a @ b, (300, 500), (500, 170)),
    "matmul gradients": (_gradients(lambda a, b: a @ b), (300, 200), (200, 170)),
    "sum of rows": (lambda a: a.sum(1), (700, 900)),
    "sum of columns": (lambda a: a.sum(0), (9000, 70)),
    "sum of all": (lambda a: a.sum(), (800, 1000)),
    "softmax": (lambda a: a.softmax(1), (600, 300)),
    "elementwise": (lambda a, b: (a * b).exp() + a, (800, 900), (800, 900)),
    "transposed": (lambda a, b: a.t() + b, (700, 500), (500, 700)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, 1), (8, 16, 40, 40)),
    "batch statistics": (lambda x: x.mean((0, 2, 3)) + x.var((0, 2, 3)), (16, 24, 20, 20)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_the_same_on_any_number_of_threads(name, kernel_target):
    function, *shapes = OPERATIONS[name]
    random = np.random.default_rng(1)
    arrays = [jj.tensor(random.standard_normal(s, np.float32)) for s in shapes]
    results = []
    for count in COUNTS:
        with threads(count):
            for run in (function, jj.compile(function)):
                for _ in range(4):  # on one thread, timed; then on the team
                    results.append((run is function, run(*arrays).numpy().tobytes()))
    for eager in (True, False):
        same = [r for was_eager, r in results if was_eager == eager]
        assert all(r == same[0] for r in same[1:])


def test_denormals_are_flushed_in_every_worker():
    tiny = jj.full((400, 1000), 1e-30)
    with threads(4):
        for _ in range(6):
            assert not (tiny * 1e-10).numpy().any()
    assert np.float32(1e-30) * np.float32(1e-10) > 0  # and not outside


# -- the team itself --------------------------------------------------------------------------------------------------
CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def rows_of(*kernels):
    """A plan's rows and pieces: (function, chunks, pieces) each."""
    flat = [v for f, chunks, _ in kernels for v in (ctypes.cast(f, ctypes.c_void_p).value, 0, chunks)]
    return np.array(flat, np.int64), np.array([p for *_, p in kernels], np.int64)


def run_rows(rows, pieces):
    return team.run(
        target.current(), rows.__array_interface__["data"][0], pieces.__array_interface__["data"][0], len(pieces)
    )


def test_every_chunk_is_done_once_and_kernels_in_order():
    events = []

    def kernel(name):
        return CALLBACK(lambda _, begin, end: events.append((name, begin, end)))

    kernels = [(kernel(0), 7, 3), (kernel(1), 5, 1), (kernel(2), 64, 64), (kernel(3), 2, 2), (kernel(4), 1, 1)]
    rows, pieces = rows_of(*kernels)
    with threads(4):
        for _ in range(50):
            events.clear()
            assert run_rows(rows, pieces)
            assert [e[0] for e in events] == sorted(e[0] for e in events)
            for name, (_, chunks, count) in enumerate(kernels):
                ranges = sorted(e[1:] for e in events if e[0] == name)
                assert len(ranges) == count
                assert [c for begin, end in ranges for c in range(begin, end)] == list(range(chunks))


def test_workers_do_work():
    # Two pieces that wait for each other need two threads.
    barrier = threading.Barrier(2)
    kernel = CALLBACK(lambda *_: barrier.wait(30) and None)
    with threads(2):
        assert run_rows(*rows_of((kernel, 2, 2)))
    assert not barrier.broken


def test_a_busy_team_is_refused_and_its_end_awaited():
    inside, leave = threading.Event(), threading.Event()

    def wait(*_):
        inside.set()
        leave.wait(30)

    kernel, quick = CALLBACK(wait), CALLBACK(lambda *_: None)
    with threads(2):
        holder = threading.Thread(target=run_rows, args=rows_of((kernel, 1, 1)))
        holder.start()
        assert inside.wait(30)
        assert not run_rows(*rows_of((quick, 2, 2)))
        changer = threading.Thread(target=jj.set_num_threads, args=(3,))
        changer.start()
        leave.set()
        holder.join(30)
        changer.join(30)
        assert not changer.is_alive()
        assert jj.get_num_threads() == 3
        assert run_rows(*rows_of((quick, 2, 2)))


def test_team_shrinks_where_the_system_allows_no_more_threads(monkeypatch):
    started = []
    make = system.NativeThread

    def limited(*args):
        if len(started) == 1:
            raise OSError(11, "Resource temporarily unavailable")
        started.append(make(*args))
        return started[-1]

    monkeypatch.setattr(system, "NativeThread", limited)
    with threads(4):
        assert run_rows(*rows_of((CALLBACK(lambda *_: None), 8, 8)))
        assert team._shared.team.threads == 2


# -- callers ----------------------------------------------------------------------------------------------------------
def test_two_python_threads_call_one_plan_and_two_plans():
    random = np.random.default_rng(2)
    a, b = (jj.tensor(random.standard_normal((300, 300), np.float32)) for _ in range(2))
    shared = jj.compile(lambda x, y: (x @ y).relu().sum(1))
    own = [jj.compile(lambda x, y: (x @ y).exp().sum(0)), jj.compile(lambda x, y: (x * y).softmax(1))]
    expected = [f(a, b).numpy().tobytes() for f in (shared, *own)]
    wrong = []

    def work(k):
        for _ in range(60):
            if shared(a, b).numpy().tobytes() != expected[0] or own[k](a, b).numpy().tobytes() != expected[1 + k]:
                wrong.append(k)

    with threads(3):
        callers = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert not wrong


def test_number_of_threads_changes_between_runs():
    results = set()
    random = np.random.default_rng(4)
    a = jj.tensor(random.standard_normal((400, 400), np.float32))
    step = jj.compile(lambda x: (x @ x).sum(0))
    for count in (1, 4, 2, 1, 3, 3, 2):
        with threads(count):
            results |= {step(a).numpy().tobytes() for _ in range(3)}
            assert step.plans[0]._schedule.on_team == (count > 1)
    assert len(results) == 1


def test_fork_in_the_middle():
    out = in_process(
        """
        import os, threading
        import numpy as np
        import juanji as jj
        from juanji.runtime import schedule, team
        schedule.always_share = True
        x = jj.tensor(np.random.default_rng(0).standard_normal((300, 300), np.float32))
        step = jj.compile(lambda x: (x @ x).exp().sum(0))
        expected = [step(x).numpy().tobytes() for _ in range(4)][-1]
        assert team._shared.team is not None
        stop = threading.Event()
        def other():  # another Python thread keeps the team and the plan busy while this one forks
            while not stop.is_set():
                step(x)
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        for busy in (False, True):
            caller = threading.Thread(target=other)
            if busy:
                caller.start()
            for _ in range(10):
                child = os.fork()
                if child == 0:
                    same = all(step(x).numpy().tobytes() == expected for _ in range(20))
                    os._exit(0 if same and team._shared.team is not None else 1)
                assert os.waitpid(child, 0)[1] == 0
                assert step(x).numpy().tobytes() == expected
        stop.set()
        caller.join()
        print("fine")
        """
    )
    assert out == "fine\n"


def test_interpreter_ends_with_a_live_team():
    code = """
        import threading, time
        import numpy as np
        import juanji as jj
        from juanji.runtime import schedule, team
        schedule.always_share = True
        x = jj.tensor(np.ones((300, 300), np.float32))
        step = jj.compile(lambda x: (x @ x).exp().sum(0))
        for _ in range(5):
            step(x)
        assert team._shared.team is not None
        def forever():
            for _ in range({rounds}):
                step(x)
        threading.Thread(target=forever, daemon={daemon}).start()
        print("end", flush=True)
        """
    assert in_process(code.format(rounds=0, daemon=False)) == "end\n"
    assert in_process(code.format(rounds=300, daemon=False)) == "end\n"


@pytest.mark.parametrize("number", ["1", "4"])
def test_ctrl_c_in_a_long_plan(number):
    code = """
        import sys, time
        import numpy as np
        import juanji as jj
        x = jj.tensor(np.full((700, 700), 0.001, np.float32))
        def long(x):
            for _ in range(4000):
                x = x @ x
            return x
        step = jj.compile(long)
        print("compiling", flush=True)
        try:
            for _ in range(100):
                step(x)
                print("ran", flush=True)
        except KeyboardInterrupt:
            rest = time.perf_counter()
            small = jj.compile(lambda x: (x @ x).sum())
            assert abs(float(small(x)) - 700**3 * 1e-6) < 1  # Juanji goes on after that
            print("interrupted", flush=True)
            sys.exit(0)
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "JUANJI_THREADS": number},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "compiling\n"
        time.sleep(4)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert out.splitlines()[-1] == "interrupted"
    assert out.count("ran") < 5


# -- stress -----------------------------------------------------------------------------------------------------------
def test_thousands_of_tiny_plans_beside_a_busy_neighbour():
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    counts = np.zeros(64, np.int64)
    random = np.random.default_rng(5)
    a, b = (jj.tensor(random.standard_normal((90, 90), np.float32)) for _ in range(2))
    step = jj.compile(lambda a, b: ((a @ b) * a).sum(0))
    expected = step(a, b).numpy().tobytes()
    try:
        with threads(4):
            for _ in range(3000):
                assert step(a, b).numpy().tobytes() == expected
            for size in range(64):
                values = jj.arange(5000.0 + size)
                for _ in range(5):
                    counts[size] += int((values * 2.0).sum().item() == (5000 + size) * (4999 + size))
    finally:
        neighbour.kill()
        neighbour.wait()
    assert (counts == 5).all()


def test_an_idle_team_takes_no_processor_time():
    out = in_process(
        """
        import time
        import numpy as np
        import juanji as jj
        from juanji.runtime import schedule, team
        schedule.always_share = True
        x = jj.tensor(np.ones((300, 300), np.float32))
        for _ in range(10):
            x @ x
        assert team._shared.team is not None
        time.sleep(0.2)
        before = time.process_time()
        time.sleep(1)
        print(time.process_time() - before)
        """
    )
    assert float(out) < 0.2


# -- choosing ---------------------------------------------------------------------------------------------------------
def fake(monkeypatch, one, several, free=True):
    """A schedule of one kernel whose times are given: (seconds alone, seconds on the team)."""
    clock = [0.0]
    monkeypatch.setattr(schedule.time, "perf_counter", lambda: clock[0])

    def advance(key):
        clock[0] += times[key]
        return True

    times = {"one": one, "several": several}
    monkeypatch.setattr(schedule.team, "run", lambda *_: advance("several"))
    monkeypatch.setattr(schedule.team, "parallel", lambda: True)
    monkeypatch.setattr(schedule.team, "threads", lambda: 2)
    monkeypatch.setattr(schedule.system, "processors_free", lambda wanted: free)
    plan = schedule.Schedule(lambda *_: advance("one") and None, np.array([[0, 0, 100]]), 1, target.current(), True)
    return plan, times


def test_the_faster_way_is_kept_and_left_when_it_is_no_longer(monkeypatch):
    plan, times = fake(monkeypatch, 1e-3, 0.6e-3)
    for _ in range(20):
        plan.run()
    assert plan.on_team
    times["several"] = 1.5e-3  # a neighbour came
    for _ in range(300):
        plan.run()
    assert not plan.on_team
    times["several"] = 0.6e-3  # and went
    for _ in range(400):
        plan.run()
    assert plan.on_team


def test_small_plans_stay_on_one_thread(monkeypatch):
    plan, _ = fake(monkeypatch, 15e-6, 1e-6)
    for _ in range(100):
        plan.run()
    assert not plan.on_team
    assert plan.run is plan._serial


def test_short_plans_are_not_tried_while_processors_are_busy(monkeypatch):
    plan, _ = fake(monkeypatch, 1e-3, 0.6e-3, free=False)
    together = []
    monkeypatch.setattr(schedule.team, "run", lambda *_: together.append(1))
    for _ in range(500):
        plan.run()
    assert not together
    plan, _ = fake(monkeypatch, 1e-3, 0.6e-3)
    for _ in range(100):
        plan.run()
    assert plan.on_team
    long, _ = fake(monkeypatch, 20e-3, 12e-3, free=False)  # what is a time slice to them?
    for _ in range(20):
        long.run()
    assert long.on_team


def test_free_processors_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(system.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    file = tmp_path / "loadavg"
    for text, free in (("0.5 0.4 0.3 1/99 7", 3), ("0.5 0.4 0.3 3/99 7", 1), ("0 0 0 9/99 7", 0), ("?", 9)):
        file.write_text(text)
        assert [n for n in range(1, 10) if system.processors_free(n, file)] == list(range(1, free + 1))
    assert system.processors_free(3, tmp_path / "none")
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    file.write_text("0 0 0 9/99 7")
    assert system.processors_free(1, file)  # others may run elsewhere


def test_long_plans_are_split():
    calls = []
    plan = schedule.Schedule(
        lambda at, count: calls.append(count), np.zeros((10, 3), np.int64), 10, target.current(), False
    )
    plan._seconds = [0.015] * 10
    with threads(1):
        plan._decide()
    plan.run()
    assert calls == [1] * 10
    plan._seconds = [0.004] * 20
    calls.clear()
    plan._seconds = [0.006] * 10
    plan._decide()
    plan.run()
    assert calls == [3, 3, 3, 1]


# -- settings ---------------------------------------------------------------------------------------------------------
def test_number_of_threads_is_checked():
    for wrong, error in ((0, ValueError), (-3, ValueError), (4096, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="set_num_threads"):
            jj.set_num_threads(wrong)


def test_environment_says_how_many():
    code = "import juanji as jj; print(jj.get_num_threads())"
    assert in_process(code, env={"JUANJI_THREADS": "3"}) == "3\n"
    allowed = system.allowed_processors()[0]
    assert in_process(code, env={"JUANJI_THREADS": ""}) == f"{allowed}\n"
    with pytest.raises(AssertionError, match="JUANJI_THREADS='many' is not a number of threads"):
        in_process(code, env={"JUANJI_THREADS": "many"})


def test_without_a_futex_plans_run_on_the_calling_thread(monkeypatch):
    monkeypatch.setattr(system.sys, "platform", "darwin")
    support, why = system.thread_support()
    assert support is None
    assert "calling thread" in why
    with threads(4):
        assert not team.parallel()
        assert float(jj.ones(300, 300).sum()) == 90000


def test_fork_leaves_a_process_of_one_thread():
    with threads(4), warnings.catch_warnings():
        jj.ones(500, 500).sum()
        warnings.simplefilter("error")  # Python warns of a fork with other threads alive
        assert run_rows(*rows_of((CALLBACK(lambda *_: None), 8, 8)))
        child = os.fork()
        if child == 0:
            os._exit(0 if team._shared.team is None else 1)
        assert os.waitpid(child, 0)[1] == 0
