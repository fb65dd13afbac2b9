"""Functions that run before and after a module, and the handles that take them away again."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from juanji import config
from juanji.autograd import Function
from juanji.tensors import Tensor

if TYPE_CHECKING:
    from juanji.nn.module import Module

_numbers = itertools.count()


class Hook(NamedTuple):
    """A function to call and how: see `Module.register_forward_hook`."""

    function: Callable[..., Any]
    with_kwargs: bool
    always_call: bool = False


class RemovableHandle:
    """What registering a hook returns: `remove()` takes the hook away, as does leaving it as a context.

    >>> import juanji as jj
    >>> layer = jj.nn.ReLU()
    >>> with layer.register_forward_hook(lambda module, args, output: print(output.shape)):
    ...     _ = layer(jj.zeros(2, 3))
    (2, 3)
    >>> _ = layer(jj.zeros(2, 3))
    """

    def __init__(self, hooks: OrderedDict[int, Hook], hook: Hook, what: str, prepend: bool = False) -> None:
        config.changed(what)
        self.id = next(_numbers)
        self._what = what
        self._hooks = ref(hooks)
        hooks[self.id] = hook
        if prepend:
            hooks.move_to_end(self.id, last=False)

    def remove(self) -> None:
        """Take the hook away; does nothing when that has been done already."""
        hooks = self._hooks()
        if hooks is not None and self.id in hooks:
            config.changed(self._what)
            del hooks[self.id]

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def call(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the pre-hooks of a module, its forward and its hooks."""
    finished: set[int] = set()
    output: Any = None
    try:
        for hook in list(module._forward_pre_hooks.values()):
            args, kwargs = _before(hook, module, args, kwargs)
        watch = _Watch(module) if module._backward_hooks or module._backward_pre_hooks else None
        if watch is not None:
            args = watch.inputs(args)
        output = module.forward(*args, **kwargs)
        for key, hook in list(module._forward_hooks.items()):
            finished.add(key)
            output = _after(hook, module, args, kwargs, output)
        return output if watch is None else watch.outputs(output)
    except BaseException:
        for key, hook in list(module._forward_hooks.items()):
            if hook.always_call and key not in finished:
                output = _after(hook, module, args, kwargs, output)
        raise


def _before(
    hook: Hook, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not hook.with_kwargs:
        changed = hook.function(module, args)
        if changed is not None:
            args = changed if isinstance(changed, tuple) else (changed,)
        return args, kwargs
    changed = hook.function(module, args, kwargs)
    if changed is None:
        return args, kwargs
    if not (isinstance(changed, tuple) and len(changed) == 2):
        raise RuntimeError(
            f"a forward pre-hook with kwargs must return None or a tuple (args, kwargs), got {changed!r}"
        )
    return changed[0], changed[1]


def _after(hook: Hook, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
    if hook.with_kwargs:
        changed = hook.function(module, args, kwargs, output)
    else:
        changed = hook.function(module, args, output)
    return output if changed is None else changed


class _Gate(Function):
    """Passes tensors on; a function sees their gradients, all at once, and may replace them."""

    @staticmethod
    def forward(ctx: Any, seen: Callable[[tuple[Any, ...]], tuple[Any, ...]], *tensors: Any) -> Any:
        ctx.seen = seen
        ctx.set_materialize_grads(False)
        return tensors

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return (None, *ctx.seen(gradients))


class _Watch:
    """One call of a module whose backward hooks are to run."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.watched: tuple[int, ...] = ()
        self.count = 0
        self.grad_output: tuple[Any, ...] | None = None

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments; their gradients pass by."""
        self.count = len(args)
        self.watched, gated = _gated(args, self.inward)
        return gated

    def outputs(self, output: Any) -> Any:
        """The results; their gradients pass by."""
        many = isinstance(output, (tuple, list))
        results = tuple(output) if many else (output,)
        count = len(results)
        places: tuple[int, ...] = ()

        def outward(gradients: tuple[Any, ...]) -> tuple[Any, ...]:
            full = _spread(gradients, places, count)
            for hook in list(self.module._backward_pre_hooks.values()):
                changed = hook.function(self.module, full)
                if changed is not None:
                    full = _same_count(changed, full, "grad_output")
            self.grad_output = full
            if not self.watched:
                none = (None,) * self.count
                for hook in list(self.module._backward_hooks.values()):
                    changed = hook.function(self.module, none, full)
                    if changed is not None and any(g is not None for g in _same_count(changed, none, "grad_input")):
                        raise RuntimeError(
                            "Backward hook for Modules where no input requires gradient should always return None or "
                            "None for all gradients."
                        )
            return tuple(full[i] for i in places)

        places, gated = _gated(results, outward)
        if not many:
            return gated[0]
        return type(output)(*gated) if hasattr(output, "_fields") else type(output)(gated)

    def inward(self, gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        """Runs the backward hooks."""
        full = _spread(gradients, self.watched, self.count)
        for hook in list(self.module._backward_hooks.values()):
            changed = hook.function(self.module, full, self.grad_output)
            if changed is not None:
                full = _same_count(changed, full, "grad_input")
        return tuple(full[i] for i in self.watched)


def _gated(values: tuple[Any, ...], seen: Callable[..., Any]) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    places = tuple(i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad)
    if not places or not config.state.grad_enabled:
        return (), values
    passed = list(values)
    for i, value in zip(places, _Gate.apply(seen, *[values[i] for i in places]), strict=True):
        passed[i] = value
    return places, tuple(passed)


def _spread(values: tuple[Any, ...], places: tuple[int, ...], count: int) -> tuple[Any, ...]:
    full: list[Any] = [None] * count
    for i, value in zip(places, values, strict=True):
        full[i] = value
    return tuple(full)


def _same_count(changed: Any, before: tuple[Any, ...], what: str) -> tuple[Any, ...]:
    given = changed if isinstance(changed, tuple) else (changed,)
    if len(given) != len(before):
        raise RuntimeError(
            f"Backward hook returned an invalid number of {what}, got {len(given)}, but expected {len(before)}"
        )
    return given
