"""Turns LLVM IR into machine code in this process, and keeps it: one address for each kernel specification."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from typing import Any, Protocol

import llvmlite.binding as llvm

from juanji.target import Target


class KernelSpec(Protocol):
    """What a generator of `codegen/` describes a kernel by: hashable, and able to write itself."""

    def generate(self, name: str, target: Target) -> str:
        """LLVM IR of `void @name(ptr, i64, i64)`."""
        ...


class Statistics:
    """How much was compiled in this process, for `jj.doctor`, progress displays and tests."""

    kernels = 0
    seconds = 0.0


statistics = Statistics()
_lock = threading.RLock()
_names = itertools.count()


@functools.lru_cache(maxsize=8)
def _machine(target: Target) -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple = llvm.Target.from_triple(llvm.get_process_triple())
    # Code generation level 1 gives the same kernels as 2 and 3 in less time; LLVM's IR passes are not run:
    # the generators already write the code they mean.
    return triple.create_target_machine(
        cpu=target.cpu, features=target.features, opt=1, reloc="pic", codemodel="default", jit=True
    )


@functools.lru_cache(maxsize=1)
def _lljit() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_lljit_compiler(use_jit_link=True)


_libraries: list[Any] = []
_addresses: dict[tuple[Any, Target], int] = {}


def load(ir: str, symbols: list[str], target: Target) -> dict[str, int]:
    """Compiles IR text and returns the address of each symbol."""
    with _lock:
        begin = time.perf_counter()
        machine = _machine(target)
        module = llvm.parse_assembly(ir)
        module.triple = machine.triple
        module.data_layout = str(machine.target_data)
        module.verify()
        image = machine.emit_object(module)
        builder = llvm.JITLibraryBuilder().add_object_img(image)
        for symbol in symbols:
            builder = builder.export_symbol(symbol)
        library = builder.add_current_process().link(_lljit(), f"juanji{next(_names)}")
        _libraries.append(library)
        statistics.seconds += time.perf_counter() - begin
        return {symbol: library[symbol] for symbol in symbols}


def address(spec: Any, target: Target) -> int:
    """The address of the kernel that `spec` describes, compiled on first use."""
    key = (spec, target)
    found = _addresses.get(key)
    if found is not None:
        return found
    with _lock:
        if key in _addresses:
            return _addresses[key]
        name = f"k{next(_names)}"
        begin = time.perf_counter()
        ir = spec.generate(name, target)
        statistics.seconds += time.perf_counter() - begin
        _addresses[key] = load(ir, [name], target)[name]
        statistics.kernels += 1
        return _addresses[key]


def assembly(spec: Any, target: Target) -> str:
    """The machine code of a kernel as text, for tests and `JUANJI_DEBUG=4`."""
    with _lock:
        machine = _machine(target)
        module = llvm.parse_assembly(spec.generate("kernel", target))
        module.triple = machine.triple
        module.data_layout = str(machine.target_data)
        module.verify()
        return str(machine.emit_assembly(module))
