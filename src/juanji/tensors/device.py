"""`jj.device`: there is one, the CPU."""

from __future__ import annotations

from typing import Any


class device(str):  # PyTorch's name
    """Where tensors live: the CPU.

    Raises:
        ValueError: any other device.

    >>> device("cpu")
    device(type='cpu')
    """

    __slots__ = ()
    index = None  # type: ignore[assignment]

    def __new__(cls, type: Any = "cpu", index: int | None = None) -> device:
        """Accepts "cpu", "cpu:0" and another device."""
        check_device(type)
        return super().__new__(cls, "cpu")

    @property
    def type(self) -> str:
        """The kind of device: "cpu"."""
        return "cpu"

    def __repr__(self) -> str:
        return "device(type='cpu')"


def check_device(given: Any) -> None:
    """Refuses every device but the CPU.

    Raises:
        ValueError: another device.
    """
    name = str(getattr(given, "type", given))
    if given is not None and name != "cpu" and not name.startswith("cpu:"):
        raise ValueError(f"device={name!r} is not available: Juanji computes on the CPU, use device='cpu'")


CPU = device("cpu")
