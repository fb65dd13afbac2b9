"""The disk cache of object code: what it finds, and that nothing that can happen to its files does harm."""

import ctypes
import dataclasses
import errno
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import juanji as jj
from juanji import codegen
from juanji import target as targets
from juanji.codegen.contract import ContractSpec
from juanji.codegen.loops import LoopSpec
from juanji.codegen.many import ManySpec
from juanji.codegen.transpose import TransposeSpec
from juanji.codegen.window import WindowSpec
from juanji.runtime import cache, jit
from juanji.runtime.cache import ObjectCache

A, B, C = (cache.key(name) for name in "abc")
posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners and modes are those of POSIX")


@pytest.fixture
def store(tmp_path):
    return ObjectCache(tmp_path / "home" / "kernels")


def again(store):
    """The same folder as another process sees it."""
    return ObjectCache(store.folder)


def batches(store):
    return sorted(store.folder.glob("*.kernels"))


# -- finding ----------------------------------------------------------------------------------------------
def test_what_is_kept_is_found(store):
    assert store.find([A]) == cache.Found({}, False)
    store.keep({A: b"first", B: b""})
    for other in (store, again(store)):
        assert other.find([B, A]) == cache.Found({A: b"first", B: b""}, True)
        assert other.find([A]) == cache.Found({A: b"first"}, False), "found in the batch of two"
        assert other.find([A, C]) == cache.Found({A: b"first"}, False)
    store.keep({C: b"third"})
    assert again(store).find([A, C]) == cache.Found({A: b"first", C: b"third"}, False)
    files = batches(store)
    total = sum(p.stat().st_size for p in files)
    assert store.information() == cache.Information(str(store.folder), None, 2, total)
    assert store.clear() == (2, total)
    assert batches(store) == []
    assert again(store).find([A, B]).images == {}


def test_a_batch_that_another_process_wrote_meanwhile_is_found(store):
    assert store.find([A]).images == {}
    again(store).keep({A: b"1", B: b"2"})
    assert store.find([A]).images == {A: b"1"}


def test_tables_longer_than_one_read(store):
    images = {cache.key(str(i)): b"%d" % i for i in range(300)}
    store.keep(images)
    one = cache.key("299")
    assert again(store).find([one]).images == {one: b"299"}


# -- damage -----------------------------------------------------------------------------------------------
def test_every_truncation_is_noticed(store):
    whole = {A: b"first object", B: b"second"}
    store.keep(whole)
    (path,) = batches(store)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        found = again(store).find([A, B]).images
        assert found.items() < whole.items()
        assert not path.exists(), "what is damaged is removed"
    store.keep(whole)
    assert again(store).find([A, B]) == cache.Found(whole, True)


def test_every_damaged_byte_is_noticed(store):
    whole = {A: b"first object", B: b"second"}
    store.keep(whole)
    (path,) = batches(store)
    content = path.read_bytes()
    for i in range(len(content)):
        damaged = content[:i] + bytes([content[i] ^ 0x41]) + content[i + 1 :]
        for keys in ([A, B], [A]):
            path.write_bytes(damaged)
            assert again(store).find(keys).images.items() < whole.items()


@pytest.mark.parametrize("garbage", [b"", b"\0" * 5000, os.urandom(5000), cache._MAGIC + b"\xff" * 5000])
def test_garbage_is_no_batch(store, garbage):
    store.keep({A: b"1"})
    (path,) = batches(store)
    path.write_bytes(garbage)
    store.keep({B: b"2", C: b"3"})
    assert again(store).find([A, B]).images == {B: b"2"}
    assert not path.exists()
    assert again(store).find([B]).images == {B: b"2"}


def test_things_that_are_no_files(store):
    store.keep({A: b"1", B: b"2"})
    (path,) = batches(store)
    path.unlink()
    path.mkdir()
    assert again(store).find([A, B]).images == {}
    (store.folder / "notes.txt").write_text("not ours")
    with pytest.raises(OSError):  # noqa: PT011
        store.clear()
    assert (store.folder / "notes.txt").exists()


# -- whose it is ------------------------------------------------------------------------------------------
@posix
def test_only_the_user_can_read_and_write_it(store):
    store.keep({A: b"1"})
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert store.folder.parent.stat().st_mode & 0o777 == 0o700
    assert batches(store)[0].stat().st_mode & 0o777 == 0o600


@posix
def test_a_folder_that_others_can_write_is_not_used(store):
    store.keep({A: b"1"})
    store.folder.chmod(0o770)
    other = again(store)
    assert other.find([A]) == cache.Found({}, True)
    other.keep({B: b"2"})
    assert len(batches(store)) == 1
    assert other.information().problem == "others can write it"


@posix
def test_what_belongs_to_another_user_is_not_used(store, monkeypatch):
    store.keep({A: b"1"})
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    other = again(store)
    assert other.find([A]).images == {}
    assert other.information().problem == "it belongs to another user"


