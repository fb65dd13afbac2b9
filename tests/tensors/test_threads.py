"""Eager work in several threads at once: plans, scalars and freed memory are shared, results are not."""

import threading

import numpy as np

import juanji as jj
from juanji.nn import functional as F


def work(seed, wrong):
    random = np.random.default_rng(seed)
    for i in range(25):
        rows = int(random.integers(2, 9))
        array = random.integers(-5, 6, (rows, 8)).astype(np.float32)
        x = jj.tensor(array, requires_grad=True)
        y = ((x * 3 + seed) @ jj.ones(8, 4)).sum(1)
        F.relu(y).sum().backward()
        expected = ((array * 3 + seed) @ np.ones((8, 4), np.float32)).sum(1)
        with jj.no_grad():
            quiet = (x * 2).requires_grad
        view = y.detach().numpy()
        del y
        _ = jj.zeros(rows) - 1.0
        gradient = np.where(expected > 0, 12.0, 0.0)[:, None].repeat(8, 1)
        if quiet or not np.array_equal(view, expected) or not np.array_equal(x.grad.numpy(), gradient):
            wrong.append((seed, i))


def test_threads_do_not_disturb_each_other():
    wrong = []
    threads = [threading.Thread(target=work, args=(seed, wrong)) for seed in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_modes_belong_to_their_thread():
    seen = []
    with jj.no_grad():
        t = threading.Thread(target=lambda: seen.append(jj.is_grad_enabled()))
        t.start()
        t.join()
        assert not jj.is_grad_enabled()
    assert seen == [True]


def test_another_thread_works_eagerly_during_a_trace():
    class Worker(threading.Thread):
        seen = None

        def run(self):
            self.seen = (jj.ones(2) + 1).tolist()

    worker = Worker()

    def step(x):
        worker.start()
        worker.join()
        return x * 2

    assert jj.compile(step)(jj.ones(2)).tolist() == [2.0, 2.0]
    assert worker.seen == [2.0, 2.0]
