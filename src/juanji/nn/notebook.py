"""How a module looks in a notebook: a tree that opens and closes, with its parameters counted."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from juanji.nn.parameter import is_uninitialized

if TYPE_CHECKING:
    from juanji.nn.module import Module


def module_html(module: Module, name: str = "", depth: int = 0) -> str:
    """The HTML of `Module._repr_html_`."""
    every = {id(p): p for p in module.parameters() if not is_uninitialized(p)}.values()
    count = sum(math.prod(p.shape) for p in every)
    frozen = count - sum(math.prod(p.shape) for p in every if p.requires_grad)
    extra = module.extra_repr().replace("\n", ", ")
    title = (f"{name}: " if name else "") + f"<b>{escape(type(module).__name__)}</b>({escape(extra)})"
    if count:
        title += f" <span style='color:#777'>{count:,} parameters"
        title += f", {frozen:,} frozen</span>" if frozen else "</span>"
    children = list(module.named_children())
    if not children:
        return f"<div style='margin-left:{'1.2em' if depth else 0};font-family:monospace'>{title}</div>"
    inner = "".join(module_html(child, escape(key), depth + 1) for key, child in children)
    opened = " open" if depth < 2 else ""
    return (
        f"<details{opened} style='margin-left:{'1.2em' if depth else 0};font-family:monospace'>"
        f"<summary>{title}</summary>{inner}</details>"
    )