@posix
def test_a_file_that_others_can_write_and_a_link_are_not_used(store, tmp_path):
    store.keep({A: b"1"})
    (path,) = batches(store)
    path.chmod(0o622)
    assert again(store).find([A]).images == {}
    path.chmod(0o600)
    assert again(store).find([A]).images == {A: b"1"}
    moved = path.rename(tmp_path / "elsewhere")
    path.symlink_to(moved)
    assert again(store).find([A]).images == {}


# -- no place ---------------------------------------------------------------------------------------------
def failing(number):
    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_folder_that_is_read_only(store, monkeypatch, capsys):
    store.keep({A: b"1"})
    other = again(store)
    monkeypatch.setenv("JUANJI_DEBUG", "1")
    real = os.open

    def only_reading(path, flags, *mode):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", only_reading)
    monkeypatch.setattr(os, "utime", failing(errno.EROFS))
    monkeypatch.setattr(cache, "_USE_STEP", -1.0)
    assert other.find([A]).images == {A: b"1"}
    for _ in range(2):
        other.keep({B: b"2"})
    assert capsys.readouterr().err.count("Read-only file system") == 1
    assert again(store).find([B]).images == {}


def test_a_full_disk_leaves_nothing_behind(store, monkeypatch):
    store.keep({A: b"1"})
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    other = again(store)
    other.keep({B: b"2"})
    assert [p.name for p in store.folder.iterdir()] == [p.name for p in batches(store)]
    assert len(batches(store)) == 1
    monkeypatch.undo()
    other.keep({B: b"2"})
    assert len(batches(store)) == 1, "it is off for this process"


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "home").write_bytes(b"")
    store = ObjectCache(tmp_path / "home" / "kernels")
    assert store.find([A]).images == {}
    store.keep({A: b"1"})
    assert store.information().files == 0
    assert (tmp_path / "home").read_bytes() == b""


