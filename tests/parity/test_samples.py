"""PyTorch's own operator samples: results, gradients and refusals, where PyTorch and its test extras are installed."""

import itertools

import numpy as np
import pytest

import juanji as jj

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")
common = pytest.importorskip("torch.testing._internal.common_methods_invocations")

TYPES = {
    torch.float32: jj.float32, torch.float64: jj.float64, torch.int64: jj.int64, torch.int32: jj.int32,
    torch.int16: jj.int16, torch.int8: jj.int8, torch.uint8: jj.uint8, torch.bool: jj.bool, torch.float16: jj.float16,
}  # fmt: skip
#: Few samples of each, and those spread over the whole list.
SAMPLES = 6
FUNCTIONS = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "unfold",
    "linear",
    "bilinear",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "batch_norm",
    "layer_norm",
    "group_norm",
    "instance_norm",
    "rms_norm",
    "local_response_norm",
    "normalize",
    "cosine_similarity",
    "relu",
    "relu6",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "celu",
    "gelu",
    "silu",
    "mish",
    "logsigmoid",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "softplus",
    "softsign",
    "glu",
    "softmin",
    "threshold",
    "hardshrink",
    "softshrink",
    "tanhshrink",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "interpolate",
    "grid_sample",
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "kl_div",
    "one_hot",
    "pairwise_distance",
]
OPERATIONS = [
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "remainder",
    "fmod",
    "floor_divide",
    "maximum",
    "minimum",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "clamp",
    "clamp_min",
    "clamp_max",
    "exp",
    "expm1",
    "exp2",
    "log",
    "log1p",
    "log2",
    "log10",
    "sqrt",
    "rsqrt",
    "abs",
    "sign",
    "round",
    "floor",
    "ceil",
    "trunc",
    "frac",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "asin",
    "acos",
    "atan",
    "asinh",
    "acosh",
    "atanh",
    "atan2",
    "erf",
    "erfc",
    "sigmoid",
    "reciprocal",
    "square",
    "lerp",
    "addcmul",
    "addcdiv",
    "hypot",
    "logaddexp",
    "nan_to_num",
    "matmul",
    "mm",
    "bmm",
    "mv",
    "dot",
    "addmm",
    "baddbmm",
    "outer",
    "kron",
    "tensordot",
    "sum",
    "mean",
    "var",
    "std",
    "max",
    "min",
    "amax",
    "amin",
    "aminmax",
    "argmax",
    "argmin",
    "prod",
    "cumsum",
    "cumprod",
    "cummax",
    "cummin",
    "logcumsumexp",
    "logsumexp",
    "norm",
    "any",
    "all",
    "count_nonzero",
    "nansum",
    "reshape",
    "view",
    "permute",
    "transpose",
    "movedim",
    "flatten",
    "ravel",
    "squeeze",
    "unsqueeze",
    "expand",
    "broadcast_to",
    "repeat",
    "tile",
    "repeat_interleave",
    "flip",
    "fliplr",
    "flipud",
    "rot90",
    "roll",
    "cat",
    "stack",
    "hstack",
    "vstack",
    "split",
    "chunk",
    "tensor_split",
    "unbind",
    "narrow",
    "select",
    "diagonal",
    "diag",
    "diag_embed",
    "tril",
    "triu",
    "gather",
    "scatter",
    "scatter_add",
    "index_select",
    "index_add",
    "index_copy",
    "index_fill",
    "index_put",
    "masked_fill",
    "masked_select",
    "take",
    "take_along_dim",
    "__getitem__",
    "softmax",
    "log_softmax",
    "topk",
    "sort",
    "meshgrid",
    "clone",
]


def function_of(name):
    if name.startswith("nn.functional."):
        return getattr(jj.nn.functional, name.rpartition(".")[2])
    return getattr(jj.Tensor if name.startswith("__") or not hasattr(jj, name) else jj, name)


OPS = {
    f"{op.name}{'.' * bool(op.variant_test_name)}{op.variant_test_name}": op
    for op in common.op_db
    if op.name in OPERATIONS or (op.name.startswith("nn.functional.") and op.name.rpartition(".")[2] in FUNCTIONS)
    if op.variant_test_name not in ("nuc", "subgradients_at_zero", "complex", "without_cudnn")
}


class Beyond(Exception):
    """A sample that asks for what Juanji has not: complex numbers, sparse tensors, generators."""


