"""Finding the operation that makes NaN gradients."""

from __future__ import annotations

from juanji.tape import Anomaly


class set_detect_anomaly:
    """Switches the search for NaN gradients on or off, at once, and for a block that it opens.

    Args:
        mode: whether each operation remembers the lines that made it.
        check_nan: whether each reverse walk looks at every gradient and raises at the first NaN.
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self._before = Anomaly.enabled, Anomaly.check_nan
        Anomaly.enabled, Anomaly.check_nan = bool(mode), bool(check_nan)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        Anomaly.enabled, Anomaly.check_nan = self._before


class detect_anomaly:
    """Inside, a reverse walk raises at the first operation that returns NaN, and warns with the lines that made it.

    For finding errors only: every gradient is looked at, which is slow. Captured steps are not looked into.

    Raises:
        RuntimeError: on leaving an operation with NaN in a gradient.

    >>> import juanji as jj
    >>> x = jj.tensor([0.0], requires_grad=True)
    >>> import warnings
    >>> with jj.autograd.detect_anomaly(), warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     (x.sqrt() * 0).backward()
    Traceback (most recent call last):
        ...
    juanji.errors.AutogradError: Function 'SqrtBackward' returned nan values in its 0th output.
    """

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan
        self._before: list[tuple[bool, bool]] = []

    def __enter__(self) -> None:
        self._before.append((Anomaly.enabled, Anomaly.check_nan))
        Anomaly.enabled, Anomaly.check_nan = True, bool(self.check_nan)

    def __exit__(self, *error: object) -> None:
        Anomaly.enabled, Anomaly.check_nan = self._before.pop()
