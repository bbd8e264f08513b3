"""Normalization and dropout.

All three norms are the same two ops: Normalize, over some axes, and Scale, which multiplies by a
weight and adds a bias.
"""
import math

from nn import backend, kernels
from nn.function import Function
from nn.functional.arithmetic import sqrt
from nn.functional.reduction import as_floats, mean, sum as sum_over
from nn.functional.shape import reshape
from nn.tensor import Tensor, as_operand


class Normalize(Function):
    """y = (x - mean) / sqrt(variance + eps), for x (G, R, C) with its mean and variance over R.

    statistics: a list, or None; mean and variance are added to it
    """

    fractional = True

    def forward(self, x, eps, statistics):
        y, batch_mean, variance = kernels.select(x).normalize(x, eps)
        self.eps, self.scale = eps, 1 / backend.array_module(x).sqrt(variance + eps)  # (G, 1, C)
        if statistics is not None:
            statistics += [batch_mean, variance]
        self.save_for_backward(x, y)
        return y

    def backward(self, gy):
        x, y = self.saved
        if not isinstance(x, Tensor):
            return kernels.select(x).normalize_backward(gy, y, self.scale)
        centered = x - mean(x, 1, keepdims=True)
        scale = 1 / sqrt(mean(centered * centered, 1, keepdims=True) + self.eps)
        return (gy - mean(gy, 1, keepdims=True) - y * mean(gy * y, 1, keepdims=True)) * scale


class Scale(Function):
    """y = x * weight + bias, for x (G, R, C), weight and bias (1, 1, C)."""

    fractional = True

    def forward(self, x, weight, bias):
        self.save_for_backward(x, weight)
        return kernels.select(x).scale(x, weight, bias)

    def backward(self, gy):
        x, weight = self.saved
        if not isinstance(x, Tensor):
            return kernels.select(x).scale_backward(gy, x, weight)
        return gy * weight, sum_over(gy * x, (0, 1), keepdims=True), sum_over(gy, (0, 1), keepdims=True)


def batch_norm(x, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """Normalize each channel to mean 0, variance 1; then multiply by weight, add bias (Ioffe 2015).

    x: (N, ..., C)
    running_mean, running_var, weight, bias: (C,)
    training: normalize with the batch's own statistics and update the running ones in place
        (the variance unbiased); otherwise normalize with the running ones
    momentum: weight of the batch's statistics in that update
    """
    x, weight, bias = as_floats("batch_norm", x), _vector(weight), _vector(bias)
    if x.ndim < 2:
        raise ValueError(f"batch_norm: expected at least 2 axes (N, ..., C), got {x.shape}")
    _check_shapes("batch_norm", x.shape[-1:], running_mean=running_mean, running_var=running_var, weight=weight,
                  bias=bias)
    rows = reshape(x, (1, math.prod(x.shape[:-1]), x.shape[-1]))
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: expected running statistics, or training=True")
        scale = 1 / sqrt(_vector(running_var) + eps)
        scale = scale if weight is None else weight * scale
        shift = -running_mean * scale
        return reshape(_affine(rows, scale, shift if bias is None else bias + shift), x.shape)
    count = rows.shape[1]
    if count < 2:
        raise ValueError(f"batch_norm: in training, expected more than one value for each channel, got {x.shape}")
    statistics = []
    y = Normalize.apply(rows, eps=eps, statistics=statistics)
    if running_mean is not None:
        batch_mean, variance = statistics
        _update_running(running_mean, batch_mean, momentum)
        _update_running(running_var, variance * (count / (count - 1)), momentum)
    return reshape(_affine(y, weight, bias), x.shape)


def instance_norm(x, weight=None, bias=None, eps=1e-5):
    """Normalize each channel of each image to mean 0, variance 1; then multiply by weight, add bias
    (Ulyanov 2016). x: (N, H, W, C); weight, bias: (C,)"""
    x, weight, bias = as_floats("instance_norm", x), _vector(weight), _vector(bias)
    pixels = math.prod(x.shape[1:-1])
    if x.ndim < 3 or pixels < 2:
        raise ValueError(f"instance_norm: expected (N, ..., C) of more than 1 pixel, got {x.shape}")
    _check_shapes("instance_norm", x.shape[-1:], weight=weight, bias=bias)
    y = Normalize.apply(reshape(x, (x.shape[0], pixels, x.shape[-1])), eps=eps, statistics=None)
    return reshape(_affine(y, weight, bias), x.shape)


def layer_norm(x, shape, weight=None, bias=None, eps=1e-5):
    """Normalize x over its last axes to mean 0, variance 1; then multiply by weight, add bias (Ba 2016).

    x: (..., *shape)
    shape: lengths of the last axes, a tuple or one number
    weight, bias: of that shape
    """
    x, weight, bias = as_floats("layer_norm", x), _vector(weight), _vector(bias)
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if not shape or x.shape[-len(shape):] != shape:
        raise ValueError(f"layer_norm: expected an array whose last axes are {shape}, got {x.shape}")
    _check_shapes("layer_norm", shape, weight=weight, bias=bias)
    count, length = math.prod(x.shape[:-len(shape)]), math.prod(shape)
    y = Normalize.apply(reshape(x, (count, length, 1)), eps=eps, statistics=None)
    return reshape(_affine(reshape(y, (1, count, length)), weight, bias), x.shape)


def dropout(x, p=0.5, training=True):
    """In training, set each element to 0 with probability p and divide the others by 1 - p
    (Srivastava 2014)."""
    x = as_operand(x)
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: expected a probability from 0 to 1, got {p}")
    if not training or p == 0:
        return x
    x = as_floats("dropout", x)
    kept = backend.generator().random(x.shape) >= p
    mask = (kept / (1 - p if p < 1 else 1)).astype(x.dtype)
    return x * backend.to_device(mask, backend.device_of(_array(x)))


def _affine(x, weight, bias):
    """Return x (G, R, C) times weight plus bias, of C elements each, or None."""
    if weight is None and bias is None:
        return x
    row = (1, 1, x.shape[2])
    if weight is None or bias is None:
        return x + reshape(bias, row) if weight is None else x * reshape(weight, row)
    return Scale.apply(x, reshape(weight, row), reshape(bias, row))


def _vector(x):
    return None if x is None else as_operand(x)


def _array(x):
    return x.data if isinstance(x, Tensor) else x


def _update_running(running, value, momentum):
    running = _array(running)
    running += momentum * (value.reshape(running.shape).astype(running.dtype) - running)


def _check_shapes(op, shape, **arrays):
    for name, array in arrays.items():
        if array is not None and array.shape != shape:
            raise ValueError(f"{op}: expected a {name} of shape {shape}, got {array.shape}")