def test_a_home_that_does_not_exist_is_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("JUANJI_CACHE", "1")
    monkeypatch.delenv("JUANJI_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "nobody")
    store = cache.current()
    assert store.find([A]).images == {}
    store.keep({A: b"1"})
    assert not (tmp_path / "nobody").exists()


def test_no_home_at_all(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("JUANJI_CACHE", "1")
    monkeypatch.delenv("JUANJI_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert cache.current() is None


def test_it_can_be_turned_off(tmp_path, monkeypatch):
    monkeypatch.setenv("JUANJI_HOME", str(tmp_path))
    monkeypatch.setenv("JUANJI_CACHE", "0")
    assert cache.current() is None
    monkeypatch.delenv("JUANJI_CACHE")
    assert cache.current().folder == tmp_path / "kernels"


# -- its size ---------------------------------------------------------------------------------------------
def aged(store, key, seconds):
    """Makes the batch of one key look as if it was used that long ago."""
    path = store.folder / cache._batch_name([key])
    at = time.time() - seconds
    os.utime(path, (at, at))
    return path


def test_the_least_recently_used_go_first(store, monkeypatch):
    keys = [cache.key(str(i)) for i in range(8)]
    for i, key in enumerate(keys):
        store.keep({key: bytes(1000)})
        aged(store, key, 100_000 - i)
    assert again(store).find([keys[1]]).images, "used again"
    monkeypatch.setattr(cache, "MAX_BYTES", 6000)
    last = again(store)
    last.keep({A: bytes(1000)})
    left = [key for key in [*keys, A] if (store.folder / cache._batch_name([key])).exists()]
    assert left == [keys[1], *keys[6:], A] or left == [keys[1], *keys[5:], A]
    assert sum(p.stat().st_size for p in batches(store)) <= 6000
    assert all(again(store).find([key]).images for key in left)
    assert last.find([keys[0]]).images == {}


def test_the_number_of_files_is_bounded_too(store, monkeypatch):
    monkeypatch.setattr(cache, "MAX_FILES", 10)
    monkeypatch.setattr(cache, "_SWEEP_FILES", 1)
    for i in range(30):
        store.keep({cache.key(str(i)): b"x"})
    assert len(batches(store)) <= 12


def test_what_a_process_left_when_it_died_is_removed(store):
    store.keep({A: b"1"})
    old, new = store.folder / "x.1-2.part", store.folder / "x.3-4.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    again(store).keep({B: b"2"})
    assert not old.exists()
    assert new.exists()
    store.clear()
    assert not new.exists()


# -- keys -------------------------------------------------------------------------------------------------
LOAD = ("load", "f32", 0)
UNIT = (("f32", "unit"),)
SPECS = [
    LoopSpec(2, UNIT, UNIT, (("store", 0, ("mul", "f32", LOAD, ("const", "f32", 0.1))),)),
    ManySpec(LoopSpec(1, UNIT, UNIT, (("store", 0, LOAD),), 0, False)),
    ContractSpec("f64", 2, 1, True, ("add", "f64", ("acc", "f64"), ("load", "f64", 0)), (("f64", "n"),)),
    WindowSpec("avg", "f32", (2, 3), (1, 2), (1, 0), (1, 1), False, 7),
    TransposeSpec("f32", 3),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: type(s).__name__)
def test_the_text_of_a_specification_is_complete(spec):
    names = {type(s).__name__: type(s) for s in SPECS}
    assert eval(repr(spec), names) == spec
    assert jit._is_ours(spec)


def test_every_specification_is_a_frozen_dataclass_whose_text_has_all_fields():
    found = set()
    for module in pkgutil.iter_modules(codegen.__path__, "juanji.codegen."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and value.__module__ == module.name and hasattr(value, "generate"):
                found.add(value)
                assert value.__dataclass_params__.frozen
                assert value.__dataclass_params__.repr
                assert all(field.repr and field.compare for field in dataclasses.fields(value))
    assert {type(spec) for spec in SPECS} <= found


def test_a_key_has_all_that_the_code_depends_on():
    target = targets.current()
    environments = {jit._environment(target)}
    for changed in ({"cpu": "another"}, {"features": "+sse2"}, {"name": "other"}, {"vector_bytes": 16}, {"fma": False}):
        environments.add(jit._environment(dataclasses.replace(target, **changed)))
    assert len(environments) == 6
    assert None not in environments
    assert cache.key("a", "bc") != cache.key("ab", "c")


def test_the_sign_of_zero_makes_another_kernel():
    def product(value):
        x, out = np.ones(4, np.float32), np.empty(4, np.float32)
        spec = LoopSpec(1, UNIT, UNIT, (("store", 0, ("mul", "f32", LOAD, ("const", "f32", value))),))
        slots = (ctypes.c_int64 * 6)(x.ctypes.data, out.ctypes.data, 4, 4, 4, 4)
        kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        kernel(jit.address(spec, targets.current()))(slots, 0, 1)
        return np.signbit(out).tolist()

    assert product(0.0) == [False] * 4
    assert product(-0.0) == [True] * 4


def test_loops_that_differ_in_the_sign_of_a_zero_are_not_joined():
    both = jj.compile(lambda x, y: (x * 0.0, y * -0.0))
    first, second = both(jj.ones(3), jj.ones(3))
    assert np.signbit(first.numpy()).tolist() == [False] * 3
    assert np.signbit(second.numpy()).tolist() == [True] * 3


# -- whole processes --------------------------------------------------------------------------------------
PROGRAM = """
import json, sys
import juanji as jj
from juanji.runtime import jit

model = jj.nn.Sequential(jj.nn.Conv2d(1, 3, 3), jj.nn.ReLU(), jj.nn.Flatten(), jj.nn.Linear(3 * 36, 5))
for number, value in enumerate(model.parameters()):
    value.data.copy_((jj.arange(float(value.numel())).reshape(value.shape) % 7 - 3) / (number + 3))
optimizer = jj.optim.SGD(model.parameters(), lr=0.05)

@jj.compile
def step(x, y):
    optimizer.zero_grad()
    loss = jj.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss

x = (jj.arange(2.0 * 64) % 11 / 5).reshape(2, 1, 8, 8)
losses = [float(step(x, jj.tensor([1, 4]))) for _ in range(3)]
print(json.dumps([losses, jit.statistics.kernels, jit.statistics.loaded]))
"""


def started(home, program=PROGRAM, **environment):
    env = {**os.environ, "JUANJI_CACHE": "1", "JUANJI_HOME": str(home), "JUANJI_DEBUG": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A home where the program ran before, and what it printed."""
    home = tmp_path_factory.mktemp("warm")
    # Two at once, with an empty cache.
    racing = [started(home), started(home)]
    first, second = map(finished, racing)
    assert first[0] == second[0]
    return home, first


def test_two_processes_at_once_and_then_a_second_start(warm):
    home, (losses, compiled, _) = warm
    assert compiled > 0
    assert not list((home / "kernels").glob("*.part"))
    again_losses, again_compiled, loaded = finished(started(home))
    assert again_losses == losses
    assert again_compiled == 0
    assert loaded > 0


def test_a_second_start_with_every_file_damaged(warm, tmp_path):
    home, (losses, _, _) = warm
    folder = tmp_path / "kernels"
    folder.mkdir(mode=0o700)
    for i, path in enumerate(sorted((home / "kernels").iterdir())):
        content = path.read_bytes()
        cut = content[: len(content) // 2] if i % 2 else content[:-40] + bytes(40)
        with open(os.open(folder / path.name, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(cut)
    again_losses, compiled, _ = finished(started(tmp_path))
    assert again_losses == losses
    assert compiled > 0
    assert finished(started(tmp_path))[1] == 0, "what was damaged was written anew"


def test_another_processor_finds_nothing(warm):
    home, _ = warm
    narrow = targets.available()[-1]
    if narrow == targets.current().name:
        pytest.skip("this machine runs one target")
    _, compiled, loaded = finished(started(home, JUANJI_TARGET=narrow))
    assert loaded == 0
    assert compiled > 0


def test_other_generators_find_nothing(warm):
    home, _ = warm
    other = "from juanji.runtime import jit; jit._generator = lambda: 'another'\n"
    _, compiled, loaded = finished(started(home, other + PROGRAM))
    assert loaded == 0
    assert compiled > 0
