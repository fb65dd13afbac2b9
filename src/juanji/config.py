"""What this process is set to, and the one counter that tells a captured step whether anything changed."""

from __future__ import annotations

import os
import threading
from typing import Any


class Shared:
    """What all threads see."""

    epoch = 0
    #: The mark of the captured step whose gradients lie in every `.grad` it sets, untouched and unseen since.
    gradients: Any = None


#: For code that reads these at every step: attributes of `state` take longer, being each thread's own.
shared = Shared()


class State(threading.local):
    """Settings of the running thread, and the process's counter of changes.

    Attributes:
        capture: the capture that this thread is tracing, or None.
        grad_enabled: whether operations are recorded for gradients.
        inference: whether new tensors can never take part in a gradient.
    """

    capture: Any = None
    grad_enabled: bool = True
    inference: bool = False

    @property
    def epoch(self) -> int:
        """Grows whenever something changes that a captured step may have read: a module's attribute or mode, a
        tensor's `requires_grad`, an optimiser's groups. A replay compares this one number.
        """
        return shared.epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        shared.epoch = value


state = State()


def changed(what: str) -> None:
    """Says that something a captured step may have read is another now.

    Raises:
        CaptureError: while a step is being captured: what changes during the trace would not change in a replay.
    """
    if state.capture is not None:
        state.capture.refuse_change(what)
    state.epoch += 1


def debug_level() -> int:
    """`JUANJI_DEBUG`: 0 quiet, 1 tracebacks, 2 plans, 3 graphs after each pass, 4 IR and poisoned buffers."""
    try:
        return int(os.environ.get("JUANJI_DEBUG", "0"))
    except ValueError:
        raise ValueError(f"JUANJI_DEBUG={os.environ['JUANJI_DEBUG']!r} is not a number; valid are 0 to 4") from None
