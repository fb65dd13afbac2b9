"""Convolutions as functions."""

from juanji.tensors import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from juanji.tensors.deformable import deform_conv2d
from juanji.tensors.patches import fold, unfold

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "deform_conv2d",
    "fold",
    "unfold",
]
