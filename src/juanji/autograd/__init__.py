"""Gradients as functions, operations with a gradient of their own, and what checks gradients."""

from juanji.autograd import functional, graph
from juanji.autograd.anomaly import detect_anomaly, set_detect_anomaly
from juanji.autograd.check import GradcheckError, gradcheck, gradgradcheck
from juanji.autograd.function import Function, once_differentiable
from juanji.autograd.walk import backward, grad
from juanji.gradmode import enable_grad, inference_mode, no_grad, set_grad_enabled

__all__ = [
    "Function", "GradcheckError", "backward", "detect_anomaly", "enable_grad", "functional",
    "grad", "gradcheck", "gradgradcheck", "graph", "inference_mode", "no_grad", "once_differentiable",
    "set_detect_anomaly", "set_grad_enabled",
]  # fmt: skip
