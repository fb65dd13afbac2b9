"""The messages of bad input: each names the argument, its value or shape, and what is valid."""

import numpy as np
import pytest

import juanji as jj
from juanji import ops
from juanji.errors import ShapeError

Z = jj.zeros
X, W = Z(2, 3, 8, 8), Z(6, 3, 3, 3)
LABELS = jj.tensor([0, 1])

CASES = [
    # convolution
    (lambda: jj.conv2d(Z(2, 4, 8, 8), W), ShapeError, r"conv2d: input of shape \[2, 4, 8, 8\] has 4 channels.*expects 3"),
    (lambda: jj.conv2d(X, Z(6, 3, 3)), ShapeError, r"conv2d: weight of shape \[6, 3, 3\] must have 4 dimensions"),
    (lambda: jj.conv2d(Z(8, 8), W), ShapeError, r"conv2d: expected 3D \(unbatched\) or 4D \(batched\) input.*\[8, 8\]"),
    (lambda: jj.conv2d(X, W, Z(5)), ShapeError, r"conv2d: bias of shape \[5\] must be \[6\]"),
    (lambda: jj.conv2d(X, W, stride=0), ShapeError, r"stride=0 must not be below 1"),
    (lambda: jj.conv2d(X, W, stride=(1, 2, 3)), ShapeError, r"stride=\(1, 2, 3\) must be one integer or 2 integers"),
    (lambda: jj.conv2d(X, W, padding=-1), ShapeError, r"padding=-1 must not be below 0"),
    (lambda: jj.conv2d(X, W, padding=1.5), TypeError, r"padding=1.5 must be an integer or 2 integers"),
    (lambda: jj.conv2d(X, W, padding="full"), ValueError, r"padding='full' is not valid; use 'same', 'valid' or integers"),
    (lambda: jj.conv2d(X, W, stride=2, padding="same"), RuntimeError, r"padding='same' is not supported for strided"),
    (lambda: jj.conv2d(X, W, dilation=5), ShapeError, r"kernel size can't be greater than actual input size.*reaches over 11"),
    (lambda: jj.conv2d(X, W, groups=0), ValueError, r"groups=0 must be at least 1"),
    (lambda: jj.conv2d(X, W, groups=4), ShapeError, r"groups=4 must divide the 6 output channels"),
    (lambda: jj.conv2d(X, W.double()), ShapeError, r"must have the same dtype, but input is juanji.float32, weight is"),
    (lambda: jj.conv2d(X.long(), W), RuntimeError, r"conv2d: all tensors must have the same dtype, but input is juanji.int64, weight is"),
    (lambda: jj.conv2d(np.zeros((1, 3, 8, 8)), W), TypeError, r"conv2d: input must be a Tensor, not ndarray"),
    (lambda: jj.conv2d(X, None), (TypeError, AttributeError), r"weight|NoneType"),
    # pooling
    (lambda: jj.max_pool2d(Z(4, 4), 2), ShapeError, r"max_pool2d: expected 3D or 4D input.*\[4, 4\]"),
    (lambda: jj.max_pool2d(X, 9), ShapeError, r"max_pool2d: input of shape \[2, 3, 8, 8\] is smaller than one window"),
    (lambda: jj.max_pool2d(X, 2, padding=2), ShapeError, r"padding=\[2, 2\] should be at most half of the kernel"),
    (lambda: jj.max_pool2d(X, 0), ShapeError, r"kernel_size=0 must not be below 1"),
    (lambda: jj.max_pool2d(X, 2, 0), ShapeError, r"stride=0 must not be below 1"),
    (lambda: jj.max_pool2d([1.0], 2), TypeError, r"max_pool2d: input must be a Tensor, not list"),
    (lambda: jj.avg_pool2d(X, 9), ShapeError, r"avg_pool2d: input of shape \[2, 3, 8, 8\] is smaller than one window"),
    (lambda: jj.avg_pool2d(X, 2, divisor_override=0), RuntimeError, r"divisor must be not zero"),
    (lambda: jj.avg_pool2d(X.bool(), 2), TypeError, r"avg_pool2d: input must be floating point or of integers, not .*bool"),
    # matrices
    (lambda: Z(2, 3) @ Z(4, 5), ShapeError, r"matmul: shapes \[2, 3\] and \[4, 5\] cannot be multiplied: 3 is not 4"),
    (lambda: Z(2, 3) @ jj.tensor(1.0), ShapeError, r"at least 1 dimension, but other has shape \[\]"),
    (lambda: Z(2, 2, 3) @ Z(3, 3, 4), ShapeError, r"shapes \[2\] and \[3\] do not broadcast"),
    (lambda: Z(2, 3) @ Z(3, 4).double(), RuntimeError, r"same dtype, but juanji.float32 != juanji.float64"),
    (lambda: Z(2, 3) @ 3, TypeError, r"matmul: other must be a Tensor, not int"),
    (lambda: jj.linear(Z(2, 3), Z(5, 4)), ShapeError, r"linear: input of shape \[2, 3\] must end in 4 features"),
    (lambda: jj.linear(Z(2, 3), Z(5, 3), Z(4)), ShapeError, r"linear: bias of shape \[4\] must be \[5\]"),
    (lambda: jj.linear(Z(2, 3), Z(1, 5, 3)), ShapeError, r"linear: weight of shape \[1, 5, 3\] must have 2 dimensions"),
    # losses
    (lambda: jj.cross_entropy(Z(2, 3), jj.tensor([0, 3])), IndexError, r"Target 3 is out of bounds; valid classes are 0 to 2"),
    (lambda: jj.cross_entropy(Z(2, 3), jj.tensor([0, -1])), IndexError, r"Target -1 is out of bounds"),
    (lambda: jj.cross_entropy(Z(2, 3), jj.tensor([0])), ShapeError, r"expected target of shape \[2\] .* got \[1\]"),
    (lambda: jj.cross_entropy(Z(2, 3), LABELS.int()), RuntimeError, r"target must be int64 class numbers"),
    (lambda: jj.cross_entropy(Z(2, 3), LABELS, Z(2)), ShapeError, r"weight of shape \[2\] must be \[3\]"),
    (lambda: jj.cross_entropy(Z(2, 3), LABELS, reduction="max"), ValueError, r"'max' is not a valid value for reduction"),
    (lambda: jj.cross_entropy(Z(2, 3), LABELS, label_smoothing=2), RuntimeError, r"between 0.0 and 1.0. Got: 2"),
    (lambda: jj.cross_entropy(Z(2, 3), Z(2, 2)), ShapeError, r"class probabilities of shape \[2, 2\]"),
    (lambda: jj.cross_entropy(Z(2, 3).long(), LABELS), RuntimeError, r"input must be floating point"),
    (lambda: jj.cross_entropy(Z(2, 3), [0, 1]), TypeError, r"target must be a Tensor, not list"),
    (lambda: jj.nll_loss(Z(2, 3), jj.tensor([0, 7])), IndexError, r"nll_loss: Target 7 is out of bounds"),
    (lambda: jj.nll_loss(Z(2, 3), jj.tensor([[0]])), ShapeError, r"nll_loss: expected target of shape \[2\]"),
    (lambda: jj.mse_loss(Z(2), Z(3)), ShapeError, r"shapes \[2\] and \[3\] do not broadcast"),
    (lambda: jj.mse_loss(Z(2), 1.0), TypeError, r"mse_loss: target must be a Tensor, not float"),
    (lambda: jj.one_hot(Z(2)), RuntimeError, r"only applicable to index tensor of type int64, not juanji.float32"),
    (lambda: jj.one_hot(jj.tensor([3]), 3), RuntimeError, r"class values must be in 0 to 2, but reach from 3 to 3"),
    (lambda: jj.dropout(Z(2), 1.5), ValueError, r"dropout probability has to be between 0 and 1, but got 1.5"),
    # shapes
    (lambda: Z(2, 3) + Z(2), ShapeError, r"shapes \[2, 3\] and \[2\] do not broadcast: the sizes 3 and 2 of dimension 1"),
    (lambda: Z(2, 3).reshape(4), ShapeError, r"shape \[4\] is invalid for input of shape \[2, 3\] \(6 elements\)"),
    (lambda: Z(2, 3).reshape(-1, -1), ShapeError, r"only one dimension can be -1"),
    (lambda: Z(2, 3).reshape(-2, 3), ShapeError, r"negative size"),
    (lambda: Z(2, 3).reshape("a"), TypeError, r"sizes must be integers"),
    (lambda: Z(2, 3).permute(0, 0), ShapeError, r"dims=\(0, 0\) must name each of the 2 dimensions once"),
    (lambda: Z(2, 3).permute(0), ShapeError, r"must name each of the 2 dimensions"),
    (lambda: Z(2, 3, 4).t(), ShapeError, r"at most 2 dimensions, but the shape is \[2, 3, 4\]"),
    (lambda: Z(2, 3).expand(2), ShapeError, r"\[2\] has fewer dimensions than the tensor's shape \[2, 3\]"),
    (lambda: Z(2, 3).expand(4, 3), ShapeError, r"the size 4 of dimension 0 must match the existing size 2"),
    (lambda: Z(2, 3).expand(-1, 2, 3), ShapeError, r"-1 is not allowed in the new leading dimension 0"),
    (lambda: Z(2, 3).flatten(1, 0), ShapeError, r"start_dim=1 cannot come after end_dim=0"),
    (lambda: Z(2, 3).unsqueeze(4), IndexError, r"dim=4 is out of range"),
    (lambda: jj.cat([Z(2, 3), Z(2, 4)]), ShapeError, r"cat: tensor 1 of shape \[2, 4\] must match \[2, 3\] except in"),
    (lambda: jj.cat([]), ValueError, r"cat: expected a non-empty sequence"),
    (lambda: jj.cat([Z(1), 2]), TypeError, r"cat: tensors\[1\] must be a Tensor, not int"),
    (lambda: jj.stack([Z(1), Z(2)]), ShapeError, r"tensors\[0\] is \[1\] and tensors\[1\] is \[2\]"),
    (lambda: jj.where(Z(2), Z(2), Z(2)), TypeError, r"where: condition must be a bool tensor, not juanji.float32"),
    (lambda: jj.where([True], Z(1), Z(1)), TypeError, r"where: condition must be a Tensor, not list"),
    (lambda: Z(2).clamp(), ValueError, r"at least one of 'min' or 'max' must not be None"),
    (lambda: jj.tensor([1]).add(1, alpha=0.5), RuntimeError, r"alpha must not be a floating point number"),
    (lambda: Z(2).add("1"), TypeError, r"add: other must be a Tensor or a number, not str"),
    # making
    (lambda: Z(-1), ShapeError, r"sizes must not be negative: \[-1\]"),
    (lambda: Z(2.5), TypeError, r"sizes must be integers, not 2.5"),
    (lambda: Z(2, dtype="float7"), TypeError, r"dtype='float7' is not an element type"),
    (lambda: Z(2, dtype=np.complex64), TypeError, r"complex numbers are not planned"),
    (lambda: jj.from_numpy([1.0]), TypeError, r"expected np.ndarray \(got list\)"),
    (lambda: jj.from_numpy(np.zeros(2, np.complex64)), TypeError, r"complex64 is not supported"),
    (lambda: jj.arange(0, 5, 0), ValueError, r"step=0"),
    (lambda: jj.arange(0, 5, -1), ValueError, r"step=-1 does not lead from start=0 to end=5"),
    (lambda: jj.randint(5, 5, (2,)), ValueError, r"low < high"),
    (lambda: jj.manual_seed("a"), TypeError, r"seed='a' must be an integer"),
    (lambda: jj.rand(2, generator=3), TypeError, r"generator=3 must be a juanji.Generator"),
    (lambda: Z(10**9, 10**9), MemoryError, r"tensor of shape \[1000000000, 1000000000\] and dtype float32"),
    (lambda: jj.set_num_threads(0), ValueError, r"number=0 must be at least 1"),
    (lambda: jj.set_num_threads(1.5), TypeError, r"number=1.5 must be an integer"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(CASES)))
