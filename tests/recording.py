"""What the tests really ran, by operation of the table: `pytest --operations FILE` writes it for `docs/operations.md`.

For each operation the element types it was computed in, whether it ran in a captured step, whether it ran in a test
that compares with PyTorch, and whether its gradient, the gradient of that, and its adjoint were held against numbers.
Only tests that passed count.
"""

import contextlib
import json
from collections import defaultdict
from pathlib import Path

from juanji import tape
from juanji.autograd import check
from juanji.config import state
from juanji.dtypes import BY_SHORT
from juanji.ops import core
from juanji.tensors import base

#: Operations whose element type is not that of their first input.
TYPED_BY = {"where": 1}


class Recorder:
    """A pytest plugin."""

    def __init__(self, path):
        self.path = Path(path)
        self.kept = defaultdict(lambda: defaultdict(set))
        self.now = set()
        self.peer = False
        self.checks = []

    def start(self):
        """Looks over the shoulder of the dispatcher, the reverse walk and `gradcheck`."""
        inner, walk, compare = base.dispatch, tape.Function.gradients, check._check

        def dispatch(op, inputs, attrs):
            result = inner(op, inputs, attrs)
            at = TYPED_BY.get(op.name, 0)
            dtype = inputs[at].dtype if len(inputs) > at else result.dtype
            self.now.add((op.name, "dtypes", dtype.name))
            if state.capture is not None:
                self.now.add((op.name, "checked", "compiled"))
            if self.peer:
                self.now.add((op.name, "checked", "parity"))
            return result

        def gradients(function, g, wanted):
            for walked in self.checks:
                walked.add((function.op.name, "checked", "second" if state.grad_enabled else "first"))
            return walk(function, g, wanted)

        def checked(*args, **kwargs):
            with self.checking():
                return compare(*args, **kwargs)

        # Messages name the nearest line outside the package, which this one is not to be.
        dispatch.__code__ = dispatch.__code__.replace(co_filename=base.__file__)
        core.set_dispatcher(dispatch)
        tape.Function.gradients = gradients
        check._check = checked

    @contextlib.contextmanager
    def checking(self):
        """Gradient formulas that run inside count as checked if nothing is raised."""
        walked = set()
        self.checks.append(walked)
        try:
            yield
            self.now |= walked
        finally:
            self.checks.remove(walked)

    def note(self, what, name):
        """Operation `name` has passed the check `what` of the running test."""
        self.now.add((name, "checked", what))

    # -- pytest ---------------------------------------------------------------------------------------------------
    def pytest_runtest_setup(self, item):
        self.now = set()
        self.peer = "torch" in item.fixturenames or hasattr(item.module, "torch")

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed:
            for name, kind, what in self.now:
                self.kept[name][kind].add(what)

    def pytest_sessionfinish(self):
        order = [dtype.name for dtype in BY_SHORT.values()]
        found = {
            name: {
                "dtypes": sorted(kinds["dtypes"], key=order.index),
                "checked": sorted(kinds["checked"]),
            }
            for name, kinds in sorted(self.kept.items())
            if name in core.TABLE
        }
        lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
        self.path.write_text("{\n" + lines + "\n}\n", "utf-8")


active = []


@contextlib.contextmanager
def checking():
    """`Recorder.checking`, if one is recording."""
    with active[0].checking() if active else contextlib.nullcontext():
        yield


def note(what, name):
    """`Recorder.note`, if one is recording."""
    if active:
        active[0].note(what, name)
