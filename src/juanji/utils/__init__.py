"""What is useful beside layers and optimisers."""

from juanji.utils import checkpoint

__all__ = ["checkpoint"]
