"""Module: what every layer and every network is.

A module registers the parameters, buffers and modules that are assigned to it as attributes. A step
compiled with `jj.compile` relies on all that it read from modules staying as it was; so every change of an
attribute, of the mode or of the hooks is reported to `config.changed`, and nothing is reported when a value
is set to what it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self, overload

from juanji import config
from juanji.dtypes import DType, as_dtype, bfloat16, float16, float32, float64
from juanji.nn import _state, hooks
from juanji.nn.hooks import Hook, RemovableHandle
from juanji.nn.notebook import module_html
from juanji.nn.parameter import Parameter, is_uninitialized
from juanji.tensors import Tensor, check_device
from juanji.tensors.formats import MemoryFormat, check_memory_format

_MISSING = object()
_SCALARS = (bool, int, float, str)


def _same(old: object, new: object) -> bool:
    """Whether replacing `old` by `new` certainly changes nothing (0.0 and -0.0 do differ)."""
    if old is new:
        return True
    return type(old) is type(new) and isinstance(new, _SCALARS) and bool(old == new) and new != 0.0


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


class Module:
    """Base class of all layers and networks.

    A subclass calls `super().__init__()`, assigns its layers and parameters as attributes and defines
    `forward`.

    >>> import juanji as jj
    >>> from juanji import nn
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc = nn.Linear(4, 2)
    ...     def forward(self, x):
    ...         return self.fc(x).relu()
    >>> net = Net()
    >>> net
    Net(
      (fc): Linear(in_features=4, out_features=2, bias=True)
    )
    >>> [name for name, _ in net.named_parameters()]
    ['fc.weight', 'fc.bias']
    """

    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent: set[str]
    #: Names of buffers that an old state may lack.
    _may_miss: ClassVar[frozenset[str]] = frozenset()
    _forward_hooks: OrderedDict[int, Hook]
    _forward_pre_hooks: OrderedDict[int, Hook]
    _backward_hooks: OrderedDict[int, Hook]
    _backward_pre_hooks: OrderedDict[int, Hook]
    _seen: bool

    def __init__(self) -> None:
        self.__dict__.update(
            training=True,
            _parameters={},
            _buffers={},
            _modules={},
            _non_persistent=set(),
            _forward_hooks=OrderedDict(),
            _forward_pre_hooks=OrderedDict(),
            _backward_hooks=OrderedDict(),
            _backward_pre_hooks=OrderedDict(),
            # Whether anyone may have noticed an attribute's absence: from then on a new attribute is a
            # change.
            _seen=False,
        )

    # -- running ---------------------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; every subclass defines its own."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the hooks and `forward`."""
        self.__dict__["_seen"] = True
        if self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks:
            return hooks.call(self, args, kwargs)
        return self.forward(*args, **kwargs)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before each forward; what it returns replaces the arguments.

        With `with_kwargs` it is called as `hook(module, args, kwargs)` and returns None or (args, kwargs).
        """
        what = f"{type(self).__name__}'s forward pre-hooks"
        return RemovableHandle(self._forward_pre_hooks, Hook(hook, with_kwargs), what, prepend)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after each forward; what it returns replaces the output.

        With `with_kwargs` it is called as `hook(module, args, kwargs, output)`; with `always_call` also when
        forward raises.
        """
        what = f"{type(self).__name__}'s forward hooks"
        return RemovableHandle(self._forward_hooks, Hook(hook, with_kwargs, always_call), what, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_input, grad_output)` when the gradients of the inputs are known.

        Both are tuples, with None for what is no tensor or has no gradient; a tuple that it returns replaces
        `grad_input`.

        >>> import juanji as jj
        >>> layer = jj.nn.ReLU()
        >>> handle = layer.register_full_backward_hook(lambda module, g_in, g_out: print(g_in, g_out))
        >>> layer(jj.tensor([-1.0, 2.0], requires_grad=True)).sum().backward()
        (tensor([0., 1.]),) (tensor([1., 1.]),)
        """
        what = f"{type(self).__name__}'s backward hooks"
        return RemovableHandle(self._backward_hooks, Hook(hook, False), what, prepend)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call `hook(module, grad_output)` before the module's gradients are computed.

        A tuple that it returns replaces `grad_output`.
        """
        what = f"{type(self).__name__}'s backward pre-hooks"
        return RemovableHandle(self._backward_pre_hooks, Hook(hook, False), what, prepend)

    # -- attributes ------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__
        if "_parameters" in values:
            for registry in (values["_parameters"], values["_modules"], values["_buffers"]):
                if name in registry:
                    return registry[name]
            values["_seen"] = True
            hint = ""
        else:
            hint = " (is super().__init__() called first in its __init__?)"
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'{hint}")

    def __setattr__(self, name: str, value: Any) -> None:
        values = self.__dict__
        if "_parameters" not in values:
            if isinstance(value, (Parameter, Module)):
                kind = "parameters" if isinstance(value, Parameter) else "module"
                raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
            object.__setattr__(self, name, value)
        elif isinstance(value, Parameter):
            self._store(values["_parameters"], name, value)
        elif name in values["_parameters"]:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as parameter '{name}' "
                    "(juanji.nn.Parameter or None expected)"
                )
            self._store(values["_parameters"], name, value)
        elif isinstance(value, Module):
            self._store(values["_modules"], name, value)
        elif name in values["_modules"]:
            if value is not None:
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as child module '{name}' "
                    "(juanji.nn.Module or None expected)"
                )
            self._store(values["_modules"], name, value)
        elif name in values["_buffers"]:
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(
                    f"cannot assign '{type(value).__name__}' as buffer '{name}' (juanji.Tensor or None expected)"
                )
            self._store(values["_buffers"], name, value)
        else:
            self._report(name, values.get(name, _MISSING), value)
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        config.changed(f"{type(self).__name__}.{name}")
        for registry in (self._parameters, self._buffers, self._modules):
            if name in registry:
                del registry[name]
                self._non_persistent.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = [*super().__dir__(), *self._parameters, *self._buffers, *self._modules]
        return sorted(name for name in names if not name[:1].isdigit())

    def _report(self, name: str, old: object, new: object) -> None:
        if self._seen if old is _MISSING else not _same(old, new):
            config.changed(f"{type(self).__name__}.{name}")

    def _store(self, registry: dict[str, Any], name: str, value: object) -> None:
        """Put `value` under `name` into one registry and out of the others."""
        values = self.__dict__
        old: object = _MISSING
        for place in (values, self._parameters, self._buffers, self._modules):
            if name in place:
                old = place[name]
        self._report(name, old, value)
        for place in (values, self._parameters, self._buffers, self._modules):
            if place is not registry and name in place:
                del place[name]
                self._non_persistent.discard(name)
        registry[name] = value

    def _check_name(self, kind: str, name: str, registry: Mapping[str, Any]) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string, got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{kind} name must not contain ".", got: {name}')
        if name == "":
            raise KeyError(f"{kind} name must not be empty")
        if name not in registry:
            places = (self.__dict__, self._parameters, self._buffers, self._modules)
            if any(name in place for place in places) or hasattr(type(self), name):
                raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; None reserves the name, and such a parameter is not in `state_dict`."""
        self._check_name("parameter", name, self._parameters)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{type(param).__name__}' object to parameter '{name}' "
                "(juanji.nn.Parameter or None required)"
            )
        if param is not None and param.grad_fn is not None:
            raise ValueError(f"cannot assign non-leaf Tensor to parameter '{name}': parameters are leaves")
        self._store(self._parameters, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that belongs to the module's state without being trained.

        It is in `state_dict` unless `persistent` is False.
        """
        self._check_name("buffer", name, self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (juanji.Tensor or None required)"
            )
        self._store(self._buffers, name, tensor)
        if persistent:
            self._non_persistent.discard(name)
        else:
            self._non_persistent.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module under `name`."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_name("module", name, self._modules)
        self._store(self._modules, name, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """Alias of `add_module`."""
        self.add_module(name, module)

    # -- traversal -------------------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(name, module) for this module (named `prefix`) and all below it, each object once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        self.__dict__["_seen"] = True
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, _join(prefix, name), remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each object once."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) for the direct children, each object once."""
        self.__dict__["_seen"] = True
        memo: set[Module] = set()
        for name, module in self._modules.items():
            if module is not None and module not in memo:
                memo.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct children, each object once."""
        for _, module in self.named_children():
            yield module

    def _named_members(
        self, registry: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        if recurse:
            modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
        else:
            self.__dict__["_seen"] = True
            modules = iter([(prefix, self)])
        memo: set[int] = set()
        for place, module in modules:
            for name, value in module.__dict__[registry].items():
                if value is None or id(value) in memo:
                    continue
                if remove_duplicate:
                    memo.add(id(value))
                yield _join(place, name), value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) for this module's parameters and, with `recurse`, those of all modules below."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and, with `recurse`, of all below: what an optimiser takes."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(name, buffer) for this module's buffers and, with `recurse`, those of all modules below."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers of this module and, with `recurse`, of all modules below."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The module with the dotted name `target` ("" is this one). Raises `AttributeError`."""
        module = self
        if not target:
            return module
        for name in target.split("."):
            child = getattr(module, name, _MISSING)
            if child is _MISSING:
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            if not isinstance(child, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
            module = child
        return module

    def _get_member(self, target: str, kind: str, registry: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        if name not in module.__dict__[registry]:
            raise AttributeError(f"`{name}` is not {kind}")
        return module.__dict__[registry][name]

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with the dotted name `target`. Raises `AttributeError`."""
        return self._get_member(target, "an nn.Parameter", "_parameters")  # type: ignore[no-any-return]

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with the dotted name `target`. Raises `AttributeError`."""
        return self._get_member(target, "a buffer", "_buffers")  # type: ignore[no-any-return]

    def apply(self, fn: Callable[[Module], object]) -> Self:
        """Call `fn` on every module below and then on this one, as for initialisation."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # -- modes -----------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set training mode, or with False evaluation mode, here and in all modules below."""
        if not isinstance(mode, bool):
            raise ValueError(f"training mode is expected to be boolean, got {mode!r}")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and in all modules below."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Switch the gradients of all parameters on or off."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def freeze(self) -> Self:
        """Stop training here and in all modules below: parameters get no gradients, and running statistics stay.

        A frozen normalisation layer that has running statistics uses them and leaves them as they are, whatever
        `train()` says.

        >>> import juanji as jj
        >>> layer = jj.nn.BatchNorm1d(2).freeze()
        >>> _ = layer.train()(jj.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> layer.running_mean, layer.weight.requires_grad
        (tensor([0., 0.]), False)
        """
        for module in self.modules():
            module._freeze_statistics(True)
        return self.requires_grad_(False)

    def unfreeze(self) -> Self:
        """Train all parameters again, and let running statistics move in training."""
        for module in self.modules():
            module._freeze_statistics(False)
        return self.requires_grad_(True)

    def _freeze_statistics(self, frozen: bool) -> None:
        """Whether this layer's own statistics stay as they are: only layers that have some do something here."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or with `set_to_none=False` fill them with zeros."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None  # without a look at it: a captured step need not know whether there was one
            elif parameter.grad is not None:
                parameter.grad = parameter.grad.detach().zero_()

    # -- dtype and device ------------------------------------------------------------------------------------

    @overload
    def to(self, device: str | None = None, dtype: DType | None = None, non_blocking: bool = False) -> Self: ...
    @overload
    def to(self, dtype: DType, non_blocking: bool = False) -> Self: ...
    @overload
    def to(self, tensor: Tensor, non_blocking: bool = False) -> Self: ...

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Convert floating-point parameters and buffers: `to(dtype)`, `to(tensor)`, `to("cpu")`.

        Raises `ValueError` for a device other than "cpu", `TypeError` for a dtype that is not floating point.
        """
        dtype = kwargs.pop("dtype", None)
        device = kwargs.pop("device", None)
        tensor = kwargs.pop("tensor", None)
        kwargs.pop("non_blocking", None)
        check_memory_format("to", kwargs.pop("memory_format", None))
        if kwargs:
            raise TypeError(f"to() got an unexpected keyword argument '{next(iter(kwargs))}'")
        for argument in args:
            if isinstance(argument, Tensor):
                tensor = argument
            elif isinstance(argument, DType):
                dtype = argument
            elif not isinstance(argument, (bool, MemoryFormat)):
                device = argument
        check_device(device)
        if tensor is not None:
            dtype = tensor.dtype
        if dtype is not None:
            dtype = as_dtype(dtype)
            if not dtype.is_floating_point:
                raise TypeError(f"Module.to() accepts floating point dtypes only, got {dtype}")
            self._convert(dtype)
        return self

    def float(self) -> Self:
        """Convert floating-point parameters and buffers to float32."""
        return self._convert(float32)

    def double(self) -> Self:
        """Convert floating-point parameters and buffers to float64."""
        return self._convert(float64)

    def half(self) -> Self:
        """Convert floating-point parameters and buffers to float16."""
        return self._convert(float16)

    def bfloat16(self) -> Self:
        """Convert floating-point parameters and buffers to bfloat16."""
        return self._convert(bfloat16)

    def type(self, dst_type: DType) -> Self:
        """Convert parameters and buffers to `dst_type`, which must be a floating-point type: as `to(dst_type)`."""
        return self.to(as_dtype(dst_type))

    def cpu(self) -> Self:
        """Do nothing: a module is always on the CPU."""
        return self

    def _convert(self, dtype: DType) -> Self:
        for module in self.modules():
            for parameter in module._parameters.values():
                if parameter is not None and parameter.dtype.is_floating_point:
                    _state.convert(parameter, dtype)
            for name, buffer in list(module._buffers.items()):
                if buffer is not None and buffer.dtype.is_floating_point and buffer.dtype != dtype:
                    if is_uninitialized(buffer):
                        buffer.dtype = dtype
                    else:
                        module._store(module._buffers, name, buffer.to(dtype))
        return self

    # -- state -----------------------------------------------------------------------------------------------

    def state_dict(
        self,
        *,
        destination: dict[str, Tensor] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, Tensor]:
        """Parameters and persistent buffers by dotted name, detached and sharing memory with the module.

        >>> from juanji import nn
        >>> {name: tuple(value.shape) for name, value in nn.Sequential(nn.Linear(3, 2)).state_dict().items()}
        {'0.weight': (2, 3), '0.bias': (2,)}
        """
        destination = OrderedDict() if destination is None else destination
        for name, value in _state.own(self).items():
            destination[prefix + name] = value if keep_vars else value.detach()
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        return destination

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _state.IncompatibleKeys:
        """Copy values (tensors or arrays) by dotted name; with `assign` take the tensors themselves.

        Returns the missing and the unexpected names. Raises `RuntimeError`, with nothing copied, when a shape
        differs or, if `strict`, when a name is missing or unexpected.
        """
        return _state.load(self, state_dict, strict, assign)

    # -- text ------------------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """The text between the parentheses of `repr`: the layer's arguments."""
        return ""

    def _repr_html_(self) -> str:
        return module_html(self)

    def __repr__(self) -> str:
        extra = [line for line in self.extra_repr().split("\n") if line]
        lines = [f"({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._modules.items()]
        return self._format(extra, lines)

    def _format(self, extra: list[str], children: list[str]) -> str:
        if not children and len(extra) <= 1:
            return f"{self._get_name()}({''.join(extra)})"
        return f"{self._get_name()}(\n  " + "\n  ".join(extra + children) + "\n)"
