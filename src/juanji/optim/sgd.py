"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import juanji.tensors as T
from juanji.optim.base import Optimizer, Params, Update, require_at_least
from juanji.tensors import Tensor


class SGD(Optimizer):
    """Stochastic gradient descent, optionally with (Nesterov) momentum and weight decay.

    With gradient g, to which weight_decay · p is added: buffer = momentum · buffer + (1 - dampening) · g,
    starting at g; then p = p - lr · buffer, or with `nesterov` p - lr · (g + momentum · buffer).
    `maximize` goes uphill. `foreach` and `fused` are accepted and change nothing: there is one way of
    updating.

    Raises:
        ValueError: a negative lr, momentum or weight_decay, or nesterov without momentum or with dampening.

    >>> import juanji as jj
    >>> p = jj.nn.Parameter(jj.tensor([1.0]))
    >>> optimizer = jj.optim.SGD([p], lr=0.1, momentum=0.9)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     p.sum().backward()
    ...     optimizer.step()
    >>> p.detach()
    tensor([0.7100])
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Raise `ValueError` for hyper-parameters out of range."""
        for name, text in (
            ("lr", "learning rate"),
            ("momentum", "momentum"),
            ("weight_decay", "weight_decay"),
        ):
            require_at_least(text, group[name], 0.0)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def update_group(self, group: dict[str, Any], updates: list[Update]) -> None:
        """Update one group."""
        lr = T.hyper(group, "lr")
        has_momentum = T.guarded_flag(group, "momentum")
        has_dampening = has_momentum and T.guarded_flag(group, "dampening")
        has_decay = T.guarded_flag(group, "weight_decay")
        nesterov, maximize = T.guarded(group, "nesterov"), T.guarded(group, "maximize")
        momentum = T.hyper(group, "momentum") if has_momentum else 0.0
        dampening = T.hyper(group, "dampening") if has_dampening else 0.0
        decay = T.hyper(group, "weight_decay") if has_decay else 0.0
        for p, gradient, state in updates:
            if maximize:
                gradient = -gradient
            if has_decay:
                gradient = gradient + p * decay
            if has_momentum:
                fresh = "momentum_buffer" not in state
                if fresh:
                    # Starting at zero makes the first step the same computation as all others, so that a
                    # captured step serves from the first on: without dampening 0 · momentum + g is g.
                    with T.outside_capture():
                        state["momentum_buffer"] = T.zeros_like(p, requires_grad=False)
                buffer = T.slot(state, "momentum_buffer").mul_(momentum)
                if has_dampening:
                    buffer.add_(gradient * (1 - self._damped(state, fresh) * dampening))
                else:
                    buffer.add_(gradient)
                gradient = gradient + buffer * momentum if nesterov else buffer
            p.sub_(gradient * lr)

    def _read_state(self, saved: Mapping[Any, Any], params: Mapping[Any, Tensor]) -> dict[int, dict[str, Any]]:
        loaded = super()._read_state(saved, params)
        for p in params.values():
            values = loaded.get(id(p), {})
            if "momentum_buffer" in values and "momentum_damped" in self.state.get(p, {}):
                values.setdefault("momentum_damped", T.ones(()))  # PyTorch's states have a buffer only
        return loaded

    def _damped(self, state: dict[str, Any], fresh: bool) -> Any:
        """1, but 0 in a parameter's first step, where the buffer becomes the whole gradient."""
        if "momentum_damped" not in state:
            with T.outside_capture():
                state["momentum_damped"] = T.full((), 0.0 if fresh else 1.0)
        flag = T.slot(state, "momentum_damped")
        now = flag.clone()
        flag.fill_(1.0)
        return now
