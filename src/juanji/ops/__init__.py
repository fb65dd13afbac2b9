"""The op table. Importing this registers every operation; `TABLE` lists them by name."""

from juanji.ops import (
    activations,
    contraction,
    elementwise,
    losses,
    moments,
    patches,
    pool,
    reduce,
    sampling,
    scan,
    shape,
    special,
    table,
)
from juanji.ops.core import TABLE, Context, Op

__all__ = [
    "TABLE",
    "Context",
    "Op",
    "activations",
    "contraction",
    "elementwise",
    "losses",
    "moments",
    "patches",
    "pool",
    "reduce",
    "sampling",
    "scan",
    "shape",
    "special",
    "table",
]
