"""What is useful beside layers and optimisers."""

from juanji.utils import checkpoint, logs, tensorboard

__all__ = ["checkpoint", "logs", "tensorboard"]