class Ours:
    """PyTorch's arguments as Juanji's, every tensor once."""

    def __init__(self):
        self.pairs = {}

    def __call__(self, value):
        if isinstance(value, torch.Tensor):
            if value.dtype not in TYPES or value.layout is not torch.strided:
                raise Beyond
            if id(value) not in self.pairs:
                made = jj.tensor(value.detach().numpy(), dtype=TYPES[value.dtype])
                self.pairs[id(value)] = (value, made.requires_grad_(value.requires_grad))
            return self.pairs[id(value)][1]
        if isinstance(value, torch.dtype):
            if value not in TYPES:
                raise Beyond
            return TYPES[value]
        if isinstance(value, (torch.Generator, torch.layout)):
            raise Beyond
        if isinstance(value, torch.device):
            return "cpu"
        if isinstance(value, torch.memory_format):
            return getattr(jj, str(value).rpartition(".")[2])
        if isinstance(value, (list, tuple)):
            return tuple(map(self, value)) if isinstance(value, tuple) else list(map(self, value))
        if isinstance(value, dict):
            return {key: self(v) for key, v in value.items()}
        return value


def flat(value):
    return [v for part in value for v in flat(part)] if isinstance(value, (list, tuple)) else [value]


def check(ours, theirs):
    if not isinstance(theirs, torch.Tensor):
        assert ours == theirs
        return
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert TYPES[theirs.dtype] is ours.dtype
    expected, values = theirs.detach().numpy(), ours.detach().numpy()
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(values, expected)
        return
    finite = expected[np.isfinite(expected)]
    scale = max(1.0, float(np.abs(finite).max(initial=0)))
    tolerance = {2: 1e-2, 4: 2e-5, 8: 1e-9}[expected.itemsize]
    np.testing.assert_allclose(values, expected, rtol=10 * tolerance, atol=tolerance * scale)


def samples(op, dtype, gradients):
    found = list(itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=gradients), 400))
    return found[:: max(1, len(found) // SAMPLES)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(OPS))
def test_results_and_gradients(name):
    op, compared = OPS[name], 0
    for dtype in (torch.float32, torch.int64):
        if not op.supports_dtype(dtype, "cpu"):
            continue
        gradients = dtype.is_floating_point and op.supports_autograd
        for sample in samples(op, dtype, gradients):
            convert = Ours()
            try:
                arguments, named = convert([sample.input, *sample.args]), convert(sample.kwargs)
                theirs = op.op(sample.input, *sample.args, **sample.kwargs)
            except (Beyond, RuntimeError):
                continue
            ours = function_of(op.name)(*arguments, **named)
            assert len(flat(ours)) == len(flat(theirs))
            for i, (mine, other) in enumerate(zip(flat(ours), flat(theirs), strict=True)):
                if name == "topk" and dtype is torch.int64 and i == 1:
                    continue  # which of equal values comes first is nobody's promise
                check(mine, other)
            compared += 1
            if gradients:
                check_gradients(flat(ours), flat(theirs), convert)
    assert compared


def check_gradients(ours, theirs, convert):
    results = [(a, b) for a, b in zip(ours, theirs, strict=True) if isinstance(b, torch.Tensor) and b.requires_grad]
    leaves = [(a, b) for b, a in convert.pairs.values() if b.requires_grad and b.is_leaf]
    if not results or not leaves:
        return
    random = np.random.default_rng(0)
    upstream = [random.standard_normal(tuple(b.shape)).astype(b.detach().numpy().dtype) for _, b in results]
    expected = torch.autograd.grad(
        [b for _, b in results], [b for _, b in leaves], [torch.tensor(g) for g in upstream], allow_unused=True
    )
    found = jj.grad(
        [a for a, _ in results], [a for a, _ in leaves], [jj.tensor(g) for g in upstream], allow_unused=True
    )
    for mine, other, (leaf, _) in zip(found, expected, leaves, strict=True):
        if other is None:
            assert mine is None or not mine.numpy().any()
        else:
            check(jj.zeros_like(leaf) if mine is None else mine, other)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(n for n, op in OPS.items() if op.error_inputs_func is not None))
def test_refusals(name):
    op = OPS[name]
    for error in op.error_inputs("cpu"):
        sample, convert = error.sample_input, Ours()
        if "out" in sample.kwargs:
            continue
        try:
            arguments, named = convert([sample.input, *sample.args]), convert(sample.kwargs)
        except (Beyond, TypeError, RuntimeError, ValueError):  # NumPy has at most 64 dimensions
            continue
        try:  # some samples are errors of other devices or of forms that this version accepts
            op.op(sample.input, *sample.args, **sample.kwargs)
            continue
        except Exception:
            pass
        with pytest.raises((ValueError, TypeError, IndexError, RuntimeError)) as caught:
            function_of(op.name)(*arguments, **named)
        assert not isinstance(caught.value, NotImplementedError)
        assert len(str(caught.value)) > 15
