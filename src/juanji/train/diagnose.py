"""Where a loss that is no number comes from: goes back to a state that was sound, and looks at each part from there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from juanji.tensors import Tensor, no_grad
from juanji.train.state import Position, Training, copied

#: So long after the last one, the loop remembers another state: finding the culprit repeats no more than this.
SECONDS = 5.0

#: Of inputs, labels and the number of batches before in the epoch.
Run = Callable[[Tensor, Tensor, int], Any]
Criterion = Callable[[Tensor, Tensor], Tensor]


class NotFinite(Exception):
    """A loss that is infinite or no number.

    Attributes:
        value: the loss.
        step, epoch: of the step whose it is, from 1.
    """

    def __init__(self, value: float, step: int, epoch: int) -> None:
        super().__init__(value)
        self.value, self.step, self.epoch = value, step, epoch


class Rewind:
    """Remembers states that were sound, and repeats the steps from the last one up to the loss that is no number."""

    def __init__(self, training: Training, run: Run, criterion: Criterion) -> None:
        self._training, self._run, self._criterion = training, run, criterion
        self._updates: Callable[[int], bool] = getattr(run, "updates", lambda done: True)
        self._state: Any = None
        self._when = 0.0

    def remember(self, position: Position) -> None:
        """Takes a copy of the present state."""
        self._state = copied(self._training.state(position))
        self._when = time.perf_counter()

    def remember_now_and_then(self, position: Position) -> None:
        """As `remember`, if the last time is long ago."""
        if time.perf_counter() - self._when > SECONDS:
            self.remember(position)

    def explain(self, found: NotFinite, rate: float) -> str:
        """One sentence: which loss, where its cause first shows, and what to try.

        Leaves the model about as it was before that step.
        """
        where = self._culprit(found)
        advice = f"a learning rate lower than the {rate:.2g} it had usually helps"
        if where.startswith("the batch"):
            advice = "look at the data"
        beginning = f"the loss is {found.value} at step {found.step} of epoch {found.epoch}"
        return f"{beginning}: {where}; {advice}" if where else f"{beginning}; {advice}"

    def _culprit(self, found: NotFinite) -> str:
        if self._state is None:
            return ""
        training = self._training
        position, source = training.restore(self._state)
        if source is None:
            source = training.begin_pass()
        for number in range(position.step + 1, found.step):
            inputs, labels = next(source)
            self._run(inputs, labels, number - 1)
            if training.scheduler is not None and self._updates(number):
                training.scheduler.step()
            update = self._after_update(number)
            if update:
                return update
        inputs, labels = next(source)
        return self._forward(inputs, labels)

    def _after_update(self, step: int) -> str:
        parameters = list(self._training.model.named_parameters())
        wrong = [name for name, p in parameters if not _finite(p)]
        if not wrong:
            return ""
        # Gradients flow from the loss backwards: the last in order came first.
        for name, p in reversed(parameters):
            if p.grad is not None and not _finite(p.grad):
                return f"the gradient of {name} in step {step} is the first that is not finite"
        return f"the update of step {step} made {wrong[0]} {_kind(dict(parameters)[wrong[0]])}"

    def _forward(self, inputs: Any, labels: Any) -> str:
        """Runs the step's forward pass by itself, module by module."""
        model = self._training.model
        if isinstance(inputs, Tensor) and not _finite(inputs):
            bad = ~np.isfinite(inputs.detach().numpy().reshape(len(inputs), -1)).all(axis=1)
            return f"the batch itself has {_kind(inputs)} values, in its sample {int(bad.argmax())}"
        for what, values in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
            for name, value in values:
                if not _finite(value):
                    return f"the {what} {name} is {_kind(value)} before it"
        culprits: list[str] = []
        handles = []
        for name, module in model.named_modules():
            shown = f"{name or 'the model'} ({type(module).__name__})"
            handles.append(module.register_forward_pre_hook(_looking_at("input", shown, culprits)))
            handles.append(module.register_forward_hook(_looking_at("output", shown, culprits)))
        try:
            with no_grad(), np.errstate(all="ignore"):
                scores = model(inputs)
                loss = self._criterion(scores, labels)
        finally:
            for handle in handles:
                handle.remove()
        if culprits:
            return f"{culprits[0]} is the first that is not finite"
        if not _finite(loss):
            largest = float(np.abs(scores.numpy()).max())
            return f"the loss function made it of scores that are finite, up to {largest:.3g}"
        return ""


def _looking_at(what: str, shown: str, culprits: list[str]) -> Callable[..., None]:
    """A hook that notes the module where a value that is not finite shows."""

    def hook(module: Any, inputs: Any, outputs: Any = None) -> None:
        values = inputs if what == "input" else outputs
        for value in values if isinstance(values, (tuple, list)) else (values,):
            if isinstance(value, Tensor) and not _finite(value):
                culprits.append(f"the {what} of {shown}")

    return hook


def _finite(value: Tensor) -> bool:
    return not value.dtype.is_floating_point or bool(np.isfinite(value.detach().numpy()).all())


def _kind(value: Tensor) -> str:
    return "NaN" if np.isnan(value.detach().numpy()).any() else "infinite"
