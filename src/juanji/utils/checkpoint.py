"""Computing the values that gradients read a second time instead of keeping them.

T. Chen, B. Xu, C. Zhang, C. Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from juanji.autograd.graph import saved_tensors_hooks
from juanji.config import state
from juanji.gradmode import enable_grad
from juanji.random import default_generator
from juanji.tensors.creation import counter_state, set_counter_state


class _Stop(Exception):
    """Everything that was saved has been computed again."""


class _Frame:
    """What one checkpointed call saved: places, filled by running the call again when the first is needed."""

    def __init__(self, run: Callable[[], Any], early_stop: bool) -> None:
        self.run, self.early_stop = run, early_stop
        self.count = 0
        self.specs: list[Any] = []
        self.values: dict[int, Any] = {}

    def pack(self, tensor: Any) -> int:
        self.specs.append(tensor.spec)
        self.count += 1
        return self.count - 1

    def unpack(self, place: int) -> Any:
        if place not in self.values:
            self.again()
        return self.values.pop(place)

    def again(self) -> None:
        """Runs the call again and keeps what it saves."""
        self.values.clear()
        at = 0

        def pack(tensor: Any) -> int:
            nonlocal at
            if at >= self.count or tensor.spec != self.specs[at]:
                raise RuntimeError(
                    "checkpoint: the function computes something else when it is run again; it must not depend on "
                    "anything that changes in between"
                )
            self.values[at] = tensor
            at += 1
            if self.early_stop and at == self.count:
                raise _Stop
            return at - 1

        try:
            with enable_grad(), saved_tensors_hooks(pack, lambda place: self.values[place]):
                self.run()
        except _Stop:
            pass
        if at != self.count:
            raise RuntimeError(
                f"checkpoint: the function saved {self.count} values for its gradient at first and {at} when run again"
            )


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    determinism_check: str = "default",
    early_stop: bool = True,
    debug: bool = False,
    **kwargs: Any,
) -> Any:
    """Calls `function(*args, **kwargs)` without keeping what its gradient reads; `backward` runs it again for that.

    Less memory for one more forward computation. In a step of `jj.compile` the function is simply traced.

    Args:
        function: a function or Module; it must compute the same each time.
        args: its arguments.
        use_reentrant: without effect: there is one way, which allows everything that a call without it does.
        preserve_rng_state: draw the same random numbers the second time.
        determinism_check: without effect: shapes and types are always compared.
        early_stop: end the second run when all values are there.
        debug: without effect.
        kwargs: its named arguments.

    Raises:
        RuntimeError: the second run computes something else than the first.

    >>> import juanji as jj
    >>> x = jj.tensor([1.0, 2.0], requires_grad=True)
    >>> jj.utils.checkpoint.checkpoint(lambda x: (x * x * x).sum(), x).backward()
    >>> x.grad
    tensor([ 3., 12.])
    """
    if not callable(function):
        raise TypeError(f"checkpoint: function must be a function or Module, not {type(function).__name__}")
    if state.capture is not None or not state.grad_enabled:
        return function(*args, **kwargs)
    drawn = (default_generator.get_state(), counter_state()) if preserve_rng_state else None

    def run() -> None:
        now = (default_generator.get_state(), counter_state())
        if drawn is not None:
            default_generator.set_state(drawn[0])
            set_counter_state(drawn[1])
        try:
            function(*args, **kwargs)
        finally:
            if drawn is not None:
                default_generator.set_state(now[0])
                set_counter_state(now[1])

    frame = _Frame(run, early_stop)
    with saved_tensors_hooks(frame.pack, frame.unpack):
        return function(*args, **kwargs)


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """Runs functions one after another, in `segments` parts of which all but the last are checkpointed.

    Args:
        functions: a `Sequential` or a sequence of functions.
        segments: into how many parts they are divided.
        input: what the first takes.
        use_reentrant: as for `checkpoint`.
        kwargs: `preserve_rng_state`.

    Raises:
        ValueError: more segments than functions, or fewer than one.

    >>> import juanji as jj
    >>> layers = jj.nn.Sequential(jj.nn.Linear(4, 4), jj.nn.ReLU(), jj.nn.Linear(4, 2))
    >>> jj.utils.checkpoint.checkpoint_sequential(layers, 2, jj.ones(3, 4)).shape
    (3, 2)
    """
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise TypeError(f"checkpoint_sequential: unexpected keyword arguments {sorted(kwargs)}")
    parts: Sequence[Any] = list(functions)
    if not 1 <= segments <= len(parts):
        raise ValueError(f"checkpoint_sequential: segments={segments} must be between 1 and the {len(parts)} functions")

    def through(chosen: Sequence[Any]) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            for part in chosen:
                value = part(value)
            return value

        return run

    size = len(parts) // segments
    for k in range(segments - 1):
        input = checkpoint(through(parts[k * size : (k + 1) * size]), input, preserve_rng_state=preserve)
    return through(parts[(segments - 1) * size :])(input)
