"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import juanji.tensors as T
from juanji.optim.base import Entries, Optimizer, Params, Update, require_at_least, require_betas


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): steps of the running mean over the root of the running mean square.

    m = β₁ m + (1 - β₁) g and v = β₂ v + (1 - β₂) g², both divided by 1 - βᵢᵗ to make up for starting at
    zero; then p = p - lr · m / (√v + eps). `weight_decay` · p is added to g; with `amsgrad` v is the
    largest so far; `maximize` goes uphill. `foreach`, `capturable` and `fused` are accepted and change
    nothing: there is one way of updating.

    Raises:
        ValueError: a negative lr, eps or weight_decay, or betas outside [0, 1).

    >>> import juanji as jj
    >>> p = jj.nn.Parameter(jj.tensor([1.0]))
    >>> optimizer = jj.optim.Adam([p], lr=0.1)
    >>> p.sum().backward()
    >>> optimizer.step()
    >>> p.detach()
    tensor([0.9000])
    """

    # Whether weight decay shrinks the parameter itself instead of being added to the gradient.
    decoupled = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Raise `ValueError` for hyper-parameters out of range."""
        for name, text in (("lr", "learning rate"), ("eps", "epsilon"), ("weight_decay", "weight_decay")):
            require_at_least(text, group[name], 0.0)
        require_betas(group["betas"])

    def update_group(self, group: dict[str, Any], updates: list[Update]) -> None:
        """Update one group."""
        betas = Entries(group, "betas")
        lr, beta1, beta2, eps = (
            T.hyper(group, "lr"),
            T.hyper(betas, 0),
            T.hyper(betas, 1),
            T.hyper(group, "eps"),
        )
        has_decay = T.guarded_flag(group, "weight_decay")
        amsgrad, maximize = T.guarded(group, "amsgrad"), T.guarded(group, "maximize")
        decay = T.hyper(group, "weight_decay") if has_decay else 0.0
        for p, gradient, state in updates:
            if maximize:
                gradient = -gradient
            self._create_state(p, state, amsgrad)
            step, mean = T.slot(state, "step"), T.slot(state, "exp_avg")
            square = T.slot(state, "exp_avg_sq")
            step.add_(1.0)
            if has_decay and self.decoupled:
                p.mul_(1 - lr * decay)
            elif has_decay:
                gradient = gradient + p * decay
            mean.add_((gradient - mean) * (1 - beta1))
            square.mul_(beta2).add_(gradient * (1 - beta2) * gradient)
            if amsgrad:
                largest = T.slot(state, "max_exp_avg_sq")
                largest.copy_(T.maximum(largest, square))
                square = largest
            step_size = lr / _bias_correction(beta1, step)
            root = _root(_bias_correction(beta2, step))
            p.sub_(mean / (square.sqrt() / root + eps) * step_size)

    def _create_state(self, p: Any, state: dict[str, Any], amsgrad: bool) -> None:
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if amsgrad else ("exp_avg", "exp_avg_sq")
        if "step" in state and all(name in state for name in names):
            return
        with T.outside_capture():
            if "step" not in state:
                state["step"] = T.zeros(())
            for name in names:
                if name not in state:
                    state[name] = T.zeros_like(p, requires_grad=False)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): p shrinks by lr · weight_decay · p.

    >>> import juanji as jj
    >>> p = jj.nn.Parameter(jj.tensor([1.0]))
    >>> optimizer = jj.optim.AdamW([p], lr=0.1, weight_decay=0.5)
    >>> p.sum().backward()
    >>> optimizer.step()
    >>> p.detach()
    tensor([0.8500])
    """

    decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)


def _bias_correction(beta: Any, step: Any) -> Any:
    """1 - beta ** step in double precision: near zero in the first steps, float32 would lose digits."""
    if isinstance(beta, float):
        return 1 - beta ** float(step.item())
    # A capture: the step's number is known at each replay only.
    return 1 - (step.double() * beta.double().log()).exp()


def _root(value: Any) -> Any:
    return math.sqrt(value) if isinstance(value, float) else value.sqrt()
