"""Schedules that change an optimiser's learning rate (and momentum) as training goes on.

A schedule sets the rate for the first step when it is made; each `step()` sets the next one. A compiled step
reads the rate at each call, so a schedule needs no new trace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from juanji import config
from juanji.optim.base import Optimizer


class LRScheduler:
    """Base class: counts steps in `last_epoch` and writes what `get_lr` says into the optimiser's groups.

    With `last_epoch` other than -1 it continues a run, whose groups must have "initial_lr".
    """

    optimizer: Optimizer
    base_lrs: list[float]
    last_epoch: int

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        for number, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{number}] when resuming")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._last_lr: list[float] = []
        self.step()

    def get_lr(self) -> list[float]:
        """The learning rate of each group for step `last_epoch`; every schedule defines its own."""
        raise TypeError(f"{type(self).__name__} does not define get_lr")

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group as last set."""
        return list(self._last_lr)

    def step(self) -> None:
        """Go on to the next step and set its learning rate.

        Raises:
            CaptureError: inside a step that is being compiled, whose replays would not run this.
        """
        if config.state.capture is not None:
            config.changed(f"{type(self).__name__}'s learning rate")
        self.last_epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimiser."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where the schedule stood whose `state_dict()` this is."""
        self.__dict__.update({name: value for name, value in state_dict.items() if name != "optimizer"})

    def _rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]