def test_message(number):
    call, error, words = CASES[number]
    with pytest.raises(error, match=words):
        call()


def test_shape_errors_are_what_pytorch_users_catch():
    assert issubclass(ShapeError, RuntimeError)
    assert issubclass(ShapeError, ValueError)


def test_errors_are_raised_on_the_users_line():
    """The traceback's first frame outside Juanji is the faulty call, and the message needs no other."""
    with pytest.raises(ShapeError) as caught:
        jj.conv2d(Z(1, 1, 2, 2), Z(1, 1, 3, 3))
    assert "padded input is 2 in spatial dimension 0, the kernel reaches over 3" in str(caught.value)


def test_op_records_check_shapes_themselves():
    """The records' own rules, which gradients and captures reach without the tensor layer."""
    table, geometry = ops.TABLE, {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    for call, words in (
        (lambda: table["matmul"](Z(2, 3), Z(4, 5)), "3 is not 4"),
        (lambda: table["matmul"](Z(1, 2, 3), Z(2, 3, 5)), "batch dimensions of"),
        (lambda: table["linear"](Z(2, 3), Z(4, 5)), "has 3 features, but weight"),
        (lambda: table["conv"](Z(1, 3, 4, 4), Z(2, 2, 3, 3), **geometry), "has 3 channels"),
        (lambda: table["reshape"](Z(2, 3), shape=(5,)), "is invalid for input"),
        (lambda: table["view_write"](Z(4), Z(3), chain=()), "cannot write"),
        (lambda: table["where"](Z(2), Z(2), Z(2)), "condition of dtype bool"),
        (lambda: table["cross_entropy"](Z(2, 3), Z(3), Z(3), ignore_index=0, smoothing=0.0, weighted=False), "one class per row"),
        (lambda: table["amax"](Z(0, 3), dims=(0,)), "no elements to reduce over"),
    ):  # fmt: skip
        with pytest.raises((ShapeError, IndexError), match=words):
            call()
