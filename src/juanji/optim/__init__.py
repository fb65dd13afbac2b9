"""Optimisers and learning-rate schedules: what `torch.optim` is called in PyTorch."""

from __future__ import annotations

from juanji.optim import lr_scheduler
from juanji.optim.adam import Adam, AdamW
from juanji.optim.base import Optimizer
from juanji.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "lr_scheduler"]
