"""Juanji: convolutional networks on the CPU people already have. `import juanji as jj`.

>>> import juanji as jj
>>> image = jj.arange(9.0).reshape(1, 1, 3, 3)
>>> jj.nn.functional.conv2d(image, jj.ones(1, 1, 2, 2))
tensor([[[[ 8., 12.],
          [20., 24.]]]])
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from juanji.version import __version__ as __version__

if TYPE_CHECKING:
    from juanji.api import *  # noqa: F403
    from juanji.tune.run import finetune as finetune


def __getattr__(name: str) -> Any:
    # The library is loaded by its first use, so that `juanji --help` and its like answer at once.
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module 'juanji' has no attribute {name!r}")
    if importlib.util.find_spec(f"juanji.{name}") is not None:
        return importlib.import_module(f"juanji.{name}")
    if name == "finetune":  # above what the library's surface may import
        return importlib.import_module("juanji.tune.run").finetune
    api = importlib.import_module("juanji.api")
    if name == "__all__":
        return api.__all__
    globals().update({known: getattr(api, known) for known in api.__all__})
    if name not in api.__all__:
        raise AttributeError(f"module 'juanji' has no attribute {name!r}")
    return globals()[name]


def __dir__() -> list[str]:
    return [*__getattr__("__all__"), "finetune", "__version__"]
