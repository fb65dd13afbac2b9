"""Tensors: the narrow waist. Everything above speaks `Tensor`; everything below speaks operations and nodes."""

from juanji.gradmode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from juanji.tape import Handle
from juanji.tensors import conveniences as _conveniences
from juanji.tensors import eager as _eager
from juanji.tensors import library as _library
from juanji.tensors.adaptive import adaptive_avg_pool1d, adaptive_max_pool1d
from juanji.tensors.base import TensorBase
from juanji.tensors.conveniences import *  # noqa: F403
from juanji.tensors.convolution import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from juanji.tensors.creation import (
    arange,
    as_tensor,
    cat,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    manual_seed,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    reshape,
    stack,
    tensor,
    zeros,
    zeros_like,
)
from juanji.tensors.device import check_device, device
from juanji.tensors.distances import cosine_similarity, pairwise_distance
from juanji.tensors.library import *  # noqa: F403
from juanji.tensors.methods import Tensor
from juanji.tensors.normalisation import batch_norm, group_norm, instance_norm, layer_norm, rms_norm
from juanji.tensors.operations import (
    abs,
    allclose,
    ceil,
    cos,
    cross_entropy,
    dropout,
    equal,
    erf,
    exp,
    floor,
    linear,
    log,
    log_softmax,
    matmul,
    maximum,
    minimum,
    mse_loss,
    nll_loss,
    one_hot,
    relu,
    rsqrt,
    sigmoid,
    sign,
    sin,
    softmax,
    sqrt,
    tanh,
    where,
)
from juanji.tensors.pooling import avg_pool1d, avg_pool2d, max_pool1d, max_pool2d, max_pool3d
from juanji.tensors.reductions import (
    all,
    amax,
    amin,
    any,
    argmax,
    argmin,
    logsumexp,
    max,
    mean,
    min,
    prod,
    std,
    sum,
    var,
)
from juanji.tensors.signal import convolve, correlate
from juanji.tensors.state import guarded, guarded_flag, hyper, outside_capture, slot

__all__ = [
    "Handle", "Tensor", "TensorBase", "abs", "all", "allclose", "amax", "amin", "any", "arange", "argmax", "argmin",
    "as_tensor", "avg_pool2d", "cat", "ceil", "check_device", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
    "conv_transpose2d", "conv_transpose3d",
    "convolve", "correlate", "cos", "cross_entropy", "device", "dropout", "empty", "empty_like",
    "enable_grad", "equal", "erf", "exp", "eye", "floor", "from_numpy", "full", "full_like", "guarded", "guarded_flag",
    "hyper", "inference_mode", "is_grad_enabled", "is_inference_mode_enabled", "linear", "linspace", "log",
    "log_softmax", "logsumexp", "manual_seed", "matmul", "max", "max_pool2d", "maximum", "mean", "min", "minimum",
    "mse_loss", "nll_loss", "no_grad", "one_hot", "ones", "ones_like", "outside_capture", "prod", "rand",
    "rand_like", "randint", "randn", "randn_like", "randperm", "relu", "reshape", "rsqrt", "set_grad_enabled",
    "sigmoid", "sign", "sin", "slot", "softmax", "sqrt", "stack", "std", "sum", "tanh", "tensor", "var", "where",
    "zeros", "zeros_like",
]  # fmt: skip
__all__ += ["batch_norm", "cosine_similarity", "group_norm", "instance_norm", "layer_norm", "pairwise_distance"]
__all__ += ["rms_norm"]
__all__ += ["adaptive_avg_pool1d", "adaptive_max_pool1d", "avg_pool1d", "max_pool1d", "max_pool3d"]
__all__ = sorted({*__all__, *_library.__all__, *_conveniences.__all__})
_ = _eager
