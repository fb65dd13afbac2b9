"""Functions that run before and after a module, and the handles that take them away again."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from juanji import config

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
        output = module.forward(*args, **kwargs)
        for key, hook in list(module._forward_hooks.items()):
            finished.add(key)
            output = _after(hook, module, args, kwargs, output)
        return output
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
