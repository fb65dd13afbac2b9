"""Random numbers: one seeded generator for what is drawn on the host, and the counter that dropout reads."""

from __future__ import annotations

from typing import Any

import numpy as np

_LIMIT = 2**63


class Generator:
    """A seeded source of random numbers (Philox, Salmon et al. 2011), with PyTorch's method names.

    >>> g = Generator().manual_seed(3)
    >>> state = g.get_state()
    >>> a = g.numpy.random(); g.set_state(state); b = g.numpy.random()
    >>> bool(a == b)
    True
    """

    def __init__(self, device: str = "cpu") -> None:
        if str(device) != "cpu":
            raise ValueError(f"device={device!r} is not available: Juanji computes on the CPU, use device='cpu'")
        self.device = "cpu"
        self._seed = 0
        self._numpy: np.random.Generator | None = None

    @property
    def numpy(self) -> np.random.Generator:
        """What values are drawn from. Made on first use: predicting need not import `numpy.random`."""
        if self._numpy is None:
            self._numpy = np.random.Generator(np.random.Philox(self._seed % (2 * _LIMIT)))
        return self._numpy

    def manual_seed(self, seed: int) -> Generator:
        """Starts the sequence that belongs to `seed` and returns this generator."""
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise TypeError(f"seed={seed!r} must be an integer")
        if not -_LIMIT <= int(seed) < 2 * _LIMIT:
            raise ValueError(f"seed={seed} is out of range; valid are -2**63 to 2**64 - 1")
        self._seed = int(seed)
        self._numpy = None
        return self

    def seed(self) -> int:
        """Draws a seed from the operating system, starts its sequence and returns it."""
        drawn = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
        self.manual_seed(drawn)
        return drawn

    def initial_seed(self) -> int:
        """The seed of the running sequence."""
        return self._seed

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue the sequence later."""
        return {"seed": self._seed, "bits": self.numpy.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues a sequence from what `get_state` gave."""
        self._seed = int(state["seed"])
        self.numpy.bit_generator.state = state["bits"]


default_generator = Generator()


def generator_or_default(generator: Generator | None) -> Generator:
    """`generator`, or the one that `manual_seed` sets.

    Raises:
        TypeError: something that is not a Generator.
    """
    if generator is None:
        return default_generator
    if not isinstance(generator, Generator):
        raise TypeError(f"generator={generator!r} must be a juanji.Generator")
    return generator
