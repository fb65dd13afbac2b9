"""Turns LLVM IR into machine code in this process, and keeps it: one address for each kernel specification.

All kernels of a plan are asked for at once. What this process has is taken from memory, what an earlier one compiled
from the cache on disk (`cache`), and the rest is compiled; what is new is linked as one library. A kernel's key on disk
is its specification, the source of the generators and the processor, never its IR: making that costs more than loading.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import llvmlite
import llvmlite.binding as llvm

from juanji.config import debug_level
from juanji.runtime import cache
from juanji.runtime.system import give_back_memory, new_lock_after_fork
from juanji.target import Target


class KernelSpec(Protocol):
    """What a generator of `codegen/` describes a kernel by: hashable, and able to write itself.

    Its `repr` must say all that its machine code depends on: it is the kernel's name in memory and on disk.
    """

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of `void @name(ptr, i64, i64)`."""
        ...


class Statistics:
    """How much was compiled in this process, for `jj.doctor`, progress displays and tests.

    Attributes:
        kernels: kernels compiled here.
        loaded: kernels that came from the disk instead.
        seconds: what all of that took.
    """

    kernels = 0
    loaded = 0
    seconds = 0.0


statistics = Statistics()
_lock = threading.RLock()
new_lock_after_fork(sys.modules[__name__], "_lock", threading.RLock)
_names = itertools.count()
#: LLVM takes some 20 MB in pieces while it compiles the kernels of a step. So often what is free is given back.
TRIM_EVERY = 4


@functools.lru_cache(maxsize=8)
def _machine(target: Target) -> llvm.TargetMachine:
    if target.triple:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    else:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    triple = llvm.Target.from_triple(target.triple or llvm.get_process_triple())
    # Code generation level 1 gives the same kernels as 2 and 3 in less time; LLVM's IR passes are not run:
    # the generators already write the code they mean.
    return triple.create_target_machine(
        cpu=target.cpu, features=target.features, opt=1, reloc="pic", codemodel="default", jit=not target.triple
    )


@functools.lru_cache(maxsize=1)
def _lljit() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_lljit_compiler(use_jit_link=True)


_libraries: list[Any] = []
_addresses: dict[tuple[str, Target], int] = {}


def _parsed(ir: str, target: Target) -> Any:
    """IR text as a module for `target`, verified."""
    machine = _machine(target)
    module = llvm.parse_assembly(ir)
    module.triple = target.triple or machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    return module


def object_code(ir: str, target: Target) -> bytes:
    """The object file of IR text; also for processors other than this one."""
    with _lock:
        image: bytes = _machine(target).emit_object(_parsed(ir, target))
        return image


def _link(images: Iterable[bytes], symbols: Sequence[str]) -> list[int]:
    """Makes one library of some object files; the address of each symbol."""
    builder = llvm.JITLibraryBuilder()
    for image in images:
        builder = builder.add_object_img(image)
    for symbol in symbols:
        builder = builder.export_symbol(symbol)
    library = builder.add_current_process().link(_lljit(), f"juanji{next(_names)}")
    _libraries.append(library)
    return [library[symbol] for symbol in symbols]


# -- keys -------------------------------------------------------------------------------------------------
@functools.lru_cache(maxsize=1)
def _generator() -> str | None:
    """A hash of the source that writes kernels, or None where there is none to read (then nothing is kept on disk)."""
    package = Path(__file__).parent.parent
    digest = hashlib.blake2b(digest_size=16)
    try:
        sources = sorted((package / "codegen").glob("*.py"))
        for path in (*sources, package / "target.py", Path(__file__)):
            digest.update(f"{path.name}\0".encode())
            digest.update(path.read_bytes())
    except OSError:
        return None
    return digest.hexdigest() if sources else None


@functools.lru_cache(maxsize=8)
def _environment(target: Target) -> str | None:
    """All that object code depends on besides its specification."""
    generator = _generator()
    versions = (llvmlite.__version__, llvm.llvm_version_info)
    return generator and repr((generator, versions, llvm.get_process_triple(), target))