class LambdaLR(LRScheduler):
    """The initial rate times `lr_lambda(step)`; one function for all groups or one for each.

    Functions are not in `state_dict`.

    >>> import juanji as jj
    >>> optimizer = jj.optim.SGD([jj.nn.Parameter(jj.zeros(1))], lr=0.5)
    >>> schedule = jj.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        count = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != count:
            raise ValueError(f"Expected {count} lr_lambdas, but got {len(self.lr_lambdas)}")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate of each group for step `last_epoch`."""
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimiser and the functions."""
        state = super().state_dict()
        del state["lr_lambdas"]
        return state


class StepLR(LRScheduler):
    """Multiplies the rate by `gamma` after every `step_size` steps.

    >>> import juanji as jj
    >>> optimizer = jj.optim.SGD([jj.nn.Parameter(jj.zeros(1))], lr=0.5)
    >>> schedule = jj.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> [(schedule.step(), schedule.get_last_lr()[0])[1] for _ in range(4)]
    [0.5, 0.25, 0.25, 0.125]
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        if step_size < 1:
            raise ValueError(f"step_size must be at least 1, got {step_size}")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate of each group for step `last_epoch`."""
        drop = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return [rate * self.gamma if drop else rate for rate in self._rates()]


class CosineAnnealingLR(LRScheduler):
    """From the initial rate down to `eta_min` in `T_max` steps along half a cosine, and up again after that.

    >>> import juanji as jj
    >>> optimizer = jj.optim.SGD([jj.nn.Parameter(jj.zeros(1))], lr=1.0)
    >>> schedule = jj.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    >>> [round((schedule.step(), schedule.get_last_lr()[0])[1], 6) for _ in range(4)]
    [0.5, 0.0, 0.5, 1.0]
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_max < 1:
            raise ValueError(f"T_max must be at least 1, got {T_max}")
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate of each group for step `last_epoch`, made from the current one."""
        if self.last_epoch == 0:
            return self._rates()
        now = 1 + math.cos(math.pi * self.last_epoch / self.T_max)
        before = 1 + math.cos(math.pi * (self.last_epoch - 1) / self.T_max)
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # at the bottom: nothing to scale
            lift = (1 - math.cos(math.pi / self.T_max)) / 2
            return [
                rate + (base - self.eta_min) * lift for rate, base in zip(self._rates(), self.base_lrs, strict=True)
            ]
        return [now / before * (rate - self.eta_min) + self.eta_min for rate in self._rates()]


class OneCycleLR(LRScheduler):
    """One cycle (Smith and Topin, 2018): the rate climbs to `max_lr` and then falls far below where it began.

    It begins at max_lr / div_factor, reaches `max_lr` after `pct_start` of the steps and ends at the
    beginning's rate / final_div_factor; with `three_phase` it first comes back down symmetrically. Momentum
    (or Adam's first beta) goes the other way, from `max_momentum` to `base_momentum` and back, if
    `cycle_momentum`. The number of steps is `total_steps` or `epochs` · `steps_per_epoch`; `max_lr` and the
    momenta may be lists, one per group.

    Raises:
        ValueError: a missing or impossible number of steps, `pct_start` outside 0 to 1, an unknown
            `anneal_strategy`, no momentum to cycle, or (from `step`) more steps than were announced.

    >>> import juanji as jj
    >>> optimizer = jj.optim.AdamW([jj.nn.Parameter(jj.zeros(1))], lr=1e-3)
    >>> schedule = jj.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    >>> rates = [schedule.get_last_lr()[0]]
    >>> for _ in range(9):
    ...     schedule.step()
    ...     rates.append(schedule.get_last_lr()[0])
    >>> round(rates[0], 6), round(max(rates), 6), round(rates[-1], 9)
    (0.004, 0.1, 4e-07)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.total_steps = _count_steps(total_steps, epochs, steps_per_epoch)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        self.use_beta1 = "betas" in optimizer.defaults
        if cycle_momentum and not self.use_beta1 and "momentum" not in optimizer.defaults:
            raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
        last = float(self.total_steps - 1)
        rise = float(pct_start * self.total_steps) - 1
        # (the step where the phase ends, rate at its start and end, momentum at its start and end)
        self.phases: list[tuple[float, str, str, str, str]] = [
            (rise, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        ]
        if three_phase:
            fall = float(2 * pct_start * self.total_steps) - 2
            self.phases.append((fall, "max_lr", "initial_lr", "base_momentum", "max_momentum"))
            self.phases.append((last, "initial_lr", "min_lr", "max_momentum", "max_momentum"))
        else:
            self.phases.append((last, "max_lr", "min_lr", "base_momentum", "max_momentum"))
        groups = optimizer.param_groups
        if last_epoch == -1:
            peaks = _per_group("max_lr", max_lr, len(groups))
            bases = _per_group("base_momentum", base_momentum, len(groups))
            tops = _per_group("max_momentum", max_momentum, len(groups))
            for group, peak, base, top in zip(groups, peaks, bases, tops, strict=True):
                group["initial_lr"] = peak / div_factor
                group["max_lr"] = peak
                group["min_lr"] = group["initial_lr"] / final_div_factor
                if cycle_momentum:
                    group["base_momentum"] = base
                    group["max_momentum"] = top
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The rate of each group for step `last_epoch`; sets the momentum as well."""
        if self.last_epoch > self.total_steps:
            raise ValueError(f"Tried to step {self.last_epoch} times. The total number of steps is {self.total_steps}")
        # The last phase goes on to the end; the one before it ends where it begins.
        number = next((i for i, phase in enumerate(self.phases[:-1]) if self.last_epoch <= phase[0]), -1)
        end, rate_from, rate_to, momentum_from, momentum_to = self.phases[number]
        start = 0.0 if number == 0 else self.phases[number - 1][0]
        part = (self.last_epoch - start) / (end - start) if end != start else 1.0
        rates: list[float] = []
        for group in self.optimizer.param_groups:
            rates.append(self._between(group[rate_from], group[rate_to], part))
            if self.cycle_momentum:
                momentum = self._between(group[momentum_from], group[momentum_to], part)
                if self.use_beta1:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return rates

    def _between(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)


def _count_steps(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total_steps is None:
        if epochs is None or steps_per_epoch is None:
            raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
        for name, value in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
            if not isinstance(value, int) or value <= 0:
                raise ValueError(f"Expected positive integer {name}, but got {value}")
        return epochs * steps_per_epoch
    if not isinstance(total_steps, int) or total_steps <= 0:
        raise ValueError(f"Expected positive integer total_steps, but got {total_steps}")
    return total_steps


def _per_group(name: str, value: float | Sequence[float], count: int) -> list[float]:
    if isinstance(value, Sequence):
        if len(value) != count:
            raise ValueError(f"expected {count} values for {name}, got {len(value)}")
        return [float(v) for v in value]
    return [float(value)] * count
