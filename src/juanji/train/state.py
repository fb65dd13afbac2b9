"""Everything that decides how a training goes on, taken out of its parts and put back into them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from types import FunctionType, ModuleType
from typing import Any, Protocol

import numpy as np

from juanji.nn import Module
from juanji.random import Generator, default_generator
from juanji.tensors import Tensor, from_numpy, no_grad
from juanji.tensors.creation import counter_state, set_counter_state

#: Where generators are looked for: no deeper, in no longer lists, and among no more objects than this.
_DEEPEST, _LONGEST, _MOST = 6, 64, 2000


class Batches(Protocol):
    """Batches of a data set, such as a `juanji.data.DataLoader`: each iteration is one pass over it.

    Where it has a method `starting_at(batch)`, a resumed pass does not load the batches that are done.
    """

    def __len__(self) -> int:
        """The number of batches in one pass."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Pairs of inputs and class numbers."""
        ...


class Optimizer(Protocol):
    """What the loop needs of an optimiser of `juanji.optim`."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        ...

    def step(self) -> Any:
        """Updates the parameters."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Hyper-parameters and state."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Takes over what `state_dict` returned."""
        ...


class Scheduler(Protocol):
    """What the loop needs of a learning-rate schedule that moves once a step."""

    def step(self) -> None:
        """Sets the learning rate for the next step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where it stands."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Goes on from what `state_dict` returned."""
        ...


class Companion:
    """What goes along with a training and is part of its state: a running average of the weights, a look at other
    pictures after each epoch, a reason to end early. This one does nothing.

    Attributes:
        finished: whether the training is to end, though epochs are left.
    """

    finished: bool = False

    def after_update(self) -> None:
        """Called after each update, within the step that is compiled."""

    def after_epoch(self, progress: Any, stopping: Callable[[], bool]) -> bool:
        """Called after each epoch.

        Args:
            progress: the epoch's `juanji.train.listener.Progress`.
            stopping: whether a signal asked to stop; to be asked now and then where this takes long.

        Returns:
            whether it is done. Where it is not, being stopped, it has left everything as it was.
        """
        return True

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""


@dataclass(frozen=True)
class Position:
    """How far a training is.

    Attributes:
        epoch: the running epoch, from 1; one more than there are when all is done.
        step: its finished steps.
        loss, correct, counted: sums over its pictures so far: of losses, of those classified rightly, of all.
    """

    epoch: int = 1
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    counted: int = 0


class Training:
    """A model with what trains it, as one thing whose state can be taken and put back.

    Args:
        model: parameters and all buffers belong to the state.
        optimizer: its hyper-parameters and state.
        scheduler: its state, where there is one.
        batches: the state of every generator that it or its data set holds.
        companion: its state, where there is one.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        scheduler: Scheduler | None,
        batches: Batches,
        companion: Companion | None = None,
    ) -> None:
        self.model, self.optimizer, self.scheduler, self.batches = model, optimizer, scheduler, batches
        self.companion = companion or Companion()
        self._pass_random = self._random()

    def begin_pass(self) -> Iterator[Any]:
        """A new pass over the batches."""
        self._pass_random = self._random()
        return iter(self.batches)

    def state(self, position: Position) -> dict[str, Any]:
        """The state after the steps that `position` counts, all done; its tensors are those in use, not copies."""
        now = self._random()
        return {
            "position": asdict(position),
            "model": dict(self.model.state_dict()),
            "buffers": self._other_buffers(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "companion": self.companion.state_dict(),
            # The order of a pass is drawn as it begins: going on in its midst begins it again and skips.
            "random": {"pass": self._pass_random if position.step else now, "now": now},
        }

    def restore(self, state: Mapping[str, Any]) -> tuple[Position, Iterator[Any] | None]:
        """Goes back or on to a state.

        Returns:
            The position, and the rest of its pass over the batches; None where a pass is yet to begin.

        Raises:
            RuntimeError, ValueError, KeyError, TypeError: the state is not that of these parts.
        """
        position = Position(**state["position"])
        self.model.load_state_dict(state["model"])
        buffers = self._other_buffers()
        with no_grad():
            for name, value in state["buffers"].items():
                buffers[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])
        self.companion.load_state_dict(state.get("companion", {}))
        self._pass_random = state["random"]["pass"]
        self._set_random(self._pass_random)
        if not position.step:
            return position, None
        source = self._rest_of_pass(position.step)
        self._set_random(state["random"]["now"])
        return position, source

    def _rest_of_pass(self, done: int) -> Iterator[Any]:
        begin = getattr(self.batches, "starting_at", None)
        if begin is not None:
            rest: Iterator[Any] = begin(done)
            return rest
        source = iter(self.batches)
        for _ in itertools.islice(source, done):
            pass
        return source

    def _other_buffers(self) -> dict[str, Tensor]:
        """Buffers that a state_dict leaves out: they may still matter to the steps to come."""
        known = self.model.state_dict()
        return {name: b.detach() for name, b in self.model.named_buffers() if name not in known}

    def _random(self) -> dict[str, Any]:
        held = {path: _state_of(generator) for path, generator in generators(self.batches).items()}
        return {"default": _state_of(default_generator), "counter": counter_state(), "held": held}

    def _set_random(self, saved: Mapping[str, Any]) -> None:
        _set_state(default_generator, saved["default"])
        set_counter_state(saved["counter"])
        for path, generator in generators(self.batches).items():
            if path in saved["held"]:
                _set_state(generator, saved["held"][path])


def copied(state: Any) -> Any:
    """A state whose tensors are copies, so that training on does not change it."""
    if isinstance(state, Tensor):
        return from_numpy(state.detach().numpy().copy())
    if isinstance(state, Mapping):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(copied(value) for value in state)
    return state.copy() if isinstance(state, np.ndarray) else state


def generators(holder: Any) -> dict[str, Generator | np.random.Generator]:
    """The generators that an object and what it is made of hold, by where; each once, and not the default one.

    >>> from juanji.data import DataLoader
    >>> list(generators(DataLoader([1, 2], shuffle=True, generator=Generator())))
    ['generator']
    """
    found: dict[str, Generator | np.random.Generator] = {}
    seen: set[int] = {id(default_generator)}
    queue: deque[tuple[str, Any, int]] = deque([("", holder, 0)])
    while queue and len(seen) < _MOST:
        path, thing, depth = queue.popleft()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, (Generator, np.random.Generator)):
            found[path] = thing
            continue
        if depth == _DEEPEST or isinstance(thing, (type, ModuleType, FunctionType, np.ndarray, Tensor, Module)):
            continue
        parts: Any = ()
        if isinstance(thing, (list, tuple)):
            parts = enumerate(thing) if len(thing) <= _LONGEST else ()
        elif isinstance(thing, dict):
            parts = thing.items() if len(thing) <= _LONGEST else ()
        elif hasattr(thing, "__dict__"):
            parts = vars(thing).items()
        for name, part in parts:
            queue.append((f"{path}.{name}" if path else str(name), part, depth + 1))
    return found


def _state_of(generator: Generator | np.random.Generator) -> Any:
    return generator.get_state() if isinstance(generator, Generator) else generator.bit_generator.state


def _set_state(generator: Generator | np.random.Generator, saved: Any) -> None:
    if isinstance(generator, Generator):
        generator.set_state(saved)
    else:
        generator.bit_generator.state = saved
