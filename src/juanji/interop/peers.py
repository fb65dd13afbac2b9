"""The same work in other libraries, for races: PyTorch, ONNX Runtime, OpenVINO and JAX, where they are installed.

Each function returns what runs the work once and has its result ready when it returns. All compute in float32, from
inputs that are ready before.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from juanji import nn
from juanji.interop.torchmodule import to_torch

Run = Callable[[], Any]
#: What each library must have beside it to run a network: the model goes there as an ONNX file that PyTorch writes.
NEEDS = {
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime", "torch", "onnx"),
    "openvino": ("openvino", "torch", "onnx"),
    "jax": ("jax",),
}


def missing(peer: str) -> str:
    """A sentence that says what is not installed, empty if nothing is.

    >>> missing("torchvision")
    Traceback (most recent call last):
        ...
    ValueError: peer 'torchvision' is none of torch, onnxruntime, openvino, jax
    """
    if peer not in NEEDS:
        raise ValueError(f"peer {peer!r} is none of {', '.join(NEEDS)}")
    absent = [name for name in NEEDS[peer] if not _installed(name)]
    are = "is" if len(absent) == 1 else "are"
    return f"{peer} can't be raced: {' and '.join(absent)} {are} not installed" if absent else ""


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # something has put None in its place
        return False


def torch_forward(network: nn.Module, image: np.ndarray[Any, Any], layout: str = "channels_last") -> Run:
    """The forward pass without gradients, eagerly; `layout` is "nchw" or "channels_last"."""
    import torch

    form = torch.channels_last if layout == "channels_last" and image.ndim == 4 else torch.contiguous_format
    peer: Any = to_torch(network).to(memory_format=form)
    given = torch.from_numpy(image).contiguous(memory_format=form)

    def run() -> Any:
        with torch.inference_mode():
            return peer(given)

    return run


def torch_step(
    network: nn.Module,
    image: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    layout: str = "channels_last",
    compiled: bool = False,
) -> Run:
    """A training step: cross-entropy, SGD with momentum 0.9 in PyTorch's fused form.

    Args:
        layout: "nchw" or "channels_last".
        compiled: whether the network goes through `torch.compile`, which needs a C++ compiler.
    """
    import torch

    form = torch.channels_last if layout == "channels_last" and image.ndim == 4 else torch.contiguous_format
    peer: Any = to_torch(network).to(memory_format=form)
    optimizer = torch.optim.SGD(peer.parameters(), lr=0.01, momentum=0.9, fused=True)
    given, wanted = torch.from_numpy(image).contiguous(memory_format=form), torch.from_numpy(labels)
    called = torch.compile(peer) if compiled else peer

    def run() -> Any:
        optimizer.zero_grad()
        loss: Any = torch.nn.functional.cross_entropy(called(given), wanted)
        loss.backward()
        optimizer.step()
        return loss

    return run


def torch_gradients(network: nn.Module, image: np.ndarray[Any, Any], layout: str = "channels_last") -> Run:
    """The forward pass, and the gradients of the sum of its result by the image and all parameters."""
    import torch

    form = torch.channels_last if layout == "channels_last" and image.ndim == 4 else torch.contiguous_format
    peer: Any = to_torch(network).to(memory_format=form)
    given = torch.from_numpy(image).contiguous(memory_format=form).requires_grad_()
    return lambda: torch.autograd.grad(peer(given).sum(), [given, *peer.parameters()])


def write_onnx(network: nn.Module, shape: Sequence[int], path: str | os.PathLike[str]) -> None:
    """Writes a network in evaluation mode as an ONNX file for inputs of one shape, by PyTorch's exporter."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs nothing but onnx is called legacy
        torch.onnx.export(to_torch(network).eval(), (torch.zeros(*shape),), os.fspath(path), dynamo=False)


def onnxruntime_forward(path: str | os.PathLike[str], image: np.ndarray[Any, Any], threads: int) -> Run:
    """An ONNX file's forward pass in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: image}
    return lambda: session.run(None, given)


def openvino_forward(path: str | os.PathLike[str], image: np.ndarray[Any, Any], threads: int) -> Run:
    """An ONNX file's forward pass in OpenVINO, in float32: by itself it may choose a narrower type."""
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(os.fspath(path)), "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(image))
    return lambda: request.infer()


def jax_convolution(layer: nn.Conv2d, image: np.ndarray[Any, Any], gradients: bool) -> Run:
    """One convolution without bias in JAX, compiled, channels last; with both gradients of its sum if wanted."""
    import jax

    kinds = ("NHWC", "HWIO", "NHWC")
    padding: Any = layer.padding
    (py, px), options = padding, {"window_strides": layer.stride, "rhs_dilation": layer.dilation}

    def convolve(x: Any, weight: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x,
            weight,
            padding=((py, py), (px, px)),
            dimension_numbers=kinds,
            feature_group_count=layer.groups,
            **options,
        )

    def both(x: Any, weight: Any) -> Any:
        return jax.grad(lambda x, w: convolve(x, w).sum(), argnums=(0, 1))(x, weight)

    step = jax.jit(both if gradients else convolve)
    given = [
        jax.numpy.asarray(np.ascontiguousarray(array))
        for array in (image.transpose(0, 2, 3, 1), layer.weight.detach().numpy().transpose(2, 3, 1, 0))
    ]
    return lambda: jax.block_until_ready(step(*given))
