"""Whether operations are recorded: `no_grad`, `enable_grad`, `set_grad_enabled`, `inference_mode`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from juanji.config import state

F = TypeVar("F", bound=Callable[..., Any])


class _Mode:
    """A context manager and decorator that sets the modes of the running thread and puts them back."""

    def __init__(self) -> None:
        self._before: list[tuple[bool, bool]] = []

    def _set(self) -> None:
        raise NotImplementedError

    def _again(self) -> _Mode:
        return type(self)()

    def __enter__(self) -> None:
        self._before.append((state.grad_enabled, state.inference))
        self._set()

    def __exit__(self, *error: object) -> None:
        state.grad_enabled, state.inference = self._before.pop()

    def __call__(self, function: F) -> F:
        """The function, run in this mode; a generator function runs each of its steps in it."""
        if not callable(function):
            raise TypeError(f"{type(self).__name__} decorates a function, not {type(function).__name__}")
        if inspect.isgeneratorfunction(function):
            return self._steps(function)  # type: ignore[return-value]

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]

    def _steps(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            running = function(*args, **kwargs)
            step: Callable[[], Any] = functools.partial(next, running)
            while True:
                try:
                    with self._again():
                        value = step()
                except StopIteration as stop:
                    return stop.value
                try:
                    sent = yield value
                    step = functools.partial(running.send, sent)
                except GeneratorExit:
                    running.close()
                    raise
                except BaseException as error:
                    step = functools.partial(running.throw, error)

        return wrapped


class no_grad(_Mode):
    """Inside, nothing is recorded for gradients; also a decorator, with or without parentheses.

    >>> import juanji as jj
    >>> x = jj.ones(2, requires_grad=True)
    >>> with jj.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    def __new__(cls, function: Any = None) -> Any:  # noqa: D102 - the class says it
        return super().__new__(cls) if function is None else cls()(function)

    def _set(self) -> None:
        state.grad_enabled = False


class enable_grad(_Mode):
    """Inside, operations are recorded even within `no_grad`; also a decorator, with or without parentheses.

    >>> import juanji as jj
    >>> x = jj.ones(2, requires_grad=True)
    >>> with jj.no_grad():
    ...     with jj.enable_grad():
    ...         y = x * 2
    >>> y.requires_grad
    True
    """

    def __new__(cls, function: Any = None) -> Any:  # noqa: D102 - the class says it
        return super().__new__(cls) if function is None else cls()(function)

    def _set(self) -> None:
        state.grad_enabled = not state.inference


class set_grad_enabled(_Mode):
    """Records operations for gradients, or does not: at once, for a block, or for a function it decorates.

    Args:
        mode: whether to record.

    >>> import juanji as jj
    >>> x = jj.ones(2, requires_grad=True)
    >>> with jj.set_grad_enabled(False):
    ...     print((x * 2).requires_grad)
    False
    >>> _ = jj.set_grad_enabled(False); print((x * 2).requires_grad); _ = jj.set_grad_enabled(True)
    False
    """

    def __init__(self, mode: bool) -> None:
        super().__init__()
        self.mode = bool(mode)
        self._old = (state.grad_enabled, state.inference)
        self._set()

    def _set(self) -> None:
        state.grad_enabled = self.mode and not state.inference

    def _again(self) -> _Mode:
        return set_grad_enabled(self.mode)

    def __enter__(self) -> None:
        self._before.append(self._old)
        self._set()

    def __call__(self, function: F) -> F:
        """The function, run in this mode; the mode outside is as it was."""
        state.grad_enabled, state.inference = self._old  # only the function runs in this mode
        return super().__call__(function)


class inference_mode(_Mode):
    """Inside, nothing is recorded, and new tensors can never take part in a gradient; also a decorator.

    A tensor made inside cannot be saved for a gradient formula, written in place or made to require a gradient
    outside; `clone()` it there. `mode=False` turns inference off within it.

    >>> import juanji as jj
    >>> with jj.inference_mode():
    ...     y = jj.ones(2) * 2
    >>> y.is_inference()
    True
    """

    def __new__(cls, mode: Any = True) -> Any:  # noqa: D102 - the class says it
        return super().__new__(cls) if isinstance(mode, bool) else cls()(mode)

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self.mode = mode

    def _again(self) -> _Mode:
        return inference_mode(self.mode)

    def _set(self) -> None:
        state.grad_enabled, state.inference = not self.mode, self.mode


def is_grad_enabled() -> bool:
    """Whether operations are recorded now."""
    return state.grad_enabled


def is_inference_mode_enabled() -> bool:
    """Whether the running code is in inference mode."""
    return state.inference
