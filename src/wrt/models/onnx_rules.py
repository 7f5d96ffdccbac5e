"""Backward operators of torch written as operators of inference, which every ONNX runtime has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

Tensor = Any  # of torch
aten = torch.ops.aten


def table() -> dict[Any, Callable[..., Any]]:
    """The decompositions to trace with: torch's own, and those that it has not."""
    rules: dict[Any, Callable[..., Any]] = {
        aten.convolution_backward.default: convolution_backward,
        aten.max_pool2d_with_indices_backward.default: lambda grad, x, *rest: max_pool_backward(grad, x, 2, rest[-1]),
        aten.max_pool3d_with_indices_backward.default: lambda grad, x, *rest: max_pool_backward(grad, x, 3, rest[-1]),
        aten.adaptive_max_pool2d_backward.default: lambda grad, x, where: max_pool_backward(grad, x, 2, where),
        aten.adaptive_max_pool3d_backward.default: lambda grad, x, where: max_pool_backward(grad, x, 3, where),
        aten.adaptive_max_pool2d.default: lambda x, size: even_max_pool(x, size, aten.max_pool2d_with_indices),
        aten.adaptive_max_pool3d.default: lambda x, size: even_max_pool(x, size, aten.max_pool3d_with_indices),
        aten.avg_pool2d_backward.default: average_pool_backward,
        aten.avg_pool3d_backward.default: average_pool_backward,
        aten._adaptive_avg_pool2d_backward.default: adaptive_average_pool_backward,
        aten._adaptive_avg_pool3d_backward.default: adaptive_average_pool_backward,
        aten.replication_pad1d_backward.default: replication_pad_backward,
        aten.replication_pad2d_backward.default: replication_pad_backward,
        aten.replication_pad3d_backward.default: replication_pad_backward,
    }
    return {**torch._decomp.core_aten_decompositions(), **rules}


def convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Any,  # noqa: ARG001
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> Any:
    """The transpose of a convolution: one with the flipped kernel where the stride is 1, else a transposed one."""
    if output_mask[1] or output_mask[2]:
        return NotImplemented  # the gradient of the weights is training
    if transposed:
        found = aten.convolution(grad, weight, None, stride, padding, dilation, False, output_padding, groups)
        for axis, size in enumerate(x.shape[2:], 2):
            found = found.narrow(axis, 0, size) if found.shape[axis] != size else found
        return found, None, None
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    none = [0] * len(reach)
    if all(s == 1 for s in stride) and all(r >= p for r, p in zip(reach, padding, strict=True)):
        around = [r - p for r, p in zip(reach, padding, strict=True)]
        flipped = _flipped(weight, groups)
        return aten.convolution(grad, flipped, None, stride, around, dilation, False, none, groups), None, None
    sizes = zip(x.shape[2:], grad.shape[2:], stride, padding, reach, strict=True)
    missing = [n - ((m - 1) * s - 2 * p + r + 1) for n, m, s, p, r in sizes]
    return aten.convolution(grad, weight, None, stride, padding, dilation, True, missing, groups), None, None


def _flipped(weight: Tensor, groups: int) -> Tensor:
    """Turned around in space, with inputs and outputs exchanged within each group."""
    out, inner, *kernel = weight.shape
    grouped = weight.reshape(groups, out // groups, inner, *kernel).transpose(1, 2)
    return grouped.reshape(groups * inner, out // groups, *kernel).flip(list(range(2, weight.dim())))


def max_pool_backward(grad: Tensor, x: Tensor, axes: int, where: Tensor) -> Tensor:
    """Every gradient goes back to where its maximum was found."""
    lead = x.shape[:-axes]
    zeros = grad.new_zeros((*lead, math.prod(x.shape[-axes:])))
    return zeros.scatter_add(-1, where.flatten(-axes), grad.flatten(-axes)).reshape(x.shape)


def even_max_pool(x: Tensor, size: Sequence[int], pool: Callable[..., Any]) -> Any:
    """Adaptive max pooling where all windows are of one size; others are no operator of ONNX."""
    pairs = list(zip(x.shape[-len(size) :], size, strict=True))
    if any(n % m for n, m in pairs):
        return NotImplemented
    return pool(x, [n // m for n, m in pairs])


def average_pool_backward(
    grad: Tensor,
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil: bool,  # noqa: ARG001
    count_padding: bool,
    divisor: int | None,
) -> Tensor:
    """The transpose of averaging over windows, axis by axis."""
    axes = len(kernel)
    sizes = zip(grad.shape[-axes:], x.shape[-axes:], kernel, stride or kernel, padding, strict=True)
    sums, counts = zip(*(_windows(*size, count_padding) for size in sizes), strict=True)
    if divisor is not None:
        return _transposed(grad, sums) / divisor
    return _transposed(grad, [s / c for s, c in zip(sums, counts, strict=True)])


def _windows(out: int, size: int, kernel: int, stride: int, padding: int, count_padding: bool) -> tuple[Any, Any]:
    """`(out, size)` ones where a window reaches, and the number of places that each window counts."""
    starts = np.arange(out)[:, None] * stride - padding
    stops = np.minimum(starts + kernel, size + padding)
    places = np.arange(size)
    reached = ((places >= starts) & (places < stops)).astype(np.float64)
    return reached, stops - starts if count_padding else reached.sum(1, keepdims=True)


def adaptive_average_pool_backward(grad: Tensor, x: Tensor) -> Tensor:
    """The transpose of averaging over windows that share the input as evenly as integers can."""
    axes = 3 if grad.dim() == 5 else 2
    return _transposed(grad, [_shares(*s) for s in zip(grad.shape[-axes:], x.shape[-axes:], strict=True)])


def _shares(out: int, size: int) -> Any:
    index, places = np.arange(out)[:, None], np.arange(size)
    reached = (places >= index * size // out) & (places < -(-(index + 1) * size // out))
    return reached / reached.sum(1, keepdims=True)


def replication_pad_backward(grad: Tensor, x: Tensor, padding: Sequence[int]) -> Tensor:
    """The transpose of repeating the border."""
    axes = len(padding) // 2
    sizes = zip(grad.shape[-axes:], x.shape[-axes:], padding[::2][::-1], strict=True)  # padding: last axis first
    matrices = [np.eye(size)[np.clip(np.arange(out) - left, 0, size - 1)] for out, size, left in sizes]
    return _transposed(grad, matrices)


def _transposed(grad: Tensor, matrices: Sequence[Any]) -> Tensor:
    """The product with the transpose of a matrix `(out, in)` along each of the last axes."""
    for axis, matrix in enumerate(matrices, -len(matrices)):
        constant = torch.tensor(matrix, dtype=grad.dtype, device=grad.device)
        grad = (grad.movedim(axis, -1) @ constant).movedim(-1, axis)
    return grad
