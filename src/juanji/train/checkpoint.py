"""Checkpoints: a training that is stopped goes on later and ends with the same weights, bit for bit.

A checkpoint is one .safetensors file, written whole or not at all: weights, the optimiser's and the schedule's
state, the epoch and the place in it, all random states, what is trained on what, and what it was computed with.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from juanji.errors import DataError
from juanji.interop import statefile
from juanji.target import current
from juanji.train.state import Position, Training
from juanji.version import __version__

_FORMAT = "juanji.checkpoint"
_VERSION = 1


class Interrupted(KeyboardInterrupt):
    """A signal ended the work; the text says how to go on.

    Attributes:
        signal: its number.
        code: the exit code that belongs to it, as shells count: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, number: int, text: str = "stopped") -> None:
        super().__init__(text)
        self.signal = number
        self.code = 128 + number


class StopSignals:
    """A context in which Ctrl-C and SIGTERM raise `Interrupted`, or wait for the end of a step.

    The second signal does not wait. Outside of the main thread, which alone gets signals, it does nothing.

    Attributes:
        waiting: whether the first signal is only noted.
        received: the number of a noted signal, or 0.
    """

    def __init__(self) -> None:
        self.waiting = False
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup: that is meant
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.waiting and not self.received:
            self.received = number
            return
        raise Interrupted(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        path: where it was read.
        position: how far the training was.
        identity: what was trained on what, as plain values: other values mean another training.
        notes: whatever else was kept beside, such as the arguments of the command.
        made_with: versions and the kernels' target: other ones may compute other last digits.
        state: for `Training.restore`.
    """

    path: Path
    position: Position
    identity: dict[str, Any]
    notes: dict[str, Any]
    made_with: dict[str, str]
    state: dict[str, Any]


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads a checkpoint. Nothing in the file is executed.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: it is no whole checkpoint, or one of another version.
    """
    content = statefile.load(path)
    if not isinstance(content, dict) or content.get("kind") != _FORMAT:
        raise DataError(f"{str(path)!r} is not a checkpoint of a training")
    if content.get("version") != _VERSION:
        raise DataError(f"{str(path)!r} has checkpoint format {content.get('version')!r}; this Juanji reads {_VERSION}")
    try:
        state = content["state"]
        return Checkpoint(
            path=Path(path),
            position=Position(**state["position"]),
            identity=dict(content["identity"]),
            notes=dict(content["notes"]),
            made_with={str(k): str(v) for k, v in content["made_with"].items()},
            state=state,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"the checkpoint {str(path)!r} lacks what a training needs: {error}") from error


def made_with() -> dict[str, str]:
    """What decides about the last digits of every result, besides the training itself.

    The number of threads does not: work is divided by shape alone. Kernels are chosen by shape and target alone,
    so these few names record every choice.
    """
    import llvmlite.binding as llvm

    target = current()
    return {
        "Juanji": __version__,
        "LLVM": ".".join(map(str, llvm.llvm_version_info)),
        "kernels for": target.name,
        "processor": target.cpu,
        "NumPy": np.__version__,
        "machine": platform.machine(),
    }


class Checkpointer:
    """Keeps one training's checkpoint file, and continues from one.

    Args:
        path: the file, replaced at each save.
        resume: what to go on from; None starts from the beginning.
        signals: the first signal is noted; after the running step a checkpoint is saved and `Interrupted` raised.
        notes: plain values to keep beside.
        say: gets a sentence where something is worth telling.
        command: what is told to go on with, in front of the file's name.
        seconds: the least time between two saves at the end of an epoch.

    Attributes:
        identity: what is trained on what, as plain values; whoever starts the training fills it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        resume: Checkpoint | None = None,
        signals: StopSignals | None = None,
        notes: Mapping[str, Any] | None = None,
        say: Callable[[str], None] | None = None,
        command: str = "juanji train --resume",
        seconds: float = 0.0,
    ) -> None:
        self.path = Path(path)
        self.command, self._seconds, self._last = command, seconds, -math.inf
        self.identity: dict[str, Any] = {}
        self._resume, self._signals, self._notes = resume, signals, dict(notes or {})
        self._say: Callable[[str], None] = say or (lambda text: None)
        self._training: Training | None = None
        self._failed = False
        self.saved = resume.position if resume is not None and _same(resume.path, self.path) else None

    def begin(self, training: Training) -> tuple[Position, Iterator[Any] | None]:
        """Puts the training where its checkpoint was, if it goes on from one; see `Training.restore`.

        Raises:
            DataError: the checkpoint is of another training.
        """
        _remove_parts(self.path)
        self._training = training
        if self._signals is not None:
            self._signals.waiting = True
        if self._resume is None:
            return Position(), None
        where = str(self._resume.path)
        for name, value in self.identity.items():
            saved = self._resume.identity.get(name)
            if saved != value:
                raise DataError(f"the checkpoint {where!r} is of another training: {_difference(name, saved, value)}")
        now, then = made_with(), self._resume.made_with
        others = [f"{name} {then.get(name, '(unknown)')}" for name in now if then.get(name) != now[name]]
        if others:
            self._say(
                f"the checkpoint was computed with {', '.join(others)}, and here it is "
                f"{', '.join(f'{n} {v}' for n, v in now.items() if then.get(n) != v)}: "
                "the weights may end with other last digits than those of an uninterrupted training"
            )
        try:
            return training.restore(self._resume.state)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"the checkpoint {where!r} does not fit this training: {error}") from error

    @property
    def stopping(self) -> bool:
        """Whether a signal asked to stop."""
        return self._signals is not None and self._signals.received != 0

    def save_now_and_then(self, position: Position) -> None:
        """Saves, unless the last time was only just now."""
        if time.monotonic() - self._last >= self._seconds:
            self.save(position)
            self._last = time.monotonic()

    def save(self, position: Position) -> bool:
        """Saves the training as it stands; what can't be written is told once and does not end it."""
        assert self._training is not None  # begin() comes first
        content = {
            "kind": _FORMAT,
            "version": _VERSION,
            "identity": self.identity,
            "notes": self._notes,
            "made_with": made_with(),
            "state": self._training.state(position),
        }
        try:
            statefile.save(content, self.path)
        except OSError as error:
            if not self._failed:
                reason = error.strerror or str(error)
                self._say(f"the checkpoint {str(self.path)!r} could not be written ({reason}); the training goes on")
            self._failed = True
            return False
        self.saved, self._failed = position, False
        return True

    def stop(self, position: Position, epochs: int) -> None:
        """Saves and ends the work because of the signal that was received.

        Raises:
            Interrupted: always.
        """
        assert self._signals is not None
        self.save(position)
        raise self.interrupted(self._signals.received, epochs)

    def interrupted(self, number: int, epochs: int) -> Interrupted:
        """The exception that says where the last checkpoint stands and how to go on from it."""
        if self.saved is None or not self.path.exists():
            return Interrupted(number, "stopped before the first checkpoint: nothing is saved")
        at = self.saved
        where = f"epoch {at.epoch} of {epochs}, {at.step} steps done" if at.epoch <= epochs else "all steps done"
        return Interrupted(number, f"stopped ({where}); go on with: {self.command} {_quoted(self.path)}")

    def finish(self, epochs: int) -> None:
        """From here on a signal no longer waits: there is no step to finish.

        Raises:
            Interrupted: one was received already.
        """
        if self._signals is not None:
            self._signals.waiting = False
            if self._signals.received:
                raise self.interrupted(self._signals.received, epochs)

    def remove(self) -> None:
        """Removes the file: what it was for is done."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


def beside(model: str | os.PathLike[str]) -> Path:
    """Where the checkpoint of a training lies whose model will be saved as `model`.

    >>> beside("models/digits.safetensors").name
    'digits.checkpoint.safetensors'
    """
    path = Path(model)
    return path.with_name(f"{path.name.removesuffix('.safetensors')}.checkpoint.safetensors")


def _difference(name: str, saved: Any, value: Any) -> str:
    if isinstance(saved, dict) and isinstance(value, dict):
        for key in value:
            if saved.get(key) != value[key]:
                return f"{key} {saved.get(key)!r} instead of {value[key]!r}"
    return f"its {name} is another"


def _same(a: Path, b: Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))


def _remove_parts(path: Path) -> None:
    """Removes what killed processes left of this checkpoint half written (see `container.write_whole`)."""
    path = Path(os.path.realpath(path))
    pattern = re.compile(re.escape(f".{path.name[:100]}.") + r"[0-9a-f]{12}\.tmp")
    with contextlib.suppress(OSError):
        for file in path.parent.iterdir():
            if pattern.fullmatch(file.name):
                with contextlib.suppress(OSError):
                    file.unlink()