def _is_ours(spec: Any) -> bool:
    """Whether a specification's code is covered by the generator's version, and its text complete."""
    while hasattr(spec, "inner"):
        spec = spec.inner
    return type(spec).__module__.startswith("juanji.codegen.")


@dataclass(frozen=True)
class _Wanted:
    """A kernel that this process lacks."""

    spec: Any
    text: str
    key: bytes | None  # on disk

    @property
    def symbol(self) -> str:
        """Its function: the same name in every process, as object files are shared."""
        return "k" + (self.key or hashlib.blake2b(self.text.encode(), digest_size=16).digest()).hex()[:32]


# -- what others call -------------------------------------------------------------------------------------
def addresses(specs: Sequence[Any], target: Target) -> list[int]:
    """The addresses of the kernels that `specs` describe, in their order.

    Those missing are loaded from disk or compiled, and kept on disk together.
    """
    texts = [repr(spec) for spec in specs]
    try:
        return [_addresses[text, target] for text in texts]
    except KeyError:
        pass
    with _lock:
        begin = time.perf_counter()
        environment = _environment(target)
        missing: dict[str, _Wanted] = {}
        for spec, text in zip(specs, texts, strict=True):
            if (text, target) not in _addresses and text not in missing:
                kept = environment is not None and _is_ours(spec)
                missing[text] = _Wanted(spec, text, cache.key(environment or "", text) if kept else None)
        try:
            _add(list(missing.values()), target)
        finally:
            statistics.seconds += time.perf_counter() - begin
        return [_addresses[text, target] for text in texts]


def _add(missing: list[_Wanted], target: Target) -> None:
    """Loads or compiles kernels and notes their addresses."""
    if not missing:
        return
    store = cache.current()
    keys = [w.key for w in missing if w.key is not None]
    found = store.find(keys) if store and keys else cache.Found({}, True)
    images, compiled = [], 0
    kept: dict[bytes, bytes] = {}
    for wanted in missing:
        image = found.images.get(wanted.key) if wanted.key is not None else None
        if image is None:
            ir = wanted.spec.generate(wanted.symbol, target)
            if debug_level() >= 4:
                print(f"; {wanted.spec}\n{ir}", file=sys.stderr)
            image = object_code(ir, target)
            statistics.kernels += 1
            compiled += 1
            if compiled % TRIM_EVERY == 0:
                give_back_memory()
        else:
            statistics.loaded += 1
        images.append(image)
        if wanted.key is not None:
            kept[wanted.key] = image
    for wanted, at in zip(missing, _link(images, [w.symbol for w in missing]), strict=True):
        _addresses[wanted.text, target] = at
    if compiled > TRIM_EVERY:
        give_back_memory()
    if store and not found.exact:
        store.keep(kept)


def address(spec: Any, target: Target) -> int:
    """The address of the kernel that `spec` describes, loaded or compiled on first use."""
    return addresses((spec,), target)[0]


def load(ir: str, symbols: list[str], target: Target) -> dict[str, int]:
    """Makes machine code of IR text and returns the address of each symbol. Also kept on disk: the text is short."""
    with _lock:
        begin = time.perf_counter()
        environment, store = _environment(target), cache.current()
        image, found = None, cache.Found({}, True)
        key = cache.key(environment or "", "text", ir)
        if store and environment is not None:
            found = store.find([key])
            image = found.images.get(key)
        if image is None:
            image = object_code(ir, target)
        at = dict(zip(symbols, _link([image], symbols), strict=True))
        if store and not found.exact:
            store.keep({key: image})
        statistics.seconds += time.perf_counter() - begin
        return at


def assembly(spec: Any, target: Target) -> str:
    """The machine code of a kernel as text."""
    with _lock:
        return str(_machine(target).emit_assembly(_parsed(spec.generate("kernel", target), target)))
