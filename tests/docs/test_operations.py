"""`docs/operations.md` shows the op table as it is and what the tests have checked; gaps are seen."""

import importlib.util
import json
from pathlib import Path

import pytest

from recording import Recorder

ROOT = Path(__file__).parents[2]
AGAIN = "run `python docs/operations.py` and commit what it writes"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("operations", ROOT / "docs" / "operations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def record(script):
    return json.loads(script.RECORD.read_text("utf-8"))


def test_the_table_is_current(script, record):
    assert set(record) <= set(script.op_table()), AGAIN
    assert script.TABLE.read_text("utf-8") == script.text(record, script.op_table()), AGAIN


def test_every_operation_was_tested(script, record):
    missing = set(script.op_table()) - set(record)
    assert not missing, f"no test that passed has run {sorted(missing)}; if one does, {AGAIN}"


def test_every_gradient_was_tested_twice(script, record):
    for name, op in script.op_table().items():
        if any(op.grads):
            gaps = {"first", "second"} - set(record[name]["checked"])
            assert not gaps, f"{name}: no gradient check for {sorted(gaps)}; if there is one, {AGAIN}"


def test_gaps_are_seen(script, record):
    """An operation without a passing test shows it."""
    table = script.op_table()
    assert "**no**" in script.row(table["exp"], {"dtypes": ["float32"], "checked": ["first"]})
    assert script.row(table["exp"], {"dtypes": ["float32"], "checked": ["first"]}).count("**no**") == 3
    assert "**none**" in script.row(table["exp"], {"dtypes": [], "checked": []})
    assert script.row(table["lt"], {"dtypes": ["bool"], "checked": ["compiled", "parity"]}).count("**no**") == 0


def test_failed_tests_do_not_count(tmp_path):
    recorder = Recorder(tmp_path / "operations.json")

    class Report:
        when = "call"
        passed = False

    recorder.note("first", "exp")
    recorder.pytest_runtest_logreport(Report)
    assert not recorder.kept
    Report.passed = True
    recorder.pytest_runtest_logreport(Report)
    assert recorder.kept["exp"]["checked"] == {"first"}
    with pytest.raises(ZeroDivisionError), recorder.checking():
        recorder.checks[0].add(("log", "checked", "first"))
        raise ZeroDivisionError
    assert ("log", "checked", "first") not in recorder.now
    recorder.pytest_sessionfinish()
    assert json.loads(recorder.path.read_text()) == {"exp": {"dtypes": [], "checked": ["first"]}}
