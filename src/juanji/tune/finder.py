"""How fast to learn: the learning rate raised step by step until the loss grows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import juanji
from juanji.nn import Module
from juanji.nn import functional as F
from juanji.tensors import Tensor
from juanji.train.state import Batches, Optimizer, Position, Training, copied


@dataclass(frozen=True)
class Found:
    """What `lr_finder` saw.

    Attributes:
        rates: the learning rates tried.
        losses: the loss at each, smoothed.
        suggestion: a tenth of the rate with the lowest loss, where it still falls fast.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float


def lr_finder(
    model: Module,
    batches: Batches,
    optimizer: Optimizer,
    *,
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 60,
) -> Found:
    """Trains for a few steps with an ever higher learning rate, and puts everything back as it was.

    Source: Smith, "Cyclical learning rates for training neural networks", 2017.

    Args:
        model: what is trained.
        batches: pairs of inputs and labels; gone through again where they are fewer than the steps.
        optimizer: its groups' rates keep their proportions; the rates here are those of the first group.
        criterion: the loss.
        lowest, highest: the rates to begin and to end with.
        steps: how many; fewer where the loss has grown to four times its least before.

    Raises:
        ValueError: rates or steps that make no sense, or no batches.

    >>> import juanji as jj
    >>> model = jj.nn.Linear(2, 2)
    >>> data = [(jj.tensor([[1.0, 0.0], [0.0, 1.0]]), jj.tensor([0, 1]))]
    >>> found = lr_finder(model, data, jj.optim.SGD(model.parameters(), lr=0.1), lowest=1e-3, highest=10.0, steps=20)
    >>> 1e-3 <= found.suggestion <= 1.0, len(found.rates) == len(found.losses)
    (True, True)
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"lowest={lowest!r} and highest={highest!r} must be numbers above 0, the lower one first")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps={steps!r} must be an integer, 2 or more")
    if len(batches) < 1:
        raise ValueError("there are no batches to look with")

    @juanji.compile
    def step(inputs: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    training = Training(model, optimizer, None, batches)
    before = copied(training.state(Position()))
    was_training = model.training
    shares = [float(g["lr"]) / float(optimizer.param_groups[0]["lr"]) for g in optimizer.param_groups]
    rates: list[float] = []
    losses: list[float] = []
    model.train()
    try:
        source, mean = training.begin_pass(), 0.0
        for number in range(steps):
            batch = next(source, None)
            if batch is None:
                source = training.begin_pass()
                batch = next(source)
            rate = lowest * (highest / lowest) ** (number / (steps - 1))
            for group, share in zip(optimizer.param_groups, shares, strict=True):
                group["lr"] = rate * share
            loss = float(step(*batch).item())
            mean = 0.8 * mean + 0.2 * loss
            smooth = mean / (1 - 0.8 ** (number + 1))
            if not math.isfinite(smooth) or (losses and smooth > 4 * min(losses)):
                break
            rates.append(rate)
            losses.append(smooth)
    finally:
        _put_back(training, before, optimizer)
        model.train(was_training)
    if not losses:
        raise ValueError(f"the loss is no number at the learning rate {lowest:g} already")
    return Found(rates, losses, rates[losses.index(min(losses))] / 10)


def _put_back(training: Training, before: Any, optimizer: Any) -> None:
    training.restore(before)
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = None
